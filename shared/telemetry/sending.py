"""What is sent, in which order, and what becomes of what is not taken. It sends through exporters it is given, so that
nothing here opens a connection; the agent and the hub bring OpenTelemetry's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from shared.errors import Unavailable
from shared.telemetry import otel
from shared.telemetry.meter import Series
from shared.telemetry.outbox import Outbox, Parcel
from shared.telemetry.spans import Span

_REFUSALS = 5  # of the same traces, before they are given up
_SPANS = 1000  # in one request


class Exporter(Protocol):
    """An exporter of OpenTelemetry's SDK, of spans or of metrics. Its answer is a member of an enum."""

    def export(self, given: Any, /) -> Any: ...

    def shutdown(self) -> Any: ...


class Sender:
    """Blocks; to be called in one thread at a time. ``close`` may come from any."""

    def __init__(
        self, outbox: Outbox, traces: Exporter, numbers: Exporter, *, whose: Mapping[str, str], endpoint: str
    ) -> None:
        """``whose`` is the resource, ``endpoint`` what people are told of where it goes."""
        self._outbox = outbox
        self._traces = traces
        self._numbers = numbers
        self._whose = whose
        self._endpoint = endpoint
        self._refusals = 0
        self._lost = 0

    def send(
        self, series: Sequence[Series], *, began: int, at: int, spans_of: Callable[[Sequence[Parcel]], list[Span]]
    ) -> None:
        """The numbers, and the traces of all runs that wait. Times are microseconds since 1970 UTC. Raises
        ``Unavailable('telemetry.unreachable' | 'telemetry.lost')``."""
        self._export(self._numbers, otel.metrics_data(series, self._whose, began=began, at=at))
        while parcels := self._outbox.next():
            found = spans_of(parcels)
            try:
                for start in range(0, len(found), _SPANS):
                    made = otel.readable_spans(found[start : start + _SPANS], self._whose)
                    self._export(self._traces, made)
            except Unavailable:
                self._put_back(parcels)
                raise
            self._refusals = 0
        if self._outbox.lost > self._lost:
            lost, self._lost = self._outbox.lost - self._lost, self._outbox.lost
            said = f"the traces of {lost} runs could not be sent"
            raise Unavailable("telemetry.lost", said, advice="nothing is to be done: the log has them")

    def _export(self, exporter: Exporter, given: Any) -> None:
        if exporter.export(given).name != "SUCCESS":
            raise Unavailable(
                "telemetry.unreachable",
                f"{self._endpoint} did not take the telemetry",
                advice="check the OTLP endpoint and the collector; it is tried again",
            )

    def _put_back(self, parcels: list[Parcel]) -> None:
        """A receiver that takes the numbers, and again and again not these traces, will never take them."""
        self._refusals += 1
        if self._refusals < _REFUSALS:
            self._outbox.again(parcels)
        else:
            self._refusals = 0
            self._outbox.lose(len(parcels))

    def close(self) -> None:
        """Ends what waits between two attempts as well."""
        self._traces.shutdown()
        self._numbers.shutdown()
