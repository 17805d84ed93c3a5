"""Whole stories: whatever the engine may do folds, can be read again from anywhere, ends, and was allowed."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import entries as e
from shared.errors import BadInput, Tampered
from shared.playbook import load as load_playbook
from shared.runs import Device, Move, Run, fold, load, moves, save
from shared.runs.fold import OF_RUNS
from tests.shared.one_step import ALLOW, DONE, INTENT, PLAN, RECALL, RESULT, SEEN
from tests.shared.stories import START, Story, make, opened, playbook, random_playbook, verdict
from tests.shared.watch import Watch

__all__ = ["ALLOW", "DONE", "INTENT", "PLAN", "RECALL", "RESULT", "SEEN", "opened"]

CHANCE = st.integers(0, 2**32).map(random.Random)  # a seed: there is nothing to shrink in a story


def a_story(chance: random.Random, *, most: int = 120) -> Story:
    story = Story(random_playbook(chance), chance.choice, dry_run=chance.random() < 0.1)
    story.tell(most)
    return story


def folded(entries: list[e.Entry]) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    for entry in entries:
        if entry.run:
            runs[entry.run] = fold(runs.get(entry.run), entry)
    return runs


def device_of(entries: list[e.Entry]) -> Device:
    device = Device(closed={})
    for entry in entries:
        device.fold(entry)
    return device


@settings(max_examples=80, deadline=None)
@given(CHANCE)
def test_any_prefix_folds_and_replaying_gives_the_same(chance: random.Random) -> None:
    story = a_story(chance)
    cut = chance.randrange(len(story.entries))
    before, whole = folded(story.entries[:cut]), folded(story.entries)
    assert {name: run for name, run in whole.items() if name in story.device.runs} == story.device.runs
    assert {name for name, run in whole.items() if run.closed is not None} == set(story.device.closed or ())
    assert all(before[name].seq == whole[name].seq for name in before)
    assert device_of(story.entries) == story.device


@settings(max_examples=80, deadline=None)
@given(CHANCE)
def test_a_device_saved_in_the_middle_goes_on_as_the_same(chance: random.Random) -> None:
    story = a_story(chance)
    saved = device_of(story.entries[: chance.randrange(len(story.entries) + 1)])
    device = load(save(saved))
    assert device == saved and device is not None
    for entry in story.entries[device.size :]:
        device.fold(entry)
    assert device == story.device


@settings(max_examples=80, deadline=None)
@given(CHANCE)
def test_every_story_ends_once_all_goes_well(chance: random.Random) -> None:
    """``finish`` raises where a run is stuck: with no move, or with one that changes nothing."""
    story = a_story(chance)
    story.finish()
    assert not story.device.runs and not story.device.children
    for run in folded(story.entries).values():
        assert run.closed is not None and not (run.waits or run.in_doubt or run.left)
        in_the_world = {step for (name, step), count in story.world.items() if name == run.id and count}
        assert in_the_world == set(run.effects) - run.taken_back
        if run.undoing is not None:
            assert all(story.book(run).step(step).undo == "none" for step in in_the_world)


@settings(max_examples=80, deadline=None)
@given(CHANCE)
def test_at_any_time_a_run_says_what_it_waits_for(chance: random.Random) -> None:
    story = Story(random_playbook(chance), chance.choice)
    for _ in range(40):
        story.tell(3)
        for run in story.device.runs.values():
            found = moves(run, story.book(run))
            listed = {move.step for move in found}
            assert {step.id for step in run.steps.values() if step.in_flight} <= listed
            assert len(listed) == len(found)
            if any(move.move is Move.STOP for move in found):
                assert run.paused and len(found) == 1
            for move in found:
                if move.move in (Move.WAIT, Move.HOLD):
                    assert run.steps[move.step].status in ("waiting", "doubted", "entered", "left", "held")


@settings(max_examples=80, deadline=None)
@given(CHANCE)
def test_in_every_story_each_act_was_allowed_or_approved(chance: random.Random) -> None:
    story = a_story(chance)
    watch = Watch()
    for entry in story.entries:
        watch.see(entry)
    assert all(count == 1 for count in story.sent.values()), "an effect was done twice under one key"


def test_the_stories_tell_of_everything() -> None:
    """Chance that never comes upon something proves nothing about it."""
    types: Counter[str] = Counter()
    for seed in range(700):
        story = a_story(random.Random(seed))
        story.finish()
        types.update(entry.type for entry in story.entries)
        types.update(getattr(entry.facts, "code", "") for entry in story.entries)
        types.update(getattr(entry.facts, "order", "") for entry in story.entries)
        types.update((story.device.closed or {}).values())
    rare = [name for name in WANTED if types[name] < 10]
    assert not rare, rare


WANTED = [
    *("event.received", "step.entered", "step.ended", "step.skipped", "step.rehearsed", "step.failed"),
    *("approval.escalated", "approval.answered", "approval.voided", "intent.doubted", "undo.begun", "undo.left"),
    *("done", "denied", "declined", "failed", "referred", "cancelled", "rehearsed"),
    *("pause", "resume", "cancel", "retry", "dismiss", "happened", "not-happened", "handled"),
    *("step.dropped", "step.timeout", "effect.mismatch", "child.failed"),
]


def test_random_playbooks_are_playbooks() -> None:
    for seed in range(100):
        book = random_playbook(random.Random(seed))
        assert load_playbook(json.dumps(msgspec.to_builtins(book)), "x.yaml") == book


# --- an engine that does whatever the fold lets it ----------------------------------------------------------------


ENDING = (e.RunOrdered, e.StepFailed, e.RunClosed, e.StepSkipped, e.UndoBegun)


class Rogue(Story):
    """Before each entry it tries others: earlier ones once more, and its own with a field of another in it. What folds
    stands, and the story goes on from there."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.got_away = 0
        self.refused = 0
        super().__init__(random_playbook(chance), chance.choice, dry_run=chance.random() < 0.1)

    def add(self, facts: e.Facts, run: str = "", later: int = 1) -> None:
        for _ in range(self.chance.randint(0, 4) if self.entries else 0):
            bad, its_run = self._attack(facts, run)
            before = save(self.device)
            try:
                super().add(bad, its_run)
                self.got_away += 1
            except Tampered as error:
                assert error.code == "run.order" and error.advice
                assert save(self.device) == before, "what is refused changes nothing"
                self.refused += 1
        super().add(facts, run, later)

    def _attack(self, facts: e.Facts, run: str) -> tuple[e.Facts, str]:
        earlier = [one for one in self.entries if isinstance(one.facts, OF_RUNS)]
        if self.chance.random() < 0.9:  # what ends a run or a step ends the story too
            earlier = [one for one in earlier if not isinstance(one.facts, ENDING)] or earlier
        other = self.chance.choice(earlier)
        if self.chance.random() < 0.4:
            return other.facts, self.chance.choice([other.run, run or other.run])
        name = self.chance.choice(facts.__struct_fields__)
        values = [getattr(one.facts, name) for one in earlier if hasattr(one.facts, name)]
        values += {"place": ["local", "hub"], "verdict": ["allow"], "outcome": ["done"], "answer": ["approve"]}.get(
            name, []
        )
        return msgspec.structs.replace(facts, **{name: self.chance.choice(values or [getattr(facts, name)])}), run

    def _count(self, run: Run, step: str, number: int) -> None:
        """What a rogue engine does to the world is not what this is about."""

    def tell(self, most: int = 100) -> None:
        for _ in range(most):
            try:
                super().tell(1)
            except (Tampered, KeyError, AssertionError, StopIteration):
                continue  # it went where it had not meant to


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_the_fold_lets_pass_was_allowed_or_approved(seed: int) -> None:
    rogue = Rogue(random.Random(seed))
    rogue.tell()
    watch = Watch()
    for entry in rogue.entries:
        watch.see(entry)
    assert device_of(rogue.entries) == rogue.device
    for run in rogue.device.runs.values():
        assert moves(run, rogue.book(run))


