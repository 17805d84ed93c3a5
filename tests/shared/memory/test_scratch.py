"""Changes are tried on a scratch copy in a process that may die of them; nobody else is harmed by that."""

from __future__ import annotations

import dataclasses
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from automerge import core

from shared.errors import Conflict, Tampered, Unavailable
from shared.memory import chunks, history, scratch
from shared.memory.bench import COMMAND, Bench, launch
from shared.memory.document import Document, Edit
from shared.memory.item import Item
from shared.memory.verdict import Task
from tests.shared.memory import hostile

pytestmark = pytest.mark.timeout(300)

AT = 1_700_000_000_000_000
ITEM = Item(kind="note", text="The desk opens at nine.", source="test", tags=["desk"])
CARELESS = (sys.executable, str(Path(__file__).with_name("careless.py")))


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@pytest.fixture
def careless() -> Iterator[Bench]:
    """Half a second and 300 MB an item, and no screen. The tests' folder is on no path but their own."""
    made = Bench(lambda: launch((*CARELESS, "0.5", str(300 * 1024 * 1024))))
    yield made
    made.close()


def written(edits: int = 3) -> tuple[bytes, list[bytes]]:
    """An item's document, and edits made upon it by another device."""
    base = Document.create(ITEM, hostile.ACTOR, at=AT, by="user:ada").save()
    other = Document.load([base], hostile.OTHER)
    made = [other.edit(Edit(text=f"The desk opens at {n}.", kind="fact"), at=AT + n, by="run x") for n in range(edits)]
    return base, [chunk for chunk in made if chunk is not None]


BASE, EDITS = written()


def names(made: list[bytes]) -> tuple[str, ...]:
    return tuple(chunks.read_change(chunk).hash for chunk in made)


def spoilt(**parts: object) -> bytes:
    """The first edit, spoilt in its header, under a checksum that fits."""
    return dataclasses.replace(hostile.Draft.of(EDITS[0]), **parts).built()  # type: ignore[arg-type]


# --- what is judged


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0, 0, 1, 2]])
def test_changes_are_taken_in_any_order_and_any_number_of_times(order: list[int]) -> None:
    verdict = scratch.judge(Task("mem", BASE, [EDITS[which] for which in order]))
    assert verdict.refused == ()
    assert verdict.taken == names([EDITS[which] for which in order])
    assert verdict.probe is not None
    assert verdict.probe.heads == names(EDITS[2:])
    assert verdict.probe.item == Document.load([BASE, *EDITS]).item()
    assert Document.load([verdict.probe.saved]).heads() == verdict.probe.heads


def test_a_document_may_be_given_as_its_changes_and_a_new_one_as_nothing() -> None:
    first = Document.load([BASE]).changes()
    assert scratch.probe(b"", first + EDITS) == scratch.probe(BASE + EDITS[0], EDITS[1:])


def test_a_change_that_comes_early_waits_and_the_others_do_not() -> None:
    verdict = scratch.judge(Task("mem", BASE, [EDITS[0], EDITS[2]]))
    assert verdict.taken == names(EDITS[:1])
    assert [(why.place, why.hash, why.code) for why in verdict.refused] == [(1, *names(EDITS[2:]), "memory.early")]
    with pytest.raises(Conflict, match="memory.early"):
        scratch.probe(BASE, EDITS[1:])
    with pytest.raises(Conflict, match="memory.early"):
        scratch.probe(b"", EDITS)


def test_a_bad_change_does_not_harm_the_others_of_its_item() -> None:
    bad = hostile.rows(2**30)
    verdict = scratch.judge(Task("mem", BASE, [EDITS[0], bad, EDITS[1]]))
    assert verdict.taken == names(EDITS[:2])
    assert [(why.place, why.hash, why.code) for why in verdict.refused] == [(1, "", "memory.hostile.run-length")]


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(spoilt(start_op=hostile.leb(2**29)), id="operations numbered far ahead"),
        pytest.param(spoilt(seq=hostile.leb(2)), id="not the next of its actor"),
        pytest.param(spoilt(actor=hostile.ACTOR, others=[]), id="the number of another change of its actor"),
    ],
)
def test_a_change_that_does_not_go_on_from_its_document_is_refused(chunk: bytes) -> None:
    for base, more in ((BASE, []), (BASE + EDITS[0] + EDITS[1], [EDITS[2]])):
        verdict = scratch.judge(Task("mem", base, [*more, chunk]))
        assert verdict.taken == names(more)
        # Where its actor has changes of these numbers already, the native library refuses it first.
        codes = {"memory.hostile.history", "memory.hostile.reference", "memory.hostile.document"}
        assert len(verdict.refused) == 1 and verdict.refused[0].code in (
            codes if more else codes - {"memory.hostile.document"}
        )


