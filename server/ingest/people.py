"""What people were asked, what they said and what they ordered, as it stands in the devices' logs.

A device cannot speak for a person at the hub: an answer or an order that names the hub as its place must be one that
was given here, word for word. What was said at the device's own computer is taken from where policy lets it be said
there, which the fold checks, and is kept as such.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from msgspec.structs import asdict
from sqlalchemy import Connection, insert, select, update

from server.ingest.folding import Change
from server.store.tables import ANSWERS, APPROVALS, ENTRIES, ORDERS
from shared import entries as e
from shared import runs
from shared.errors import Tampered
from shared.runs.device import likeness

_ADVICE = "revoke the device; its log is the evidence"


def write_people(conn: Connection, change: Change) -> None:
    """Questions asked, escalated, answered and voided, and orders obeyed, in order.

    Raises ``Tampered('approval.taken' | 'approval.forged' | 'order.forged')``.
    """
    for entry, run in change.people:
        _WRITERS[type(entry.facts)](conn, change.device, entry, run)


# --- questions ----------------------------------------------------------------------------------------------------


def _ask(conn: Connection, device: str, entry: e.Entry, run: runs.Run) -> None:
    step = run.steps[entry.facts.step]  # type: ignore[attr-defined]  # both versions have one
    asked = step.approval
    assert isinstance(asked, e.ApprovalAsked)
    if conn.execute(select(APPROVALS.c.n).where(APPROVALS.c.id == asked.approval)).first():
        raise Tampered(
            "approval.taken", "another question has this name already", advice="revoke the device and look into it"
        )
    row = {
        "device": device,
        "id": asked.approval,
        "run": entry.run,
        "step": asked.step,
        "action": asked.action,
        "roles": json.dumps(asked.roles),
        "asked_at": entry.at,
        "expires_at": asked.expires_at,
        "seq": entry.seq,
        "opened_seq": run.seq,
        "plan_seq": step.plan_seq,
        "verdict_seq": step.verdict_seq,
        "state": "waiting",
        "needed": asked.needed,
        "local": asked.local,
        "similar_s": asked.similar_s,
    }
    conn.execute(insert(APPROVALS), [row])


def _escalate(conn: Connection, device: str, entry: e.Entry, run: runs.Run) -> None:
    facts = entry.facts
    assert isinstance(facts, e.ApprovalEscalated)
    step = run.steps[facts.step]
    mine = update(APPROVALS).where(APPROVALS.c.device == device, APPROVALS.c.id == facts.approval)
    conn.execute(mine.values(roles=json.dumps(step.roles), level=step.level))


def _void(conn: Connection, code: str, device: str, *which: Any) -> None:
    mine = update(APPROVALS).where(APPROVALS.c.device == device, *which)
    conn.execute(mine.values(state="void", void_code=code))


def _voided(conn: Connection, device: str, entry: e.Entry, run: runs.Run) -> None:
    facts = entry.facts
    assert isinstance(facts, e.ApprovalVoided)
    _void(conn, facts.code, device, APPROVALS.c.id == facts.approval)


def _step_failed(conn: Connection, device: str, entry: e.Entry, run: runs.Run) -> None:
    facts = entry.facts
    assert isinstance(facts, e.StepFailed)
    _void(conn, facts.code, device, APPROVALS.c.step == facts.step, *_waiting_in(run))


def _undone(conn: Connection, device: str, entry: e.Entry, run: runs.Run) -> None:
    """The run goes back: what its steps asked before cannot move it any more."""
    _void(conn, "run.undoing", device, *_waiting_in(run))


def _closed(conn: Connection, device: str, entry: e.Entry, run: runs.Run) -> None:
    _void(conn, "run.closed", device, *_waiting_in(run))


def _waiting_in(run: runs.Run) -> tuple[Any, ...]:
    return (APPROVALS.c.run == run.id, APPROVALS.c.state == "waiting")


# --- answers ------------------------------------------------------------------------------------------------------


def _answer(conn: Connection, device: str, entry: e.Entry, run: runs.Run) -> None:
    facts = entry.facts
    assert isinstance(facts, e.ApprovalAnsweredV1)
    said = facts if isinstance(facts, e.ApprovalAnswered) else e.ApprovalAnswered(**asdict(facts))
    if not conn.execute(
        select(APPROVALS.c.n).where(APPROVALS.c.device == device, APPROVALS.c.id == said.approval)
    ).first():
        raise _forged(entry, "no such question is known here")
    if said.place == "local":
        decided_seq = -1
        row = {name: getattr(said, name) for name in ("approval", "answer", "by", "corrected", "place")}
        more = {"at": entry.at, "similar_until": said.similar_until, "applied_seq": entry.seq}
        conn.execute(insert(ANSWERS), [row | more | {"device": device, "decided_seq": -1}])
    else:
        decided_seq = _apply(conn, entry, said)
    if run.steps[said.step].status == "waiting":  # others must say yes too
        return
    settled = {
        "state": "answered",
        "answer": said.answer,
        "by": said.by,
        "corrected": said.corrected,
        "decided_seq": decided_seq,
        "applied_seq": entry.seq,
    }
    if said.place == "local":
        settled["answered_at"] = entry.at
    conn.execute(update(APPROVALS).where(APPROVALS.c.id == said.approval).values(settled))


def _apply(conn: Connection, entry: e.Entry, said: e.ApprovalAnswered) -> int:
    """Note that an answer given here arrived; where it stands in the hub's log. It may cover less than it said."""
    given = conn.execute(
        select(ANSWERS).where(ANSWERS.c.approval == said.approval, ANSWERS.c.by == said.by, ANSWERS.c.decided_seq >= 0)
    ).first()
    same = given is not None and (given.answer, given.corrected) == (said.answer, said.corrected)
    if given is None or not same or said.similar_until > given.similar_until:
        raise _forged(entry, "no person gave it here")
    mine = update(ANSWERS).where(ANSWERS.c.n == given.n)
    conn.execute(mine.values(applied_seq=entry.seq, similar_until=said.similar_until))
    return int(given.decided_seq)


