"""A plan, a rollout that has begun, and the runs of one look, for the tests of the rollout's rooms."""

from __future__ import annotations

from msgspec.structs import replace

from shared.facts import Facts, RolloutStarted
from shared.rollout import Gate, Plan, Rollout, Stage, Tally, fold

HOUR = 3600 * 1_000_000
PLAN = Plan(
    rollout="rol_1",
    release=7,
    control=6,
    salt="5f2d",
    stages=[Stage(10, 3600, 50), Stage(100, 3600, 200), Stage(500, 3600, 500), Stage(1000, 3600, 0)],
    gates=[Gate("failures", 20, 100), Gate("overridden", 50, 200)],
    alpha_permille=50,
    beta_permille=10,
    settle_s=900,
)


def begun(*more: Facts, plan: Plan = PLAN) -> Rollout:
    """The state after the rollout was started at time 0, and what followed an hour apart."""
    state = fold(None, RolloutStarted(plan, "mara"), 0)
    for number, facts in enumerate(more, 1):
        state = fold(state, facts, number * HOUR)
    return state


def at_stage(stage: int) -> Rollout:
    """In that stage, since time 0."""
    return replace(begun(), stage=stage)


def runs(count: int, failures: int = 0, *, answered: int = 0, overridden: int = 0) -> Tally:
    return Tally(runs=count, failures=failures, answered=answered, overridden=overridden)
