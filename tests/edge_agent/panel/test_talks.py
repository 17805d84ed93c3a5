"""Conversations: seen and forgotten."""

from __future__ import annotations

from shared.memory.feed import Hold
from tests.edge_agent.panel.kit import NOW, Office


def _talk(office: Office, id: str) -> None:
    office.sessions.open(id, scope="person", at=NOW)
    for n in range(3):
        office.sessions.add(id, "user", f"The word is zebra{n}.", at=NOW)


def test_what_was_said_is_seen_and_forgotten(office: Office) -> None:
    browsing = office.browse()
    assert "No conversations are kept" in browsing.get("/memory/sessions")
    name = "chat/2026-11 #1"
    _talk(office, name)
    assert name in browsing.get("/memory/sessions")
    there = "/memory/session?id=chat%2F2026-11%20%231"
    page = browsing.get(there)
    assert "3 turns" in page and "The word is zebra2." in page and "Nothing is folded yet." in page
    assert "memory.forget" in browsing.post("/memory/session", 400, id=name)
    done = browsing.post("/memory/session", id=name, sure="yes")
    assert "is gone from this computer" in done and "No conversations are kept" in done
    assert not any(b"zebra" in path.read_bytes() for path in office.home.glob("sessions.sqlite3*"))
    assert "session.unknown" in browsing.get(there, 404)


def test_what_a_legal_hold_covers_stays(office: Office) -> None:
    _talk(office, "chat")
    office.memory.put_hold(Hold("hold_1", "person", "", True, NOW, "mara", "litigation"))
    assert "session.held" in office.browse().post("/memory/session", 403, id="chat", sure="yes")
    assert len(office.sessions.turns("chat")) == 3
