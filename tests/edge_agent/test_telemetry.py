"""The agent's telemetry over real runs: the text, OTLP to a receiver that decodes it, and what a dead one costs."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.telemetry import Telemetry
from shared.entries import Entry, RunClosed, RunOpenedV1
from shared.errors import OutriderError, Refused
from shared.runs import Device
from shared.telemetry.spans import spans, trace_root
from tests.edge_agent.rig import Rig
from tests.edge_agent.test_steps import Shop
from tests.otlp import Receiver
from tests.ports import Port

STEPS = """
- {id: first, tool: shop.put, with: {what: "sku ${inputs.sku}"}}
- {id: call, run: child, inputs: {sku: "${inputs.sku}"}}
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


class Watched:
    """A rig's log folded and told as the agent does it, and the telemetry beside it."""

    def __init__(self, rig: Rig, endpoint: str = "", every_s: float = 0.05) -> None:
        self.device = Device()
        for entry in rig.journal.entries():
            self.device.fold(entry)
        self.troubles: list[OutriderError] = []
        self.telemetry = Telemetry(
            rig.journal,
            self.device,
            log=rig.folder / "log.sqlite3",
            name="dev",
            endpoint=endpoint,
            every_s=every_s,
            now=rig.clock,
            trouble=self.troubles.append,
        )
        rig.journal.listen(self._committed)

    def _committed(self, entries: list[Entry]) -> None:
        self.telemetry.committed([(entry, self.device.fold(entry)) for entry in entries])

    def samples(self) -> dict[str, float]:
        """The sum of each sample's values."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(self.telemetry.text()):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0) + sample.value
        return found

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let it send until something is so."""
        work = asyncio.create_task(self.telemetry.run())
        try:
            async with asyncio.timeout(60):
                while not holds():
                    assert not work.done()
                    await asyncio.sleep(0.01)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


@contextmanager
def shop(folder: Path, steps: str = STEPS) -> Iterator[Shop]:
    made = Shop(folder, steps)
    yield made
    made.close()


# --- the text -----------------------------------------------------------------------------------------------------


async def test_real_runs_are_counted(tmp_path: Path) -> None:
    with shop(tmp_path) as made:
        watched = Watched(made.rig)
        run = await made.begin()
        assert made.outcome(run) == "done"
        found = watched.samples()
        assert found["outrider_runs_opened_total"] == found["outrider_runs_closed_total"] == 2
        assert found["outrider_effects_total"] == found["outrider_effect_duration_seconds_count"] == 2
        assert found["outrider_log_entries"] == found["outrider_log_unsynced_entries"] == made.rig.journal.size
        assert found["outrider_runs_failed"] == 0 and "outrider_runs_open" not in found


async def test_counters_begin_anew_and_troubles_go_on_after_a_restart(tmp_path: Path) -> None:
    with shop(tmp_path, "- {id: first, tool: shop.put, with: {what: x}}\n") as made:
        made.put.fails = {"x": Refused("shop.closed", "closed", advice="wait")}
        run = await made.begin()
        assert made.rig.device.failed
        made.rig.close()
        made.open(made.rig.clock)
        watched = Watched(made.rig)
        assert watched.samples()["outrider_runs_failed"] == 1
        assert "outrider_runs_closed_total" not in watched.samples()
        made.rig.clock.now += 3600 * 1_000_000
        made.put.fails = {}
        await made.rig.order(run, "retry")
        await made.rig.settle()
        found = watched.samples()
        assert found["outrider_runs_failed"] == 0 and found["outrider_runs_closed_total"] == 1
        assert found["outrider_recovery_duration_seconds_count"] == 1
        assert 3600 <= found["outrider_recovery_duration_seconds_sum"] < 3700


