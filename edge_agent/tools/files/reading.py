"""Reading files and folders. Nothing here changes anything, and what is told is bounded: it goes into the log."""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import suppress
from typing import Any

from edge_agent.tools import Argument, Effect, Receipt, Risk, Tool, check_arguments
from edge_agent.tools.files import disk
from edge_agent.tools.files.changes import Changes
from edge_agent.tools.files.ledger import reaching
from edge_agent.tools.files.paths import OURS, Roots, Spot, status
from shared.actions import Action
from shared.codec import hex_sha256
from shared.errors import BadInput, Refused

CHARS = 16_000  # of text in one answer; a log entry's body holds 256 KiB, and a letter may take six bytes of it
NAMES = 300  # of a folder in one answer

_READ = {
    "path": Argument(about="root-name/folder/file"),
    "offset": Argument("integer", required=False, about="characters to skip: next_offset of the last answer"),
}
_LIST = {
    "path": Argument(about="root-name or root-name/folder"),
    "after": Argument(required=False, about="the last name of the former answer, where there was more"),
}


class Read(Tool):
    """``TABLE.read``: a piece of a text file."""

    about = "Read a text file, up to 16,000 characters at once."
    effect: Effect = "read"
    risk: Risk = "low"
    idempotent = True
    askable = False
    arguments = _READ

    def __init__(self, table: str, changes: Changes) -> None:
        self.name = f"{table}.read"
        self._changes = changes

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        return Receipt(await asyncio.to_thread(self._read, action))

    def _read(self, action: Action) -> dict[str, Any]:
        spot = self._changes.roots.spot(str(action.arguments["path"]))
        offset = action.arguments.get("offset") or 0
        assert isinstance(offset, int)
        if offset < 0:
            raise BadInput("tool.arguments", "offset is below 0", advice="begin with 0", where=self.name)
        content = self._changes.content(spot)
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise Refused("files.not-text", f"{spot} is no UTF-8 text", advice="open it by hand") from error
        piece = text[offset : offset + CHARS]
        after = offset + len(piece)
        return {
            "path": str(spot),
            "text": piece,
            "next_offset": after if after < len(text) else None,
            "bytes": len(content),
            "sha256": hex_sha256(content),
        }


class List(Tool):
    """``TABLE.list``: what a folder holds."""

    about = "List a folder: names, kinds, sizes, times of modification."
    effect: Effect = "read"
    risk: Risk = "low"
    idempotent = True
    askable = False
    arguments = _LIST

    def __init__(self, table: str, changes: Changes) -> None:
        self.name = f"{table}.list"
        self._changes = changes

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        return Receipt(await asyncio.to_thread(self._list, action))

    def _list(self, action: Action) -> dict[str, Any]:
        spot = self._changes.roots.spot(str(action.arguments["path"]), root_too=True)
        after = str(action.arguments.get("after") or "")
        with reaching(str(spot), begun=False), self._changes.roots.folder(spot) as folder:
            # An open folder has no path to iterate over.
            names = [name for name in os.listdir(folder) if not name.startswith(OURS)]  # noqa: PTH208 - as said
            shown = [name for name in names if _sayable(name)]
            rest = sorted(name for name in shown if name > after)
            entries = [told for name in rest[:NAMES] if (told := _told(folder, Spot(spot.root, (*spot.parts, name))))]
        return {
            "path": str(spot),
            "entries": entries,
            "more": len(rest) > NAMES,
            "unsayable": len(names) - len(shown),  # names that are no text
        }


def about(roots: Roots, path: str, most: int) -> dict[str, Any]:
    """What stands at a path now; with its SHA-256 where it has up to ``most`` bytes."""
    spot = roots.spot(path)
    with reaching(path, begun=False), suppress(Refused), roots.folder(spot.parent) as folder:
        told = _told(folder, spot)
        if told is None:
            return {"kind": "nothing"}
        if told["kind"] == "file" and 0 <= told["bytes"] <= most:
            with disk.held(folder, spot, most) as found:
                if found:
                    told["sha256"] = hex_sha256(found.content)
        return told
    return {"kind": "nothing"}


def encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BadInput("files.text", f"the text cannot be written: {error.reason}", advice="send plain text") from error


def _told(folder: int, spot: Spot) -> dict[str, Any] | None:
    found = status(folder, spot)
    if found is None:
        return None
    told: dict[str, Any] = {"name": spot.name, "kind": "other"}
    if stat.S_ISDIR(found.st_mode):
        told["kind"] = "folder"
    elif stat.S_ISREG(found.st_mode):
        told.update(kind="file", bytes=found.st_size, modified_us=found.st_mtime_ns // 1000)
    return told


def _sayable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
