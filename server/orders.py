"""People's orders about runs: to pause, go on or cancel; to try a failed one again or lay it to rest; to take back what
an ended one did; to settle a doubt; to say that what no tool could take back was taken back by hand.

An order is judged by the run as the hub knows it, signed by the hub's key, written to the hub's log and put into the
device's outbox in one transaction. The device judges it again by the run as it is there: an order that came too late
changes nothing. So an order is *on its way* until the device's log shows it, or the device has moved past it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from sqlalchemy import Connection, Row, Select, insert, select

from server.bus import Bus
from server.store import HubLog
from server.store.tables import DEVICES, ORDERS, OUTBOX
from shared import entries as e
from shared import limits
from shared.errors import BadInput, Conflict, OutriderError, Refused
from shared.playbook import Playbook
from shared.release import Order, Release, sign
from shared.runs import FAILED, Run
from shared.runs.fold import RUN_ORDERS, STEP_ORDERS

ADMIN = "admin"
_SETTLING = ("happened", "not-happened")  # only one of them can be true


class Known(Protocol):
    """A run as the hub knows it."""

    @property
    def run(self) -> Run: ...

    @property
    def device(self) -> str: ...


class Library(Protocol):
    """Where releases are read; ``releases`` provides it."""

    def release(self, number: int, /) -> Release: ...


@dataclass(frozen=True)
class OrderView:
    """An order given here. ``state`` is ``obeyed``, ``coming`` while the device has not taken it, or ``passed`` where
    it took it and the run went another way. ``at`` is microseconds since 1970 UTC."""

    id: str
    order: str
    step: str
    by: str
    at: int
    state: str


class Orders:
    """``runs`` finds a run by ``DEVICE:RUN``, ``library`` the release whose playbook names who answers for it."""

    def __init__(self, hublog: HubLog, bus: Bus, runs: Callable[[str], Known], library: Library) -> None:
        self._log = hublog
        self._store = hublog.store
        self._bus = bus
        self._runs = runs
        self._library = library
        self._answerable: dict[int, dict[str, list[str]]] = {}  # of each release, who answers for each playbook

    def given(self, device: str, run: str) -> list[OrderView]:
        """Orders given here about a run, the oldest first."""
        with self._store.read() as conn:
            return [_view(row) for row in conn.execute(_orders(device, run)).all()]

    def roles(self, run: Run) -> list[str]:
        """Who may give orders about a run: whoever answers for its playbook, and administrators."""
        return self.roles_of(run.opened.playbook, run.opened.release)

    def roles_of(self, playbook: str, release: int) -> list[str]:
        """Likewise, by a run's playbook and release."""
        known = self._answerable.get(release)
        if known is None:
            try:
                books = self._library.release(release).playbooks
            except OutriderError:  # the release is gone: what remains is the administrator
                return [ADMIN]
            known = {name: _answerable(book) for name, book in books.items()}
            self._answerable[release] = known
        return [*known.get(playbook, []), ADMIN]

    def give(
        self, run_id: str, order: str, step: str = "", *, by: str, roles: Sequence[str], reason: str = ""
    ) -> OrderView:
        """Give an order about a run, or one about a step of it. ``roles`` are the person's.

        Raises ``BadInput('run.unknown' | 'order.unknown' | 'order.reason')``, ``Refused('order.role' |
        'device.revoked')``, ``Conflict('order.unfit' | 'order.given')``.
        """
        reason = _tidy(reason)
        known = self._runs(run_id)
        role = self._role(known.run, roles)
        why = unfit(known.run, order, step)
        if why:
            raise Conflict("order.unfit", why, advice="look at the run as it is now")
        message = Order(
            id=f"o-{self._log.random(8).hex()}",
            device=known.device,
            run=known.run.id,
            step=step,
            order=order,
            by=by,
            role=role,
            at=self._log.clock(),
            reason=reason,
        )
        self._commit(message)
        self._bus.publish("runs", {"device": known.device, "runs": [f"{known.device}:{known.run.id}"]})
        self._bus.publish(f"device:{known.device}", {"order": message.id, "device": known.device})
        return OrderView(message.id, order, step, by, message.at, "coming")

    def _role(self, run: Run, theirs: Sequence[str]) -> str:
        allowed = self.roles(run)
        for role in allowed:
            if role in theirs:
                return role
        needed = " or ".join(allowed)
        raise Refused("order.role", f"only {needed} may do this", advice=f"ask somebody who is {needed}")

    def _commit(self, message: Order) -> None:
        sealed = sign(message, self._log.key)
        facts = e.OrderGiven(message.order, message.id, message.device, message.run, message.step, message.by)

        def rows(conn: Connection, written: Sequence[e.Written]) -> None:
            _check_device(conn, message.device)
            for row in conn.execute(_orders(message.device, message.run)).all():
                _check_once(_view(row), message)
            text = msgspec.json.encode(sealed).decode()
            sent = conn.execute(insert(OUTBOX).values(device=message.device, at=message.at, envelope=text))
            place = sent.inserted_primary_key
            assert place is not None
            conn.execute(insert(ORDERS), [_row(message, written[0].entry.seq, int(place[0]))])

        self._log.append([e.Draft(facts, bodies={"shared": {"envelope": msgspec.to_builtins(sealed)}})], rows)


