"""Runs as the console shows them. Times are microseconds since 1970 UTC, ``confidence`` is permille."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared.runs import Run


@dataclass(frozen=True)
class RunView:
    """One run in a list. Two devices given the same case open runs of the same name (``run``), so ``id`` is
    ``DEVICE:RUN``. ``subject`` is empty once the body that held it is erased; ``row`` orders runs by when the hub first
    heard of them and continues a list."""

    id: str
    device: str
    device_name: str
    playbook: str
    opened_at: int
    status: str
    label: str
    confidence: int
    planner: str
    outcome: str
    approval: str
    subject: str
    seq: int
    run: str
    code: str
    release: int
    closed_at: int
    row: int


@dataclass(frozen=True)
class StoryEntry:
    """One entry of a run. ``erased`` says that it had a body for the hub which is gone; ``checkpoint_size`` is the size
    of the first countersigned checkpoint that covers it."""

    seq: int
    at: int
    type: str
    facts: dict[str, Any]
    body: dict[str, Any] | None
    erased: bool
    checkpoint_size: int
    cosigned_at: int


@dataclass(frozen=True)
class Story:
    """The whole chain of one run, in order."""

    run: Run
    view: RunView
    entries: list[StoryEntry]


@dataclass(frozen=True)
class Counts:
    """Totals over all devices. ``open`` runs are not closed, ``waiting`` questions can be answered. How actions were
    judged: ``alone`` (allowed unattended), ``asked``, ``denied``, and their sum ``judged``. ``by_*`` count runs."""

    devices: int
    entries: int
    runs: int
    open: int
    waiting: int
    alone: int
    asked: int
    denied: int
    by_status: dict[str, int]
    by_label: dict[str, int]
    by_outcome: dict[str, int]
    by_planner: dict[str, int]

    @property
    def judged(self) -> int:
        return self.alone + self.asked + self.denied
