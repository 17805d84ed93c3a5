"""``outrider memory`` as a person uses it, in a folder of its own."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_agent.memory import Memory
from edge_agent.memory_commands import memory
from edge_agent.memory_commands.common import now_us
from edge_agent.sessions import Artefact, Sessions
from shared.errors import BadInput, OutriderError, Refused, Unavailable
from shared.memory import Item
from shared.memory.feed import Hold, subject_digest

DAY = 24 * 3600 * 1_000_000


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OUTRIDER_HOME", str(tmp_path))
    return tmp_path


def said(*words: str, typed: str = "") -> str:
    done = CliRunner().invoke(memory, list(words), input=typed)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def told(*words: str) -> Any:
    return json.loads(said(*words, "--json"))


def refused(kind: type[OutriderError], code: str, *words: str) -> None:
    with pytest.raises(kind) as error:
        said(*words)
    assert error.value.code == code


def test_an_empty_memory_says_what_to_do(home: Path) -> None:
    assert "outrider memory add" in said("list")
    assert said("status") == "memory is empty\n"


def test_what_is_added_is_found_shown_and_changed(home: Path) -> None:
    id = told("add", "The depot opens at seven.", "--tag", "depot", "--field", "town=Elm", "--about", "Ann", "--pin")[
        "id"
    ]
    (found,) = told("list", "--search", "depots")
    assert (found["id"], found["why"]["words"], found["pinned"]) == (id, ["depots"], True)
    assert told("edit", id, "--text", "The depot opens at eight.", "--no-tag", "depot", "--unpin")["version"]
    assert said("edit", id, "--unpin") == "nothing changed\n"
    shown = told("show", id)
    assert (shown["item"]["text"], shown["item"]["tags"], shown["versions"]) == ("The depot opens at eight.", [], 2)
    text = said("show", id)
    assert "town: Elm" in text and "about: Ann" in text and "2 versions" in text
    first = told("history", id)[0]
    assert first["item"]["text"] == "The depot opens at seven."
    said("restore", id, first["hash"][:12])
    assert told("show", id)["item"]["text"] == "The depot opens at seven."
    assert said("restore", id, first["hash"]) == "it says that already\n"


def test_what_changed_when_is_a_filter_and_why_is_said(home: Path) -> None:
    with closing(Memory(home / "memory.sqlite3")) as store:
        old = store.write(Item("note", "The depot opens at six.", "me"), at=now_us() - 100 * DAY, by="ann")
    new = said("add", "The depot opens at seven.", "--tag", "depot").strip()
    assert [row["id"] for row in told("list", "--since", "90d")] == [new]
    assert [row["id"] for row in told("list", "--before", "12h", "--search", "depot")] == [old]
    assert len(told("list", "--since", "101d")) == 2 and said("list", "--since", "1h", "--before", "1h")
    assert "found by depot, the tag depot" in said("list", "--search", "depot")
    refused(BadInput, "memory.span", "list", "--since", "yesterday")


def test_text_comes_from_the_input(home: Path) -> None:
    id = said("add", "-", typed="Two\nlines\n").strip()
    assert told("show", id)["item"]["text"] == "Two\nlines"


def test_filters(home: Path) -> None:
    said("add", "one", "--scope", "device", "--kind", "fact", "--tag", "a")
    said("add", "two", "--scope", "team/shop", "--tag", "a", "--tag", "b")
    assert [row["text"] for row in told("list", "--scope", "device")] == ["one"]
    assert [row["text"] for row in told("list", "--kind", "note")] == ["two"]
    assert [row["text"] for row in told("list", "--tag", "a", "--tag", "b")] == ["two"]
    assert len(told("list", "--tag", "a", "--limit", "1")) == 1
    assert said("list", "--search", "nowhere") == "nothing found\n"


def test_mistakes_have_a_code(home: Path) -> None:
    id = said("add", "x").strip()
    refused(BadInput, "memory.unknown", "show", "mem_0")
    refused(BadInput, "memory.field", "edit", id, "--field", "town")
    refused(BadInput, "memory.span", "add", "y", "--for", "soon")
    refused(BadInput, "memory.item", "add", "y", "--kind", "rumour")
    refused(BadInput, "memory.version", "restore", id, "zz")
    refused(BadInput, "memory.forget", "forget", "--yes")
    refused(BadInput, "memory.forget", "forget", id, "--scope", "device", "--yes")
    refused(BadInput, "memory.scope", "forget", "--scope", "team/none", "--yes")
    refused(BadInput, "memory.subject", "forget", "--about", " ", "--yes")
    refused(BadInput, "memory.export", "export", "items.csv")
    refused(BadInput, "memory.import", "import", "nowhere.jsonl")
    refused(Unavailable, "log.missing", "preview", id)


def test_forgetting_asks_first(home: Path) -> None:
    id = said("add", "Rosebud", "--scope", "device").strip()
    done = CliRunner().invoke(memory, ["forget", id], input="n\n")
    assert done.exit_code == 1 and told("show", id)
    assert "1 item is gone" in said("forget", id, typed="y\n")
    refused(BadInput, "memory.unknown", "show", id)
    assert not any(b"Rosebud" in path.read_bytes() for path in home.rglob("*") if path.is_file())


def test_what_is_shared_is_asked_of_the_hub_and_goes_here_at_once(home: Path) -> None:
    id = said("add", "Rosebud", "--scope", "team/shop").strip()
    asked = told("forget", id, "--reason", "request", "--yes")
    assert asked["erased"] == 1
    (wish,) = told("status")["asked_to_forget"]
    assert (wish["id"], wish["kind"], wish["scope"], wish["item"], wish["reason"]) == (
        *asked["tombstones"], "item", "team/shop", id, "request",
    )  # fmt: skip


def test_a_person_is_forgotten_without_their_name(home: Path) -> None:
    for scope in ("device", "person"):
        said("add", f"likes tea, {scope}", "--about", "Ann  Smith", "--scope", scope)
    kept = said("add", "likes tea", "--about", "Bob").strip()
    assert told("forget", "--about", "ann smith", "--yes")["erased"] == 2
    assert [row["id"] for row in told("list")] == [kept]
    (wish,) = told("status")["asked_to_forget"]
    assert wish["subject"] == subject_digest("Ann Smith", wish["salt"])
    assert not any(b"nn smith" in path.read_bytes().lower() for path in home.rglob("*") if path.is_file())


def test_a_scope_and_a_run(home: Path) -> None:
    said("add", "one", "--scope", "device")
    said("add", "two", "--scope", "person")
    assert told("forget", "--scope", "device", "--yes") == {"erased": 1, "tombstones": []}
    assert told("forget", "--scope", "person", "--yes")["erased"] == 1
    run = f"run_{'0' * 24}"
    told("forget", "--run", run, "--yes")
    assert [(wish["kind"], wish["run"]) for wish in told("status")["asked_to_forget"]] == [("scope", ""), ("run", run)]


def test_a_reader_may_not_make_others_forget(home: Path) -> None:
    store = Memory(home / "memory.sqlite3")
    store.set_feeds({"team/shop": "writer"})
    id = said("add", "one", "--scope", "team/shop").strip()
    store.set_feeds({"team/shop": "reader"})
    store.close()
    refused(Refused, "memory.role", "forget", id, "--yes")
    refused(Refused, "memory.role", "forget", "--scope", "team/shop", "--yes")
    assert told("show", id)


@pytest.mark.parametrize("ending", ["jsonl", "md"])
def test_out_and_in_again(home: Path, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    id = said("add", "first", "--field", "town=Elm").strip()
    said("edit", id, "--text", "second")
    said("add", "other", "--scope", "device", "--for", "90d")
    file = tmp_path / f"items.{ending}"
    assert said("export", str(file)) == f"2 items written to {file}\n"
    assert file.stat().st_mode & 0o077 == 0
    refused(BadInput, "memory.export", "export", str(file))
    before = {row["id"]: told("show", row["id"])["item"] for row in told("list")}
    assert told("import", str(file)) == {"new": 0, "known": 2}
    monkeypatch.setenv("OUTRIDER_HOME", str(tmp_path / "other"))
    assert said("import", str(file)) == "2 items kept, 0 known already\n"
    assert {row["id"]: told("show", row["id"])["item"] for row in told("list")} == before
    assert told("show", id)["versions"] == (2 if ending == "jsonl" else 1)


def test_a_bad_file_is_taken_not_at_all(home: Path, tmp_path: Path) -> None:
    said("add", "one")
    file = tmp_path / "items.jsonl"
    said("export", str(file))
    line = file.read_text()
    other = line.replace(json.loads(line)["id"], f"mem_{'0' * 24}")
    file.write_text(other + line[:40] + "\n")
    refused(BadInput, "memory.import", "import", str(file))
    assert len(told("list")) == 1


# --- sessions -----------------------------------------------------------------------------------------------------


def say(home: Path, session: str, text: str, *, scope: str = "device", subject: str = "", item: str = "") -> None:
    with closing(Sessions(home / "sessions.sqlite3", count=len)) as sessions:
        sessions.open(session, scope=scope, at=1)
        quoted = [Artefact("item", item, "")] if item else []
        sessions.add(session, "user", text, at=1, subject=subject, artefacts=quoted)


def test_sessions_are_listed_shown_and_forgotten(home: Path) -> None:
    assert said("session", "list") == "there are no sessions\n"
    say(home, "chat", "When does the depot open?")
    say(home, "other", "Quagga was here.")
    assert [(row["id"], row["turns"]) for row in told("session", "list")] == [("chat", 1), ("other", 1)]
    assert "When does the depot open?" in said("session", "show", "chat")
    assert told("session", "show", "chat")["turns"][0]["role"] == "user"
    assert said("session", "forget", "other", "--yes") == "1 session is gone from this computer\n"
    assert b"Quagga" not in b"".join(path.read_bytes() for path in home.iterdir() if path.is_file())
    refused(BadInput, "session.unknown", "session", "show", "other")
    refused(BadInput, "session.unknown", "session", "forget", "other", "--yes")


def test_a_session_on_legal_hold_stays(home: Path) -> None:
    told("add", "The shop opens at nine.", "--scope", "team/shop")
    say(home, "chat", "We decided.", scope="team/shop")
    with closing(Memory(home / "memory.sqlite3")) as memory:
        memory.put_hold(Hold("hld_" + "a" * 24, "team/shop", "", True, 1, "clara", "court"))
    refused(Refused, "session.held", "session", "forget", "chat", "--yes")
    said("forget", "--scope", "team/shop", "--yes")
    assert len(told("session", "list")) == 1, "the hub decides"


def test_what_is_forgotten_is_forgotten_in_sessions_too(home: Path) -> None:
    id = told("add", "The code is Quagga.", "--scope", "device")["id"]
    ann = told("add", "Lives in Quagga Lane.", "--scope", "device", "--about", "Ann")["id"]
    say(home, "chat", "Quagga, says the note.", item=id)
    say(home, "chat", "Quagga Lane, says the note.", item=ann)
    say(home, "chat", "Quagga is what she said.", subject="ANN ")
    say(home, "chat", "The weather is fine.")
    said("forget", id, "--yes")
    said("forget", "--about", "Ann", "--yes")
    assert [turn["erased"] for turn in told("session", "show", "chat")["turns"]] == [True, True, True, False]
    assert b"Quagga" not in b"".join(path.read_bytes() for path in home.iterdir() if path.is_file())
    said("forget", "--scope", "device", "--yes")
    assert told("session", "list") == []
