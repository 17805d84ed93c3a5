"""Worlds of devices and a hub, short: they converge, and planted faults are found. Long: ``python -m
tests.system.converge --seeds 10000``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from edge_agent.memory import Memory
from tests.system import bugs
from tests.system.converge import Kind, ground, play, run
from tests.system.hubside import make_hub
from tests.system.schedule import Schedule
from tests.system.verdict import faults
from tests.system.world import SECOND, World

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

WORLDS = 30
MOST = 80  # worlds in which a planted fault must show


def test_devices_and_hub_agree_whatever_happened_to_them() -> None:
    found, counts = run(WORLDS)
    assert found == []
    for what in ("acknowledged", "forgotten", "kills"):
        assert counts[what] > WORLDS, f"too little happened: {counts}"


@pytest.mark.parametrize(("bug", "first"), [("cursor-first", 115), ("late-changes", 90), ("number-outside", 1)])
def test_a_planted_fault_is_found(bug: str, first: int) -> None:
    """From a seed on that is not far before one that shows it, to be short: other schedules may need other seeds."""
    assert run(MOST, first=first, kind=Kind(bug=bug))[0], "the harness cannot find this fault any more"


def test_a_seed_tells_the_same_story_every_time() -> None:
    with ground() as folder:
        hub = make_hub(folder)
        first, second = play(7, folder, hub), play(7, folder, hub)
    assert first == second
    assert first[1]["changes"] > 0


def test_every_planted_fault_can_be_planted_and_taken_out_again() -> None:
    before = {name: getattr(Memory, name) for name in ("take", "truncate", "new_actor", "drop_scope")}
    for name in bugs.BUGS:
        with bugs.planted(name):
            pass
    assert before == {name: getattr(Memory, name) for name in before}


@pytest.fixture(scope="module")
def hub_home() -> Iterator[Path]:
    with ground() as folder:
        yield make_hub(folder)


def test_no_order_of_moves_keeps_them_apart(hub_home: Path) -> None:
    """The same world, moved by hypothesis, which looks for the shortest story that goes wrong."""

    class Moves(RuleBasedStateMachine):
        @initialize(seed=st.integers(0, 2**32))
        def begin(self, seed: int) -> None:
            self.folder = Path(tempfile.mkdtemp(dir=hub_home.parent))
            self.world = World(seed, self.folder, hub_home)
            self.moves = Schedule(self.world)

        @rule(name=st.sampled_from(MOVES), seconds=st.integers(1, 3600))
        def move(self, name: str, seconds: int) -> None:
            self.world.now += seconds * SECOND
            getattr(self.moves, name)()

        def teardown(self) -> None:
            if not hasattr(self, "world"):
                return
            try:
                self.world.settle()
                assert faults(self.world) == []
            finally:
                self.world.close()
                shutil.rmtree(self.folder)

    limits: Any = settings(
        max_examples=8,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Moves, settings=limits)


MOVES = [
    "talk", "serve", "hear", "write", "edit", "imported", "forget_item", "forget_subject", "forget_scope", "grant",
    "cut", "mend", "kill", "kill_hub", "backup", "restore", "skew", "join", "again",
]  # fmt: skip
