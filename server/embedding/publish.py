"""An exported artefact becomes a model of the next release, and a file that devices can fetch from the hub.

The workspace names the models a release permits; the repository lists their hashes under TUF when it is published; the
bytes lie among the repository's targets, under their own hash, so that a device that is told ``hub:`` as a source asks
``/tuf/targets/models/HASH.NAME`` and holds what it gets to the release's hash.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import msgspec

from server.embedding.encoder import Encoder
from server.embedding.messages import Ready
from server.releases import durable
from shared.codec import parse
from shared.errors import BadInput
from shared.release import ModelRef

SOURCE = "hub:"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # what a device's own store takes


def publish(home: Path, path: Path, name: str) -> ModelRef:
    """Put the artefact at ``path`` where devices find it, and name it in the workspace as the release's embedder.

    It takes effect with the next ``release publish``. Raises ``BadInput`` (``embedder.name``, ``embedder.artefact``,
    ``release.models``) and what ``Encoder.start`` raises: a file that does not load here is not published.
    """
    if path.suffix != ".onnx" or not path.is_file():
        raise BadInput(
            "embedder.artefact",
            "this is not an exported embedder",
            advice="make it with `outrider hub embedder export`",
            where=str(path),
        )
    ready = asyncio.run(_loaded(path))
    name = name or f"embedder-{ready.model[:8]}"
    if not _NAME.fullmatch(name):
        raise BadInput(
            "embedder.name", f"{name!r} cannot name a model", advice="use lower-case letters, digits, dots and dashes"
        )
    made = ModelRef(name=name, kind="embedder", sha256=ready.model, size=ready.size, source=SOURCE)
    models = home / "workspace" / "models.json"
    listed: list[ModelRef] = []
    if models.exists():
        listed = parse(models.read_bytes(), list[ModelRef], code="release.models", what="models.json")
    durable.write(home / "repository" / "targets" / "models" / f"{made.sha256}.{name}", path.read_bytes())
    kept = [one for one in listed if one.kind != "embedder"]
    durable.write(models, msgspec.json.format(msgspec.json.encode([made, *kept]), indent=2) + b"\n")
    return made


async def _loaded(path: Path) -> Ready:
    encoder = Encoder(path)
    try:
        return await encoder.start()
    finally:
        await encoder.close()
