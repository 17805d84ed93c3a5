"""A sentence-transformers model on disk: is it one, may it be loaded, and what is its identity.

A model is a folder as sentence-transformers saves it. Only weights in safetensors are taken: the older form is a pickle
that runs code when it is opened. Modules that do not come with sentence-transformers itself are refused for the same
reason. The identity is a hash over all files that are loaded, so that a changed file is another model and every vector
is made anew.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from shared.codec import canonical, hex_sha256, parse
from shared.errors import BadInput, Unavailable

_LOADED = (".json", ".safetensors", ".txt")
_WEIGHTS = ".safetensors"
_NEVER = (".py", ".pyc", ".bin", ".pt", ".pkl", ".pickle", ".ckpt", ".h5", ".so")
_FILES = 200
_BLOCK = 1 << 20
NO_MODEL = "run `outrider hub embedder add`, or set OUTRIDER_HUB_EMBEDDER to the folder of another model"


class Described(msgspec.Struct, frozen=True):
    """A model's ``id`` (64 hex digits), the bytes it loads, and the longest text it reads, in tokens (0: not said)."""

    id: str
    size: int
    positions: int


def describe(folder: Path) -> Described:
    """Check and identify the model in ``folder``: hashes every file it loads (0.2 s for 100 MB). An exported artefact
    (``.onnx``) is a model too, named by its own hash.

    Raises ``Unavailable('embedder.none')`` where there is no folder, ``BadInput('embedder.folder')`` where it is not a
    model, ``BadInput('embedder.unsafe')`` where loading it could run code.
    """
    if folder.suffix == ".onnx" and folder.is_file():
        return Described(_sha256(folder), folder.stat().st_size, 0)
    if not folder.is_dir():
        raise Unavailable("embedder.none", f"there is no embedder at {folder}", advice=NO_MODEL, where=str(folder))
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    _refuse_code(folder, files)
    loaded = [path for path in files if path.suffix in _LOADED]
    if not any(path.suffix == _WEIGHTS for path in loaded) or len(loaded) > _FILES:
        raise _bad(folder, "it has no weights in safetensors")
    hashes = {str(path.relative_to(folder)): _sha256(path) for path in loaded}
    return Described(hex_sha256(canonical(hashes)), sum(path.stat().st_size for path in loaded), _positions(folder))


def _refuse_code(folder: Path, files: list[Path]) -> None:
    for path in files:
        if path.suffix in _NEVER or path.is_symlink():
            raise BadInput(
                "embedder.unsafe",
                f"{path.relative_to(folder)} could run code when the model is loaded, or lies elsewhere",
                advice="save the model again with safe_serialization, and keep only .json, .txt and .safetensors files",
                where=str(folder),
            )
    modules = folder / "modules.json"
    if not modules.exists():
        raise _bad(folder, "it has no modules.json")
    for module in parse(_read(modules), list[dict[str, Any]], code="embedder.folder", what="modules.json"):
        if not str(module.get("type", "")).startswith("sentence_transformers."):
            raise BadInput(
                "embedder.unsafe",
                f"modules.json names {module.get('type')!r}, which is code of another package",
                advice="use a model whose modules all come with sentence-transformers",
                where=str(modules),
            )


def _positions(folder: Path) -> int:
    path = folder / "sentence_bert_config.json"
    if not path.exists():
        return 0
    found = parse(_read(path), dict[str, Any], code="embedder.folder", what=path.name).get("max_seq_length")
    return found if isinstance(found, int) and found > 0 else 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _bad(path.parent, f"{path.name} cannot be read: {error.strerror}") from error


def _sha256(path: Path) -> str:
    seen = hashlib.sha256()
    try:
        with path.open("rb") as source:
            while block := source.read(_BLOCK):
                seen.update(block)
    except OSError as error:
        raise _bad(path.parent, f"{path.name} cannot be read: {error.strerror}") from error
    return seen.hexdigest()


def _bad(folder: Path, said: str) -> BadInput:
    return BadInput(
        "embedder.folder",
        f"this is not a sentence-transformers model: {said}",
        advice="give the folder that SentenceTransformer.save wrote",
        where=str(folder),
    )