def test_a_change_about_operations_that_nobody_made_is_refused() -> None:
    """They might be made later, by an honest device."""
    draft = hostile.Draft.of(EDITS[0])
    assert draft.others == [hostile.ACTOR]
    with pytest.raises(Tampered, match="memory.hostile.history"):
        scratch.probe(BASE, [dataclasses.replace(draft, others=[b"\xaa" * 16]).built()])


def test_what_makes_no_item_is_refused() -> None:
    document = core.Document.load(BASE)
    document.set_actor(hostile.OTHER)
    heads = document.get_heads()
    with document.transaction() as tx:
        tx.put(core.ROOT, "kind", core.ScalarType.Str, "weapon")
    with pytest.raises(Tampered, match="memory.hostile.item"):
        scratch.probe(BASE, [bytes(document.get_changes(heads)[0].raw_bytes)])
    with pytest.raises(Tampered, match="memory.hostile.item"):
        scratch.probe(b"", hostile.good()[:1])


def test_whether_a_change_is_taken_does_not_depend_on_what_comes_with_it() -> None:
    """A bad one with another that mends it: hub and devices get them in other batches, and must agree."""
    document = core.Document.load(BASE)
    document.set_actor(hostile.OTHER)
    heads = document.get_heads()
    for confidence in (-7, 7):
        with document.transaction() as tx:
            tx.put(core.ROOT, "confidence", core.ScalarType.Int, confidence)
    bad, mended = (bytes(change.raw_bytes) for change in document.get_changes(heads))
    for given in ([bad], [bad, mended], [mended, bad]):
        verdict = scratch.judge(Task("mem", BASE, given))
        assert verdict.probe is None
        assert {given[why.place]: why.code for why in verdict.refused} == {
            bad: "memory.hostile.item",
            **({mended: "memory.early"} if len(given) > 1 else {}),
        }


def test_the_graph_is_judged_by_what_each_writer_had_seen() -> None:
    me, you = b"m" * 16, b"y" * 16
    graph = {
        b"1": history.Known(me, 1, 1, 10, ()),
        b"2": history.Known(me, 2, 11, 12, (b"1",)),
        b"3": history.Known(you, 1, 11, 11, (b"1",)),
    }
    history.check_history(graph, [])
    for changed in (
        {b"2": history.Known(me, 1, 11, 12, (b"1",))},
        {b"3": history.Known(you, 2, 11, 11, (b"1",))},
        {b"3": history.Known(you, 1, 11, 11, (b"9",))},
    ):
        with pytest.raises(Tampered, match="memory.hostile.history"):
            history.check_history({**graph, **changed}, [])


# --- the process it is judged in


def test_the_worker_judges_as_this_process_does(bench: Bench) -> None:
    assert bench.screened("mem", BASE, EDITS) == scratch.judge(Task("mem", BASE, EDITS))
    tasks = [Task(f"mem_{n}", BASE, EDITS[: n % 4]) for n in range(600)]
    verdicts = bench.batch(tasks)
    assert [verdict.item for verdict in verdicts] == [task.item for task in tasks]
    assert [len(verdict.taken) for verdict in verdicts] == [n % 4 for n in range(600)]
    assert bench.batch([]) == []


def test_every_crafted_change_is_refused_beside_good_ones(bench: Bench) -> None:
    crafted = hostile.crafted()
    tasks = [Task(name, BASE, [EDITS[0], chunk]) for name, (chunk, _) in crafted.items()]
    for verdict in bench.batch(tasks):
        assert verdict.taken == names(EDITS[:1])
        assert [why.code for why in verdict.refused] == [f"memory.hostile.{crafted[verdict.item][1]}"]