def test_the_rogue_is_no_lamb() -> None:
    """The test above would be empty if everything were refused, or nothing but the honest entries."""
    kinds: Counter[str] = Counter()
    for seed in range(200):
        rogue = Rogue(random.Random(seed))
        rogue.tell()
        kinds.update(entry.type for entry in rogue.entries)
        kinds["got away"] += rogue.got_away
        kinds["refused"] += rogue.refused
        kinds["approved"] += sum(
            isinstance(one.facts, e.IntentRecorded) and bool(one.facts.approval) for one in rogue.entries
        )
    wanted = {"got away": 1000, "refused": 3000, "intent.recorded": 150, "approved": 50, "run.closed": 150}
    assert all(kinds[name] >= number for name, number in wanted.items()), kinds


def any_facts(chance: random.Random) -> e.Facts:
    """Facts of any type with fields of the right types, and hardly ever the right values."""
    kind = chance.choice([kind for (name, _), kind in e.FACTS.items() if issubclass(kind, OF_RUNS)])
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        some = {int: [0, -1, 2**40], bool: [True, False], str: ["a", "~a", "", "done", "time", "allow"]}
        values[field.name] = chance.choice(some.get(field.type, [{} if "dict" in str(field.type) else []]))
    return kind(**values)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_no_entry_raises_anything_else(seed: int) -> None:
    chance, device = random.Random(seed), Device(closed={})
    for number in range(300):
        try:
            run = device.fold(make(any_facts(chance), number, START + number))
        except Tampered as error:
            assert error.code == "run.order"
            continue
        assert run is None or run.closed is not None or moves(run, PLAYBOOK)


PLAYBOOK = playbook([{"id": "a", "tool": "a.tool"}, {"id": "b", "together": [[{"id": "c", "tool": "a.tool"}]] * 2}])

# --- what cannot be read ------------------------------------------------------------------------------------------


def test_an_unknown_type_or_version_stops_the_reader() -> None:
    written = e.write(e.Draft(verdict("s", "a", "allow", ["r"]), "run_1"), 3, START, lambda n: bytes(n))
    for wrong in (written.data.replace(b'"v":1', b'"v":9'), written.data.replace(b"verdict.given", b"verdict.taken")):
        with pytest.raises(BadInput) as caught:
            e.read(wrong)
        assert caught.value.code == "entry.unknown"


def test_the_story_of_one_step_is_the_one_other_tests_tell() -> None:
    device = device_of([make(f, n, START + n) for n, f in enumerate([opened(), PLAN, ALLOW, INTENT, RESULT, SEEN])])
    (run,) = device.runs.values()
    assert moves(run, playbook([{"id": "first", "tool": "a.tool"}]))[0].outcome == "done"
    assert fold(run, make(DONE, 9, START + 9)).closed is not None
