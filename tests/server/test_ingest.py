"""What the hub keeps of devices' logs, and what it refuses."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from server.store.tables import BODIES, CHECKPOINTS, ENTRIES
from shared import entries as e
from shared.codec import canonical
from shared.entries import BatchRefused, Draft, read
from shared.errors import BadInput, Conflict, OutriderError, Refused, Tampered
from shared.keys import SigningKey, verify_cosignature
from shared.protocol import Batch, Sent
from shared.tlog import Checkpoint, Frontier, open_checkpoint
from tests.fakes import FakeDevice
from tests.server.conftest import Rooms


def refused(rooms: Rooms, device: FakeDevice, batch: Batch) -> OutriderError:
    with pytest.raises(OutriderError) as caught:
        rooms.ingest.accept(device.id, batch)
    return caught.value


def recorded(rooms: Rooms) -> list[BatchRefused]:
    """Refusals in the hub's own log."""
    facts = (read(data).facts for _, data in rooms.hublog.entries(limit=10_000))
    return [f for f in facts if isinstance(f, BatchRefused)]


def resigned(device: FakeDevice, batch: Batch, entries: list[bytes]) -> Batch:
    """A batch with other entries under a checkpoint that the device really signed over them."""
    frontier = device.frontier(batch.start)
    from shared.tlog import leaf_hash

    frontier.extend(leaf_hash(data) for data in entries)
    note = Checkpoint(device.origin, frontier.size, frontier.root()).sign(device.log_key).decode()
    return Batch(start=batch.start, entries=[Sent(data.decode()) for data in entries], checkpoint=note)


def edited(data: bytes, **changes: object) -> bytes:
    return canonical(json.loads(data) | changes)


# --- the happy way ------------------------------------------------------------------------------------------------


def test_a_batch_is_kept_countersigned_and_told(rooms: Rooms) -> None:
    device = rooms.join()
    device.decide_alone("PA-1")
    accepted = rooms.ingest.accept(device.id, device.batch())
    note = accepted.checkpoint.encode()
    checkpoint = open_checkpoint(note, device.origin, device.log_key.public)
    assert (accepted.size, checkpoint.size, checkpoint.root) == (device.size, device.size, device.frontier().root())
    assert verify_cosignature(note, rooms.hublog.hub, rooms.hublog.key.public) == rooms.clock.now // 1_000_000
    view = rooms.devices.get(device.id)
    assert (view.held, view.problem_code) == (device.size, "")
    (run,) = rooms.record.runs()
    assert (run.subject, run.status, run.outcome, run.label, run.device_name) == (
        "PA-1",
        "closed",
        "done",
        "counter",
        "front desk",
    )
    with rooms.hublog.store.read() as conn:
        stored = conn.execute(select(ENTRIES.c.data).order_by(ENTRIES.c.seq)).scalars().all()
    assert stored == [w.data for w in device.written]


def test_the_story_tells_each_entry_with_its_body_and_checkpoint(rooms: Rooms) -> None:
    device = rooms.join()
    run = device.decide_alone("PA-1")
    rooms.ingest.accept(device.id, device.batch(0, 3))
    rooms.sync(device)
    story = rooms.record.run(f"{device.id}:{run}")
    assert [entry.type for entry in story.entries] == [
        "run.opened",
        "plan.made",
        "verdict.given",
        "intent.recorded",
        "result.recorded",
        "effect.observed",
        "run.closed",
    ]
    assert [entry.checkpoint_size for entry in story.entries] == [3, 3, *[device.size] * 5]
    assert story.entries[0].body is not None and story.entries[0].body["subject"] == "PA-1"
    assert story.run.closed is not None and story.view.status == "closed"
    with rooms.hublog.store.write() as conn:
        conn.execute(BODIES.delete())
    story = rooms.record.run(run)
    assert [entry.erased for entry in story.entries] == [True, True, *[False] * 5]
    assert story.view.subject == ""


def test_counts_say_how_actions_were_judged(rooms: Rooms) -> None:
    device = rooms.join()
    device.decide_alone("PA-1")
    device.decide_alone("PA-2")
    device.ask("PA-3")
    run = device.open("PA-4")
    device.judge(run, device.plan(run, "PA-4"), "deny")
    rooms.sync(device)
    counts = rooms.record.counts()
    assert (counts.runs, counts.open, counts.waiting, counts.entries) == (4, 2, 1, device.size)
    assert (counts.alone, counts.asked, counts.denied, counts.judged) == (2, 1, 1, 4)
    assert counts.by_label == {"counter": 4}
    days = rooms.record.days(3)
    assert [day.runs for day in days] == [0, 0, 4]
    assert (days[2].alone, days[2].asked, days[2].denied, days[2].other) == (2, 1, 0, 1)  # the denied one is still open
    assert days[2].at <= rooms.clock() < days[2].at + 86_400_000_000


