"""What the hub writes of rollouts: which release is tried on whom, by which rules, and how that ended."""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.facts.base import Facts

Metric = Literal["failures", "overridden", "mismatches", "questions", "latency", "cost"]


class Stage(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """So many permille of the devices, for at least ``hold_s`` seconds and ``least_runs`` runs of the candidate."""

    permille: int
    hold_s: int
    least_runs: int


class Gate(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What is compared with the control, as a share of runs. A share higher by more than ``worse_permille`` halts the
    rollout; nothing goes on before one higher by ``bad_permille`` is ruled out. ``over`` is the bound (milliseconds,
    cents) above which a run counts for ``latency`` and ``cost``; 0 for the others."""

    metric: Metric
    worse_permille: int
    bad_permille: int
    over: int = 0


class Plan(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """``release`` is tried against ``control``. ``salt`` decides who comes first. A run is looked at ``settle_s``
    seconds after it was opened. ``alpha_permille`` bounds the chance that a good candidate is ever halted,
    ``beta_permille`` that a bad one passes a stage."""

    rollout: str
    release: int
    control: int
    salt: str
    stages: list[Stage]
    gates: list[Gate]
    alpha_permille: int
    beta_permille: int
    settle_s: int


class RolloutStarted(Facts, frozen=True):
    """Everything the rollout will be judged by is fixed here, before there is anything to judge."""

    plan: Plan
    by: str


class RolloutAdvanced(Facts, frozen=True):
    """To the next stage, counted from 0. ``why`` is ``evidence``, or ``person``: somebody took it upon themselves."""

    rollout: str
    stage: int
    why: str
    by: str


class RolloutPaused(Facts, frozen=True):
    """Devices stay as they are; nothing goes on until it is resumed."""

    rollout: str
    by: str


class RolloutResumed(Facts, frozen=True):
    rollout: str
    by: str


class RolloutHalted(Facts, frozen=True):
    """The candidate is given to nobody any more. ``evidence_permille`` is 1000 where it sufficed, 0 by a person."""

    rollout: str
    code: str
    metric: str
    evidence_permille: int
    by: str


class RolloutRolledBack(Facts, frozen=True):
    """Everybody goes to ``target``."""

    rollout: str
    target: int
    by: str


class RolloutFinished(Facts, frozen=True):
    """The candidate is what everybody runs."""

    rollout: str
    by: str


class DevicePinned(Facts, frozen=True):
    """The device runs this release, whatever is rolled out; 0 for no longer."""

    device: str
    release: int
    by: str


class DeviceExcluded(Facts, frozen=True):
    """The device takes no part in rollouts: it follows when they are finished. Not ``on``: it takes part again."""

    device: str
    on: bool
    by: str
