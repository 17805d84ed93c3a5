"""How fast a bad release is caught, whom it reached, how often a good one is halted, how long a kill switch takes.

Run: ``python tests/benchmarks/rollout_fleet.py`` (some twenty minutes on two cores). ``--small``
is the short mode, ``--json FILE`` writes the figures, ``--plots FILE`` draws ``docs/images/rollout-*.svg`` from them.

The fleet is made up (see ``_fleet.py``), the code that decides is the product's. ``docs/explanation/rollouts.md`` tells
the figures. A seed fixes a fleet, its days and every run, so that a figure can be had again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks._fleet import KINDS, Result, Shares, kill_switch, trial  # noqa: E402 - found only now

GOOD = Shares()
BAD = {
    "as good": GOOD,
    "failures +5": GOOD.plus(failures=0.05),
    "failures +10": GOOD.plus(failures=0.10),
    "failures +15": GOOD.plus(failures=0.15),
    "failures +30": GOOD.plus(failures=0.30),
    "fails always": GOOD.plus(failures=0.97),
    "overridden +25": GOOD.plus(overridden=0.25),
    "found otherwise +6": GOOD.plus(mismatches=0.06),
    "asks +40": GOOD.plus(questions=0.40),
    "slow +40": GOOD.plus(slow=0.40),
}
LEASES = (2, 8, 24)
Map = Callable[..., Any]


def spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    return {f"p{q}": round(float(np.percentile(values, q)), 3) for q in (5, 50, 95)}


def summed(results: list[Result]) -> dict[str, Any]:
    """Shares are of all trials. ``caught`` were halted before they passed the second stage."""
    halted = [one for one in results if one.halted >= 0]
    caught = [one for one in halted if one.stage <= 1]
    count = len(results)
    return {
        "seeds": count,
        "halted": round(len(halted) / count, 4),
        "caught": round(len(caught) / count, 4),
        "finished": round(sum(one.status == "finished" for one in results) / count, 4),
        "waiting": round(sum(one.status == "running" for one in results) / count, 4),
        "passed_second": round(sum(one.stage >= 2 for one in results) / count, 4),
        "hours_to_halt": spread([one.halted for one in halted]),
        "hours_to_finish": spread([one.hours for one in results if one.status == "finished"]),
        "reached": spread([one.reached for one in halted]),
        "runs": spread([one.runs for one in halted]),
        "failed": spread([one.failed for one in halted]),
        "back_hours": spread([hours for one in halted for hours in one.back]),
        "metrics": {
            name: sum(one.halted_metric == name for one in halted) for name in {o.halted_metric for o in halted}
        },
    }


def trials(spread_over: Map, size: int, name: str, seeds: int) -> dict[str, Any]:
    found = summed(list(spread_over(partial(_one, size, name), range(seeds), chunksize=4)))
    print(f"{size:>7} devices, {name:<18} {json.dumps(found)}", flush=True)
    return {"size": size, "candidate": name, **found}


def _one(size: int, name: str, seed: int) -> Result:
    return trial(size, seed, BAD[name])


def stops(size: int, seeds: int, lease: int) -> dict[str, Any]:
    """How many of the devices act no more so many hours after the press."""
    found = [kill_switch(size, seed, lease) for seed in range(seeds)]
    hours = np.concatenate([one for one, _ in found])
    kinds = np.concatenate([one for _, one in found])
    curve = [(after, round(float((hours <= after).mean()), 4)) for after in (0, 1, 2, 4, 8, 12, 16, 24)]
    by_kind = {name: round(float((hours[kinds == number] == 0).mean()), 4) for number, name in enumerate(KINDS)}
    told = {"size": size, "lease_h": lease, "seeds": seeds, "stopped": curve, "at_once": by_kind}
    print(f"kill switch, lease {lease} h: {json.dumps(told)}", flush=True)
    return {**told, "last": round(float(hours.max()), 2)}


def measured(small: bool, spread_over: Map) -> dict[str, Any]:
    if small:
        sizes, seeds = {60: 6, 1_000: 6}, {"as good": 8, "failures +15": 8, "overridden +25": 4}
        tried = [trials(spread_over, size, name, seeds[name]) for size in sizes for name in seeds]
        return {"trials": tried, "stops": [stops(500, 2, lease) for lease in LEASES]}
    tried = [trials(spread_over, 1_000, name, 1_000) for name in ("failures +15", "as good")]
    tried += [trials(spread_over, 1_000, name, 50) for name in BAD if name not in ("failures +15", "as good")]
    for size, seeds_here in ((10, 100), (30, 100), (100, 100), (300, 100), (10_000, 10), (100_000, 2)):
        tried += [trials(spread_over, size, name, seeds_here) for name in ("failures +10", "failures +15", "as good")]
    return {"trials": tried, "stops": [stops(2_000, 50, lease) for lease in LEASES]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="the short mode: a minute")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plots", type=Path, help="draw docs/images/rollout-*.svg from figures written before")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if given.plots:
        from tests.benchmarks._plots import draw

        draw(json.loads(given.plots.read_text()), ROOT / "docs" / "images")
        return
    with ProcessPoolExecutor(given.jobs) as pool:
        found = measured(given.small, pool.map)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
