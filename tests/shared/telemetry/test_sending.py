"""The order of sending, and what becomes of what is not taken; over the SDK's own in-memory exporter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.errors import Unavailable
from shared.telemetry import Outbox, Parcel, Sender, Span, ended_spans
from tests.shared import one_step as one
from tests.shared.stories import opened
from tests.shared.telemetry.lives import ORIGIN, Life


class Numbers:
    """Takes numbers, or does not."""

    def __init__(self) -> None:
        self.took: list[Any] = []
        self.answer = MetricExportResult.SUCCESS

    def export(self, given: Any, /) -> MetricExportResult:
        self.took.append(given)
        return self.answer

    def shutdown(self) -> None:
        self.answer = MetricExportResult.FAILURE


class Traces(InMemorySpanExporter):
    """Refuses as often as it is told."""

    refuse = 0

    def export(self, spans: Any) -> SpanExportResult:
        self.refuse -= 1
        return SpanExportResult.FAILURE if self.refuse >= 0 else super().export(spans)


class Post:
    def __init__(self) -> None:
        self.life, self.outbox = Life(), Outbox()
        self.numbers, self.traces = Numbers(), Traces()
        self.sender = Sender(self.outbox, self.traces, self.numbers, whose={"service.name": "x"}, endpoint="http://x")

    def run(self, name: str) -> None:
        self.life.tell(opened(), *one.ACTED, one.DONE, run=name)
        self.outbox.take(self.life.entries[-1])

    def send(self) -> None:
        self.sender.send(self.life.meter.series(), began=1, at=2, spans_of=self._spans_of)

    def _spans_of(self, parcels: Sequence[Parcel]) -> list[Span]:
        of = self.life.of
        return [x for one in parcels for x in ended_spans(of(one.run), one.seq, origin=ORIGIN, opened=lambda _: None)]

    @property
    def got(self) -> int:
        return len(self.traces.get_finished_spans())


def test_all_that_waits_is_sent() -> None:
    post = Post()
    for n in range(40):
        post.run(f"r{n}")
    post.send()
    assert (post.got, len(post.numbers.took)) == (160, 1)
    post.send()
    assert (post.got, len(post.numbers.took)) == (160, 2)


def test_where_the_numbers_are_not_taken_the_traces_wait() -> None:
    post = Post()
    post.run("r1")
    post.numbers.answer = MetricExportResult.FAILURE
    with pytest.raises(Unavailable, match="telemetry.unreachable"):
        post.send()
    assert post.got == 0
    post.numbers.answer = MetricExportResult.SUCCESS
    post.send()
    assert post.got == 4


def test_traces_that_were_refused_are_sent_again() -> None:
    post = Post()
    post.run("r1")
    post.traces.refuse = 4
    for _ in range(4):
        with pytest.raises(Unavailable, match="telemetry.unreachable"):
            post.send()
    post.send()
    assert (post.got, post.outbox.lost) == (4, 0)


def test_traces_that_are_never_taken_do_not_block_those_behind_them() -> None:
    post = Post()
    post.run("bad")
    post.traces.refuse = 5
    for _ in range(5):
        with pytest.raises(Unavailable, match="telemetry.unreachable"):
            post.send()
    post.run("good")
    with pytest.raises(Unavailable, match="telemetry.lost") as caught:
        post.send()
    assert "1 runs" in caught.value.message
    assert post.got == 4
    post.send()


def test_what_ended_before_a_retry_is_not_sent_again() -> None:
    life = Life()
    life.tell(opened(), one.BROKE, one.LOST)
    first = ended_spans(life.of(), 2, origin=ORIGIN, opened=lambda _: None)
    life.tell(one.order("retry"), *one.ACTED, one.DONE)
    assert ended_spans(life.of(), 2, origin=ORIGIN, opened=lambda _: None) == first
    second = ended_spans(life.of(), life.entries[-1].seq, origin=ORIGIN, opened=lambda _: None)
    assert {span.attempt for span in second} == {1}
    assert ended_spans([], 5, origin=ORIGIN, opened=lambda _: None) == []


def test_closing_ends_both_exporters() -> None:
    post = Post()
    post.sender.close()
    with pytest.raises(Unavailable, match="telemetry.unreachable"):
        post.send()
