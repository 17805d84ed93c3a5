"""How runs went under candidate and control, counted from the rows that ingest keeps. Which runs count when is told in
``shared.rollout``; a row that was counted is marked in the same transaction, so no run counts twice."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Select, and_, case, func, or_, select, update

from server.store.tables import APPROVALS, ROLLOUT_EVIDENCE, RUNS
from shared.rollout import Metric, Outcomes, Plan, Rollout, Tally
from shared.runs import DENIED, FAILED, REFERRED

_FAILURES = (FAILED, DENIED)  # a release under which nothing is done any more has failed, however lawfully
_OVERRIDDEN = ("deny", "correct")
_KNOWN = 1000  # the newest runs of a release tell what is usual


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
    known = before.taken(tallies.get(plan.release, Tally()), tallies.get(plan.control, Tally()))
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


def _newly(conn: Connection, state: Rollout, plan: Plan, now: int) -> dict[int, Tally]:
    """By release, what was not counted before; it is marked as counted."""
    of_stage = (
        RUNS.c.release.in_((plan.release, plan.control)),
        RUNS.c.opened_at >= state.stage_at,
        RUNS.c.dry_run.is_(False),
        RUNS.c.parent == "",  # what a run opened stands for that run, and not for itself
        RUNS.c.device.not_in([*state.pins, *state.excluded]),
    )
    settled = (*of_stage, RUNS.c.opened_at <= now - plan.settle_s * 1_000_000, RUNS.c.tallied.is_(False))
    found = {
        release: Tally(runs, *(int(number) for number in counts))
        for release, runs, *counts in conn.execute(_how_they_went(plan).where(*settled).group_by(RUNS.c.release))
    }
    conn.execute(update(RUNS).where(*settled).values(tallied=True))
    first = (
        select(RUNS.c.n, RUNS.c.release, func.min(APPROVALS.c.n).label("question"))
        .join(APPROVALS, and_(APPROVALS.c.device == RUNS.c.device, APPROVALS.c.run == RUNS.c.id))
        .where(*of_stage, RUNS.c.answer_tallied.is_(False), APPROVALS.c.state == "answered")
        .group_by(RUNS.c.n, RUNS.c.release)
        .subquery()
    )
    said = select(first.c.release, func.count(), func.sum(_one(APPROVALS.c.answer.in_(_OVERRIDDEN))))
    said = said.join(APPROVALS, APPROVALS.c.n == first.c.question).group_by(first.c.release)
    for release, answered, overridden in conn.execute(said).all():
        told = {"answered": answered, "overridden": int(overridden)}
        found[release] = msgspec.structs.replace(found.get(release, Tally()), **told)
    conn.execute(update(RUNS).where(RUNS.c.n.in_(select(first.c.n))).values(answer_tallied=True))
    return found


def _how_they_went(plan: Plan) -> Select[Any]:
    """Release, runs, and the counts in the order of ``Tally``'s fields."""
    bounds: dict[Metric, int] = {gate.metric: gate.over for gate in plan.gates}
    asked = or_(RUNS.c.approval != "", RUNS.c.outcome == REFERRED)
    return select(
        RUNS.c.release,
        func.count(),
        func.sum(_one(RUNS.c.outcome.in_(_FAILURES))),
        func.sum(_one(RUNS.c.mismatched)),
        func.sum(_one(asked)),
        func.sum(_one(RUNS.c.thought_ms > bounds.get("latency", 0))),
        func.sum(_one(RUNS.c.cost_cents > bounds.get("cost", 0))),
    )


def _one(condition: Any) -> Any:
    return case((condition, 1), else_=0)