async def test_a_held_run_is_known_after_a_restart(tmp_path: Path) -> None:
    with shop(tmp_path, "- {id: first, tool: shop.put, with: {what: x}}\n") as made:
        await made.rig.install()
        run = await made.rig.start("shop", sku="S1")
        await made.rig.settle()
        assert made.rig.device.runs[run].held, "no lease"
        made.rig.close()
        made.open(made.rig.clock)
        watched = Watched(made.rig)
        made.rig.clock.now += 60 * 1_000_000
        await made.rig.lend()
        await made.rig.settle()
        assert made.outcome(run) == "done"
        found = watched.samples()
        assert found["outrider_recovery_duration_seconds_count"] == 1
        assert 60 <= found["outrider_recovery_duration_seconds_sum"] < 70


# --- OTLP ---------------------------------------------------------------------------------------------------------


async def test_a_receiver_gets_the_traces_of_ended_runs_and_the_numbers(tmp_path: Path, receiver: Receiver) -> None:
    with shop(tmp_path) as made:
        watched = Watched(made.rig, receiver.endpoint)
        run = await made.begin()
        await watched.until(lambda: len(receiver.spans) >= 7 and "outrider.runs.closed" in receiver.metrics)
        assert watched.troubles == []
        journal = made.rig.journal
        children = [name for name in made.rig.device.closed or {} if name != run]
        opened: dict[str, RunOpenedV1] = {}
        for name in [run, *children]:
            first = journal.run_entries(name)[0].facts
            assert isinstance(first, RunOpenedV1)
            opened[name] = first
        wanted = [
            span
            for name in opened
            for span in spans(
                journal.run_entries(name), origin="city/dev", root=trace_root(name, lambda above: opened.get(above))
            )
        ]
        assert {span.span_id.hex() for span in receiver.spans} == {span.id for span in wanted}
        assert {span.trace_id.hex() for span in receiver.spans} == {wanted[0].trace}
        assert len(receiver.spans) == len(wanted)
        by_id = {span.span_id: span for span in receiver.spans}
        (top,) = (span for span in receiver.spans if not span.parent_span_id)
        assert top.name == "invoke_agent shop"
        (child,) = (span for span in receiver.spans if span.name == "invoke_agent child")
        assert by_id[child.parent_span_id].name == "step call"
        points = receiver.metrics["outrider.runs.closed"].sum.data_points
        assert sum(point.as_double or point.as_int for point in points) == 2
        ((whose),) = receiver.resources
        assert dict(whose)["service.name"] == "outrider-agent" and dict(whose)["service.instance.id"] == "dev"


async def test_each_end_of_a_run_is_sent_once(tmp_path: Path, receiver: Receiver) -> None:
    with shop(tmp_path, "- {id: first, tool: shop.put, with: {what: x}}\n") as made:
        watched = Watched(made.rig, receiver.endpoint)
        made.put.fails = {"x": Refused("shop.closed", "closed", advice="wait")}
        run = await made.begin()
        await watched.until(lambda: len(receiver.spans) >= 4)
        made.put.fails = {}
        await made.rig.order(run, "retry")
        await made.rig.settle()
        assert made.outcome(run) == "done"
        await watched.until(lambda: len(receiver.spans) >= 8)
        ids = [span.span_id for span in receiver.spans]
        assert len(ids) == len(set(ids)) == 8
        errors = [span.status.message for span in receiver.spans if span.name.startswith("invoke_agent")]
        assert errors == ["shop.closed", ""]


async def test_both_ends_are_sent_where_the_first_was_still_waiting(tmp_path: Path, receiver: Receiver) -> None:
    with shop(tmp_path, "- {id: first, tool: shop.put, with: {what: x}}\n") as made:
        watched = Watched(made.rig, receiver.endpoint)
        made.put.fails = {"x": Refused("shop.closed", "closed", advice="wait")}
        run = await made.begin()
        made.put.fails = {}
        await made.rig.order(run, "retry")
        await made.rig.settle()
        await watched.until(lambda: len(receiver.spans) >= 8)
        assert len({span.span_id for span in receiver.spans}) == len(receiver.spans) == 8


