"""The whole of it over a made-up fleet on simulated time: the benchmark's model, in short."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from shared.rollout import MOST_RUNS
from tests.benchmarks._fleet import Fleet, Shares, Trial, kill_switch, trial
from tests.benchmarks._plots import draw
from tests.benchmarks.rollout_fleet import GOOD, LEASES, stops, summed


def test_a_bad_release_is_halted_before_it_passes_the_second_stage() -> None:
    found = [trial(1_000, seed, GOOD.plus(failures=0.15)) for seed in range(12)]
    told = summed(found)
    assert told["caught"] == told["halted"] == 1.0
    assert set(told["metrics"]) == {"failures"}
    assert told["reached"]["p95"] <= 25  # of a thousand
    for one in found:
        assert len(one.back) == one.reached  # everybody came back from it


def test_one_broken_device_in_a_healthy_fleet_halts_nothing() -> None:
    """Whoever it is: with the candidate all of its runs fail, hundreds a day, and everybody else's go as ever."""
    for seed in range(3):
        fleet = Fleet(200, seed)
        fleet.broken[:] = False
        made = Trial(fleet, GOOD, GOOD)
        first = fleet.names.index(made.candidates[seed])
        fleet.broken[first], fleet.fails = True, 1.0
        fleet.kind[first], fleet.rate[first] = 0, 500
        told = made.go(days=4)
        assert told.halted < 0, (seed, told)
        arm = made.arms[2]
        assert told.runs > 1_000 and arm.counted.max() <= MOST_RUNS


def test_a_good_release_is_finished_and_reaches_everybody_who_is_there() -> None:
    told = [trial(100, seed, GOOD) for seed in range(4)]
    assert [one.status for one in told] == ["finished"] * 4
    assert all(len(one.stages) == 3 and one.reached > 50 for one in told)


def test_a_fleet_too_small_to_tell_goes_no_further_by_itself() -> None:
    """Two devices of which one has the candidate, or none, or both, in two days: nobody can know yet."""
    for seed in range(6):
        one = trial(2, seed, GOOD, days=2)
        assert (one.status, one.stage) in (("running", 0), ("rolled-back", 0))


def test_a_seed_fixes_everything() -> None:
    first, again = (trial(100, 7, GOOD.plus(overridden=0.4), days=6) for _ in range(2))
    assert first == again


def test_devices_offline_keep_what_they_have_until_they_are_back() -> None:
    one = Trial(Fleet(300, 3), Shares(failures=0.12), Shares())
    told = one.go(days=6)
    assert told.status == "rolled-back" and told.halted >= 0
    assert max(told.back) > 0 and not (one.running == 2).any()


def test_a_kill_switch_reaches_whom_it_can_at_once_and_all_by_the_end_of_their_lease() -> None:
    for lease in LEASES:
        hours, kinds = kill_switch(400, 1, lease)
        assert hours.min() == 0 and hours.max() <= lease
        assert (hours[kinds == 0] == 0).mean() > 0.9


def test_the_plots_are_drawn_from_the_figures(tmp_path: Path) -> None:
    tried = {"size": 1_000, "candidate": "failures +15", **summed([trial(1_000, 1, GOOD.plus(failures=0.15))])}
    found = {"trials": [tried], "stops": [stops(100, 1, lease) for lease in LEASES]}
    draw(json.loads(json.dumps(found)), tmp_path)
    drawn = sorted(tmp_path.iterdir())
    assert [path.stem for path in drawn] == [f"rollout-{n}" for n in ("caught", "evidence", "kill-switch", "reached")]
    assert all("nan" not in path.read_text() and "prefers-color-scheme" in path.read_text() for path in drawn)
    assert np.isfinite(tried["hours_to_halt"]["p50"])
