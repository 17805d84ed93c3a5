"""Run state as a pure fold over entries, and the next moves as a pure function of it. Spec: ``shared/spec/log.md``.

``state`` is what is known; ``fold`` takes one entry further, by its own rules and those in ``questions`` and ``ends``;
``flow`` says what can be done next; ``device`` folds a whole log.
"""

from shared.runs.device import Device, Grant, fold_version, load, save
from shared.runs.flow import Move, Next, moves
from shared.runs.fold import fold
from shared.runs.state import (
    CANCELLED,
    DECLINED,
    DENIED,
    DONE,
    FAILED,
    OUTCOMES,
    REFERRED,
    REHEARSED,
    UNDO,
    Run,
    Step,
)

__all__ = [
    "CANCELLED", "DECLINED", "DENIED", "DONE", "FAILED", "OUTCOMES", "REFERRED", "REHEARSED", "UNDO",
    "Device", "Grant", "Move", "Next", "Run", "Step", "fold", "fold_version", "load", "moves", "save",
]  # fmt: skip
