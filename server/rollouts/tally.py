"""How runs went under candidate and control, counted from the rows that ingest keeps. Which runs count when is told in
``shared.rollout``; a row that was counted is marked in the same transaction, so no run counts twice."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, or_, select, update

from server.store.tables import APPROVALS, ROLLOUT_EVIDENCE, RUNS
from shared.rollout import MOST_RUNS, PARTS, Metric, Outcomes, Plan, Rollout, Tally, part
from shared.runs import DENIED, FAILED, REFERRED

_FAILURES = (FAILED, DENIED)  # a release under which nothing is done any more has failed, however lawfully
_OVERRIDDEN = ("deny", "correct")
_KNOWN = 1000  # the newest runs of a release tell what is usual


def _one(condition: Any) -> Any:
    return case((condition, 1), else_=0)


# Of a run: that somebody answered in it. And by release and device, how many were answered, by the first answer.
_ANSWERED = and_(APPROVALS.c.device == RUNS.c.device, APPROVALS.c.run == RUNS.c.id, APPROVALS.c.state == "answered")
_FIRST = select(func.min(APPROVALS.c.n)).where(_ANSWERED).correlate(RUNS).scalar_subquery()
_ANSWERS = (
    select(RUNS.c.release, RUNS.c.device, func.count(), func.sum(_one(APPROVALS.c.answer.in_(_OVERRIDDEN))))
    .join(APPROVALS, APPROVALS.c.n == _FIRST)
    .group_by(RUNS.c.release, RUNS.c.device)
)


def evidence(conn: Connection, rollout: str, stage: int) -> Outcomes:
    """What a stage has counted so far."""
    at = (ROLLOUT_EVIDENCE.c.rollout == rollout, ROLLOUT_EVIDENCE.c.stage == stage)
    kept = conn.execute(select(ROLLOUT_EVIDENCE.c.outcomes).where(*at)).scalar()
    return Outcomes() if kept is None else msgspec.json.decode(kept, type=Outcomes)


def gather(conn: Connection, state: Rollout, now: int) -> Outcomes:
    """The evidence of the present stage with what has come in by ``now`` (microseconds since 1970 UTC), kept."""
    plan = state.plan
    assert plan is not None
    before = evidence(conn, plan.rollout, state.stage)
    tallies = _newly(conn, state, plan, now)
    parts = [Tally()] * PARTS
    for device, tally in tallies[plan.release].items():
        parts[part(plan.salt, device)] += tally
    known = before.taken_in_parts(parts, sum(tallies[plan.control].values(), Tally()))
    if known != before:
        at = (ROLLOUT_EVIDENCE.c.rollout == plan.rollout, ROLLOUT_EVIDENCE.c.stage == state.stage)
        conn.execute(ROLLOUT_EVIDENCE.delete().where(*at))
        row = {"rollout": plan.rollout, "stage": state.stage, "looked_at": now}
        conn.execute(ROLLOUT_EVIDENCE.insert(), [row | {"outcomes": msgspec.json.encode(known).decode()}])
    return known


def usual(conn: Connection, release: int) -> tuple[list[int], list[int]]:
    """Of the newest runs of a release that were thought about: how long (milliseconds), and at what cost (cents)."""
    thought = select(RUNS.c.thought_ms, RUNS.c.cost_cents).where(RUNS.c.release == release, RUNS.c.planner != "")
    rows = conn.execute(thought.order_by(RUNS.c.n.desc()).limit(_KNOWN)).all()
    return [row.thought_ms for row in rows], [row.cost_cents for row in rows]


def _newly(conn: Connection, state: Rollout, plan: Plan, now: int) -> dict[int, dict[str, Tally]]:
    """By release and device, what was not counted before; it is marked as counted. What a device has beyond its share
    is marked without being counted."""
    of_stage = (
        RUNS.c.release.in_((plan.release, plan.control)),
        RUNS.c.opened_at >= state.stage_at,
        RUNS.c.dry_run.is_(False),
        RUNS.c.device.not_in([*state.pins, *state.excluded]),
    )
    found: dict[int, dict[str, Tally]] = {plan.release: {}, plan.control: {}}
    # What a run opened stands for that run, and not for itself; but a person who was asked in it was asked.
    settled = and_(*of_stage, RUNS.c.parent == "", RUNS.c.opened_at <= now - plan.settle_s * 1_000_000)
    in_turn = RUNS.c.n.in_(_in_turn(settled, RUNS.c.tallied))
    for release, device, *counts in conn.execute(_how_they_went(plan).where(in_turn, RUNS.c.tallied.is_(False))):
        found[release][device] = Tally(*(int(number) for number in counts))
    conn.execute(update(RUNS).where(settled, RUNS.c.tallied.is_(False)).values(tallied=True))
    answered = and_(*of_stage, select(APPROVALS.c.n).where(_ANSWERED).exists())
    in_turn = RUNS.c.n.in_(_in_turn(answered, RUNS.c.answer_tallied))
    for release, device, *counts in conn.execute(_ANSWERS.where(in_turn, RUNS.c.answer_tallied.is_(False))):
        told = dict(zip(("answered", "overridden"), (int(number) for number in counts), strict=True))
        found[release][device] = found[release].get(device, Tally()) + Tally(**told)
    conn.execute(update(RUNS).where(answered, RUNS.c.answer_tallied.is_(False)).values(answer_tallied=True))
    return found


def _in_turn(which: ColumnElement[bool], tallied: Any) -> Select[Any]:
    """The first runs of each device and release: those that were counted, then the others as they came in."""
    turn = func.row_number().over(partition_by=(RUNS.c.device, RUNS.c.release), order_by=(tallied.desc(), RUNS.c.n))
    ranked = select(RUNS.c.n, turn.label("turn")).where(which).subquery()
    return select(ranked.c.n).where(ranked.c.turn <= MOST_RUNS)


def _how_they_went(plan: Plan) -> Select[Any]:
    """Release, device, and the counts in the order of ``Tally``'s fields."""
    bounds: dict[Metric, int] = {gate.metric: gate.over for gate in plan.gates}
    asked = or_(RUNS.c.approval != "", RUNS.c.outcome == REFERRED)
    counted = select(
        RUNS.c.release,
        RUNS.c.device,
        func.count(),
        func.sum(_one(RUNS.c.outcome.in_(_FAILURES))),
        func.sum(_one(RUNS.c.mismatched)),
        func.sum(_one(asked)),
        func.sum(_one(RUNS.c.thought_ms > bounds.get("latency", 0))),
        func.sum(_one(RUNS.c.cost_cents > bounds.get("cost", 0))),
    )
    return counted.group_by(RUNS.c.release, RUNS.c.device)
