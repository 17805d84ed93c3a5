"""Whether an exported embedder loads, before anybody is told to use it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from server.embedding.encoder import Encoder
from shared.errors import BadInput


def check(path: Path) -> None:
    """Load it once, in a process of its own.

    Raises ``BadInput('embedder.artefact')`` and what ``Encoder.start`` raises.
    """
    if path.suffix != ".onnx" or not path.is_file():
        raise BadInput(
            "embedder.artefact",
            "this is not an exported embedder",
            advice="make it with `outrider hub embedder export`",
            where=str(path),
        )
    asyncio.run(_load(path))


async def _load(path: Path) -> None:
    encoder = Encoder(path)
    try:
        await encoder.start()
    finally:
        await encoder.close()