def test_runs_are_listed_newest_first_filtered_and_continued(rooms: Rooms) -> None:
    one, two = rooms.join("one"), rooms.join("two")
    for n in range(5):
        one.decide_alone(f"PA-{n}")
    two.ask("PA-0")
    rooms.sync(one)
    rooms.sync(two)
    everything = rooms.record.runs()
    assert [run.subject for run in everything] == ["PA-0", "PA-4", "PA-3", "PA-2", "PA-1", "PA-0"]
    assert rooms.record.runs(limit=2) + rooms.record.runs(before=everything[1].row) == everything
    assert [run.device_name for run in rooms.record.runs(status="waiting")] == ["two"]
    assert len(rooms.record.runs(device=one.id)) == 5
    # Two devices were given the same case: their runs have one name, and two ids.
    assert everything[0].run == everything[-1].run
    with pytest.raises(Conflict) as caught:
        rooms.record.run(everything[0].run)
    assert caught.value.code == "run.ambiguous"
    assert rooms.record.run(everything[0].id).view.device_name == "two"
    with pytest.raises(BadInput) as unknown:
        rooms.record.run("run_none")
    assert unknown.value.code == "run.unknown"


# --- again, gaps, forks, rollbacks --------------------------------------------------------------------------------


def test_sending_again_is_harmless(rooms: Rooms) -> None:
    device = rooms.join()
    device.decide_alone("PA-1")
    first = rooms.ingest.accept(device.id, device.batch())
    assert rooms.ingest.accept(device.id, device.batch()) == first
    assert rooms.ingest.accept(device.id, device.batch(2, 4)) == first
    device.decide_alone("PA-2")
    overlapping = rooms.ingest.accept(device.id, device.batch(3))
    assert overlapping.size == device.size
    assert rooms.ingest.accept(device.id, device.batch(0, first.size)).size == device.size
    with rooms.hublog.store.read() as conn:
        assert conn.execute(select(func.count()).select_from(ENTRIES)).scalar() == device.size
    assert recorded(rooms) == []


def test_a_gap_is_refused_shown_and_mended_by_the_missing_entries(rooms: Rooms) -> None:
    device = rooms.join()
    device.decide_alone("PA-1")
    rooms.ingest.accept(device.id, device.batch(0, 2))
    error = refused(rooms, device, device.batch(4))
    assert (type(error), error.code) == (Conflict, "log.gap")
    assert rooms.devices.get(device.id).problem_code == "log.gap"
    refused(rooms, device, device.batch(4))
    assert [(f.code, f.held, f.start, f.claimed) for f in recorded(rooms)] == [("log.gap", 2, 4, device.size)]
    rooms.sync(device)
    assert rooms.devices.get(device.id).problem_code == ""


def test_a_fork_is_refused_for_good(rooms: Rooms) -> None:
    device = rooms.join()
    device.decide_alone("PA-1")
    rooms.sync(device)
    honest = list(device.written)
    device.cut(3)
    device.decide_alone("PA-2")
    error = refused(rooms, device, device.batch(2))
    assert (type(error), error.code) == (Tampered, "log.fork")
    assert rooms.devices.get(device.id).problem_code == "log.fork"
    device.written = honest
    device.decide_alone("PA-3")
    assert refused(rooms, device, device.batch(len(honest))).code == "log.fork"
    assert [f.code for f in recorded(rooms)] == ["log.fork"]


def test_a_rewritten_beginning_is_a_fork_even_where_the_sent_entries_match(rooms: Rooms) -> None:
    device = rooms.join()
    device.decide_alone("PA-1")
    rooms.sync(device)
    lied = device.batch(3, 5)
    frontier = Frontier()
    frontier.extend([b"x" * 32 for _ in range(5)])
    note = Checkpoint(device.origin, 5, frontier.root()).sign(device.log_key).decode()
    assert refused(rooms, device, msgspec.structs.replace(lied, checkpoint=note)).code == "log.fork"


def test_a_checkpoint_whose_root_does_not_follow_is_a_fork(rooms: Rooms) -> None:
    device = rooms.join()
    device.decide_alone("PA-1")
    note = Checkpoint(device.origin, device.size, b"x" * 32).sign(device.log_key).decode()
    assert refused(rooms, device, msgspec.structs.replace(device.batch(), checkpoint=note)).code == "log.fork"


