"""Rollouts: which release each device runs; stages that are judged by how runs go, and taken back by themselves.

The rules are ``shared.rollout``'s; here they meet the hub's log, the record of runs, and people.
"""

from __future__ import annotations

from server.rollouts.cohorts import Cohort, Placed, cohorts
from server.rollouts.orders import RolloutOrder, Wanted, carry_out, planned
from server.rollouts.room import HUB, Rollouts
from server.rollouts.told import Course, Event, Told

__all__ = [
    "HUB", "Cohort", "Course", "Event", "Placed", "RolloutOrder", "Rollouts", "Told", "Wanted", "carry_out", "cohorts",
    "planned",
]  # fmt: skip
