"""Runs as the console shows them. Times are microseconds since 1970 UTC, ``confidence`` is permille."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shared.runs import Run


@dataclass(frozen=True)
class RunView:
    """One run in a list. Two devices given the same case open runs of the same name (``run``), so ``id`` is
    ``DEVICE:RUN``. ``subject`` is empty once the body that held it is erased; ``row`` orders runs by when the hub first
    heard of them and continues a list. ``status`` is that of ``step``, the one that most needs somebody; ``attention``
    is ``doubt``, ``operator`` or ``failed`` where only a person can help. ``parent`` is the run that waits for it."""

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
    step: str
    attention: str
    parent: str
    dry_run: bool


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
class Need:
    """What in a run only a person can settle. ``kind`` is ``doubt``: the action of ``step``, sent under ``key``, may
    have happened or not; ``operator``: ``words`` say how to take an effect back by hand; ``failed``: ``words`` say what
    went wrong. ``code`` is why."""

    kind: str
    step: str
    at: int
    code: str = ""
    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    subject: str = ""
    key: str = ""
    words: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Story:
    """The chain of one run, in order. Of a long one ``entries`` are only the newest, or those before some entry, and
    ``left_out`` is how many came before them. ``run`` is always the whole run; ``children`` are the newest of the runs
    it opened."""

    run: Run
    view: RunView
    entries: list[StoryEntry]
    left_out: int
    complete: bool
    needs: list[Need]
    children: list[RunView]

    @property
    def device(self) -> str:
        return self.view.device


@dataclass(frozen=True)
class Needing:
    """A run that waits for what only a person can do."""

    view: RunView
    needs: list[Need]


@dataclass(frozen=True)
class Day:
    """The runs opened on one day, in UTC, that begins at ``at``: done ``alone``, ``asked`` about, ``denied`` by the
    policy, and all ``other``."""

    at: int
    alone: int = 0
    asked: int = 0
    denied: int = 0
    other: int = 0

    @property
    def runs(self) -> int:
        return self.alone + self.asked + self.denied + self.other


@dataclass(frozen=True)
class Counts:
    """Totals over all devices. ``open`` runs are not closed, ``waiting`` questions can be answered, ``attention``
    counts runs by what they need a person for. How actions were judged: ``alone`` (allowed unattended), ``asked``,
    ``denied``, and their sum ``judged``. ``by_*`` count runs."""

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
    attention: dict[str, int]

    @property
    def judged(self) -> int:
        return self.alone + self.asked + self.denied
