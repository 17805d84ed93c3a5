"""Blocks are complete by how many runs there are, never by how they went, and never change after."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.codec import canonical
from shared.errors import BadInput
from shared.rollout import PARTS, Outcomes, Tally
from shared.rollout.outcomes import Block
from tests.shared.rollout.plans import runs

LOOKS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60)


def after(looks: list[tuple[int, int]], share: float) -> Outcomes:
    outcomes = Outcomes()
    for candidate, control in looks:
        outcomes = outcomes.taken(runs(candidate, int(candidate * share)), runs(control, int(control * share)))
    return outcomes


@given(looks=LOOKS)
def test_how_runs_went_does_not_move_the_blocks(looks: list[tuple[int, int]]) -> None:
    good, bad = after(looks, 0), after(looks, 1)
    sizes = [(block.runs, block.control_runs) for block in good.complete("failures")]
    assert sizes == [(block.runs, block.control_runs) for block in bad.complete("failures")]
    assert all(candidate and control for candidate, control in sizes)


@given(looks=LOOKS, more=LOOKS)
def test_a_complete_block_never_changes(looks: list[tuple[int, int]], more: list[tuple[int, int]]) -> None:
    before = after(looks, 0.5).complete("failures")
    assert after(looks + more, 0.5).complete("failures")[: len(before)] == before


@given(looks=LOOKS)
def test_nothing_is_lost(looks: list[tuple[int, int]]) -> None:
    outcomes = after(looks, 0.5)
    candidate, control = (sum(look[arm] for look in looks) for arm in (0, 1))
    total = outcomes.total("failures")
    assert (outcomes.runs, outcomes.control_runs) == (total.runs, total.control_runs) == (candidate, control)


@given(looks=st.lists(st.lists(st.integers(0, 9), min_size=PARTS, max_size=PARTS), max_size=20))
def test_what_is_left_out_is_one_part_of_the_candidates_devices(looks: list[list[int]]) -> None:
    found = Outcomes()
    for look in looks:
        found = found.taken_in_parts([runs(count, count // 2) for count in look], runs(3))
    for left, one in enumerate(found.without):
        assert one.runs == sum(count for look in looks for part, count in enumerate(look) if part != left)
        assert one.control_runs == found.control_runs == 3 * len(looks)
    assert found.runs == sum(map(sum, looks))
    assert msgspec.json.decode(canonical(found), type=Outcomes) == found


def test_evidence_of_before_there_were_parts_is_read() -> None:
    old = msgspec.json.decode(b'{"runs":3,"control_runs":2,"blocks":{"failures":[[1,3,0,2]]}}', type=Outcomes)
    new = old.taken_in_parts([runs(1)] * PARTS, runs(1))
    assert (new.runs, [one.runs for one in new.without]) == (3 + PARTS, [PARTS - 1] * PARTS)


def test_they_are_few_however_many_runs_there_are() -> None:
    outcomes = after([(1, 9)] * 10_000, 0)
    assert len(outcomes.blocks["failures"]) < 100
    assert len(canonical(outcomes)) < 20_000
    assert outcomes.total("failures") == Block(0, 10_000, 0, 90_000)


def test_they_survive_a_restart() -> None:
    outcomes = after([(1, 9), (3, 0), (40, 2)], 0.5)
    assert msgspec.json.decode(canonical(outcomes), type=Outcomes) == outcomes


def test_each_metric_has_its_own_share() -> None:
    tally = Tally(
        runs=9, failures=1, mismatches=2, questions=3, slow=4, dear=5, answered=7, overridden=6
    )  # all different
    outcomes = Outcomes().taken(tally, Tally())
    found = {metric: (block.worse, block.runs) for metric, (block,) in outcomes.blocks.items()}
    assert found == {
        "failures": (1, 9),
        "overridden": (6, 7),
        "mismatches": (2, 9),
        "questions": (3, 9),
        "latency": (4, 9),
        "cost": (5, 9),
    }


@pytest.mark.parametrize(
    ("candidate", "control", "where"),
    [
        (Tally(runs=1, failures=2), Tally(), "failures"),
        (Tally(), Tally(runs=1, mismatches=-1), "mismatches"),
        (Tally(), Tally(runs=9, overridden=1), "overridden"),
    ],
)
def test_counts_that_cannot_be_are_refused(candidate: Tally, control: Tally, where: str) -> None:
    with pytest.raises(BadInput) as caught:
        Outcomes().taken(candidate, control)
    assert (caught.value.code, caught.value.where) == ("rollout.outcomes", where)
