"""The console's own and vendored files, read once and served from memory.

A name is looked up in a dictionary, so no path can leave the folder; each URL carries its content's hash, so browsers
may keep a file for ever and never see an old one. Texts are kept compressed as well: the style sheet is 620 kB plain.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from shared.codec import hex_sha256

FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
_WORTH_COMPRESSING = 1024


@dataclass(frozen=True)
class Asset:
    data: bytes
    packed: bytes | None
    media_type: str
    version: str


@cache
def assets() -> dict[str, Asset]:
    """Every file in ``static/`` by name."""
    found = {}
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in _TYPES:
            data = path.read_bytes()
            packed = gzip.compress(data, mtime=0) if len(data) > _WORTH_COMPRESSING else None
            found[path.name] = Asset(data, packed, _TYPES[path.suffix], hex_sha256(data)[:12])
    return found


def url(name: str) -> str:
    """The address of a file in ``static/``. A name that is not there is a mistake in a template: ``KeyError``."""
    return f"/static/{name}?v={assets()[name].version}"


def serve(request: Request, name: str) -> Response | None:
    asset = assets().get(name)
    if asset is None:
        return None
    current = request.query_params.get("v") == asset.version
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if current else "no-cache",
        "ETag": f'"{asset.version}"',
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if asset.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.packed, media_type=asset.media_type, headers=headers | {"Content-Encoding": "gzip"})
    return Response(asset.data, media_type=asset.media_type, headers=headers)
