"""The bodies of a run: what its entries said in words, here and in what people answered and ordered about it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select, update

from server.store.tables import ANSWERS, APPROVALS, BODIES, ENTRIES, HUB_BODIES, ORDERS, OUTBOX, RUNS
from shared.errors import BadInput, Conflict

_CLOSED = "closed"


def settled(conn: Connection, run: str, devices: Sequence[str]) -> None:
    """Raise ``BadInput('memory.unknown-run')`` where no such run is on these devices, and
    ``Conflict('memory.run-open')`` while one is not closed: what it still has to do is in its bodies."""
    found = conn.execute(select(RUNS.c.status).where(RUNS.c.id == run, RUNS.c.device.in_(devices))).scalars().all()
    if not found:
        raise BadInput("memory.unknown-run", f"there is no run {run[:40]!r} here", advice="see the list of runs")
    if any(status != _CLOSED for status in found):
        raise Conflict("memory.run-open", "the run is not closed", advice="end or cancel it first")


def delete_bodies(conn: Connection, run: str, devices: Sequence[str]) -> None:
    """Delete the bodies of a run's entries, and those of the answers and orders about it. The entries stay."""
    for device in devices:
        mine = select(ENTRIES.c.seq).where(ENTRIES.c.device == device, ENTRIES.c.run == run)
        conn.execute(delete(BODIES).where(BODIES.c.device == device, BODIES.c.seq.in_(mine)))
        asked = select(APPROVALS.c.id).where(APPROVALS.c.device == device, APPROVALS.c.run == run)
        about = (
            select(APPROVALS.c.decided_seq).where(APPROVALS.c.device == device, APPROVALS.c.run == run),
            select(ANSWERS.c.decided_seq).where(ANSWERS.c.approval.in_(asked)),
            select(ORDERS.c.given_seq).where(ORDERS.c.device == device, ORDERS.c.run == run),
        )
        for seqs in about:
            conn.execute(delete(HUB_BODIES).where(HUB_BODIES.c.seq.in_(seqs)))
        sent = (OUTBOX.c.device == device, OUTBOX.c.envelope.contains(run, autoescape=True))
        conn.execute(update(OUTBOX).where(*sent).values(device="", envelope=""))  # its number is not given again
