"""An office that has been at work for a while: runs of all kinds, and a memory with something of everything."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.memory.feeds import Wish
from shared.memory import Edit
from shared.memory.document import Document
from shared.memory.feed import Change, Tombstone, change
from shared.memory.item import Item
from shared.memory.vector import Embedding
from tests.edge_agent.panel.kit import DAY, MODEL, NOW, Office

QUESTION = "when may I fetch things"


@dataclass
class Furnished:
    """What stands where."""

    waiting: str
    closed: str
    disputed: str
    twice: str
    held: str

    def paths(self) -> list[str]:
        """Every page there is, in some of its states."""
        return [
            "/", "/runs", f"/runs/{self.waiting}", f"/runs/{self.closed}", "/approvals",
            "/memory", "/memory?q=depot", "/memory?q=when+may+I+fetch+things", "/memory?q=nowhere", "/memory/new",
            f"/memory/items/{self.disputed}", f"/memory/items/{self.held}", f"/memory/items/{self.disputed}/leaving",
            f"/memory/forget?item={self.disputed}", "/memory/forget?about=Ann+Smith", "/memory/forget?scope=person",
            f"/memory/forget?run={self.closed}", "/memory/forgotten", "/memory/tidy", "/memory/sessions",
            "/memory/session?id=helper-7", "/memory/files", "/nowhere",
        ]  # fmt: skip


def furnished(office: Office) -> Furnished:
    office.equip()
    closed = office.open_run("PA-2026-0141", "New roof on the garage")
    waiting = office.open_run("PA-2026-0142", "A deck behind the house")
    office.told["linked"] = False
    said, advice = "http://hub.example cannot be reached", "check the network; the agent keeps trying"
    office.told["problems"] = [{"code": "hub.unreachable", "message": said, "advice": advice, "at": NOW - DAY // 24}]
    disputed = _disputed(office)
    office.remember("Prices end with a full stop.", kind="brand-rule", pinned=True, scope="team/shop", tags=["pricing"])
    office.remember("Ann Smith prefers mail to phone calls.", kind="preference", subject="Ann Smith")
    keep = office.remember("The inspector is on leave every first Monday of the month.", kind="fact")
    office.remember("The inspector is on leave on every first Monday of the month.", kind="fact", tags=["leave"])
    office.memory.write(
        Item(kind="contact", text="Elm Street depot: 555-0142", source="file contacts.csv"), at=NOW - 90 * DAY, by="ann"
    )
    held = office.remember("Notes on the Falcon case.", sensitivity="secret", expires_at=NOW + 9 * DAY)
    office.hold(held)
    wish = Wish("tomb_" + "1" * 24, "subject", "person", subject="a" * 64, salt="b" * 64, at=NOW - DAY)
    office.memory.wish(wish)
    stone = Tombstone(
        "tomb_" + "2" * 24, "item", "person", "mem_" + "2" * 24, "", "", "", NOW - 2 * DAY, "user:ann", "wrong"
    )
    office.memory.take("person", [], [stone], 3, now=NOW)
    office.memory.obey(stone)
    office.memory.settle([stone.id])
    office.sessions.open("helper-7", scope="person", at=NOW - DAY)
    for n in range(12):
        who = "assistant" if n % 2 else "user"
        office.sessions.add(
            "helper-7", who, f"Turn {n}: the depot opens at eight, says the handbook.", at=NOW - DAY + n
        )
    office.sessions.tell("helper-7", '{"tokens": 80, "budget": 900, "blocks": [1, 2], "left_out": [1]}')
    return Furnished(waiting, closed, disputed, keep, held)


def _disputed(office: Office) -> str:
    """An item with a history that two people changed apart from each other."""
    id = office.remember(
        "The depot opens at seven. Bring the permit and a photo.", tags=["depot", "hours"], fields={"town": "Elm"},
        subject="Ann Smith", confidence=955,
    )  # fmt: skip
    chunks = [bytes(chunk) for chunk in office.memory.document(id).changes()]
    apart = Document.load(chunks, b"other-device-001")
    theirs = apart.edit(Edit(fields={"town": "Oak"}), at=NOW - DAY, by="omar")
    office.memory.edit(id, Edit(fields={"town": "Ash"}), at=NOW - DAY, by="ann")
    office.memory.edit(
        id, Edit(text="The depot opens at eight. Bring the permit and two photos."), at=NOW - DAY // 2, by="ann"
    )
    assert theirs is not None
    came: list[Change] = [change(id, theirs)]
    taken = office.memory.take("person", came, [], 2, now=NOW)
    assert taken.items == [id], taken.refused
    office.memory.put_vectors(MODEL, [(id, Embedding(bytes([127, 0, 0, 0]), 7_874_016))])
    office.vectors[QUESTION] = Embedding(bytes([120, 30, 0, 0]), 7_874_016)
    return id
