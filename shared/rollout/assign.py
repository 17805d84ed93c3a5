"""Which release a device is to run now: a pure function of the rollout's state and the device's name."""

from __future__ import annotations

from shared.rollout.cohort import takes_part
from shared.rollout.fold import FINISHED, ROLLED_BACK, Rollout


def assigned(state: Rollout | None, current: int, device: str) -> int:
    """The release this device should run. ``current`` is the newest that was published for everybody; it counts where
    there is no rollout, and where it came after the rollout's own.

    In this order: a pin; a rollout under way (candidate for the devices of its stage, control for all others and for
    those who are excluded); a newer release for all; how the newest rollout ended (halted: back to the control)."""
    if state is None:
        return current
    if device in state.pins:
        return state.pins[device]
    plan = state.plan
    if plan is None:
        return current
    if state.active:
        return plan.release if in_candidate(state, device) else plan.control
    if current > plan.release:
        return current
    if state.status == FINISHED:
        return plan.release
    return state.target if state.status == ROLLED_BACK else plan.control


def in_candidate(state: Rollout, device: str) -> bool:
    """Whether the device belongs to the cohort of the present stage."""
    assert state.plan is not None
    apart = device in state.pins or device in state.excluded
    return not apart and takes_part(state.plan.salt, device, state.now.permille)
