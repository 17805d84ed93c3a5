"""Reconciliation: what a device did while it was offline, judged under the policy that holds for it now.

A device without a link acts by the policy it has. When its entries come in, each action that was done then is judged
again with its whole context. What would now be asked about or denied is listed for a person, who has it taken back with
one click (a signed order about its run) or lets it stand, with a reason. Nothing is taken back by itself: the policy of
today was not there to be obeyed.

A device's log is looked through once, up to where it was looked through before; that mark moves in the transaction that
writes what was found. So nothing is missed by a kill, and nothing is listed twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from server.bus import Bus
from server.ingest import Record, Story
from server.orders import Orders, OrderView
from server.store import HubLog
from server.store.replay_tables import RECONCILED, RECONCILED_TO
from server.store.tables import DEVICES, ENTRIES
from shared import entries as e
from shared import limits
from shared.errors import BadInput, Conflict, Refused
from shared.policy import ALLOW
from shared.release import Release
from shared.replay import Difference, Judge, Past, difference
from shared.runs import UNDO, Run

_AT_ONCE = 5_000
_TYPES = ("verdict.given", "intent.recorded", "effect.observed", "run.ordered", "run.closed")
_SHOWN = 100


@dataclass(frozen=True)
class Listed:
    """An action done offline that would not be done alone now. ``offer`` is the order that takes it back: ``undo`` of a
    run that ended, ``cancel`` of an open one, empty where neither fits; ``coming`` one that is on its way. ``others``
    is how many other effects of the run are taken back with it."""

    n: int
    device: str
    device_name: str
    run: str
    subject: str
    playbook: str
    step: str
    tool: str
    effect: str
    at: int
    release: int
    was: str
    now: str
    rules: list[str]
    offer: str
    others: int
    roles: list[str]
    coming: OrderView | None


@dataclass(frozen=True)
class Settled:
    """One that a person dealt with: ``excused`` with a reason, or ``undone``."""

    n: int
    device_name: str
    run: str
    subject: str
    tool: str
    now: str
    state: str
    by: str
    at: int
    reason: str


class Reconcile:
    """``release_for`` says which release a device is to run now (0 for none), ``library`` reads one."""

    def __init__(
        self,
        hublog: HubLog,
        bus: Bus,
        record: Record,
        orders: Orders,
        *,
        release_for: Callable[[str], int],
        library: Callable[[int], Release],
    ) -> None:
        self._log = hublog
        self._store = hublog.store
        self._bus = bus
        self._record = record
        self._orders = orders
        self._release_for = release_for
        self._library = library
        self._judges: dict[int, Judge] = {}

    # --- looking --------------------------------------------------------------------------------------------------

    def look(self) -> int:
        """Look through what came in since; how many actions were listed. Call it every few seconds."""
        behind = (
            select(DEVICES.c.id, RECONCILED_TO.c.seq)
            .outerjoin(RECONCILED_TO, RECONCILED_TO.c.device == DEVICES.c.id)
            .where(DEVICES.c.held > 0, (RECONCILED_TO.c.seq.is_(None)) | (DEVICES.c.held > RECONCILED_TO.c.seq))
        )
        with self._store.read() as conn:
            devices = [(row.id, row.seq or 0) for row in conn.execute(behind)]
        found = sum(self._look_at(device, start) for device, start in devices)
        if found:
            self._bus.publish("reconcile", {"found": found})
        return found

    def _look_at(self, device: str, start: int) -> int:
        """One stretch of one device's log; the rest of a long one is for the next time."""
        mine = (ENTRIES.c.device == device, ENTRIES.c.seq >= start, ENTRIES.c.seq < start + _AT_ONCE)
        with self._store.read() as conn:
            rows = conn.execute(
                select(ENTRIES.c.seq, ENTRIES.c.data).where(*mine, ENTRIES.c.type.in_(_TYPES)).order_by(ENTRIES.c.seq)
            ).all()
            held = conn.execute(select(DEVICES.c.held).where(DEVICES.c.id == device)).scalar_one()
        entries = [e.read(row.data) for row in rows]
        number = self._release_for(device)
        found = [] if not number else self._otherwise(device, entries, number)
        undone = self._undone(device, {entry.run for entry in entries if not isinstance(entry.facts, e.VerdictGiven)})
        end, now = min(start + _AT_ONCE, held), self._log.clock()
        listed = [_row(one, number, now) for one in found]
        with self._store.write() as conn:
            if listed:
                conn.execute(insert(RECONCILED), listed)
            if undone:
                settle = update(RECONCILED).where(RECONCILED.c.n.in_(undone), RECONCILED.c.state == "open")
                conn.execute(settle.values(state="undone", settled_at=now))
            conn.execute(delete(RECONCILED_TO).where(RECONCILED_TO.c.device == device))
            conn.execute(insert(RECONCILED_TO), [{"device": device, "seq": end}])
        if undone and not found:
            self._bus.publish("reconcile", {"undone": len(undone)})
        return len(found)

    def _otherwise(self, device: str, entries: list[e.Entry], number: int) -> list[Difference]:
        """The actions that were done offline and would not be done alone under release ``number``."""
        judge = self._judge(number)
        last: dict[tuple[str, str], tuple[e.Entry, e.VerdictGiven]] = {}
        found = []
        for entry in entries:
            facts = entry.facts
            if isinstance(facts, e.VerdictGiven):
                last[entry.run, facts.step] = entry, facts
            elif isinstance(facts, e.IntentRecorded):
                judged = last.get((entry.run, facts.step)) or self._verdict_before(device, entry, facts.step)
                if judged is None or not _is_looked_at(judged[1], number):
                    continue
                past = Past(device, judged[0].seq, judged[0].at, entry.run, judged[1])
                one = difference(judge, past)
                if one is not None and one.now != ALLOW:
                    found.append(one)
        return found

    def _verdict_before(self, device: str, intent: e.Entry, step: str) -> tuple[e.Entry, e.VerdictGiven] | None:
        """The verdict of an intent, where it stands before the stretch that is looked at."""
        query = select(ENTRIES.c.data).where(
            ENTRIES.c.device == device,
            ENTRIES.c.run == intent.run,
            ENTRIES.c.seq < intent.seq,
            ENTRIES.c.type == "verdict.given",
        )
        with self._store.read() as conn:
            for data in conn.execute(query.order_by(ENTRIES.c.seq.desc())).scalars():
                entry = e.read(data)
                if isinstance(entry.facts, e.VerdictGiven) and entry.facts.step == step:
                    return entry, entry.facts
        return None

    def _judge(self, number: int) -> Judge:
        if number not in self._judges:
            self._judges = {number: Judge(self._library(number).policy)}
        return self._judges[number]

    def _undone(self, device: str, runs: set[str]) -> list[int]:
        """Of what is listed of these runs, that which was taken back meanwhile."""
        if not runs:
            return []
        query = select(RECONCILED.c.n, RECONCILED.c.run, RECONCILED.c.step).where(
            RECONCILED.c.device == device, RECONCILED.c.state == "open", RECONCILED.c.run.in_(runs)
        )
        with self._store.read() as conn:
            rows = conn.execute(query).all()
        back = {run: self._record.run(f"{device}:{run}").run.taken_back for run in {row.run for row in rows}}
        return [row.n for row in rows if row.step in back[row.run]]

    # --- for people -----------------------------------------------------------------------------------------------

    def open(self) -> list[Listed]:
        """What waits for a person, the newest first."""
        with self._store.read() as conn:
            rows = conn.execute(_named().where(RECONCILED.c.state == "open").limit(_SHOWN)).all()
        found = []
        for row in rows:
            story = self._record.run(f"{row.device}:{row.run}")
            offer, others = _offer(story.run, row.step)
            given = self._orders.given(row.device, row.run)
            found.append(
                Listed(
                    n=row.n,
                    device=row.device,
                    device_name=row.name,
                    run=f"{row.device}:{row.run}",
                    subject=story.view.subject,
                    playbook=story.view.playbook,
                    step=row.step,
                    tool=row.tool,
                    effect=row.effect,
                    at=row.at,
                    release=row.release,
                    was=row.was,
                    now=row.now,
                    rules=json.loads(row.rules),
                    offer=offer,
                    others=others,
                    roles=self._orders.roles(story.run),
                    coming=next((one for one in given if one.state == "coming" and one.order == offer), None),
                )
            )
        return found

    def waiting(self) -> int:
        """How many wait for a person."""
        with self._store.read() as conn:
            return len(conn.execute(select(RECONCILED.c.n).where(RECONCILED.c.state == "open")).all())

    def settled(self) -> list[Settled]:
        """What was dealt with last."""
        query = _named().where(RECONCILED.c.state != "open").order_by(None)
        with self._store.read() as conn:
            rows = conn.execute(query.order_by(RECONCILED.c.settled_at.desc()).limit(_SHOWN)).all()
        return [
            Settled(
                n=row.n,
                device_name=row.name,
                run=f"{row.device}:{row.run}",
                subject=self._record.run(f"{row.device}:{row.run}").view.subject,
                tool=row.tool,
                now=row.now,
                state=row.state,
                by=row.by,
                at=row.settled_at,
                reason=str((self._log.body(row.settled_seq) or {}).get("reason", "")) if row.settled_seq >= 0 else "",
            )
            for row in rows
        ]

    def take_back(self, n: int, *, by: str, roles: Sequence[str], reason: str = "") -> OrderView:
        """Have the run of what is listed under ``n`` taken back. Raises ``BadInput('reconcile.unknown')``,
        ``Conflict('reconcile.offer')`` and what ``Orders.give`` raises."""
        story, row = self._found(n)
        offer, _ = _offer(story.run, row.step)
        if not offer:
            advice = "look at the run: take it back by hand, and let it stand here"
            raise Conflict("reconcile.offer", "the run can be given no order that takes it back", advice=advice)
        said = reason or f"Would now be {'denied' if row.now == 'deny' else 'asked about'}."
        return self._orders.give(f"{row.device}:{row.run}", offer, by=by, roles=roles, reason=said)

    def excuse(self, n: int, *, by: str, roles: Sequence[str], reason: str) -> None:
        """Let what is listed under ``n`` stand. Raises ``BadInput('reconcile.unknown' | 'reconcile.reason')``,
        ``Refused('order.role')``."""
        reason = " ".join(reason.split())
        if not reason or len(reason) > limits.REASON_CHARS:
            advice = f"say why, in at most {limits.REASON_CHARS} characters"
            raise BadInput("reconcile.reason", "letting it stand needs a reason", advice=advice)
        story, row = self._found(n)
        allowed = self._orders.roles(story.run)
        if not set(allowed) & set(roles):
            needed = " or ".join(allowed)
            raise Refused("order.role", f"only {needed} may do this", advice=f"ask somebody who is {needed}")
        facts = e.ActionExcused(row.device, row.seq, row.run, row.release, row.now, by)

        def rows(conn: Connection, written: Sequence[e.Written]) -> None:
            entry = written[0].entry
            done = {"state": "excused", "by": by, "settled_at": entry.at, "settled_seq": entry.seq}
            mine = update(RECONCILED).where(RECONCILED.c.n == n, RECONCILED.c.state == "open")
            if conn.execute(mine.values(done)).rowcount != 1:
                raise _unknown(n)

        self._log.append([e.Draft(facts, bodies={"shared": {"reason": reason}})], rows)
        self._bus.publish("reconcile", {"excused": n})

    def _found(self, n: int) -> tuple[Story, Row[Any]]:
        query = select(RECONCILED).where(RECONCILED.c.n == n, RECONCILED.c.state == "open")
        with self._store.read() as conn:
            row = conn.execute(query).first()
        if row is None:
            raise _unknown(n)
        return self._record.run(f"{row.device}:{row.run}"), row


