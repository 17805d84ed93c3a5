"""A device that was nobody's becomes somebody's: what was forgotten stays forgotten, and nothing more goes with it."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from server.store.memory_tables import MEMORY_RECEIPTS
from shared.errors import Conflict
from tests.server.memory.conftest import Room


def texts(room: Room) -> list[str]:
    return sorted(view.text for view in room.memory.items.list())


def test_what_was_forgotten_about_somebody_goes_with_what_joins(room: Room) -> None:
    first, later = room.join("first", "ada"), room.join("later")
    about, other = later.note("Zoe likes zqtea", subject="Zoe"), later.note("kept")
    room.store_all(later, about, other)
    hers = first.note("Max likes zqtea", subject="Max")
    room.store_all(first, hers)
    room.clock.now += 1_000_000
    room.memory.erasure.subject("Zoe", "ada", "asked", "person/ada")
    room.memory.erasure.subject("Max", "later", "asked", f"person/device:{later.id}")
    room.memory.finish()
    room.memory.own(later.id, "ada", "clara")
    assert texts(room) == ["kept"]
    assert {one.code for one in room.push(later, about).refused} == {"memory.erased"}
    room.memory.finish()
    assert not any(b"zqtea" in path.read_bytes() for path in room.store.home.rglob("*") if path.is_file())
    records = [record.item for answer in room.pull(first) for record in answer.records if not record.tombstone]
    assert records == [other]


def test_that_a_device_forgot_all_it_had_is_its_own_affair(room: Room) -> None:
    first, later = room.join("first", "ada"), room.join("later")
    hers = first.note("hers")
    room.store_all(first, hers)
    room.store_all(later, later.note("gone"))
    room.clock.now += 1_000_000
    stone = room.memory.erasure.scope(f"person/device:{later.id}", "later")
    with pytest.raises(Conflict, match="memory.owner"):
        room.memory.own(later.id, "ada", "clara")
    with room.store.write() as conn:
        conn.execute(insert(MEMORY_RECEIPTS), [{"tombstone": stone, "device": later.id, "at": 1, "seq": 1}])
    room.memory.own(later.id, "ada", "clara")
    assert texts(room) == ["hers"]
    assert not any(record.tombstone for answer in room.pull(first) for record in answer.records)
    late = first.note("older than that", at=1)
    room.store_all(first, late)
