"""The plan of a rollout: which stages, which gates, how sure one wants to be. Fixed before it begins."""

from __future__ import annotations

from shared.errors import BadInput
from shared.facts.rollouts import Gate, Metric, Plan, Stage

__all__ = ["ALL", "Gate", "Metric", "Plan", "Stage", "checked", "default_plan", "usual_bound"]

ALL = 1000  # permille
_BOUNDED = ("latency", "cost")  # their gates need a bound
_HOUR = 3600
_LEAST_DEVICES = 10  # to be expected in the first stage


def default_plan(
    rollout: str, release: int, control: int, salt: str, *, devices: int, slow_ms: int = 0, dear_cents: int = 0
) -> Plan:
    """The plan for a fleet of so many devices: 10, 50 and 100 percent, and before them the smallest of 1, 2, 5, 10 and
    20 percent that is ten devices or more: fewer are no sample, and often there would be none. ``slow_ms`` and
    ``dear_cents`` are what nine of ten runs of the control do not exceed (see ``usual_bound``); 0 where that is not
    known, and then latency or cost are no gate."""
    first = next((share for share in (10, 20, 50, 100, 200) if devices * share >= _LEAST_DEVICES * ALL), 500)
    stages = [Stage(first, 4 * _HOUR, 50)]
    stages += [Stage(share, 24 * _HOUR, runs) for share, runs in ((100, 200), (500, 500), (ALL, 0)) if share > first]
    gates = [
        Gate("failures", 20, 100),
        Gate("overridden", 50, 200),
        Gate("mismatches", 10, 50),
        Gate("questions", 100, 300),
    ]
    if slow_ms:
        gates.append(Gate("latency", 100, 300, slow_ms))
    if dear_cents:
        gates.append(Gate("cost", 100, 300, dear_cents))
    return checked(
        Plan(
            rollout=rollout,
            release=release,
            control=control,
            salt=salt,
            stages=stages,
            gates=gates,
            alpha_permille=50,
            beta_permille=10,
            settle_s=900,
        )
    )


def usual_bound(values: list[int]) -> int:
    """What nine of ten of the control's values do not exceed, to be fixed in the plan; 0 where too few are known."""
    return max(1, sorted(values)[len(values) * 9 // 10]) if len(values) >= 20 else 0


def checked(plan: Plan) -> Plan:
    """The plan itself. Raises ``BadInput('rollout.plan')``, saying where."""
    for wrong, where, said in _faults(plan):
        if wrong:
            raise BadInput("rollout.plan", said, advice="correct the plan", where=where)
    return plan


def _faults(plan: Plan) -> list[tuple[bool, str, str]]:
    shares = [stage.permille for stage in plan.stages]
    metrics = [gate.metric for gate in plan.gates]
    found = [
        (not plan.rollout or not plan.salt, "rollout", "a rollout has a name and a salt"),
        (plan.release < 1 or plan.control < 1 or plan.release == plan.control, "release", "two releases are compared"),
        (
            not shares or shares != sorted(set(shares)) or shares[0] < 1 or shares[-1] != ALL,
            "stages",
            "the shares rise from 1 or more to 1000 permille",
        ),
        (any(stage.hold_s < 0 or stage.least_runs < 0 for stage in plan.stages), "stages", "a stage lasts some time"),
        (not metrics or len(set(metrics)) != len(metrics), "gates", "there is a gate, and one for each metric"),
        (not 1 <= plan.alpha_permille <= 500, "alpha_permille", "it is a chance from 1 to 500 permille"),
        (not 1 <= plan.beta_permille <= 500, "beta_permille", "it is a chance from 1 to 500 permille"),
        (plan.settle_s < 0, "settle_s", "a run is looked at after it was opened"),
    ]
    for gate in plan.gates:
        ordered = 0 < gate.worse_permille < gate.bad_permille < ALL
        bounded = (gate.over > 0) == (gate.metric in _BOUNDED)
        found.append((not ordered, f"gates.{gate.metric}", "0 < worse_permille < bad_permille < 1000"))
        found.append((not bounded, f"gates.{gate.metric}", "latency and cost have a bound, the others none"))
    return found
