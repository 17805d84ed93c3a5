"""Real processes forget: a hub and two agents, erasures of every kind, machines killed in the middle of them. What was
erased is then looked for in the raw bytes of every file that any of them has.

Not looked at: ``taken`` (the person's own files, which were only moved), and ``register.sqlite3``, which stands for
another system that a tool wrote to.
"""

from __future__ import annotations

import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edge_agent.api.client import Client
from edge_agent.config import Home, now_us
from edge_agent.memory import Memory
from edge_agent.sessions import Artefact, Sessions
from edge_agent.status import runs
from server.admin import Operator
from server.config import HubConfig
from shared.errors import OutriderError
from shared.memory import Item
from tests.system.conftest import PATIENCE_S, City

if TYPE_CHECKING:
    from tests.system.conftest import Desk

pytestmark = [pytest.mark.system, pytest.mark.timeout(420)]

TEAM, MARA = "team/permits", "person/mara"
_NOT_OURS = ("taken", "register.sqlite3", "register.sqlite3-wal")


class Office:
    """A hub, two desks of one person, and what they remember. Words are of this process's making, to be looked for."""

    def __init__(self, folder: Path) -> None:
        self.city = City(folder, wires=2)
        self.hub = Operator(HubConfig(home=self.city.home))
        self.desks = [self.city.desk(name) for name in ("front", "back")]
        for desk in self.desks:
            self.hub.memory("own", device=desk.status()["device"], person="mara")
        self.hub.memory("grant", scope=TEAM, member="user:mara", role="steward")

    def close(self) -> None:
        self.city.close()

    def write(self, desk: Desk, scope: str, *, subject: str = "") -> tuple[str, str]:
        """An item with a word that stands nowhere else; its id and the word."""
        word = f"zq{secrets.token_hex(8)}"
        text = f"{word} was seen at the corner. " + "It is a long story, told at length. " * 20 + f"So much for {word}."
        item = Item(
            "note", text, source=f"page {word}", scope=scope, subject=subject, fields={"who": word}, tags=[word]
        )
        with closing(Memory(desk.home / "memory.sqlite3")) as memory:
            return memory.write(item, at=now_us(), by="mara"), word

    def say(self, desk: Desk, text: str, *, scope: str = "person", subject: str = "", item: str = "") -> None:
        """A turn of a session, as a program at that computer would leave it."""
        with closing(Sessions(desk.home / "sessions.sqlite3", count=len)) as sessions:
            sessions.open(scope, scope=scope, at=now_us())
            quoted = [Artefact("item", item, "")] if item else []
            sessions.add(scope, "user", text, at=now_us(), subject=subject, artefacts=quoted)

    def holders(self, item: str) -> int:
        return sum(item in _ids(desk.home / "memory.sqlite3") for desk in self.desks)

    def until(self, ready: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < deadline, what + "\n" + "\n".join(desk.process.tail(20) for desk in self.desks)
            time.sleep(0.1)

    def confirmed(self, tombstone: str) -> bool:
        """Whether every device has said in its log that it has erased."""
        (view,) = [one for one in self.hub.memory("erasures")["erasures"] if one["id"] == tombstone]
        return bool(view["parties"]) and all(party["at"] for party in view["parties"])

    def erased(self, tombstone: str) -> None:
        self.until(lambda: self.confirmed(tombstone), f"no receipts for {tombstone}")

    def found(self, word: str) -> list[str]:
        """Files that have the word, in any of the usual spellings."""
        needles = [word.encode(), word.encode("utf-16-le"), word.encode().hex().encode()]
        return [
            str(path.relative_to(self.city.folder))
            for path in sorted(self.city.folder.rglob("*"))
            if path.is_file()
            and not set(path.relative_to(self.city.folder).parts) & set(_NOT_OURS)
            and any(needle in path.read_bytes() for needle in needles)
        ]

    def verify(self) -> None:
        for desk in self.desks:
            assert desk.verify()["error"] is None


def _ids(path: Path) -> set[str]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        return {row[0] for row in db.execute("SELECT id FROM item")}


def _answer(desk: Desk, word: str) -> None:
    """A program asks the running agent for a context, and keeps an answer that was made of it."""
    agent = Client(desk.home)
    agent.say("live", "user", "What does the note say?", scope="person")
    assert word in agent.context("live", 4_000, word)["text"]
    agent.say("live", "assistant", f"It says {word}.", scope="person")


def _linked(status: dict[str, Any]) -> bool:
    return bool(status["linked"] and status["cosigned"] and status["lease"] and status["idle"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("office"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def office(whole: Office) -> Iterator[Office]:
    """Both desks at rest, as they were left."""
    yield whole
    for desk in whole.desks:
        desk.process.stop()


def test_an_item_a_subject_a_scope_and_a_run_leave_every_file_of_everybody(office: Office) -> None:
    front, back = office.desks
    person = f"Ada {secrets.token_hex(4)}"
    item, item_word = office.write(front, "person")
    _, about = office.write(front, "person", subject=person)
    _, about_here = office.write(back, "device", subject=person)
    team, team_word = office.write(back, TEAM)
    kept, kept_word = office.write(back, "person")
    office.say(front, f"{item_word} is what the note says.", item=item)
    office.say(back, f"{about} is what {person} said.", subject=person)
    office.say(back, f"{team_word} is for the team.", scope=TEAM)
    front.start()
    back.start()
    office.until(lambda: all(office.holders(name) == 2 for name in (item, team, kept)), "not everybody has everything")
    _answer(front, item_word)
    assert any("sessions.sqlite3" in name for name in office.found(item_word))
    case = f"zq{secrets.token_hex(6)}"
    front.drop("case.csv", [f"T-1,Tear off shingles at {case} and reroof the garage,4000"])
    front.until(lambda s: s["runs"]["closed"] == 1 and _linked(s))
    assert len(office.found(item_word)) >= 3 and office.found(case)

    done = [
        office.hub.memory("erase", item=item, scope=MARA),
        office.hub.memory("erase", subject=person.upper()),
        office.hub.memory("erase", scope=TEAM),
        office.hub.memory("erase", run=runs(Home(front.home))[0]["run"]),
    ]
    for answer in done:
        office.erased(answer["tombstone"])
    assert {word: office.found(word) for word in (item_word, about, about_here, team_word, case)} == {
        word: [] for word in (item_word, about, about_here, team_word, case)
    }
    assert len(office.found(kept_word)) >= 3, "what nobody asked to forget is there"
    office.verify()


_READER = """
import sqlite3, sys
reader = sqlite3.connect(sys.argv[1], isolation_level=None)
reader.execute("BEGIN")
print(len(reader.execute(f"SELECT 1 FROM {sys.argv[2]}").fetchmany(1)), flush=True)
sys.stdin.read()
"""


@contextmanager
def reading(path: Path, table: str) -> Iterator[None]:
    """A program that goes on reading the old pages. Not this one: whoever opens and closes a file itself, as looking
    through it does, drops the locks that SQLite holds on it for the same process."""
    command = [sys.executable, "-c", _READER, str(path), table]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "1\n", "it reads the old pages"
        yield


@pytest.mark.parametrize(("name", "table"), [("memory.sqlite3", "item"), ("sessions.sqlite3", "turn")])
def test_a_device_killed_in_the_middle_of_an_erasure_finishes_it_when_it_starts(
    office: Office, name: str, table: str
) -> None:
    front, back = office.desks
    item, word = office.write(front, "person")
    office.say(back, f"The note says {word}.", item=item)
    front.start()
    back.start()
    office.until(lambda: office.holders(item) == 2, "not everybody has it")
    path = back.home / "memory.sqlite3"
    with reading(back.home / name, table):
        tombstone = office.hub.memory("erase", item=item, scope=MARA)["tombstone"]
        office.until(lambda: item not in _ids(path), "the tombstone did not come")
        assert any(name in place for place in office.found(word))
        assert not office.confirmed(tombstone), "there is no receipt before the bytes are gone"
        back.process.kill()
    back.start()
    office.erased(tombstone)
    assert office.found(word) == []
    office.verify()


def test_a_hub_killed_in_the_middle_of_an_erasure_finishes_it_when_it_starts(office: Office) -> None:
    front, back = office.desks
    item, word = office.write(front, "person")
    front.start()
    office.until(lambda: item in _records(office.city.home), "the hub has not got it")
    with reading(office.city.home / "hub.db", "memory_records"):
        with pytest.raises(OutriderError):  # it says so when it cannot finish, or is killed before it can
            office.hub.memory("erase", item=item, scope=MARA)
        assert item not in _records(office.city.home), "the tombstone is there"
        assert any(name.startswith("hub/") for name in office.found(word)), "the bytes are still there"
        office.city.process.kill()
    office.city.start()
    back.start()
    (tombstone,) = [one["id"] for one in office.hub.memory("erasures")["erasures"] if one["item"] == item]
    office.erased(tombstone)
    office.until(lambda: not office.found(word), f"still in {office.found(word)}")
    office.verify()


def _records(home: Path) -> set[str]:
    with closing(sqlite3.connect(f"{(home / 'hub.db').as_uri()}?mode=ro", uri=True)) as db:
        return {row[0] for row in db.execute("SELECT item FROM memory_records WHERE data <> x''")}


def test_late_changes_of_what_was_forgotten_are_refused(office: Office) -> None:
    """A device that was away wrote on: its words about the item go too, and never come back to the others."""
    front, back = office.desks
    item, word = office.write(front, "person")
    front.start()
    back.start()
    office.until(lambda: office.holders(item) == 2, "not everybody has it")
    back.process.stop()
    from shared.memory.item import Edit

    late = f"zq{secrets.token_hex(8)}"
    with closing(Memory(back.home / "memory.sqlite3")) as memory:
        memory.edit(item, Edit(fields={"late": late}), at=now_us(), by="mara")
    tombstone = office.hub.memory("erase", item=item, scope=MARA)["tombstone"]
    office.until(lambda: office.holders(item) == 1, "the desk that is there forgets at once")
    assert not office.confirmed(tombstone)
    back.start()
    office.erased(tombstone)
    assert office.found(word) == office.found(late) == []
    office.verify()
