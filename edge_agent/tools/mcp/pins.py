"""The descriptions a person accepted, kept with their hashes. What is not in here cannot be called.

A server describes its tools in its own words, and an assistant reads them, so a description is as powerful as a prompt.
It is accepted once, by a person who saw it, and from then on compared: the file holds the exact canonical text that was
shown, and a tool whose live description has another hash is not called until it was looked at again.

Canonical here is JSON with sorted keys, no white space and ASCII only, so that nothing invisible can hide in it. It is
text and not ``codec.canonical``, because a JSON schema may hold fractions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.identity import write_file
from shared.codec import hex_sha256, parse
from shared.errors import BadInput, Tampered, Unavailable

FILE = "accepted.json"
FIELDS = ("name", "title", "description", "inputSchema", "annotations")


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One accepted tool: its name at the server, and the exact text that was accepted with its hex SHA-256."""

    name: str
    sha256: str
    description: str

    @property
    def facts(self) -> dict[str, Any]:
        """The description as JSON: ``FIELDS``, those that were given."""
        found: dict[str, Any] = json.loads(self.description)
        return found


class Accepted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. ``at`` is when it was last accepted, microseconds since 1970 UTC; ``server`` what it calls itself."""

    server: str
    at: int
    tools: list[Pin]
    version: int = 1


def describe(tool: dict[str, Any]) -> str:
    """The canonical text of a tool as ``tools/list`` gives it. Raises ``ValueError`` for what JSON cannot say."""
    kept = {name: tool[name] for name in FIELDS if tool.get(name) is not None}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def pin(description: str) -> Pin:
    """What accepting a canonical text makes of it."""
    return Pin(json.loads(description)["name"], hex_sha256(description.encode()), description)


def together(pins: list[Pin]) -> str:
    """One hex SHA-256 over several descriptions, whatever their order: what a person accepts is bound to it."""
    return hex_sha256("\n".join(sorted(one.sha256 for one in pins)).encode())


def load(state: Path) -> Accepted | None:
    """What was accepted, or ``None`` where nothing ever was. Raises ``Tampered('mcp.pins')`` and ``Unavailable``."""
    path = state / FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable("mcp.pins", f"{path}: {error.strerror}", advice="check the folder's owner") from error
    try:
        found = parse(data, Accepted, code="mcp.pins", what=str(path))
        sound = found.version == 1 and all(pin(one.description) == one for one in found.tools)
    except (BadInput, ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise Tampered(
            "mcp.pins", "the accepted descriptions do not hold together", advice="review them again", where=str(path)
        )
    return found


def save(state: Path, accepted: Accepted) -> None:
    """Replace the file. Raises ``Unavailable('disk.write')``."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Unavailable("disk.write", f"{state}: {error.strerror}", advice="check the folder's owner") from error
    write_file(state / FILE, msgspec.json.format(msgspec.json.encode(accepted), indent=1) + b"\n")


def changes(old: str, new: str) -> list[str]:
    """Which parts differ between two canonical texts, such as ``description`` or ``inputSchema.properties.path``."""
    return _differences(json.loads(old), json.loads(new), "")


def _differences(old: Any, new: Any, where: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[str] = []
        for name in sorted({*old, *new}):
            place = f"{where}.{name}" if where else name
            if name in old and name in new:
                found += _differences(old[name], new[name], place)
            else:
                found.append(f"{place} ({'removed' if name in old else 'added'})")
        return found
    # Compared as text: for Python 1, 1.0 and True are equal, for JSON they are not.
    return [] if json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True) else [where]
