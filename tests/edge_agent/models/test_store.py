from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import msgspec
import pytest

from edge_agent.models.store import Installed, ModelStore
from shared.errors import BadInput, Conflict, OutriderError, Tampered, Unavailable


def put(store: ModelStore, name: str, data: bytes) -> Installed:
    row = Installed(name, "language", "gguf", hashlib.sha256(data).hexdigest(), len(data), "file:/somewhere")
    with store.installing() as incoming:
        (incoming / "model").write_bytes(data)
        return store.register(row, incoming / "model")


def test_what_is_registered_is_found_by_name_and_hash(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    row = put(store, "tiny", b"GGUF one")
    assert store.installed() == (row,)
    assert store.named("tiny") == row
    path = store.path_for(row.sha256)
    assert path.read_bytes() == b"GGUF one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((store.folder / "models.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


def test_an_empty_home_has_no_models_and_stays_empty(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "home")
    assert store.installed() == ()
    with pytest.raises(Unavailable, match="no installed model") as caught:
        store.path_for("0" * 64)
    assert caught.value.code == "model.missing"
    assert not (tmp_path / "home").exists()


def test_changed_bytes_are_never_handed_out(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    row = put(store, "tiny", b"GGUF one")
    (store.folder / row.file).write_bytes(b"GGUF two")
    with pytest.raises(Tampered) as caught:
        store.path_for(row.sha256)
    assert caught.value.code == "model.hash"
    assert "outrider model add tiny" in caught.value.advice


def test_a_lost_file_is_said_to_be_lost(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    row = put(store, "tiny", b"GGUF one")
    (store.folder / row.file).unlink()
    with pytest.raises(Unavailable) as caught:
        store.path_for(row.sha256)
    assert caught.value.code == "model.missing"


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"version":1}',
        b'{"version":1,"models":[{"name":"x"}]}',
        b'{"version":1,"models":[],"more":1}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_registry_is_one_clear_error(tmp_path: Path, damage: bytes) -> None:
    store = ModelStore(tmp_path)
    put(store, "tiny", b"GGUF one")
    (store.folder / "models.json").write_bytes(damage)
    with pytest.raises(BadInput) as caught:
        store.installed()
    assert caught.value.code == "model.registry"


@pytest.mark.parametrize("field, value", [("name", "../up"), ("sha256", "../../etc/passwd"), ("sha256", "A" * 64)])
def test_a_registry_row_cannot_point_outside(tmp_path: Path, field: str, value: str) -> None:
    store = ModelStore(tmp_path)
    row = {"name": "x", "kind": "language", "format": "gguf", "sha256": "0" * 64, "size": 1, "source": ""}
    store.folder.mkdir()
    (store.folder / "models.json").write_bytes(msgspec.json.encode({"version": 1, "models": [row | {field: value}]}))
    with pytest.raises(OutriderError) as caught:
        store.installed()
    assert caught.value.code in ("model.name", "model.hash-form")


def test_only_one_installs_at_a_time(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    with store.installing(), pytest.raises(Conflict) as caught, ModelStore(tmp_path).installing():
        pass
    assert caught.value.code == "model.locked"
    put(store, "tiny", b"GGUF after")
    assert store.named("tiny")


def test_what_a_killed_install_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    left = store.folder / ".incoming-dead"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"half")
    put(store, "tiny", b"GGUF one")
    assert not left.exists()


def test_replacing_a_name_drops_the_old_file(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    old = put(store, "tiny", b"GGUF one")
    new = put(store, "tiny", b"GGUF two")
    assert store.installed() == (new,)
    assert not (store.folder / old.file).exists()


def test_removing_drops_file_and_prefix_states_but_not_a_shared_file(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    one, two = put(store, "one", b"GGUF same"), put(store, "two", b"GGUF same")
    store.states.mkdir()
    (store.states / "some.state").write_bytes(b"state")
    store.remove("one")
    assert store.path_for(two.sha256).read_bytes() == b"GGUF same"
    assert not store.states.exists()
    store.remove("two")
    assert not (store.folder / one.file).exists()
    with pytest.raises(BadInput) as caught:
        store.remove("two")
    assert caught.value.code == "model.unknown"


def test_room_is_made_by_what_nobody_needs_the_longest_installed_first(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    rows = [put(store, f"model-{number}", b"GGUF" + bytes([number]) * 96) for number in range(4)]
    for number, row in enumerate(rows):
        os.utime(store.folder / row.file, (number, number))
    twin = put(store, "twin", b"GGUF" + bytes([1]) * 96)
    os.utime(store.folder / twin.file, (1, 1))
    stray, wanted = store.folder / f".part-{'aa' * 32}", store.folder / f".part-{'bb' * 32}"
    for part in (stray, wanted):
        part.write_bytes(b"part")
    keep = {rows[0].sha256, rows[3].sha256, "bb" * 32}
    assert store.collect(keep, 100, 0) == []
    assert (stray.exists(), wanted.exists()) == (False, True)
    assert {row.name for row in store.collect(keep, 100, 400)} == {"model-1", "twin"}
    assert not (store.folder / rows[1].file).exists()
    assert [row.name for row in store.installed()] == ["model-0", "model-2", "model-3"]
    with pytest.raises(Unavailable) as caught:
        store.collect(keep, 201, 400)
    assert caught.value.code == "model.budget"
    assert [row.name for row in store.installed()] == ["model-0", "model-3"]
