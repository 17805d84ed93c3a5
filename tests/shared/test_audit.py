"""A whole log, and every way to tamper with it: the auditor names the first entry that is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from shared import entries as e
from shared.audit import Mark, Report, Row, verify
from shared.codec import canonical
from shared.keys import SigningKey, cosign_note
from shared.tlog import Checkpoint, Frontier, leaf_hash
from tests.shared import examples
from tests.shared.test_runs import ALLOW, DONE, INTENT, PLAN, RECALL, RESULT, SEEN, opened

KEY = SigningKey(b"k" * 32)
HUB = SigningKey(b"h" * 32)
OTHER = SigningKey(b"o" * 32)
ORIGIN = "city/dev_1"
COMMITS = [1, 2, 5, 10, 13]  # sizes at which a checkpoint was signed


def draft(facts: e.Facts, **bodies: object) -> e.Draft:
    return e.Draft(facts, examples.RUN if type(facts) in examples.OF_RUNS else "", bodies)


DRAFTS = [
    draft(e.LogOpened(ORIGIN, KEY.public.text, "test")),
    draft(e.SourceRefused("00", "intake.csv"), shared={"file": "a.csv"}),
    draft(opened(), shared={"inputs": {"a": 1}}, private={"inputs": {"b": 2}}),
    draft(RECALL),
    draft(PLAN, shared={"reason": "because"}),
    draft(ALLOW),
    draft(INTENT),
    draft(RESULT, shared={"receipt": {}}),
    draft(SEEN),
    draft(DONE),
    draft(e.ClockStepped(5)),
    draft(e.SourceRefused("11", "intake.csv")),
    draft(e.SourceRefused("22", "intake.csv")),
]


def rows_of(drafts: Sequence[e.Draft]) -> list[Row]:
    written = [e.write(one, seq, examples.AT + seq, examples.salt) for seq, one in enumerate(drafts)]
    return [Row(one.data, dict(one.bodies)) for one in written]


def marks_of(rows: Sequence[Row], sizes: Sequence[int], key: SigningKey = KEY, cosigned: int = 10) -> list[Mark]:
    frontier, marks = Frontier(), []
    for size, row in enumerate(rows, 1):
        frontier.extend([leaf_hash(row.data)])
        if size in sizes:
            note = Checkpoint(ORIGIN, size, frontier.root()).sign(key)
            marks.append(Mark(size, note, cosign_note(note, "city", HUB, 1_790_000_000) if size <= cosigned else None))
    return marks


ROWS = rows_of(DRAFTS)
MARKS = marks_of(ROWS, COMMITS)


def judged(rows: Sequence[Row] = ROWS, marks: Sequence[Mark] = MARKS) -> Report:
    return verify(rows, marks, hub="city", hub_key=HUB.public)


def fault(rows: Sequence[Row] = ROWS, marks: Sequence[Mark] = MARKS) -> tuple[int, str]:
    report = judged(rows, marks)
    assert report.error is not None and report.error.advice
    return report.bad_entry, report.error.code


def resealed(drafts: Sequence[e.Draft]) -> tuple[int, str]:
    """The verdict on a log that its own device wrote and signed wrongly."""
    rows = rows_of(drafts)
    return fault(rows, marks_of(rows, COMMITS))


def test_a_sound_log() -> None:
    report = judged()
    assert report.error is None and report.bad_entry == -1
    assert (report.origin, report.key, report.entries, report.checkpoints) == (ORIGIN, KEY.public.text, 13, 5)
    assert (report.cosigned, report.cosigned_size) == (4, 10)
    assert (report.bodies, report.bodies_gone, report.runs_closed, report.runs_open) == (5, 0, 1, 0)
    tree = Frontier()
    tree.extend([leaf_hash(row.data) for row in ROWS])
    assert report.root == tree.root().hex()


def test_without_the_hubs_key_its_part_is_left_out() -> None:
    report = verify(ROWS, MARKS)
    assert report.error is None and (report.cosigned, report.cosigned_size) == (0, 0)


@pytest.mark.parametrize("seq", [0, 2, 6, 12])
def test_any_byte_changed_is_found_within_its_commit(seq: int) -> None:
    first = max((size for size in COMMITS if size <= seq), default=0)
    last = min(size for size in COMMITS if size > seq)
    for place in range(len(ROWS[seq].data)):
        data = bytearray(ROWS[seq].data)
        data[place] ^= 1
        rows = [*ROWS[:seq], Row(bytes(data), ROWS[seq].bodies), *ROWS[seq + 1 :]]
        bad, code = fault(rows)
        assert first <= bad < last, (place, code)


@pytest.mark.parametrize("seq", [0, 3, 6, 12])
def test_any_byte_changed_names_the_entry_where_leaves_were_kept(seq: int) -> None:
    kept = [Row(row.data, row.bodies, leaf_hash(row.data)) for row in ROWS]
    for place in range(len(ROWS[seq].data)):
        data = bytearray(ROWS[seq].data)
        data[place] ^= 1
        rows = [*kept[:seq], Row(bytes(data), kept[seq].bodies, kept[seq].leaf), *kept[seq + 1 :]]
        assert fault(rows)[0] == seq, place


def test_a_kept_leaf_proves_nothing() -> None:
    wrong = [Row(row.data, row.bodies, bytes(32)) for row in ROWS]
    assert judged(wrong).error is None
    data = ROWS[11].data.replace(b"intake.csv", b"intake.cvs")
    rows = [*ROWS[:11], Row(data, {}, leaf_hash(data)), *ROWS[12:]]
    assert fault(rows) == (10, "log.root")


def test_a_change_that_parses_is_found_by_the_root() -> None:
    entry = e.read(ROWS[12].data)
    forged = canonical(msgspec.structs.replace(entry, facts=e.SourceRefused("22", "intake.size")))
    assert fault([*ROWS[:12], Row(forged)]) == (10, "log.root")


@pytest.mark.parametrize("seq", range(13))
def test_a_removed_entry(seq: int) -> None:
    bad, code = fault([*ROWS[:seq], *ROWS[seq + 1 :]])
    if seq == 0:
        assert (bad, code) == (0, "log.gap")
    elif seq == 12:
        assert (bad, code) == (12, "log.cut")
    else:
        assert (bad, code) == (seq, "log.gap")


@pytest.mark.parametrize("seq", range(12))
def test_swapped_entries(seq: int) -> None:
    rows = list(ROWS)
    rows[seq], rows[seq + 1] = rows[seq + 1], rows[seq]
    assert fault(rows) == (seq, "log.gap")


def test_a_truncated_tail() -> None:
    assert fault(ROWS[:10]) == (10, "log.cut")
    report = judged(ROWS[:10], MARKS[:4])  # with its checkpoints gone too, only an outsider's checkpoint shows it
    assert report.error is None and report.entries == 10


def test_entries_without_a_signature() -> None:
    assert fault(ROWS, MARKS[:4]) == (10, "log.unsigned")
    assert fault(ROWS, []) == (0, "log.unsigned")
    assert fault([], []) == (0, "log.empty")


def test_an_edited_body() -> None:
    row = ROWS[4]
    edited = {"shared": msgspec.structs.replace(row.bodies["shared"], data='{"reason":"no"}')}
    assert fault([*ROWS[:4], Row(row.data, edited), *ROWS[5:]]) == (4, "body.hash")
    added = {**row.bodies, "private": row.bodies["shared"]}
    assert fault([*ROWS[:4], Row(row.data, added), *ROWS[5:]]) == (4, "body.hash")
    swapped = {"shared": ROWS[2].bodies["private"], "private": ROWS[2].bodies["shared"]}
    assert fault([*ROWS[:2], Row(ROWS[2].data, swapped), *ROWS[3:]]) == (2, "body.hash")


def test_erased_bodies_leave_a_sound_log() -> None:
    report = judged([Row(row.data) for row in ROWS])
    assert report.error is None
    assert (report.bodies, report.bodies_gone) == (0, 5)


def test_a_log_signed_by_another_key() -> None:
    bad, code = fault(ROWS, marks_of(ROWS, COMMITS, key=OTHER))
    assert bad == 0 and code.startswith("note.")


def test_another_cosigner() -> None:
    report = verify(ROWS, MARKS, hub="city", hub_key=OTHER.public)
    assert report.error is not None and report.error.code == "note.uncosigned" and report.bad_entry == 0
    report = verify(ROWS, MARKS, hub="town", hub_key=HUB.public)
    assert report.error is not None and report.error.code == "note.uncosigned"
    forged = [Mark(mark.size, mark.note, cosign_note(mark.note, "city", OTHER, 1)) for mark in MARKS]
    assert fault(ROWS, forged)[1] == "note.uncosigned"


def test_a_cosignature_over_another_history() -> None:
    """The device shows one tree, the hub countersigned another of the same size."""
    other = rows_of([*DRAFTS[:9], draft(e.RunClosed("failed", "x")), *DRAFTS[10:]])
    theirs = marks_of(other, COMMITS)
    mixed = [Mark(mine.size, mine.note, hers.cosigned) for mine, hers in zip(MARKS, theirs, strict=True)]
    assert fault(ROWS, mixed) == (5, "log.root")


def test_marks_that_do_not_belong() -> None:
    assert fault(ROWS, [Mark(3, MARKS[1].note), *MARKS])[1] == "log.root"
    assert fault(ROWS, [Mark(1, b"junk"), *MARKS[1:]]) == (0, "note.form")
    assert fault(ROWS, [*MARKS, Mark(99, MARKS[-1].note)])[1] == "log.cut"
    assert fault(ROWS, [Mark(0, MARKS[0].note), *MARKS])[1] == "log.cut"


def test_a_run_out_of_order_although_all_is_signed() -> None:
    assert resealed([*DRAFTS[:5], *DRAFTS[6:]]) == (5, "run.order")
    assert resealed([*DRAFTS[:10], draft(INTENT), *DRAFTS[11:]]) == (10, "run.order")
    assert resealed([*DRAFTS[:10], e.Draft(INTENT, ""), *DRAFTS[11:]]) == (10, "run.order")


def test_time_that_runs_back_although_all_is_signed() -> None:
    rows = [Row(e.write(one, seq, examples.AT - seq, examples.salt).data) for seq, one in enumerate(DRAFTS)]
    assert fault(rows, marks_of(rows, COMMITS)) == (1, "log.time")


def test_a_log_that_does_not_begin() -> None:
    assert resealed(DRAFTS[1:]) == (0, "log.unopened")
    assert resealed([*DRAFTS[:11], DRAFTS[0], *DRAFTS[12:]]) == (11, "log.opened-again")
    assert resealed([draft(e.LogOpened(ORIGIN, "AAAA", "test")), *DRAFTS[1:]]) == (0, "key.length")
    assert resealed([draft(e.LogOpened("city/other", KEY.public.text, "test")), *DRAFTS[1:]])[0] == 0


def test_an_unknown_type_stops_the_auditor() -> None:
    strange = canonical(msgspec.to_builtins(e.read(ROWS[11].data)) | {"type": "source.eaten"})
    rows = [*ROWS[:11], Row(strange), *ROWS[12:]]
    assert fault(rows, marks_of(rows, COMMITS)) == (11, "entry.unknown")
