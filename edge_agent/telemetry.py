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
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from edge_agent.journal import Journal, LogReader
from shared import __version__
from shared.entries import Entry, RunOpenedV1
from shared.errors import OutriderError, Unavailable
from shared.runs import Device, Run
from shared.telemetry import Meter, Outbox, Parcel, Sender, Series, Span, ended_spans, gauges, text
from shared.telemetry.otel import missing
from shared.telemetry.sending import Exporter

_RESUMED = 100  # runs in trouble whose entries are read at the start,
_RESUMED_STEPS = 500  # unless they have more steps than this
_TIMEOUT_S = 5.0  # of one request, with its retries


class Telemetry:
    """Use it in one event loop; only sending works in a thread."""

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
        sender: Sender | None = None
        try:
            while True:
                await asyncio.sleep(self._every_s)
                try:
                    if sender is None:
                        sender = await asyncio.to_thread(self._sender)
                    series, at = self._series(), self._now()
                    await asyncio.to_thread(sender.send, series, began=self._began, at=at, spans_of=self._spans_of)
                except OutriderError as error:
                    self._trouble(error)
                except Exception as error:  # noqa: BLE001 - a task root: sending must never end the agent
                    said = f"{type(error).__name__}: {error}"
                    self._trouble(Unavailable("telemetry.fault", said, advice="report it; it is tried again"))
        finally:
            if sender is not None:
                sender.close()

    def _sender(self) -> Sender:
        whose = {"service.name": "outrider-agent", "service.version": __version__, "service.instance.id": self._name}
        return Sender(self._outbox, *_exporters(self._endpoint), whose=whose, endpoint=self._endpoint)

    def _spans_of(self, parcels: Sequence[Parcel]) -> list[Span]:
        """In a thread, with a reader of its own."""
        with contextlib.closing(LogReader(self._log)) as reader:

            def opened(run: str) -> RunOpenedV1 | None:
                first = reader.has_run(run)
                return first.facts if first is not None and isinstance(first.facts, RunOpenedV1) else None

            return [
                span
                for parcel in parcels
                for span in ended_spans(
                    reader.run_entries(parcel.run), parcel.seq, origin=self._journal.origin, opened=opened
                )
            ]


def _exporters(endpoint: str) -> tuple[Exporter, Exporter]:
    """OpenTelemetry's own. The standard variables (``OTEL_EXPORTER_OTLP_HEADERS``, ``..._CERTIFICATE``) hold for them,
    but not the endpoint's: that is a setting of the agent."""
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise missing(error) from error
    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())  # a failure is told as a trouble, not printed
    return (
        OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=_TIMEOUT_S),
        OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics", timeout=_TIMEOUT_S),
    )
