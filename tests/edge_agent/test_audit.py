"""A log file on disk, verified as a stranger would: every damage is an answer with an entry's number, never a crash.
And one entry of it, proved to somebody who does not get the log."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_agent.__main__ import audit
from edge_agent.audit import check_file, prove, verify_device, verify_file
from edge_agent.config import Home
from edge_agent.identity import Identity, load_key, make_key, save_identity
from edge_agent.journal import Journal
from shared.entries import Draft, SourceRefused
from shared.errors import BadInput, OutriderError
from shared.keys import SigningKey, cosign_note

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


def change_all(home: Home, sql: str) -> None:
    with sqlite3.connect(home.log) as db:
        assert db.execute(sql).rowcount > 0
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


@pytest.mark.parametrize("entries", [60, 20])
def test_entries_cut_off_are_told_by_the_checkpoint_beside_the_log(home: Home, entries: int) -> None:
    assert verify_device(home)["error"] is None
    change_all(home, f"DELETE FROM entry WHERE seq > {entries - 20}")
    report = verify_device(home)
    assert (report["bad_entry"], report["error"]["code"]) == (entries - 19, "log.cut")
    assert verify_file(home.log)["error"] is None, "the file alone cannot tell"
    home.log.with_name("log.sqlite3-head").write_bytes(b"torn")
    assert verify_device(home)["error"] is None


def test_a_page_damaged_anywhere_is_an_answer(home: Home) -> None:
    whole = home.log.read_bytes()
    for page in range(0, len(whole), 4096):
        home.log.write_bytes(whole[:page] + b"\xa5" * 4096 + whole[page + 4096 :])
        try:
            verify_file(home.log)
        except OutriderError as error:
            assert error.code == "audit.file"


# --- proofs of one entry ------------------------------------------------------------------------------------------


def countersign(home: Home) -> None:
    """What the hub's word on the second commit leaves in the log."""
    journal = Journal(home.log, "city/dev_1", load_key(home.keys / "log.key"), now=lambda: 2, software="test")
    size, note, _ = list(journal.checkpoints())[1]
    asyncio.run(journal.cosign(size, cosign_note(note, "city", HUB, 1_790_000_000)))
    journal.close()


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(audit, [str(argument) for argument in arguments])
    if isinstance(result.exception, OutriderError):
        raise result.exception
    return result.exit_code, result.output


def key(home: Home) -> str:
    return load_key(home.keys / "log.key").public.text


def test_a_proof_goes_from_hand_to_hand(home: Home, tmp_path: Path) -> None:
    countersign(home)
    file = tmp_path / "entry.tlog-proof"
    code, said = run("prove", 7, "--home", home.root, "--out", file)
    assert code == 0
    command = said.split("outrider audit ")[1].split("\n")[0].split()  # what it says to do is what is done
    code, said = run(*command)
    assert code == 0
    assert "entry 7 (source.refused, 1970-01-01 00:00:00 UTC) of city/dev_1 holds" in said
    assert "tree of 21 entries" in said
    assert "countersigned by city at 2026-09-21 14:13:20 UTC" in said
    assert '"code": "0.6"' in said
    assert "body" not in said


def test_a_proof_may_hold_the_shared_body(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "entry.tlog-proof"
    code, text = run("prove", 61 - 1, "--home", home.root, "--body")
    file.write_text(text)
    assert code == 0 and text.startswith("c2sp.org/tlog-proof@v1\n")
    code, said = run("check", file, "--key", key(home))
    assert code == 0
    assert "tree of 61 entries" in said and 'its shared body: {"n": 19}' in said
    assert "countersigned" not in said, "the hub has not seen it"
    code, said = run("check", file, "--key", key(home), "--witness", HUB.public.text)
    assert code == 1 and "[note.uncosigned]" in said


def test_scripts_get_the_same_as_data(home: Home, tmp_path: Path) -> None:
    countersign(home)
    made: dict[str, Any] = json.loads(run("prove", 3, "--home", home.root, "--json", "--body")[1])
    file = tmp_path / "entry.tlog-proof"
    file.write_text(made["proof"])
    for log, witness in ((made["key"], made["witness_key"]), (made["log_vkey"], made["witness_vkey"])):
        code, said = run("check", file, "--key", log, "--witness", witness, "--json")
        shown = json.loads(said)
        assert code == 0 and shown["error"] is None
        assert {name: made[name] for name in shown if name != "error"} == {
            n: v for n, v in shown.items() if n != "error"
        }
        assert (shown["index"], shown["size"], shown["entry"]["facts"]["code"]) == (3, 21, "0.2")
        assert (shown["witness"], shown["cosigned_at"], shown["bodies"]) == (
            "city",
            1_790_000_000,
            {"shared": {"n": 2}},
        )
    file.write_text(made["proof"].replace("index 3", "index 4"))
    code, said = run("check", file, "--key", made["key"], "--json")
    assert code == 1 and json.loads(said)["error"]["code"] == "tlog.inclusion"


def test_the_first_countersignature_with_the_entry_is_taken(home: Home) -> None:
    """It is the earliest word of somebody else that the entry was there."""
    countersign(home)
    sizes = [prove(home, seq)[1]["size"] for seq in (0, 20, 21, 60)]
    assert sizes == [21, 21, 61, 61]


@pytest.mark.parametrize(("entry", "code"), [(61, "audit.entry"), (0, "audit.no-body")])
def test_what_cannot_be_proved_is_said(home: Home, entry: int, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        run("prove", entry, "--home", home.root, "--body")
    assert caught.value.code == code


def test_a_damaged_entry_is_not_proved(home: Home) -> None:
    change(home, "UPDATE entry SET data = CAST(replace(data, '1.7', '1.8') AS BLOB) WHERE seq = 28")
    with pytest.raises(OutriderError) as caught:
        prove(home, 28)
    assert caught.value.code == "tlog.inclusion"


def test_files_that_cannot_be_read_or_written(home: Home, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="audit.out"):
        run("prove", 0, "--home", home.root, "--out", tmp_path / "no" / "where")
    with pytest.raises(BadInput, match="audit.file"):
        check_file(tmp_path / "none", key(home))
    (tmp_path / "junk").write_bytes(b"junk")
    assert check_file(tmp_path / "junk", key(home))["error"]["code"] == "proof.form"
