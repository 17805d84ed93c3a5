"""The rules of the way back and of the end, and of what a person may order meanwhile and afterwards."""

from __future__ import annotations

from msgspec.structs import replace

from shared import entries as e
from shared.runs.ground import DROPPED, drop, known, need, out_of_order, put
from shared.runs.questions import PLACES, unjudged
from shared.runs.state import CANCELLED, DONE, FAILED, OUTCOMES, REHEARSED, UNDO, Run, Step

RUN_ORDERS = ("pause", "resume", "cancel", "retry", "dismiss", "undo")
STEP_ORDERS = ("happened", "not-happened", "handled")
RECALLED = "run.recalled"  # why a run that had ended was taken back after all


def undoing(run: Run, entry: e.Entry, f: e.UndoBegun) -> Run:
    need(entry, run.undoing is None, "it is being undone already")
    need(entry, f.outcome not in (DONE, REHEARSED), "only what went wrong is undone")
    _check_outcome(run, entry, f.outcome)
    return replace(drop(run, "run.undoing"), undoing=f)


def left(run: Run, entry: e.Entry, f: e.UndoLeft) -> Run:
    need(entry, run.undoing is not None and f.step in run.effects, "there is no effect to take back")
    name = UNDO + f.step
    found = run.steps.get(name) or Step(id=name, at=entry.at)
    failed = found.end is not None and found.end[0] != DONE
    need(entry, found.status == "recalled" or failed, "it is not for a person")
    return put(run, replace(found, status="left", code=f.code))


def closed(run: Run, entry: e.Entry, f: e.RunClosed) -> Run:
    if run.undoing is None:
        _check_outcome(run, entry, f.outcome)
    else:
        need(entry, f.outcome == run.undoing.outcome, "it was undone for another reason")
        need(entry, not any(name not in run.undone for name in run.effects), "not everything is taken back")
    return replace(drop(run, "run.closed"), closed=f, closed_at=entry.at)


def _check_outcome(run: Run, entry: e.Entry, outcome: str) -> None:
    """A run that goes forward may end so, or begin to go back because of it."""
    need(entry, outcome in OUTCOMES, "the outcome is not known")
    need(entry, not any(step.in_flight for step in run.steps.values()), "an intent is open, or an effect unobserved")
    need(entry, (outcome == CANCELLED) == run.cancelled, "nobody cancelled it, or somebody did")
    if outcome in (DONE, REHEARSED):
        need(entry, bool(run.steps) and run.idle_steps, "nothing was done, or not everything is over")
        need(entry, (outcome == REHEARSED) == run.opened.dry_run, "a dry run ends as one, and no other does")
    elif outcome != CANCELLED:
        ends = (step.end for step in run.steps.values())
        need(entry, any(end is not None and end[0] == outcome for end in ends), "no step ended so")


# --- orders -------------------------------------------------------------------------------------------------------


def ordered(run: Run, entry: e.Entry, f: e.RunOrdered) -> Run:
    need(entry, f.place in PLACES and f.id not in run.orders, "the order came before, or from no known place")
    need(entry, f.place != "parent" or bool(run.opened.parent), "no run waits for this one")
    run = replace(run, orders=(*run.orders, f.id))
    if f.order in STEP_ORDERS:
        need(entry, run.closed is None and f.place != "parent", "the run is closed, or nobody looked")
        return _about_step(run, entry, f)
    match f.order:
        case "pause":
            need(entry, run.closed is None and not run.paused, "it cannot be paused")
            return replace(run, paused=True)
        case "resume":
            need(entry, run.closed is None and run.paused, "it is not paused")
            return replace(run, paused=False)
        case "cancel":
            need(entry, run.closed is None and not run.cancelled, "it cannot be cancelled")
            return replace(drop(run, "run.cancelled"), cancelled=True, paused=False)
        case "retry" | "dismiss":
            failed = run.closed is not None and run.closed.outcome == FAILED and not run.dismissed
            need(entry, failed, "only a failed run is retried or dismissed")
            return _anew(run, entry.at) if f.order == "retry" else replace(run, dismissed=True)
        case "undo":
            need(entry, run.undoable, "it is open, or nothing of it is left to take back")
            back = e.UndoBegun(outcome=CANCELLED, code=RECALLED)
            return replace(run, closed=None, closed_at=0, dismissed=False, paused=False, undoing=back)
        case _:
            raise out_of_order(entry, "there is no such order")


def _about_step(run: Run, entry: e.Entry, f: e.RunOrdered) -> Run:
    if f.order == "handled":
        step = known(run, entry, "left", why="nothing was left to a person")
        return put(run, replace(step, status="handled"))
    step = known(run, entry, "doubted", why="nothing is in doubt")
    if f.order == "happened":  # a result follows, told by a person
        return put(run, replace(step, status="intended"))
    return put(run, replace(unjudged(step), intent=None))


# --- once more ----------------------------------------------------------------------------------------------------


def _anew(run: Run, at: int) -> Run:
    """A failed run goes on from what ended it; what was passed over stays so, which only ``flow`` can tell apart. What
    was done stays done, what was taken back is done anew. Budgets begin anew too."""
    kept = {name: step for name in run.steps if (step := _kept(run, name, at)) is not None}
    new = [name for name in run.steps if name not in kept or kept[name].again]
    return replace(
        run,
        steps=kept,
        current="",
        effects=tuple(name for name in run.effects if name not in run.taken_back),
        times=run.times | {name: run.times.get(name, 0) + 1 for name in new if not name.startswith(UNDO)},
        undoing=None,
        cancelled=False,
        paused=False,
        began_at=at,
        actions=0,
        cents=0,
        tokens=0,
        closed=None,
        closed_at=0,
    )


def _kept(run: Run, name: str, at: int) -> Step | None:
    """A step as it is when the run is retried; ``None`` where it begins as if it had never been."""
    step = run.steps[name]
    well = step.end is not None and step.end[0] == DONE
    if name.startswith(UNDO) or name in run.taken_back or (step.status == "failed" and step.code in DROPPED):
        return None
    if step.is_group:  # it is over when the steps within it are, and these may not be any more
        return replace(step, status="entered", at=at, again=step.again or step.end is not None)
    if name in run.effects and not well:  # it did happen, but otherwise than it should: that is looked at again
        return replace(step, status="resulted", observed=None, at=at)
    return step if well else replace(step, again=True)
