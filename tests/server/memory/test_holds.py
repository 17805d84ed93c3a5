"""Legal holds reach every device that has what they cover, also one that comes later."""

from __future__ import annotations

from sqlalchemy import select

from server.store.tables import OUTBOX
from shared.codec import parse
from shared.keys import Envelope
from shared.memory.feed import Hold, open_hold
from tests.server.memory.conftest import Room, Writer


def told(room: Room, writer: Writer) -> list[Hold]:
    """The holds of which a device was told."""
    with room.store.read() as conn:
        mine = select(OUTBOX.c.envelope).where(OUTBOX.c.device == writer.id).order_by(OUTBOX.c.n)
        found = [parse(text, Envelope, code="envelope.form", what="it") for text in conn.execute(mine).scalars()]
    return [open_hold(one, room.hublog.key.public) for one in found if one.purpose == "hold"]


def test_a_device_that_becomes_somebodys_hears_of_the_holds_of_their_teams_too(room: Room) -> None:
    first, later = room.join("first", "ada"), room.join("later")
    room.memory.grant("team/red", "user:ada", "writer", "clara")
    name = first.note("Evidence.", "team/red")
    room.store_all(first, name, scope="team/red")
    ids = [room.memory.holds.hold(*what, "clara", "legal") for what in (("team/red", name), ("person/ada", ""))]
    assert [hold.id for hold in told(room, first)] == ids and told(room, later) == []
    room.memory.own(later.id, "ada", "clara")
    known = {hold.id: (hold.scope, hold.item, hold.held) for hold in told(room, later)}
    assert known == {ids[0]: ("team/red", name, True), ids[1]: ("person", "", True)}
    room.memory.holds.lift(ids[0], "clara")
    assert told(room, later)[-1].id == ids[0] and not told(room, later)[-1].held