def test_the_handshake_finds_rollbacks_and_forks(rooms: Rooms) -> None:
    device = rooms.join()
    device.decide_alone("PA-1")
    assert rooms.ingest.greet(device.id, device.size, "anything: nothing is held yet") == 0
    rooms.sync(device)
    size, root = device.size, device.frontier().root().hex()
    assert rooms.ingest.greet(device.id, size, root) == size
    assert rooms.ingest.greet(device.id, size + 5, "ff" * 32) == size
    with pytest.raises(Tampered) as caught:
        rooms.ingest.greet(device.id, size - 1, root)
    assert caught.value.code == "log.rollback"
    with pytest.raises(Tampered) as standing:
        rooms.ingest.greet(device.id, size, root)
    assert standing.value.code == "log.rollback"

    other = rooms.join("other")
    rooms.sync(other)
    with pytest.raises(Tampered) as forked:
        rooms.ingest.greet(other.id, other.size, "00" * 32)
    assert forked.value.code == "log.fork"
    assert [f.code for f in recorded(rooms)] == ["log.rollback", "log.fork"]


# --- batches that are not what they claim -------------------------------------------------------------------------


def test_a_checkpoint_by_another_key_or_of_another_log_is_refused(rooms: Rooms) -> None:
    device, other = rooms.join(), rooms.join("other")
    device.log_key, mine = SigningKey(b"s" * 32), device.log_key
    assert refused(rooms, device, device.batch()).code == "note.unsigned"
    device.log_key = mine
    stolen = msgspec.structs.replace(device.batch(), checkpoint=other.checkpoint())
    assert refused(rooms, device, stolen).code == "note.unsigned"
    damaged = device.checkpoint().replace("\n1\n", "\n2\n", 1)
    assert refused(rooms, device, msgspec.structs.replace(device.batch(), checkpoint=damaged)).code == "note.signature"
    assert refused(rooms, device, msgspec.structs.replace(device.batch(), checkpoint="?")).code == "note.form"


def test_unknown_types_versions_and_shapes_are_refused(rooms: Rooms) -> None:
    device = rooms.join()
    rooms.sync(device)
    device.open("PA-1")
    batch = device.batch(1)
    data = device.written[1].data
    for changed, code in (
        (edited(data, type="run.imagined"), "entry.unknown"),
        (edited(data, v=3), "entry.unknown"),
        (edited(data, seq=7), "entry.seq"),
        (edited(data, run=""), "entry.run"),
        (edited(data, run="a/b"), "entry.run"),
        (edited(data, at=1), "entry.time"),
        (edited(data, bodies={"shared": "x"}), "entry.body"),
        (edited(data, bodies={"other": "0" * 64}), "entry.body"),
        (edited(data, extra=1), "entry.form"),
        (b" " + data, "entry.form"),
    ):
        assert refused(rooms, device, resigned(device, batch, [changed])).code == code
    assert rooms.ingest.frontier(device.id).size == 1


def test_a_log_opens_once_with_its_own_origin_and_key(rooms: Rooms) -> None:
    device = rooms.join()
    opening = device.written[0].data
    facts = json.loads(opening)["facts"]
    for changed in (facts | {"origin": "other"}, facts | {"key": SigningKey(b"s" * 32).public.text}):
        batch = resigned(device, device.batch(), [edited(opening, facts=changed)])
        assert refused(rooms, device, batch).code == "log.opening"
    device.written.clear()
    device.open("PA-1")
    assert refused(rooms, device, device.batch()).code == "log.opening"


@pytest.mark.parametrize(
    "facts",
    [
        e.UserAdded(user="mallory", roles=["admin"]),
        e.RolloutRolledBack("rol_1", 6, "hub"),
        e.DevicePinned("dev_1", 6, "hub"),
        e.MemoryGranted("team/shop", "user:mallory", "steward", "omar"),
        e.DeviceRevoked("dev_1", "hub", "operator"),
    ],
)
def test_a_device_cannot_write_the_hubs_entries(rooms: Rooms, facts: e.Facts) -> None:
    device = rooms.join()
    device.add(Draft(facts))
    error = refused(rooms, device, device.batch())
    assert (type(error), error.code) == (Refused, "entry.foreign")


