"""Keys and identity on disk: made once, private, and never repaired in silence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.config import Home
from edge_agent.identity import Identity, load_identity, load_key, make_key, save_identity, write_file
from shared.errors import BadInput, Conflict, OutriderError, Refused, Unavailable
from shared.keys import SigningKey

IDENTITY = Identity("dev_1", "desk", "city/dev_1", "city", SigningKey(bytes(32)).public.text, "http://127.0.0.1:1")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


def code_of(error: pytest.ExceptionInfo[OutriderError]) -> str:
    assert error.value.advice
    return error.value.code


def test_identity_round_trip(home: Home) -> None:
    save_identity(home, IDENTITY)
    assert load_identity(home) == IDENTITY
    assert load_identity(home).hub_public.text == IDENTITY.hub_key
    assert home.identity.stat().st_mode & 0o777 == 0o600


def test_no_identity_says_how_to_join(home: Home) -> None:
    with pytest.raises(Unavailable) as caught:
        load_identity(home)
    assert code_of(caught) == "agent.not-joined"
    assert "join" in caught.value.advice


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"device": 1}', b"[" * 5000])
def test_a_damaged_identity_is_bad_input(home: Home, data: bytes) -> None:
    home.identity.write_bytes(data)
    with pytest.raises(BadInput) as caught:
        load_identity(home)
    assert code_of(caught) == "agent.identity"


def test_an_unknown_field_is_refused(home: Home) -> None:
    save_identity(home, IDENTITY)
    home.identity.write_text(home.identity.read_text().replace('"device"', '"extra": 1, "device"'))
    with pytest.raises(BadInput):
        load_identity(home)


def test_a_key_is_made_once_and_private(home: Home) -> None:
    path = home.keys / "log.key"
    key = make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert home.keys.stat().st_mode & 0o777 == 0o700
    assert load_key(path).public == key.public
    before = path.read_bytes()
    with pytest.raises(Conflict) as caught:
        make_key(path)
    assert code_of(caught) == "key.exists"
    assert path.read_bytes() == before
    assert key.secret_bytes().hex() not in repr(key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_others_can_read_is_refused(home: Home, mode: int) -> None:
    path = home.keys / "log.key"
    make_key(path)
    path.chmod(mode)
    with pytest.raises(Refused) as caught:
        load_key(path)
    assert code_of(caught) == "key.exposed"
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("data", [b"", b"xyz", b"00", b"\xff\xfe", b"00" * 33, b"zz" * 32])
def test_a_damaged_key_is_said(home: Home, data: bytes) -> None:
    path = home.keys / "log.key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(Unavailable) as caught:
        load_key(path)
    assert code_of(caught) == "key.damaged"


def test_a_missing_key_is_said(home: Home) -> None:
    with pytest.raises(Unavailable) as caught:
        load_key(home.keys / "log.key")
    assert code_of(caught) == "key.missing"
    home.keys.rmdir()
    with pytest.raises(Unavailable) as caught:
        make_key(home.keys / "log.key")
    assert code_of(caught) == "disk.write"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "live.json"
    write_file(path, b"old")
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["live.json"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(Unavailable) as caught:
        write_file(tmp_path / "folder", b"x")
    assert code_of(caught) == "disk.write"
    with pytest.raises(Unavailable):
        write_file(tmp_path / "gone" / "x", b"x")
    with pytest.raises(Unavailable):
        write_file(tmp_path / ("n" * 250), b"x")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "live.json"]


def test_a_temporary_file_never_shows_more_than_the_file(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        write_file(tmp_path / "a", b"x", mode=0o600)
    finally:
        os.umask(previous)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
