"""Secrets: kept privately, replaced whole, refused when exposed, and never shown."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_agent.secrets import MOST_BYTES, Secrets
from edge_agent.secrets_commands import secret
from shared.errors import BadInput, OutriderError, Refused, Unavailable

VALUE = "s3cr3t-of-the-shop"
runner = CliRunner()


@pytest.fixture
def kept(tmp_path: Path) -> Secrets:
    made = Secrets(tmp_path / "secrets")
    made.put("shop-token", VALUE)
    return made


def test_a_secret_is_kept_privately_and_read_back(kept: Secrets, tmp_path: Path) -> None:
    assert kept.get("shop-token") == VALUE
    assert kept.names() == ["shop-token"]
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "secrets" / "shop-token").stat().st_mode & 0o777 == 0o600


def test_replacing_leaves_one_file_and_the_new_value(kept: Secrets, tmp_path: Path) -> None:
    kept.put("shop-token", "another")
    assert kept.get("shop-token") == "another"
    assert [path.name for path in (tmp_path / "secrets").iterdir()] == ["shop-token"]


def test_readers_meet_the_old_value_or_the_new_one_and_no_mixture(kept: Secrets) -> None:
    values = {letter * 4000 for letter in "ab"}
    kept.put("shop-token", "a" * 4000)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for value in values:
                kept.put("shop-token", value)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = {kept.get("shop-token") for _ in range(300)}
    finally:
        stop.set()
        writer.join()
    assert seen <= values


def test_a_missing_secret_is_told_by_name(tmp_path: Path) -> None:
    empty = Secrets(tmp_path / "none")
    assert empty.names() == []
    for work in (lambda: empty.get("shop-token"), lambda: empty.remove("shop-token")):
        with pytest.raises(Unavailable) as caught:
            work()
        assert caught.value.code == "secret.missing"
        assert "outrider agent secret set shop-token" in caught.value.advice


def test_removing_forgets(kept: Secrets) -> None:
    kept.remove("shop-token")
    assert kept.names() == []
    with pytest.raises(Unavailable):
        kept.get("shop-token")


@pytest.mark.parametrize("name", ["", "Shop", "../log.key", "a/b", ".hidden", "x" * 65, "a b", "ü", "a\n"])
def test_other_names_are_refused(kept: Secrets, name: str) -> None:
    for work in (lambda: kept.get(name), lambda: kept.put(name, VALUE), lambda: kept.remove(name)):
        with pytest.raises(BadInput) as caught:
            work()
        assert caught.value.code == "secret.name"


@pytest.mark.parametrize("value", ["", "  \n", "a\x00b", "geheimnüs", "\ud800", "x" * (MOST_BYTES + 1)])
def test_values_that_no_header_could_carry_are_refused_unshown(kept: Secrets, value: str) -> None:
    with pytest.raises(BadInput) as caught:
        kept.put("shop-token", value)
    assert caught.value.code == "secret.value"
    assert value.strip() == "" or value not in str(caught.value)
    assert kept.get("shop-token") == VALUE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_file_that_others_can_reach_is_refused(kept: Secrets, tmp_path: Path, mode: int) -> None:
    (tmp_path / "secrets" / "shop-token").chmod(mode)
    with pytest.raises(Refused) as caught:
        kept.get("shop-token")
    assert caught.value.code == "secret.exposed" and VALUE not in str(caught.value)


def test_a_folder_that_others_can_write_is_refused(kept: Secrets, tmp_path: Path) -> None:
    (tmp_path / "secrets").chmod(0o770)
    for work in (lambda: kept.get("shop-token"), lambda: kept.put("shop-token", "x")):
        with pytest.raises(Refused) as caught:
            work()
        assert caught.value.code == "secret.exposed"


def test_links_folders_and_pipes_are_no_secrets(kept: Secrets, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text(VALUE)
    outside.chmod(0o600)
    (tmp_path / "secrets" / "link").symlink_to(outside)
    (tmp_path / "secrets" / "folder").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "secrets" / "pipe", 0o600)
    for name in ("link", "folder", "pipe"):
        with pytest.raises(Unavailable) as caught:
            kept.get(name)
        assert caught.value.code == "secret.damaged"


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"x" * (MOST_BYTES + 1)])
def test_a_damaged_file_is_told_without_its_bytes(kept: Secrets, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "secrets" / "shop-token").write_bytes(data)
    with pytest.raises(Unavailable) as caught:
        kept.get("shop-token")
    assert caught.value.code == "secret.damaged"
    assert caught.value.__cause__ is None


def test_a_disk_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable) as caught:
        Secrets(tmp_path / "file" / "secrets").put("a", "b")
    assert caught.value.code == "disk.write"


# --- commands -----------------------------------------------------------------------------------------------------


def run(home: Path, *arguments: str, said: str = "") -> tuple[int, str]:
    result = runner.invoke(secret, list(arguments), env={"OUTRIDER_HOME": str(home)}, input=said)
    if isinstance(result.exception, OutriderError):
        raise result.exception
    return result.exit_code, result.output


def test_set_reads_standard_input_and_shows_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, "set", "shop-token", said=f"{VALUE}\n") == (0, "shop-token is set\n")
    assert Secrets(tmp_path / "secrets").get("shop-token") == VALUE
    assert run(tmp_path, "list") == (0, "shop-token\n")
    assert run(tmp_path, "remove", "shop-token") == (0, "shop-token is removed\n")
    assert run(tmp_path, "list") == (0, "")
    with pytest.raises(Unavailable, match="secret.missing"):
        run(tmp_path, "remove", "shop-token")


def test_set_keeps_what_stands_inside_a_value(tmp_path: Path) -> None:
    run(tmp_path, "set", "pem", said="line one\nline two\n\n")
    assert Secrets(tmp_path / "secrets").get("pem") == "line one\nline two\n"
    with pytest.raises(BadInput, match="secret.value"):
        run(tmp_path, "set", "pem", said="x" * (MOST_BYTES + 5))


def test_set_on_a_terminal_asks_without_echo(tmp_path: Path) -> None:
    """A real terminal: what is typed does not come back."""
    ours, theirs = pty.openpty()
    code = "from edge_agent.secrets_commands import secret; secret()"
    command = [sys.executable, "-c", code, "set", "shop-token", "--home", str(tmp_path)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        shown = b""
        while b"Value of shop-token" not in shown:
            shown += os.read(ours, 1000)
        while termios.tcgetattr(ours)[3] & termios.ECHO:  # the prompt is shown a little before the echo ends
            time.sleep(0.01)
        os.write(ours, f"{VALUE}\n".encode())
        with contextlib.suppress(OSError):  # how a terminal says that its other end is closed
            while part := os.read(ours, 1000):
                shown += part
        assert process.wait() == 0
    os.close(ours)
    assert b"shop-token is set" in shown and VALUE.encode() not in shown
    assert Secrets(tmp_path / "secrets").get("shop-token") == VALUE
