"""Playbooks: YAML to a checked structure. Errors name file, line and field. Reference: ``docs/reference/playbook.md``.

A playbook says what starts a run, what it is given, its steps, which tools they may use, and who answers for it.
Unknown fields are refused: a misspelt ``extra_colums`` must not silently mean the default.
"""

from shared.playbook.parts import (
    Approvals,
    Budget,
    Budgets,
    Confidence,
    Context,
    Escalation,
    Input,
    Lane,
    MemoryContext,
    Playbook,
    PlaybookStep,
    Rule,
    ToolUse,
    Trigger,
    Wait,
    seconds,
)
from shared.playbook.reading import load

__all__ = [
    "Approvals",
    "Budget",
    "Budgets",
    "Confidence",
    "Context",
    "Escalation",
    "Input",
    "Lane",
    "MemoryContext",
    "Playbook",
    "PlaybookStep",
    "Rule",
    "ToolUse",
    "Trigger",
    "Wait",
    "load",
    "seconds",
]
