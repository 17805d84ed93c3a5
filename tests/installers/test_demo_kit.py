"""The demo's own parts: a check that could not fail would prove nothing."""

from __future__ import annotations

import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from demo_console import _Forms
from demo_kit import Books, Process, Screen, Stop, Wire, wait


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that says back what it hears."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(connection: socket.socket) -> None:
            with connection:
                while data := connection.recv(1024):
                    connection.sendall(data)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_cut_wire_carries_nothing_and_a_mended_one_does(echo: str) -> None:
    wire = Wire()
    wire.lead_to(echo)
    with socket.create_connection(("127.0.0.1", wire.port), timeout=60) as link:
        link.sendall(b"one")
        assert link.recv(10) == b"one"
        wire.cut()
        assert link.recv(10) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", wire.port), timeout=60)
    wire.mend()
    with socket.create_connection(("127.0.0.1", wire.port), timeout=60) as link:
        link.sendall(b"two")
        assert link.recv(10) == b"two"
    wire.close()


class Counting(Process):
    """A process that writes a byte every millisecond, and ends after ``limit`` of them."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.out = folder / "out"
        program = folder / "count"
        program.write_text(
            f"#!{sys.executable}\nimport time\nout = open({str(self.out)!r}, 'ab', buffering=0)\n"
            f"for _ in range({limit}):\n    out.write(b'.')\n    time.sleep(0.001)\n"
        )
        program.chmod(0o700)
        super().__init__("counter", folder / "log", command=str(program))

    @property
    def written(self) -> int:
        return self.out.stat().st_size if self.out.exists() else 0


def test_a_process_is_killed_where_it_was_seen(tmp_path: Path) -> None:
    process = Counting(tmp_path, 100_000)
    process.start()
    seen: list[int] = []

    def ready() -> bool:
        seen.append(process.written)
        time.sleep(0.02)  # a slow look: it must not run on meanwhile
        assert process.written == seen[-1]
        return seen[-1] >= 20

    process.kill_at(ready, patience=60)
    assert process.written == seen[-1] < 100_000
    assert len(seen) > 1


def test_a_process_that_ends_by_itself_is_not_taken_for_killed(tmp_path: Path) -> None:
    process = Counting(tmp_path, 5)
    process.start()
    with pytest.raises(Stop, match="ended by itself with code 0"):
        process.kill_at(lambda: False, patience=60)


def test_a_moment_that_never_comes_is_said_and_the_process_goes_on(tmp_path: Path) -> None:
    process = Counting(tmp_path, 100_000)
    process.start()
    with pytest.raises(Stop, match="did not get there"):
        process.kill_at(lambda: False, patience=0.1)
    reached = process.written
    deadline = time.monotonic() + 60
    while process.written <= reached:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.stop()


def books(path: Path, decisions: list[tuple[str, str]], calls: list[str]) -> Books:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE decisions (key, application_id, lane)")
        db.execute("CREATE TABLE calls (key, at)")
        db.executemany("INSERT INTO decisions VALUES (?, ?, 'express')", decisions)
        db.executemany("INSERT INTO calls VALUES (?, 1)", [(key,) for key in calls])
    return Books(path)


def test_the_books_are_clean_when_each_case_was_sent_and_decided_once(tmp_path: Path) -> None:
    register = books(tmp_path / "r.sqlite3", [("k1", "A-1"), ("k2", "A-2")], ["k1", "k2"])
    assert list(register.faults()) == []
    assert register.decisions() == {"A-1": "express", "A-2": "express"}
    assert register.count() == 2


@pytest.mark.parametrize(
    ("decisions", "calls", "fault"),
    [
        ([("k1", "A-1"), ("k2", "A-1")], ["k1", "k2"], "A-1 was decided 2 times"),
        ([("k1", "A-1")], ["k1", "k1"], "the key k1 was sent 2 times"),
        ([("k1", "A-1"), ("k1", "A-2")], ["k1"], "the key k1 has 2 decisions"),
        ([("k1", "A-1")], [], "the decision k1 was never sent"),
    ],
)
def test_the_books_find_each_kind_of_fault(
    tmp_path: Path, decisions: list[tuple[str, str]], calls: list[str], fault: str
) -> None:
    assert list(books(tmp_path / "r.sqlite3", decisions, calls).faults()) == [fault]


def test_books_that_are_not_there_yet_are_empty(tmp_path: Path) -> None:
    assert Books(tmp_path / "none.sqlite3").count() == 0
    sqlite3.connect(tmp_path / "bare.sqlite3").close()
    assert Books(tmp_path / "bare.sqlite3").decisions() == {}


def test_forms_are_read_as_a_browser_would() -> None:
    parser = _Forms()
    parser.feed(
        '<form action="/x/answer"><input type="hidden" name="csrf" value="t"><input type="radio" name="a" value="1">'
        '<select name="arg.lane"><option value="">Choose</option><option value="sign">Signs</option></select>'
        '<textarea name="reason"></textarea></form><form action="/login"><input name="name" value="">'
        '<input type="password" name="password"></form>'
    )
    answer, login = parser.forms
    assert answer.fields == {"csrf": "t", "arg.lane": "", "reason": ""}
    assert answer.choices == {"a": ["1"], "arg.lane": ["", "sign"]}
    assert (login.action, login.secret) == ("/login", "password")


def test_a_wait_ends_when_nothing_changes_any_more(capsys: pytest.CaptureFixture[str]) -> None:
    counts = iter([0, 1, 2, *([2] * 1000)])

    def look() -> tuple[bool, str, int]:
        count = next(counts)
        return False, f"{count} done", count

    with pytest.raises(Stop, match="2 done") as stop:
        wait(Screen(), look, patience=0.05, advice=lambda: "look there", every=0.001)
    assert stop.value.advice == "look there"
