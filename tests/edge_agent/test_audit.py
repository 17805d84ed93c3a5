"""A log file on disk, verified as a stranger would: every damage is an answer with an entry's number, never a crash."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from edge_agent.audit import verify_device, verify_file
from edge_agent.config import Home
from edge_agent.identity import Identity, make_key, save_identity
from edge_agent.journal import Journal
from shared.entries import Draft, SourceRefused
from shared.errors import BadInput, OutriderError
from shared.keys import SigningKey

HUB = SigningKey(b"h" * 32)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.make()
    save_identity(made, Identity("dev_1", "desk", "city/dev_1", "city", HUB.public.text, "http://127.0.0.1:1"))
    journal = Journal(made.log, "city/dev_1", make_key(made.keys / "log.key"), now=lambda: 1, software="test")
    for commit in range(3):
        journal.append_blocking(
            [Draft(SourceRefused("00", f"{commit}.{n}"), bodies={"shared": {"n": n}}) for n in range(20)]
        )
    journal.close()
    return made


def change(home: Home, sql: str) -> None:
    with sqlite3.connect(home.log) as db:
        assert db.execute(sql).rowcount == 1
    db.close()


def test_a_sound_log(home: Home) -> None:
    for report in (verify_device(home), verify_file(home.log)):
        assert report["error"] is None and report["bad_entry"] == -1
        assert (report["entries"], report["checkpoints"], report["bodies"]) == (61, 4, 60)


@pytest.mark.parametrize(
    ("sql", "bad", "code"),
    [
        ("UPDATE entry SET data = CAST(replace(data, '1.7', '1.8') AS BLOB) WHERE seq = 28", 28, "log.root"),
        ("UPDATE entry SET data = CAST('{}' AS BLOB) WHERE seq = 28", 28, "entry.form"),
        ("UPDATE entry SET data = 'text' WHERE seq = 28", 28, "entry.form"),
        ("UPDATE entry SET data = 7 WHERE seq = 28", 28, "entry.form"),
        ("DELETE FROM entry WHERE seq = 28", 28, "log.gap"),
        ("DELETE FROM entry WHERE seq = 60", 41, "log.unsigned"),
        ("UPDATE entry SET shared = '{\"n\":8}' WHERE seq = 28", 28, "body.hash"),
        ("UPDATE entry SET shared_salt = 7 WHERE seq = 28", 28, "body.hash"),
        ("UPDATE entry SET shared_salt = NULL WHERE seq = 28", 28, "body.hash"),
        ("UPDATE entry SET private_salt = shared_salt, private = shared WHERE seq = 28", 28, "body.hash"),
        ("UPDATE entry SET shared = NULL WHERE seq = 28", -1, ""),
        ("UPDATE entry SET note = 'junk' WHERE seq = 40", 21, "note.form"),
        ("UPDATE entry SET note = zeroblob(9) WHERE seq = 40", 21, "note.form"),
        ("UPDATE entry SET note = 7 WHERE seq = 40", 21, "note.form"),
        ("UPDATE entry SET note = NULL WHERE seq = 60", 41, "log.unsigned"),
        ("INSERT INTO cosigned SELECT 41, note FROM entry WHERE seq = 40", 21, "note.uncosigned"),
        ("INSERT INTO cosigned SELECT 41, 'junk'", 21, "note.form"),
        ("INSERT INTO cosigned SELECT 30, note FROM entry WHERE seq = 40", 21, "log.root"),
        ("INSERT INTO cosigned SELECT 99, note FROM entry WHERE seq = 60", 61, "log.cut"),
        ("UPDATE entry SET tree = zeroblob(32) WHERE seq = 28", -1, ""),
        ("UPDATE entry SET tree = 7 WHERE seq = 28", -1, ""),
    ],
)
def test_damage_is_named(home: Home, sql: str, bad: int, code: str) -> None:
    change(home, sql)
    report = verify_device(home)
    assert report["bad_entry"] == bad
    if code:
        assert report["error"]["code"] == code and report["error"]["advice"]
    else:
        assert report["error"] is None


def test_another_devices_log_is_not_this_ones(home: Home) -> None:
    for path in home.root.glob("log.sqlite3*"):
        path.unlink()
    Journal(home.log, "city/dev_1", SigningKey(b"x" * 32), now=lambda: 1, software="test").close()
    report = verify_device(home)
    assert (report["bad_entry"], report["error"]["code"]) == (0, "log.key")


@pytest.mark.parametrize("data", [b"", b"hello" * 100, bytes(4096)])
def test_a_file_that_is_no_log(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "some.sqlite3"
    path.write_bytes(data)
    with pytest.raises(BadInput) as caught:
        verify_file(path)
    assert caught.value.code == "audit.file"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        verify_file(tmp_path / "none")


def test_a_page_damaged_anywhere_is_an_answer(home: Home) -> None:
    whole = home.log.read_bytes()
    for page in range(0, len(whole), 4096):
        home.log.write_bytes(whole[:page] + b"\xa5" * 4096 + whole[page + 4096 :])
        try:
            verify_file(home.log)
        except OutriderError as error:
            assert error.code == "audit.file"
