"""How the runs of candidate and control went in one stage: whole numbers, kept in the order in which they came.

A *block* is what came in between two looks, or several: it is judged once it is complete and never changes after.
When it is complete depends on how many runs there are, never on how they went, or else looking often would be a way to
find what one looks for. Blocks grow with what is known already, so that there are some eighty in ten thousand runs.

Runs of one device resemble each other, and the test takes runs for what it has a sample of. So a device counts with at
most ``MOST_RUNS`` runs in a stage, and beside the whole there are the same counts *without* each part of the devices
(``cohort.part``): what is decided has to hold without any of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import astuple, replace

from shared.errors import BadInput
from shared.facts.rollouts import Metric
from shared.rollout.cohort import PARTS

MOST_RUNS = 200  # of one device that count in a stage, by when they have settled and not by how they went
_GROWTH = 10  # a block has at least a tenth of the candidate's runs before it


class Tally(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Runs of one arm that are newly known. Of ``runs``, those that failed, whose effect was found to be another one,
    that asked a person, that planned longer or cost more than the plan's bounds. Of ``answered`` runs, those in which a
    person said no or put something else in its place. Which runs are counted when: see ``shared.rollout``."""

    runs: int = 0
    failures: int = 0
    mismatches: int = 0
    questions: int = 0
    slow: int = 0
    dear: int = 0
    answered: int = 0
    overridden: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Tally) -> Tally:
        return Tally(*(one - less for one, less in zip(astuple(self), astuple(other), strict=True)))

    def share(self, metric: Metric) -> tuple[int, int]:
        """How many were worse, of how many."""
        worse, of = _SHARES[metric]
        return getattr(self, worse), getattr(self, of)


_SHARES: dict[Metric, tuple[str, str]] = {
    "failures": ("failures", "runs"),
    "overridden": ("overridden", "answered"),
    "mismatches": ("mismatches", "runs"),
    "questions": ("questions", "runs"),
    "latency": ("slow", "runs"),
    "cost": ("dear", "runs"),
}


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """``worse`` of ``runs`` with the candidate, and with the control."""

    worse: int
    runs: int
    control_worse: int
    control_runs: int

    def __add__(self, other: Block) -> Block:
        return Block(
            self.worse + other.worse,
            self.runs + other.runs,
            self.control_worse + other.control_worse,
            self.control_runs + other.control_runs,
        )


EMPTY = Block(0, 0, 0, 0)


class Outcomes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The evidence of one stage so far. It begins empty with every stage. The last block of a metric may be open.
    ``without``: the same without the candidate's devices of each part; empty where devices are not told apart."""

    runs: int = 0
    control_runs: int = 0
    blocks: dict[Metric, list[Block]] = {}
    without: list[Outcomes] = []

    def taken_in_parts(self, candidate: Sequence[Tally], control: Tally) -> Outcomes:
        """As ``taken``, with the candidate's runs by the part of their device."""
        whole, before = sum(candidate, Tally()), self.without or [Outcomes()] * PARTS
        without = [one.taken(whole - left, control) for one, left in zip(before, candidate, strict=True)]
        return replace(self.taken(whole, control), without=without)

    def taken(self, candidate: Tally, control: Tally) -> Outcomes:
        """With what has newly come in. Raises ``BadInput('rollout.outcomes')`` on counts that cannot be."""
        blocks = {}
        for metric in _SHARES:
            worse, runs = candidate.share(metric)
            control_worse, control_runs = control.share(metric)
            if not 0 <= worse <= runs or not 0 <= control_worse <= control_runs:
                raise BadInput(
                    "rollout.outcomes", f"more {metric} than runs", advice="count each run once", where=metric
                )
            new = Block(worse, runs, control_worse, control_runs)
            blocks[metric] = _with(self.blocks.get(metric, []), new)
        return replace(
            self, runs=self.runs + candidate.runs, control_runs=self.control_runs + control.runs, blocks=blocks
        )

    def complete(self, metric: Metric) -> list[Block]:
        """The blocks that may be judged."""
        blocks = self.blocks.get(metric, [])
        return blocks if not blocks or _is_complete(blocks) else blocks[:-1]

    def total(self, metric: Metric) -> Block:
        return sum(self.blocks.get(metric, []), EMPTY)


def _with(blocks: list[Block], new: Block) -> list[Block]:
    if new == EMPTY:
        return blocks
    if not blocks or _is_complete(blocks):
        return [*blocks, new]
    return [*blocks[:-1], blocks[-1] + new]


def _is_complete(blocks: list[Block]) -> bool:
    last = blocks[-1]
    before = sum(block.runs for block in blocks[:-1])
    return last.control_runs > 0 and last.runs > before // _GROWTH