def _cover(conn: Connection, device: str, entry: e.Entry, run: runs.Run) -> None:
    """A question that was not asked must be covered by a yes that says so, to an action like this one."""
    facts = entry.facts
    assert isinstance(facts, e.ApprovalCovered)
    grant = conn.execute(
        select(APPROVALS.c.step, APPROVALS.c.opened_seq, APPROVALS.c.verdict_seq)
        .join(ANSWERS, ANSWERS.c.approval == APPROVALS.c.id)
        .where(
            APPROVALS.c.device == device,
            APPROVALS.c.id == facts.grant,
            APPROVALS.c.state == "answered",
            ANSWERS.c.answer == "approve",
            ANSWERS.c.applied_seq >= 0,
            ANSWERS.c.similar_until >= entry.at,
        )
    ).first()
    if grant is None:
        raise _forged(entry, "no answer covers it")
    opened, verdict = (_facts(conn, device, seq) for seq in (grant.opened_seq, grant.verdict_seq))
    assert isinstance(opened, e.RunOpenedV1) and isinstance(verdict, e.VerdictGiven)
    whole = opened if isinstance(opened, e.RunOpened) else e.RunOpened(**asdict(opened))
    given = likeness(
        runs.Run(id="", opened=whole, at=0, seq=0, began_at=0), runs.Step(id=grant.step, at=0, verdict=verdict)
    )
    asked = likeness(run, run.steps[facts.step])
    if asked.pop("value_cents") > given.pop("value_cents") or asked != given:
        raise _forged(entry, "the answer it names is to something else")


def _facts(conn: Connection, device: str, seq: int) -> e.Facts:
    data = conn.execute(select(ENTRIES.c.data).where(ENTRIES.c.device == device, ENTRIES.c.seq == seq)).scalar_one()
    return e.read(data).facts


def _forged(entry: e.Entry, why: str) -> Tampered:
    return Tampered("approval.forged", f"the answer of entry {entry.seq} does not stand: {why}", advice=_ADVICE)


# --- orders -------------------------------------------------------------------------------------------------------


def _order(conn: Connection, device: str, entry: e.Entry, run: runs.Run) -> None:
    facts = entry.facts
    assert isinstance(facts, e.RunOrdered)
    if facts.order == "cancel":
        _void(conn, "run.cancelled", device, *_waiting_in(run))
    if facts.place != "hub":
        return
    given = conn.execute(select(ORDERS).where(ORDERS.c.device == device, ORDERS.c.id == facts.id)).first()
    said = (run.id, facts.step, facts.order, facts.by)
    if given is None or (given.run, given.step, given.kind, given.by) != said:
        raise Tampered("order.forged", f"no person gave the order of entry {entry.seq} here", advice=_ADVICE)
    conn.execute(update(ORDERS).where(ORDERS.c.n == given.n).values(applied_seq=entry.seq))


_Writer = Callable[[Connection, str, e.Entry, runs.Run], None]
_WRITERS: dict[type[e.Facts], _Writer] = {
    e.ApprovalAskedV1: _ask,
    e.ApprovalAsked: _ask,
    e.ApprovalEscalated: _escalate,
    e.ApprovalAnsweredV1: _answer,
    e.ApprovalAnswered: _answer,
    e.ApprovalCovered: _cover,
    e.ApprovalVoided: _voided,
    e.RunOrdered: _order,
    e.StepFailed: _step_failed,
    e.UndoBegun: _undone,
    e.RunClosed: _closed,
}
