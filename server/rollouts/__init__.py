"""Rollouts: which release each device runs; stages that are judged by how runs go, and taken back by themselves.

The rules are ``shared.rollout``'s; here they meet the hub's log, the record of runs, and people.
"""

from __future__ import annotations

from server.rollouts.room import HUB, Course, Event, Rollouts, Told

__all__ = ["HUB", "Course", "Event", "Rollouts", "Told"]
