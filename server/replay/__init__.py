"""Releases judged on history: on the verdicts held here, on devices' own runs, and what came in from time offline."""

from __future__ import annotations

from server.replay.orders import ReplayOrder, carry_out
from server.replay.reconcile import Listed, Reconcile, Settled
from server.replay.room import Asked, Drift, Replays, Score, Subject

__all__ = [
    "Asked",
    "Drift",
    "Listed",
    "Reconcile",
    "ReplayOrder",
    "Replays",
    "Score",
    "Settled",
    "Subject",
    "carry_out",
]