def _unknown(n: int) -> BadInput:
    return BadInput(
        "reconcile.unknown", f"nothing waits under {n}", advice="see the list; somebody may have been first"
    )


def _named() -> Select[Any]:
    return (
        select(RECONCILED, DEVICES.c.name)
        .join(DEVICES, DEVICES.c.id == RECONCILED.c.device)
        .order_by(RECONCILED.c.n.desc())
    )


def _is_looked_at(given: e.VerdictGiven, release: int) -> bool:
    """Done offline, with an effect, by another release than today's. Taking something back is not listed again."""
    offline = given.context.get("offline") is True and given.context.get("effect") != "read"
    return offline and given.release != release and not given.step.startswith(UNDO)


def _offer(run: Run, step: str) -> tuple[str, int]:
    """The order that takes a step's effect back, and how many other effects go with it."""
    others = len([name for name in run.effects if name not in run.undone and name != step])
    if run.undoable:
        return "undo", others
    open_ = run.closed is None and run.undoing is None and not run.cancelled
    return ("cancel" if open_ else ""), others


def _row(one: Difference, release: int, now: int) -> dict[str, object]:
    past = one.past
    return {
        "device": past.device,
        "seq": past.seq,
        "run": past.run,
        "step": past.given.step,
        "tool": past.given.tool,
        "effect": str(past.given.context.get("effect", "")),
        "at": past.at,
        "judged_at": now,
        "release": release,
        "was": past.given.verdict,
        "now": one.now,
        "rules": json.dumps(one.rules),
        "state": "open",
    }