def test_bodies_must_be_the_ones_committed_to_and_never_the_private_one(rooms: Rooms) -> None:
    device = rooms.join()
    rooms.sync(device)
    device.open("PA-1")
    batch = device.batch(1)
    private = device.written[1].bodies["private"]
    shared = device.written[1].bodies["shared"]

    def with_body(body: e.Body | None) -> Batch:
        return msgspec.structs.replace(batch, entries=[Sent(batch.entries[0].data, body)])

    assert refused(rooms, device, with_body(private)).code == "body.private"
    assert refused(rooms, device, with_body(e.Body(shared.salt, shared.data + " "))).code == "body.hash"
    assert refused(rooms, device, with_body(e.Body("zz", shared.data))).code == "body.hash"
    assert refused(rooms, device, with_body(e.Body(shared.salt, "x" * 300_000))).code == "body.too-large"
    rooms.ingest.accept(device.id, with_body(None))  # erased on the device before it was sent
    assert rooms.record.runs()[0].subject == ""


def test_a_run_that_acted_unguarded_is_refused(rooms: Rooms) -> None:
    device = rooms.join()
    run = device.open("PA-1")
    action = device.plan(run, "PA-1")
    rooms.sync(device)
    device.finish(run, action)
    error = refused(rooms, device, device.batch(3))
    assert (type(error), error.code) == (Tampered, "run.order")
    assert rooms.record.runs()[0].status == "planned"


def test_a_run_is_folded_over_batches_and_restarts(rooms: Rooms) -> None:
    from server.ingest import Ingest

    device = rooms.join()
    device.decide_alone("PA-1")
    for n in range(device.size):
        Ingest(rooms.hublog, rooms.bus).accept(device.id, device.batch(n, n + 1))
    assert rooms.record.runs()[0].outcome == "done"
    run = device.written[-1].entry.run
    device.add(Draft(e.RunClosed("done", ""), run=run))
    fresh = Ingest(rooms.hublog, rooms.bus)
    with pytest.raises(Tampered) as caught:
        fresh.accept(device.id, device.batch(device.size - 1))
    assert caught.value.code == "run.order"


def test_a_device_cannot_approve_its_own_action(rooms: Rooms) -> None:
    device = rooms.join()
    approval = device.ask("PA-1")
    rooms.sync(device)
    run, action = device.written[-1].entry.run, device.written[-1].entry.facts
    assert isinstance(action, e.ApprovalAsked)
    device.add(Draft(e.ApprovalAnswered("triage", approval, action.action, "approve", "", "clara"), run=run))
    error = refused(rooms, device, device.batch(device.size - 1))
    assert (type(error), error.code) == (Tampered, "approval.forged")
    assert rooms.approvals.get(approval).state == "waiting"


def test_the_list_speaks_of_the_step_that_most_needs_somebody(rooms: Rooms) -> None:
    device = rooms.join()
    run = device.open("PA-1", parent="run_parent")
    done = device.plan(run, "PA-1", confidence=950)
    device.judge(run, done, "allow")
    device.act(run, done)
    sent = device.plan(run, "PA-1", step="mail", planner="playbook", lane="", confidence=1000)
    device.judge(run, sent, "allow", step="mail")
    device.act(run, sent, step="mail", doubt=True)
    device.add(Draft(e.StepEntered("later", "time", device.clock() + 60_000_000, 0, ""), run=run))
    rooms.sync(device)
    (view,) = rooms.record.runs()
    assert (view.status, view.step, view.attention, view.parent) == ("doubted", "mail", "doubt", "run_parent")
    assert (view.label, view.confidence, view.planner) == (
        "counter",
        950,
        "rules",
    )  # what was thought about, not "mail"
    assert [run.attention for run in rooms.record.runs(attention="doubt")] == ["doubt"]
    assert rooms.record.counts().attention == {"doubt": 1}


def test_a_runs_children_stand_with_it(rooms: Rooms) -> None:
    device = rooms.join()
    parent = device.open("PA-1")
    child = device.open("PA-1 part 2", parent=parent)
    rooms.sync(device)
    assert [view.run for view in rooms.record.run(parent).children] == [child]
    assert rooms.record.run(child).children == []


def test_a_dry_run_is_marked_and_may_not_act(rooms: Rooms) -> None:
    device = rooms.join()
    run = device.open("PA-1", dry_run=True)
    action = device.plan(run, "PA-1")
    device.judge(run, action, "ask")
    device.add(Draft(e.StepRehearsed("triage", action.digest, "ask"), run=run))
    size = device.size
    device.close(run, "rehearsed")
    rooms.sync(device)
    (view,) = rooms.record.runs()
    assert (view.dry_run, view.outcome) == (True, "rehearsed")
    device.cut(size)
    other = rooms.join("other")
    run = other.open("PA-1", dry_run=True)
    other.judge(run, other.plan(run, "PA-1"), "allow")
    other.act(run, action)
    error = refused(rooms, other, other.batch())
    assert (type(error), error.code) == (Tampered, "run.order")