async def test_many_spans_go_in_several_requests(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.telemetry.sending._SPANS", 3)
    with shop(tmp_path) as made:
        watched = Watched(made.rig, receiver.endpoint)
        await made.begin()
        count = sum(len(spans(made.rig.journal.run_entries(run), origin="x")) for run in made.rig.device.closed or {})
        await watched.until(lambda: len(receiver.spans) >= count)
        assert receiver.requests.count("/v1/traces") == -(-count // 3)
        assert len({span.span_id for span in receiver.spans}) == len(receiver.spans) == count


async def test_a_dead_receiver_is_a_trouble_and_its_traces_are_sent_once_it_is_back(tmp_path: Path) -> None:
    with shop(tmp_path) as made, Port() as dead:
        watched = Watched(made.rig, f"http://127.0.0.1:{dead.number}/")
        await made.begin()
        await watched.until(lambda: len(watched.troubles) >= 1)
        assert {error.code for error in watched.troubles} == {"telemetry.unreachable"}
        receiver = Receiver()
        try:
            watched.telemetry._endpoint = receiver.endpoint
            await watched.until(lambda: len(receiver.spans) >= 7)
        finally:
            receiver.close()


async def test_a_receiver_that_hangs_holds_up_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.telemetry._TIMEOUT_S", 90.0)  # one request outlasts this run on any machine
    with shop(tmp_path) as made, socket.create_server(("127.0.0.1", 0)) as silent:
        watched = Watched(made.rig, f"http://127.0.0.1:{silent.getsockname()[1]}", every_s=0.01)
        work = asyncio.create_task(watched.telemetry.run())
        connection, _ = await asyncio.to_thread(silent.accept)  # it is sending now, and nobody answers
        began = time.monotonic()
        run = await made.begin()
        assert made.outcome(run) == "done" and time.monotonic() - began < 60
        assert watched.samples()["outrider_runs_closed_total"] == 2
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")  # its thread ends with an answer
        connection.close()


async def test_traces_that_are_never_taken_are_given_up_and_told(tmp_path: Path, receiver: Receiver) -> None:
    receiver.status["/v1/traces"] = 400
    with shop(tmp_path) as made:
        watched = Watched(made.rig, receiver.endpoint, every_s=0.01)
        await made.begin()
        await watched.until(lambda: any(error.code == "telemetry.lost" for error in watched.troubles))
        assert receiver.requests.count("/v1/traces") == 5
        assert "outrider.runs.closed" in receiver.metrics, "the numbers are sent all the same"


async def test_credentials_come_from_the_standard_variable(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc")
    with shop(tmp_path) as made:
        watched = Watched(made.rig, receiver.endpoint)
        await watched.until(lambda: bool(receiver.metrics))
        assert receiver.headers["authorization"] == "Bearer abc"


async def test_without_an_endpoint_nothing_is_sent_or_kept(tmp_path: Path) -> None:
    with shop(tmp_path) as made:
        watched = Watched(made.rig)
        await made.begin()
        async with asyncio.timeout(60):
            await watched.telemetry.run()
        assert watched.telemetry._outbox.next() == []
        assert any(isinstance(entry.facts, RunClosed) for entry in made.rig.journal.entries())


async def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with shop(tmp_path) as made:
        watched = Watched(made.rig, "http://127.0.0.1:9")
        await watched.until(lambda: bool(watched.troubles))
        assert watched.troubles[0].code == "telemetry.missing"
        assert "outrider[telemetry]" in watched.troubles[0].advice


async def test_a_fault_in_sending_does_not_end_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(endpoint: str) -> None:
        raise RuntimeError("no more threads")

    monkeypatch.setattr("edge_agent.telemetry._exporters", broken)
    with shop(tmp_path) as made:
        watched = Watched(made.rig, "http://127.0.0.1:9")
        await watched.until(lambda: len(watched.troubles) > 1)
        assert {error.code for error in watched.troubles} == {"telemetry.fault"}


# --- what it costs ------------------------------------------------------------------------------------------------


def test_the_sdk_is_not_loaded_without_an_endpoint() -> None:
    code = "import edge_agent.telemetry, sys; print([m for m in sys.modules if m.split('.')[0] == 'opentelemetry'])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
