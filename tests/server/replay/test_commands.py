"""``outrider hub replay`` and ``reconcile`` on the home of a hub that does not run: what they print."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.__main__ import hub as commands
from server.commands.replay import differences as told
from server.replay import ReplayOrder, carry_out
from tests.server.console.conftest import copied, opened
from tests.server.console.sample_hub import SampleHub
from tests.server.console.sample_replay import a_day_offline, scored

Say = Callable[..., str]


@pytest.fixture
def say(morning: SampleHub, tmp_path: Path) -> Iterator[Say]:
    sample = copied(morning, tmp_path)
    day = a_day_offline(sample)
    scored(day, sample.replays.ask(2, 50, by="maria", roles=["admin"]))
    sample.close()

    def run(*words: str) -> str:
        done = CliRunner().invoke(commands, [*words, "--home", str(sample.store.home)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    yield run


def test_differences_are_told_in_words(morning: SampleHub, tmp_path: Path) -> None:
    """By the sample's clock: a command has the machine's, and the sample's days may be long over by it."""
    with opened(copied(morning, tmp_path)) as sample:
        a_day_offline(sample)
        order = ReplayOrder(act="compare", release=2, days=7, most=3)
        found = carry_out(sample.replays, sample.reconcile, order, "operator", ["admin"])
    said = told(found)
    assert "release 2 on 22 actions of the last 7 days:" in said
    assert "5 would now be asked about" in said and "8 would now be denied" in said
    assert "0 golden cases, 0 fail, 0 are left to the devices" in said
    assert said.count(" → ") == 3 and "(signs-ask)" in said


def test_what_is_printed_as_json_is_what_was_found(say: Say) -> None:
    found = json.loads(say("replay", "--release", "2", "--days", "1", "--json"))
    assert (found["release"], found["days"]) == (2, 1) and found["golden"]["wrong"] == []


def test_scores_and_drift_are_told_by_device(say: Say) -> None:
    said = say("replay", "--release", "2", "--devices")
    assert "the devices are asked" in said and "0 of 4 devices answered" in said and "1 of 4 devices answered" in said
    assert "Field van 3  46 of 48 as people decided (44 when they were planned first), 0 of 1 golden cases fail" in said
    assert say("replay", "--drift").startswith("! Field van 3  18 of 25 as people decided")


def test_devices_try_only_what_is_published(say: Say) -> None:
    with pytest.raises(AssertionError, match="give --release"):
        say("replay", "--devices")


def test_what_was_done_offline_is_listed_and_settled_by_number(say: Say) -> None:
    first, second = say("reconcile", "list").splitlines()
    assert "PA-2026-0302  register.decide: done without asking, would now be asked about (signs-ask)" in first
    assert "is on its way" not in second
    assert "the device is told to undo the run" in say("reconcile", "undo", second.split()[0])
    assert "undo is on its way" in say("reconcile", "list")
    assert "stands as it is" in say("reconcile", "excuse", first.split()[0], "--reason", "It was asked for.")
    assert len(say("reconcile", "list").splitlines()) == 1