def _answerable(book: Playbook) -> list[str]:
    later = [role for one in book.approvals.escalate for role in one.roles]
    return [role for role in dict.fromkeys([*book.approvals.roles, *later]) if role != ADMIN]


def unfit(run: Run, order: str, step: str = "") -> str:
    """Why an order does not fit a run as it is, in words; empty where it does. It is what the fold of ``shared.runs``
    refuses, and nothing else. Raises ``BadInput('order.unknown')``."""
    if order in STEP_ORDERS:
        return _unfit_step(run, order, step)
    if order not in RUN_ORDERS or step:
        raise BadInput("order.unknown", f"there is no order {order[:40]!r}", advice="use the run's own buttons")
    if order in ("retry", "dismiss"):
        if run.closed is None or run.closed.outcome != FAILED:
            return "the run has not failed"
        return "the failure was laid to rest already" if run.dismissed else ""
    if order == "undo":
        return "" if run.undoable else "the run is open, or nothing of it is left to take back"
    if run.closed is not None:
        return "the run has ended"
    if order == "pause":
        return "the run is paused already" if run.paused else ""
    if order == "resume":
        return "" if run.paused else "the run is not paused"
    return "the run is being cancelled already" if run.cancelled else ""


def _unfit_step(run: Run, order: str, step: str) -> str:
    found = run.steps.get(step)
    if run.closed is not None:
        return "the run has ended"
    if order in _SETTLING:
        return "" if found is not None and found.status == "doubted" else "nothing is in doubt there any more"
    return "" if found is not None and found.status == "left" else "nothing is left to do there by hand"


def _orders(device: str, run: str) -> Select[Any]:
    """A run's orders, with how far its device has taken what it was sent."""
    return (
        select(ORDERS, DEVICES.c.acknowledged)
        .join(DEVICES, DEVICES.c.id == ORDERS.c.device)
        .where(ORDERS.c.device == device, ORDERS.c.run == run)
        .order_by(ORDERS.c.n)
    )


def _view(row: Row[Any]) -> OrderView:
    taken = "passed" if row.outbox <= row.acknowledged else "coming"
    state = "obeyed" if row.applied_seq >= 0 else taken
    return OrderView(row.id, row.kind, row.step, row.by, row.at, state)


def _check_device(conn: Connection, device: str) -> None:
    if conn.execute(select(DEVICES.c.state).where(DEVICES.c.id == device)).scalar() != "active":
        raise Refused("device.revoked", "the device was revoked and takes no orders", advice="settle it by hand")


def _check_once(earlier: OrderView, message: Order) -> None:
    """The same order twice could be obeyed twice; and a doubt is settled one way."""
    if earlier.state != "coming" or earlier.step != message.step:
        return
    both = earlier.order in _SETTLING and message.order in _SETTLING
    if earlier.order == message.order or both:
        raise Conflict(
            "order.given",
            f"{earlier.by} has given an order about this, and the device has not taken it yet",
            advice="wait until the device is online",
        )


def _row(message: Order, seq: int, outbox: int) -> dict[str, Any]:
    return {
        "id": message.id,
        "device": message.device,
        "run": message.run,
        "step": message.step,
        "kind": message.order,
        "by": message.by,
        "at": message.at,
        "given_seq": seq,
        "outbox": outbox,
    }


def _tidy(reason: str) -> str:
    reason = " ".join(reason.split())
    if len(reason) > limits.REASON_CHARS:
        raise BadInput(
            "order.reason", f"the reason has {len(reason)} characters", advice=f"use at most {limits.REASON_CHARS}"
        )
    return reason
