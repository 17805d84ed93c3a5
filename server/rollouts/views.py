"""Rollouts in JSON-plain values: how far they are, what the gates say, and what was done about them."""

from __future__ import annotations

from typing import Any

import msgspec

from server.rollouts.cohorts import cohorts
from server.rollouts.room import Rollouts
from server.rollouts.told import Course
from shared import rollout as r
from shared.entries import type_of


def summary(course: Course) -> dict[str, Any]:
    """One line of a list, JSON-plain."""
    state = course.state
    assert state.plan is not None
    return {
        "rollout": state.plan.rollout,
        "release": state.plan.release,
        "control": state.plan.control,
        "status": state.status,
        "stage": state.stage,
        "stages": len(state.plan.stages),
        "permille": state.now.permille,
        "began_at": state.began_at,
        "ended_at": state.ended_at,
        "by": state.started_by,
    }


def detail(rollouts: Rollouts, rollout: str) -> dict[str, Any]:
    """Everything about one rollout, JSON-plain; the newest where none is named. Raises ``BadInput('rollout.unknown')``,
    ``Conflict('rollout.none')``."""
    course = rollouts.course(rollout)
    state, everybody = course.state, rollouts.everybody()
    assert state.plan is not None
    return summary(course) | {
        "plan": msgspec.to_builtins(state.plan),
        "stage_at": state.stage_at,
        "said": verdict(rollouts, state),
        "gates": [msgspec.to_builtins(one) for one in r.readings(state.plan, rollouts.evidence(state))],
        "cohorts": [vars(one) for one in cohorts(everybody)] if state.active else [],
        "pins": state.pins,
        "excluded": sorted(state.excluded),
        "events": [
            {"at": one.at, "type": type_of(one.facts)[0]} | msgspec.to_builtins(one.facts) for one in course.events
        ],
    }


def verdict(rollouts: Rollouts, state: r.Rollout) -> str:
    """Why it waits, in words; empty where it does not."""
    found = rollouts.judged(state)
    return found.why if isinstance(found, r.Wait) and found.code != "none" else ""
