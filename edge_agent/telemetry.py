"""What the agent tells of its work to whoever watches computers: numbers for Prometheus, and numbers and traces by OTLP
where an endpoint is configured. How-to: ``docs/how-to/monitor.md``.

Everything comes from the log's entries. A commit only adds them up, which takes microseconds; what is sent is read from
the log again, in a thread. What cannot be sent is a trouble for people and tried again; it never holds up a commit, and
what is lost here still stands in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.journal import Journal, LogReader
from shared import __version__
from shared.entries import Entry, RunOpenedV1
from shared.errors import OutriderError, Unavailable
from shared.runs import Device, Run
from shared.telemetry import Meter, Outbox, Parcel, Series, Span, gauges, spans, text, trace_root
from shared.telemetry import otel as forms

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

_RESUMED = 100  # runs in trouble whose entries are read at the start,
_RESUMED_STEPS = 500  # unless they have more steps than this
_TIMEOUT_S = 5.0  # of one request, with its retries
_REFUSALS = 5  # of the same traces, before they are given up
_SPANS = 1000  # in one request


class Telemetry:
    """Use it in one event loop; only ``_Sender`` works in a thread."""

    def __init__(
        self,
        journal: Journal,
        device: Device,
        *,
        log: Path,
        name: str,
        endpoint: str,
        every_s: float,
        now: Callable[[], int],
        trouble: Callable[[OutriderError], None],
    ) -> None:
        """``device`` is the fold of ``journal``, whose file ``log`` is. ``name`` is the device's. An ``endpoint`` is
        the base URL of an OTLP/HTTP receiver, empty for none; ``every_s`` the seconds between two sendings; ``now``
        gives microseconds since 1970 UTC."""
        self._journal = journal
        self._device = device
        self._log = log
        self._name = name
        self._endpoint = endpoint.rstrip("/")
        self._every_s = every_s
        self._now = now
        self._trouble = trouble
        self._began = now()
        self._meter = Meter()
        self._outbox = Outbox()
        self._lost = 0
        self._refusals = 0
        self._resume()

    def _resume(self) -> None:
        """Since when the runs that are in trouble have been so."""
        for run in self._device.failed.values():
            self._meter.resume_failure(run.id, run.closed_at)
        open_runs = (run for run in self._device.runs.values() if len(run.steps) <= _RESUMED_STEPS)
        troubled = [run for run in open_runs if run.held or run.in_doubt or run.left]
        for run in sorted(troubled, key=lambda run: run.seq)[-_RESUMED:]:
            self._meter.resume(self._journal.run_entries(run.id))

    def committed(self, moved: Iterable[tuple[Entry, Run | None]]) -> None:
        """The entries of a commit, each with the run after it, as ``Device.fold`` returns it."""
        for entry, run in moved:
            self._meter.take(entry, run)
            if self._endpoint:
                self._outbox.take(entry)

    def text(self) -> str:
        """The numbers in the Prometheus text format."""
        return text(self._series())

    def _series(self) -> list[Series]:
        now = gauges(
            self._device.runs.values(),
            failed=len(self._device.failed),
            size=self._journal.committed,
            synced=self._journal.cosigned_size(),
        )
        return self._meter.series(now)

    # --- sending ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send what there is every ``every_s`` seconds; returns at once where no endpoint is configured. Loading the
        SDK costs some megabytes, so that too waits for one."""
        if not self._endpoint:
            return
        sender: _Sender | None = None
        try:
            while True:
                await asyncio.sleep(self._every_s)
                try:
                    if sender is None:
                        sender = await asyncio.to_thread(
                            _Sender, self._endpoint, self._name, self._log, self._journal.origin
                        )
                    await self._send(sender)
                except OutriderError as error:
                    self._trouble(error)
        finally:
            if sender is not None:
                sender.close()

    async def _send(self, sender: _Sender) -> None:
        series, at = self._series(), self._now()
        await asyncio.to_thread(sender.numbers, series, self._began, at)
        while parcels := self._outbox.next():
            try:
                await asyncio.to_thread(sender.traces, parcels)
            except Unavailable:
                self._put_back(parcels)
                raise
            self._refusals = 0
        if self._outbox.lost > self._lost:
            lost, self._lost = self._outbox.lost - self._lost, self._outbox.lost
            raise Unavailable(
                "telemetry.lost", f"the traces of {lost} runs could not be sent", advice="nothing: the log has them"
            )

    def _put_back(self, parcels: list[Parcel]) -> None:
        """A receiver that takes the numbers, and again and again not these traces, will never take them."""
        self._refusals += 1
        if self._refusals < _REFUSALS:
            self._outbox.again(parcels)
        else:
            self._refusals = 0
            self._outbox.lost += len(parcels)


class _Sender:
    """Reads the log and sends, in whatever thread it is called in; ``close`` from any."""

    def __init__(self, endpoint: str, name: str, log: Path, origin: str) -> None:
        self._endpoint = endpoint
        self._log = log
        self._origin = origin
        self._whose: Mapping[str, str] = {
            "service.name": "outrider-agent",
            "service.version": __version__,
            "service.instance.id": name,
        }
        self._spans, self._metrics = _exporters(endpoint)

    def numbers(self, series: list[Series], began: int, at: int) -> None:
        from opentelemetry.sdk.metrics.export import MetricExportResult

        data = forms.metrics_data(series, self._whose, began=began, at=at)
        if self._metrics.export(data) is not MetricExportResult.SUCCESS:
            raise self._refused()

    def traces(self, parcels: list[Parcel]) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        waiting: list[Span] = []
        with contextlib.closing(LogReader(self._log)) as reader:
            for parcel in parcels:
                waiting += _ended(reader, parcel, self._origin)
                while len(waiting) >= _SPANS or (waiting and parcel is parcels[-1]):
                    made = forms.readable_spans(waiting[:_SPANS], self._whose)
                    if self._spans.export(made) is not SpanExportResult.SUCCESS:
                        raise self._refused()
                    del waiting[:_SPANS]

    def _refused(self) -> Unavailable:
        return Unavailable(
            "telemetry.unreachable",
            f"{self._endpoint} did not take the telemetry",
            advice="check OUTRIDER_OTLP_ENDPOINT and the collector; it is tried again",
        )

    def close(self) -> None:
        """Ends what waits between two attempts as well."""
        self._spans.shutdown()  # type: ignore[no-untyped-call]  # the SDK's has no annotation
        self._metrics.shutdown()


def _ended(reader: LogReader, parcel: Parcel, origin: str) -> list[Span]:
    """The spans of a run as it was at its end, without those of an end before a retry."""

    def opened(run: str) -> RunOpenedV1 | None:
        first = reader.has_run(run)
        return first.facts if first is not None and isinstance(first.facts, RunOpenedV1) else None

    entries = [entry for entry in reader.run_entries(parcel.run) if entry.seq <= parcel.seq]
    found = spans(entries, origin=origin, root=trace_root(parcel.run, opened))
    return [span for span in found if span.attempt == found[-1].attempt]


def _exporters(endpoint: str) -> tuple[OTLPSpanExporter, OTLPMetricExporter]:
    """OpenTelemetry's own. The standard variables (``OTEL_EXPORTER_OTLP_HEADERS``, ``..._CERTIFICATE``) hold for them,
    but not the endpoint's: that is a setting of the agent."""
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise forms.missing(error) from error
    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())  # a failure is told as a trouble, not printed
    return (
        OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=_TIMEOUT_S),
        OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics", timeout=_TIMEOUT_S),
    )
