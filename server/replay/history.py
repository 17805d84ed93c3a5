"""The verdicts that devices gave, read back in bulk.

Their bytes were judged when they came in: that they are canonical is not asked a second time, which would cost most of
what reading them costs. A field that a newer version knows is refused all the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from sqlalchemy import select, text

from server.store import Store
from server.store.tables import ENTRIES, VERDICTS
from shared.codec import parse
from shared.entries import VerdictGiven
from shared.replay import Past

_AT_ONCE = 2_000


class _Entry(msgspec.Struct, gc=False):
    facts: VerdictGiven


_DECODER = msgspec.json.Decoder(_Entry)


def read_verdict(data: bytes) -> VerdictGiven:
    """The facts of an entry of this type. Raises ``BadInput('entry.form')``."""
    try:
        return _DECODER.decode(data).facts
    except msgspec.MsgspecError:
        return parse(data, _Entry, code="entry.form", what="the entry").facts  # which says what is wrong


def verdicts(store: Store, since: int, most: int) -> Iterator[Past]:
    """Verdicts of all devices since then (microseconds), the newest first, at most so many. A bounded number is in
    memory at once, and no read lasts long: writers need not wait."""
    before = (2**62, "", 0)
    # The condition in the very words of the index: only so does the database see that it fits.
    wanted = select(ENTRIES.c.device, ENTRIES.c.seq, ENTRIES.c.at, ENTRIES.c.run, ENTRIES.c.data).where(
        text(VERDICTS), ENTRIES.c.at >= since
    )
    order = (ENTRIES.c.at.desc(), ENTRIES.c.device.desc(), ENTRIES.c.seq.desc())
    while most > 0:
        at, device, seq = before
        later = (ENTRIES.c.at < at) | (
            (ENTRIES.c.at == at)
            & ((ENTRIES.c.device < device) | ((ENTRIES.c.device == device) & (ENTRIES.c.seq < seq)))
        )
        with store.read() as conn:
            query = wanted.where(ENTRIES.c.at <= at, later).order_by(*order).limit(min(_AT_ONCE, most))
            rows = conn.execute(query).all()
        for row in rows:
            yield Past(row.device, row.seq, row.at, row.run, read_verdict(row.data))
        if len(rows) < _AT_ONCE:
            return
        most -= len(rows)
        before = (rows[-1].at, rows[-1].device, rows[-1].seq)
