"""A candidate release judged before anybody runs it: on verdicts that were given, and on cases with a known answer."""

from __future__ import annotations

from shared.replay.golden import GoldenCase, Told, refuse_failing, run_cases
from shared.replay.verdicts import Difference, Differences, Judge, Past, compare, difference, is_held

__all__ = [
    "Difference",
    "Differences",
    "GoldenCase",
    "Judge",
    "Past",
    "Told",
    "compare",
    "difference",
    "is_held",
    "refuse_failing",
    "run_cases",
]
