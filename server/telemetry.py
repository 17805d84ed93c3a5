"""What the hub tells of all its devices' work: numbers at ``/metrics``, and numbers and traces by OTLP where an
endpoint is configured. How-to: ``docs/how-to/monitor.md``.

Everything comes from the entries that ingest kept. No number bears a device's name: which device did what is for the
console, behind its sessions, and for traces, which name the run.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
from collections.abc import Callable, Sequence

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy import func, select
from starlette.requests import Request

from server.config import HubConfig
from server.store import Store
from server.store.tables import DEVICES, ENTRIES, RUNS
from shared import __version__
from shared.entries import Entry, RunOpenedV1, read
from shared.errors import OutriderError, Refused
from shared.runs import Run
from shared.telemetry import CONTENT_TYPE, Meter, Outbox, Parcel, Sender, Series, Span, ended_spans, text
from shared.telemetry.otel import missing
from shared.telemetry.sending import Exporter

_log = logging.getLogger("outrider.hub")
_FAILURES = 5000  # failed runs that are known after a restart
_RESUMED = 200  # other runs in trouble whose entries are read at the start
_TIMEOUT_S = 5.0  # of one request, with its retries


class Telemetry:
    """Safe from any thread. ``taken`` is called by ingest, after the entries were committed."""

    def __init__(self, store: Store, config: HubConfig, *, origin: str, clock: Callable[[], int]) -> None:
        """``origin`` is the hub's own log's, which names the hub; ``clock`` gives microseconds since 1970 UTC."""
        self._store = store
        self._endpoint = config.otlp_endpoint.rstrip("/")
        self._whose = {
            "service.name": "outrider-hub",
            "service.version": __version__,
            "service.instance.id": origin,
        }
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._meter = Meter()
        self._outbox = Outbox()
        self._sender: Sender | None = None
        self._resume()

    def taken(self, device: str, moved: list[tuple[Entry, Run]]) -> None:
        """Entries of a device's runs, each with the run after it."""
        with self._lock:
            for entry, run in moved:
                self._meter.take(entry, run, device)
        if self._endpoint:
            for entry, _ in moved:
                self._outbox.take(entry, device)

    def _resume(self) -> None:
        """Since when the runs that are in trouble have been so."""
        newest = RUNS.c.n.desc()
        failed = select(RUNS.c.device, RUNS.c.id, RUNS.c.closed_at).where(RUNS.c.attention == "failed")
        others = (RUNS.c.attention.in_(("doubt", "operator"))) | (RUNS.c.status == "held")
        with self._store.read() as conn:
            failures = conn.execute(failed.order_by(newest).limit(_FAILURES)).all()
            troubled = conn.execute(select(RUNS.c.device, RUNS.c.id).where(others).order_by(newest).limit(_RESUMED))
            for device, run, at in reversed(failures):
                self._meter.resume_failure(run, at, device)
            for device, run in troubled.all():
                self._meter.resume(self._entries(device, run), device)

    # --- the numbers --------------------------------------------------------------------------------------------------

    def router(self, token: str) -> APIRouter:
        """``GET /metrics`` for whoever bears the token."""

        async def metrics(request: Request) -> Response:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                raise Refused(
                    "metrics.token", "that is not this hub's metrics token", advice="send the one in HOME/metrics.token"
                )
            return Response(await asyncio.to_thread(self.text), headers={"content-type": CONTENT_TYPE})

        router = APIRouter()
        router.add_api_route("/metrics", metrics, methods=["GET"], include_in_schema=False)
        return router

    def text(self) -> str:
        """The numbers in the Prometheus text format."""
        return text(self._series())

    def _series(self) -> list[Series]:
        now = self._gauges()
        with self._lock:
            return self._meter.series(now)

    def _gauges(self) -> dict[tuple[str, ...], float]:
        by_status = select(RUNS.c.status, func.count()).where(RUNS.c.status != "closed").group_by(RUNS.c.status)
        failed = select(func.count()).where(RUNS.c.attention == "failed")
        by_state = select(DEVICES.c.state, func.count(), func.sum(DEVICES.c.held)).group_by(DEVICES.c.state)
        more = func.sum(DEVICES.c.log_size - DEVICES.c.held)
        behind = select(more).where(DEVICES.c.state == "active", DEVICES.c.log_size > DEVICES.c.held)
        with self._store.read() as conn:
            devices = conn.execute(by_state).all()
            found: dict[tuple[str, ...], float] = {
                ("outrider_runs_failed",): int(conn.execute(failed).scalar_one()),
                ("outrider_log_entries",): sum(int(held) for _, _, held in devices),
                ("outrider_log_unsynced_entries",): int(conn.execute(behind).scalar() or 0),
            }
            found |= {("outrider_runs_open", status): count for status, count in conn.execute(by_status)}
        return found | {("outrider_devices", state): count for state, count, _ in devices}

    # --- sending ------------------------------------------------------------------------------------------------------

    def send(self) -> None:
        """Send what there is; nothing where no endpoint is configured. A failure is logged, and what it left is sent
        the next time. Blocks; one caller at a time."""
        if not self._endpoint:
            return
        try:
            if self._sender is None:
                exporters = _exporters(self._endpoint)
                self._sender = Sender(self._outbox, *exporters, whose=self._whose, endpoint=self._endpoint)
            self._sender.send(self._series(), began=self._began, at=self._clock(), spans_of=self._spans_of)
        except OutriderError as error:
            _log.warning("%s: %s (%s)", error.code, error.message, error.advice)

    def close(self) -> None:
        """Ends a sending that waits to try again."""
        if self._sender is not None:
            self._sender.close()

    def _spans_of(self, parcels: Sequence[Parcel]) -> list[Span]:
        """The same spans that the devices themselves would send."""
        return [span for parcel in parcels for span in self._ended(parcel)]

    def _ended(self, parcel: Parcel) -> list[Span]:
        with self._store.read() as conn:
            origin = conn.execute(select(DEVICES.c.origin).where(DEVICES.c.id == parcel.device)).scalar_one()

        def opened(run: str) -> RunOpenedV1 | None:
            first = self._entries(parcel.device, run, first=True)
            return first[0].facts if first and isinstance(first[0].facts, RunOpenedV1) else None

        return ended_spans(self._entries(parcel.device, parcel.run), parcel.seq, origin=origin, opened=opened)

    def _entries(self, device: str, run: str, *, first: bool = False) -> list[Entry]:
        rows = select(ENTRIES.c.data).where(ENTRIES.c.device == device, ENTRIES.c.run == run).order_by(ENTRIES.c.seq)
        with self._store.read() as conn:
            return [read(bytes(data)) for data in conn.execute(rows.limit(1) if first else rows).scalars()]


def _exporters(endpoint: str) -> tuple[Exporter, Exporter]:
    """OpenTelemetry's own. The standard variables (``OTEL_EXPORTER_OTLP_HEADERS``, ``..._CERTIFICATE``) hold for them,
    but not the endpoint's: that is a setting of the hub."""
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise missing(error) from error
    return (
        OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=_TIMEOUT_S),
        OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics", timeout=_TIMEOUT_S),
    )
