"""A plan that makes no sense is refused before anything is tried by it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from shared.errors import BadInput
from shared.rollout import Gate, Stage, checked, default_plan, usual_bound
from tests.shared.rollout.plans import PLAN


@pytest.mark.parametrize(
    ("devices", "shares"),
    [
        (0, [500, 1000]),
        (10, [500, 1000]),
        (50, [200, 500, 1000]),
        (100, [100, 500, 1000]),
        (200, [50, 100, 500, 1000]),
        (1_000, [10, 100, 500, 1000]),
        (100_000, [10, 100, 500, 1000]),
    ],
)
def test_the_first_stage_of_a_default_plan_is_some_devices(devices: int, shares: list[int]) -> None:
    plan = default_plan("rol_1", 7, 6, "5f2d", devices=devices)
    assert [stage.permille for stage in plan.stages] == shares
    assert [gate.metric for gate in plan.gates] == ["failures", "overridden", "mismatches", "questions"]
    assert plan.stages[0].least_runs and not plan.stages[-1].least_runs


def test_latency_and_cost_are_gates_where_their_usual_bound_is_known() -> None:
    slow = usual_bound(list(range(0, 1000, 10)))
    plan = default_plan("rol_1", 7, 6, "5f2d", devices=100, slow_ms=slow, dear_cents=usual_bound([3] * 40))
    assert {gate.metric: gate.over for gate in plan.gates if gate.over} == {"latency": 900, "cost": 3}
    assert usual_bound([5] * 19) == 0  # too few to say what is usual
    assert usual_bound([0] * 20) == 1  # where all is free, what costs anything is dear


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"rollout": ""}, "rollout"),
        ({"salt": ""}, "rollout"),
        ({"release": 6}, "release"),
        ({"control": 0}, "release"),
        ({"stages": []}, "stages"),
        ({"stages": [Stage(10, 1, 1)]}, "stages"),
        ({"stages": [Stage(500, 1, 1), Stage(100, 1, 1), Stage(1000, 1, 1)]}, "stages"),
        ({"stages": [Stage(0, 1, 1), Stage(1000, 1, 1)]}, "stages"),
        ({"stages": [Stage(10, -1, 1), Stage(1000, 1, 1)]}, "stages"),
        ({"gates": []}, "gates"),
        ({"gates": [Gate("failures", 20, 100), Gate("failures", 30, 100)]}, "gates"),
        ({"gates": [Gate("failures", 100, 100)]}, "gates.failures"),
        ({"gates": [Gate("failures", 0, 100)]}, "gates.failures"),
        ({"gates": [Gate("failures", 20, 1000)]}, "gates.failures"),
        ({"gates": [Gate("failures", 20, 100, 5)]}, "gates.failures"),
        ({"gates": [Gate("latency", 20, 100)]}, "gates.latency"),
        ({"alpha_permille": 0}, "alpha_permille"),
        ({"beta_permille": 1000}, "beta_permille"),
        ({"settle_s": -1}, "settle_s"),
    ],
)
def test_plans_that_make_no_sense_are_refused(change: dict[str, Any], where: str) -> None:
    assert checked(PLAN) is PLAN
    with pytest.raises(BadInput) as caught:
        checked(replace(PLAN, **change))
    assert (caught.value.code, caught.value.where) == ("rollout.plan", where)
