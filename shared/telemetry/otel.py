"""Spans and numbers as the OpenTelemetry SDK's own values, for whatever exporter is given them.

The SDK is the optional extra ``telemetry``; it is loaded only when a function here is called. A missing one raises
``Unavailable('telemetry.missing')``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from shared import __version__
from shared.errors import Unavailable
from shared.telemetry.meter import Series
from shared.telemetry.metrics import COUNTER, HISTOGRAM, METRICS
from shared.telemetry.spans import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric as OtelMetric
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

_SCOPE = "outrider"
_SUFFIXES = ("_total", "_seconds", "_ratio")


def missing(error: ImportError) -> Unavailable:
    return Unavailable(
        "telemetry.missing",
        f"telemetry cannot be sent: {error.name or error} is not installed",
        advice="pip install 'outrider[telemetry]', or unset the OTLP endpoint",
    )


def metric_name(name: str) -> str:
    """The name in OpenTelemetry's writing: ``outrider_run_duration_seconds`` is ``outrider.run.duration``."""
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return _dotted(name)


def attribute_name(label: str) -> str:
    """A label as an attribute, the same that spans have: ``playbook`` is ``outrider.playbook``."""
    return _dotted(label) if label.startswith("gen_ai_") else f"outrider.{label}"


def _dotted(name: str) -> str:
    """Underscores become dots, but for the one in ``gen_ai``."""
    return name.replace("_", ".").replace("gen.ai", "gen_ai")


def readable_spans(found: Iterable[Span], resource: Mapping[str, str]) -> list[ReadableSpan]:
    """``resource`` says whose they are (``service.name`` and so on)."""
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
        from opentelemetry.trace.status import Status, StatusCode
    except ImportError as error:
        raise missing(error) from error

    whose, scope = Resource(dict(resource)), InstrumentationScope(_SCOPE, __version__)

    def context(trace: str, span: str) -> SpanContext:
        flags = TraceFlags(TraceFlags.SAMPLED)
        return SpanContext(int(trace, 16), int(span, 16), is_remote=False, trace_flags=flags)

    return [
        ReadableSpan(
            name=span.name,
            context=context(span.trace, span.id),
            parent=context(span.trace, span.parent) if span.parent else None,
            resource=whose,
            attributes=span.attributes | ({"error.type": span.error} if span.error else {}),
            events=[Event(name, told, at * 1000) for name, at, told in span.events],
            kind=SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=span.start * 1000,
            end_time=span.end * 1000,
            instrumentation_scope=scope,
        )
        for span in found
    ]


def metrics_data(series: Iterable[Series], resource: Mapping[str, str], *, began: int, at: int) -> MetricsData:
    """Cumulative sums, gauges and histograms from ``began`` to ``at``, microseconds since 1970 UTC."""
    try:
        from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    except ImportError as error:
        raise missing(error) from error

    by_name: dict[str, list[Series]] = {}
    for one in series:
        by_name.setdefault(one.name, []).append(one)
    made = [_metric(name, several, began * 1000, at * 1000) for name, several in by_name.items()]
    scope = ScopeMetrics(InstrumentationScope(_SCOPE, __version__), made, "")
    return MetricsData([ResourceMetrics(Resource(dict(resource)), [scope], "")])


def _metric(name: str, several: list[Series], began: int, at: int) -> OtelMetric:
    """One metric; times are nanoseconds here."""
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        Gauge,
        Histogram,
        HistogramDataPoint,
        NumberDataPoint,
        Sum,
    )
    from opentelemetry.sdk.metrics.export import Metric as OtelMetric

    metric, total = METRICS[name], AggregationTemporality.CUMULATIVE

    def attributes(one: Series) -> dict[str, str]:
        return {attribute_name(label): value for label, value in zip(metric.labels, one.labels, strict=True)}

    data: Sum | Gauge | Histogram
    if metric.kind == HISTOGRAM:
        points = [
            # OTLP may leave out how small and how large the values were, and the encoder does so for ``None``; only
            # the SDK's annotations do not say it.
            HistogramDataPoint(
                attributes=attributes(one),
                start_time_unix_nano=began,
                time_unix_nano=at,
                count=sum(one.counts),
                sum=one.value,
                bucket_counts=one.counts,
                explicit_bounds=metric.bounds,
                min=None,  # type: ignore[arg-type]  # see above
                max=None,  # type: ignore[arg-type]  # see above
            )
            for one in several
        ]
        data = Histogram(points, total)
    else:
        numbers = [NumberDataPoint(attributes(one), began, at, one.value) for one in several]
        data = Sum(numbers, total, is_monotonic=True) if metric.kind == COUNTER else Gauge(numbers)
    return OtelMetric(metric_name(name), metric.about, metric.unit, data)
