"""What a verdict costs beside Cedar itself, at 10, 100 and 1,000 policies.

Run: ``python tests/benchmarks/verdict.py`` (a minute). ``--policies N`` may be repeated; ``--json``; ``--small`` is the
short mode.

*Bare cedarpy* is ``is_authorized_batch`` for the two questions of a verdict (may it be done, may it be done alone),
with policies, schema and entities parsed before, on a context that is there already, and nothing made of the answer.
*Outrider* is the agent's own ``Guard.judge``: what the host forbids first, the context, both questions, the lease and
the facts for the log. *New* asks what was never asked before, *again* what was. Both sides judge the same actions in
turn, one by one; a figure is the median over all of them. The generated policies read seven fields of the starter's
schema, and each covers another amount, so that Cedar looks at all of them.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cedarpy

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from edge_agent.config import uptime_us  # noqa: E402 - found only now
from edge_agent.guard import Case, Guard  # noqa: E402
from shared.entries import LeaseTaken, PlanMade, RunOpened, VerdictGiven  # noqa: E402
from shared.policy import Policy  # noqa: E402
from shared.runs import Device, Run  # noqa: E402

SCHEMA = (ROOT / "server" / "starter" / "permits" / "schema.cedarschema").read_text("utf-8")
SIZES = (10, 100, 1000)
NOW = 1_790_000_000_000_000
HOUR = 3_600_000_000
AIM = 1.2
RUN = Run("run_1", RunOpened("permit-triage", 3, "p", 7, "csv:x:1", "s", True), NOW, 0, NOW)
PLAN = PlanMade("triage", "rules", "", "", "express", 960, ["roof"], 1, 0, 0, 0, 0, "register.decide", "a" * 64, "")
RULES = (
    '@id("may-{n}") permit(principal, action == Action::"execute", resource) when'
    ' {{ context.value_cents < {n} && context.playbook == "permit-triage" && !context.abstained }};',
    '@id("alone-{n}") permit(principal, action == Action::"execute_unattended", resource) when'
    " {{ context.confidence >= 900 && context.value_cents < {n} && context.lease_age_s < 80000 }};",
    '@id("never-{n}") forbid(principal, action, resource) when'
    ' {{ context.label == "lane-{n}" && context.local_hour > 25 }};',
)


class Line(NamedTuple):
    """Microseconds at the median, and ratios to the library in the same round."""

    policies: int
    bare: float
    new: float
    again: float
    new_ratio: float
    again_ratio: float


def policy_text(count: int) -> str:
    first = '@id("may") permit(principal, action, resource) when { context.value_cents < 900000000000000 };'
    kinds = itertools.cycle(RULES)
    return "\n".join([first, *(next(kinds).format(n=number) for number in range(1, count))])


def case(number: int) -> Case:
    return Case("a" * 64, "register.decide", "express", "reversible", "batch", 1_000_000 + number, False)


def guard(policy: Policy) -> Guard:
    device = Device(lease=LeaseTaken("l", NOW - HOUR, NOW + 7 * HOUR, 10**9, 10**15))
    return Guard(
        device,
        name="bench",
        policy=lambda: (policy, 7),
        online=lambda: True,
        in_question=lambda: False,
        now=lambda: NOW,
        uptime=uptime_us,
        newest=0,
        local=lambda at: datetime.datetime.fromtimestamp(at / 1e6, datetime.UTC),
    )


def bare(text: str) -> Callable[[dict[str, int | bool | str]], None]:
    policies, schema = cedarpy.PolicySet.from_str(text), cedarpy.Schema.from_str(SCHEMA)
    entities = cedarpy.Entities.from_json_str("[]")
    who = {"principal": {"type": "Device", "id": "bench"}, "resource": {"type": "Tool", "id": "register.decide"}}
    actions = [{"type": "Action", "id": name} for name in ("execute", "execute_unattended")]

    def ask(context: dict[str, int | bool | str]) -> None:
        said = json.dumps(context)
        asked = [who | {"action": action, "context": said} for action in actions]
        found = cedarpy.is_authorized_batch(asked, policies, entities, schema=schema)
        assert all(one.allowed for one in found[:1])

    return ask


def took(work: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - began) / 1000


def measure(policies: int, rounds: int) -> Line:
    text = policy_text(policies)
    mine, ask = guard(Policy(text, SCHEMA)), bare(text)
    times: dict[str, list[float]] = {"bare": [], "new": [], "again": []}

    def judge(number: int) -> VerdictGiven:
        return mine.judge(RUN, PLAN, case(number))[1]

    for number in range(rounds + 20):
        context = judge(-1 - number).context  # not counted: it makes the context that the library is given
        found = {
            "bare": took(lambda context=context: ask(context)),  # type: ignore[misc]  # the round's own
            "new": took(lambda number=number: judge(number)),  # type: ignore[misc]
            "again": took(lambda number=number: judge(number)),  # type: ignore[misc]
        }
        if number >= 20:  # the first ones warm up
            for name, one in found.items():
                times[name].append(one)
    bare_us, new, again = (statistics.median(times[name]) for name in ("bare", "new", "again"))
    return Line(policies, bare_us, new, again, new / bare_us, again / bare_us)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--policies", type=int, action="append")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    sizes = given.policies or ([10] if given.small else SIZES)
    lines = [measure(size, 50 if given.small else max(200, 20_000 // size)) for size in sizes]
    if given.json:
        print(json.dumps([one._asdict() for one in lines]))
        return
    print(f"{platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print(f"| policies | bare cedarpy µs | Outrider, new µs | ratio | again µs | ratio | aim {AIM} |")
    print("|---|---|---|---|---|---|---|")
    for one in lines:
        cells = f"{one.bare:.0f} | {one.new:.0f} | {one.new_ratio:.2f} | {one.again:.0f} | {one.again_ratio:.2f}"
        print(f"| {one.policies:,} | {cells} | {'reached' if one.new_ratio <= AIM else 'missed'} |")


if __name__ == "__main__":
    main()