@pytest.mark.parametrize("rows", [2**22, 2**31 - 1], ids=["takes too long", "takes too much"])
def test_one_that_kills_the_worker_is_refused_and_the_others_are_judged(careless: Bench, rows: int) -> None:
    tasks = [Task("a", BASE, EDITS), Task("b", BASE, [EDITS[0], hostile.rows(rows), EDITS[1]]), Task("c", BASE, EDITS)]
    first, second, third = careless.batch(tasks)
    assert first.taken == third.taken == names(EDITS)
    assert second.taken == names(EDITS[:2])
    assert [(why.place, why.code) for why in second.refused] == [(1, "memory.hostile.limits")]
    assert careless.screened("d", BASE, EDITS).taken == names(EDITS)


def test_many_that_kill_the_worker_are_not_all_tried() -> None:
    started: list[float] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(time.monotonic())
        return launch((*CARELESS, "0.2", str(300 * 1024 * 1024)))

    bench = Bench(start)
    verdict = bench.screened("mem", b"", [hostile.rows(2**22 + n) for n in range(40)])
    bench.close()
    assert [why.code for why in verdict.refused] == ["memory.hostile.limits"] * 40
    assert len(started) <= 6


def test_one_that_hangs_is_ended_by_the_clock() -> None:
    def start() -> subprocess.Popen[bytes]:
        worker = launch((*CARELESS, "5", str(300 * 1024 * 1024)))
        select.select([worker.stdout], [], [], 60)  # it is the judging that has two seconds, not the start
        return worker

    bench = Bench(start, item_s=2.0)
    verdicts = bench.batch([Task("a", BASE, EDITS), Task("b", BASE, [b"hang"])])
    bench.close()
    assert verdicts[0].taken == names(EDITS)
    assert [why.code for why in verdicts[1].refused] == ["memory.hostile.limits"]


def test_a_worker_that_is_killed_from_outside_is_replaced(bench: Bench) -> None:
    assert bench.screened("mem", BASE, EDITS).taken == names(EDITS)
    assert bench._worker is not None
    bench._worker.kill()
    assert bench.screened("mem", BASE, EDITS).taken == names(EDITS)


def test_nothing_runs_before_it_is_needed_and_an_idle_worker_ends() -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(launch(COMMAND))
        return started[-1]

    bench = Bench(start, idle_s=0.2)
    assert started == []
    bench.screened("mem", BASE, EDITS)
    assert started[0].wait(timeout=60) is not None
    assert bench.screened("mem", BASE, EDITS).taken == names(EDITS)
    bench.close()
    bench.close()


def test_many_threads_may_ask(bench: Bench) -> None:
    before = threading.active_count()
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda n: bench.screened(str(n), BASE, EDITS), range(40)))
    assert [verdict.item for verdict in verdicts] == [str(n) for n in range(40)]
    assert all(verdict.taken == names(EDITS) for verdict in verdicts)
    until = time.monotonic() + 60
    while threading.active_count() > before + 1:  # the timer that ends an idle worker; those put off end a little later
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("command", [("/nowhere/python",), (sys.executable, "-c", "")])
def test_a_worker_that_does_not_start_is_said(command: tuple[str, ...]) -> None:
    bench = Bench(lambda: launch(command))
    with pytest.raises(Unavailable, match="memory.scratch"):
        bench.screened("mem", BASE, EDITS)
    bench.close()


def test_asking_does_not_load_the_codec() -> None:
    script = "import shared.memory.bench, sys; sys.exit('automerge' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems keep other limits")
def test_the_worker_may_write_no_file_and_outlives_nobody() -> None:
    worker = launch(COMMAND)
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdout.read(5)
    limits = Path(f"/proc/{worker.pid}/limits").read_text()
    assert "Max file size             0                    0" in limits
    assert "Max core file size        0                    0" in limits
    worker.stdin.close()
    assert worker.wait(timeout=60) == 0
    worker.stdout.close()