def test_a_long_run_is_shown_in_parts_and_known_whole(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    from server.ingest import Record, record

    monkeypatch.setattr(record, "_STORY", 10)
    device = rooms.join()
    run = device.open("PA-1")
    for n in range(12):
        action = device.plan(run, "PA-1", step=f"mail#{n}", confidence=950)
        device.judge(run, action, "allow", step=f"mail#{n}")
        if n == 5:
            rooms.sync(device)
            assert len(rooms.record.run(run).run.steps) == 6
    rooms.sync(device)
    story = rooms.record.run(run)
    assert len(story.run.steps) == 12 and story.complete and story.left_out == 15
    assert story.run == Record(rooms.hublog.store, rooms.clock).run(run).run  # folded on, as if from the beginning
    seqs, before = [entry.seq for entry in story.entries], story.entries[0].seq
    while before > story.run.seq:
        earlier = rooms.record.run(run, before)
        assert not earlier.complete and earlier.run == story.run
        seqs = [entry.seq for entry in earlier.entries] + seqs
        before = earlier.entries[0].seq
    assert seqs == [w.entry.seq for w in device.written if w.entry.run == run]


def test_a_devices_question_cannot_take_anothers_name(rooms: Rooms) -> None:
    one, two = rooms.join("one"), rooms.join("two")
    approval = one.ask("PA-1")
    two.ask("PA-2", name=approval)
    rooms.sync(one)
    assert refused(rooms, two, two.batch()).code == "approval.taken"


def test_batches_out_of_bounds_are_refused(rooms: Rooms) -> None:
    device = rooms.join()
    batch = device.batch()
    assert refused(rooms, device, msgspec.structs.replace(batch, entries=[])).code == "batch.size"
    assert refused(rooms, device, msgspec.structs.replace(batch, start=-1)).code == "batch.size"
    assert refused(rooms, device, msgspec.structs.replace(batch, entries=batch.entries * 600)).code == "batch.size"
    assert refused(rooms, device, msgspec.structs.replace(batch, entries=batch.entries * 2)).code == "batch.checkpoint"
    huge = [Sent("x" * 20_000)]
    frontier = device.frontier(0)
    frontier.extend([b"0" * 32])
    note = Checkpoint(device.origin, 1, frontier.root()).sign(device.log_key).decode()
    assert refused(rooms, device, Batch(0, huge, note)).code == "entry.too-large"


def test_strangers_and_the_revoked_are_refused_without_a_trace_in_the_log(rooms: Rooms) -> None:
    device = rooms.join()
    batch = device.batch()
    with pytest.raises(Refused) as caught:
        rooms.ingest.accept("d-nobody", batch)
    assert caught.value.code == "device.unknown"
    rooms.devices.revoke(device.id, "clara")
    size = rooms.hublog.size
    assert refused(rooms, device, batch).code == "device.revoked"
    assert rooms.hublog.size == size


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), max_size=12), name=st.integers())
def test_any_order_of_honest_batches_ends_in_the_devices_own_log(
    rooms: Rooms, cuts: list[tuple[int, int]], name: int
) -> None:
    """Batches from anywhere, overlapping, repeated or too early: each is kept or refused, and nothing is ever wrong."""
    device = rooms.join(f"device {rooms.clock()}")
    for n in range(4):
        device.decide_alone(f"PA-{n}")
    for start, length in cuts:
        begin, end = min(start, device.size - 1), min(start + length, device.size)
        held = rooms.ingest.frontier(device.id).size
        if begin > held:
            assert refused(rooms, device, device.batch(begin, end)).code == "log.gap"
        else:
            assert rooms.ingest.accept(device.id, device.batch(begin, max(end, begin + 1))).size >= held
        held = rooms.ingest.frontier(device.id).size
        assert rooms.ingest.frontier(device.id).root() == device.frontier(held).root()
    rooms.sync(device) if rooms.ingest.frontier(device.id).size < device.size else None
    assert rooms.ingest.frontier(device.id).root() == device.frontier().root()
    with rooms.hublog.store.read() as conn:
        stored = conn.execute(select(ENTRIES.c.data).where(ENTRIES.c.device == device.id).order_by(ENTRIES.c.seq))
        assert list(stored.scalars()) == [w.data for w in device.written]
        notes = conn.execute(select(CHECKPOINTS.c.note).where(CHECKPOINTS.c.device == device.id)).scalars()
        assert all(verify_cosignature(note.encode(), rooms.hublog.hub, rooms.hublog.key.public) for note in notes)
