"""The SDK's values, encoded by the official encoder and read back from the protobuf."""

from __future__ import annotations

import sys

import msgspec
import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric as Encoded

from shared.errors import Unavailable
from shared.telemetry import METRICS, Meter, gauges, spans
from shared.telemetry.metrics import COUNTER, HISTOGRAM
from shared.telemetry.otel import attribute_name, metric_name, metrics_data, readable_spans
from tests.shared import one_step as one
from tests.shared.stories import START, opened
from tests.shared.telemetry.lives import ORIGIN, Life, metered, stories

WHOSE = {"service.name": "outrider-agent", "service.instance.id": "dev"}


def test_spans_come_through_whole() -> None:
    for story in stories(20):
        mine = spans([x for x in story.entries if x.run == story.entries[0].run], origin=ORIGIN)
        (resource,) = encode_spans(readable_spans(mine, WHOSE)).resource_spans
        assert {pair.key: pair.value.string_value for pair in resource.resource.attributes} == WHOSE
        encoded = resource.scope_spans[0].spans
        assert len(encoded) == len(mine)
        for got, span in zip(encoded, mine, strict=True):
            assert (got.name, got.trace_id.hex(), got.span_id.hex()) == (span.name, span.trace, span.id)
            assert got.parent_span_id.hex() == span.parent
            assert (got.start_time_unix_nano, got.end_time_unix_nano) == (span.start * 1000, span.end * 1000)
            assert (got.status.code == 2, got.status.message) == (bool(span.error), span.error)
            told = {pair.key for pair in got.attributes}
            assert told == set(span.attributes) | ({"error.type"} if span.error else set())
            assert [event.name for event in got.events] == [name for name, _, _ in span.events]


def encoded(meter: Meter, now: dict[tuple[str, ...], float] | None = None) -> dict[str, Encoded]:
    data = metrics_data(meter.series(now), WHOSE, began=START, at=START + 5)
    (resource,) = encode_metrics(data).resource_metrics
    return {metric.name: metric for metric in resource.scope_metrics[0].metrics}


def test_numbers_come_through_whole() -> None:
    for story in stories(20):
        meter = metered(story)
        now = gauges(story.device.runs.values(), failed=1, size=5, synced=2)
        found = encoded(meter, now)
        for series in meter.series(now):
            metric, got = METRICS[series.name], found[metric_name(series.name)]
            wanted = {attribute_name(label): value for label, value in zip(metric.labels, series.labels, strict=True)}
            kind = "histogram" if metric.kind == HISTOGRAM else "sum" if metric.kind == COUNTER else "gauge"
            assert got.WhichOneof("data") == kind and got.unit == metric.unit
            points = getattr(got, kind).data_points
            (point,) = (x for x in points if {pair.key: pair.value.string_value for pair in x.attributes} == wanted)
            assert point.time_unix_nano == (START + 5) * 1000
            if metric.kind == HISTOGRAM:
                assert (point.sum, tuple(point.bucket_counts)) == (series.value, series.counts)
                assert (point.count, tuple(point.explicit_bounds)) == (sum(series.counts), metric.bounds)
                assert not point.HasField("min") and not point.HasField("max")
            else:
                assert point.as_double == series.value or point.as_int == series.value


def test_sums_are_cumulative_from_the_beginning() -> None:
    life = Life()
    life.tell(opened())
    total = encoded(life.meter)["outrider.runs.opened"].sum
    assert total.is_monotonic
    assert total.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    assert total.data_points[0].start_time_unix_nano == START * 1000


def test_names_are_those_of_the_conventions() -> None:
    assert metric_name("gen_ai_client_token_usage") == "gen_ai.client.token.usage"
    assert attribute_name("gen_ai_token_type") == "gen_ai.token.type"
    assert metric_name("outrider_run_duration_seconds") == "outrider.run.duration"
    assert attribute_name("playbook") == "outrider.playbook"
    names = [metric_name(name) for name in METRICS]
    assert len(names) == len(set(names))


def test_without_the_sdk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    for call in (lambda: readable_spans([], WHOSE), lambda: metrics_data([], WHOSE, began=0, at=0)):
        with pytest.raises(Unavailable, match="telemetry.missing"):
            call()


def test_a_plan_of_the_model_has_the_names_of_the_convention() -> None:
    life = Life()
    life.tell(opened(), msgspec.structs.replace(one.PLAN, model="ab" * 32))
    (point,) = (
        x
        for x in encoded(life.meter)["gen_ai.client.token.usage"].histogram.data_points
        if any(pair.value.string_value == "input" for pair in x.attributes)
    )
    assert {pair.key: pair.value.string_value for pair in point.attributes} == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "outrider",
        "gen_ai.token.type": "input",
        "gen_ai.request.model": "abababababab",
    }
