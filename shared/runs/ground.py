"""What every rule of the fold stands on: how an entry is refused, and how a step is found, begun and put back."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from shared import entries as e
from shared.errors import Tampered
from shared.runs.state import UNDO, Run, Step


def out_of_order(entry: e.Entry, why: str) -> Tampered:
    return Tampered(
        "run.order",
        f"entry {entry.seq} ({entry.type}) cannot follow in run {entry.run}: {why}",
        advice="the log was not written by the run engine; keep it as evidence",
    )


def need(entry: e.Entry, holds: bool, why: str) -> None:
    if not holds:
        raise out_of_order(entry, why)


def put(run: Run, step: Step, **changes: Any) -> Run:
    """The run with a step in place and moved last."""
    return replace(run, steps=run.steps | {step.id: step}, current=step.id, **changes)


def known(run: Run, entry: e.Entry, *statuses: str, why: str) -> Step:
    """The step an entry names, which must be in one of these states and not over."""
    found = run.steps.get(entry.facts.step)  # type: ignore[attr-defined]  # every type that comes here has a step
    if found is None or found.status not in statuses or found.end is not None:
        raise out_of_order(entry, why)
    return found


# Why a step is over that the run went on without; a retry begins it as if it had never been.
DROPPED = frozenset(("step.dropped", "run.cancelled", "run.undoing", "run.closed"))


def begin(run: Run, entry: e.Entry, name: str) -> Step:
    """A step's first entry, or the one after what was recalled for it."""
    found = run.steps.get(name)
    if found is not None and found.again and not found.is_group:
        found = None
    need(entry, found is None or found.status == "recalled", "the step is already under way")
    if name.startswith(UNDO):
        acted = name.removeprefix(UNDO)
        need(entry, run.undoing is not None, "nothing is being undone")
        need(entry, acted in run.effects, "there is no effect to take back")
        newer = run.effects[run.effects.index(acted) + 1 :]
        need(entry, all(UNDO + later in run.steps for later in newer), "what was done later is taken back first")
    else:
        need(entry, bool(name), "it names no step")
        need(entry, run.undoing is None and not run.cancelled, "the run does not go forward any more")
    return found or Step(id=name, at=entry.at)


def drop(run: Run, code: str) -> Run:
    """The run with its forward steps over, but for those whose effect may have happened: it does not wait for them any
    more, and nobody can answer what they asked."""
    dropped = {
        step.id: replace(step, status="failed", code=code)
        for step in run.steps.values()
        if step.end is None and not (step.in_flight or step.is_group or step.id.startswith(UNDO))
    }
    if not dropped:
        return run
    asked = {step.approval.approval for step in dropped.values() if step.approval is not None}
    return replace(run, steps=run.steps | dropped, approvals_used=run.approvals_used | asked)
