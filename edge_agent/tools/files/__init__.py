"""Files: write, move, trash and restore, read and list, inside the roots that the person at this computer named.

    [site]
    kind = "files"
    roots = {pages = "/srv/site/pages", drafts = "/home/ana/drafts"}
    max_bytes = 10_000_000

gives ``site.write``, ``site.move``, ``site.trash``, ``site.restore``, ``site.read`` and ``site.list``. A path is
written ``pages/2026/offer.md``: the root's name first.

A key acts once and can be asked, across a crash at any point (``changes``). What is overwritten or trashed is kept by
the adapter itself and never deleted, so every change can be restored exactly as long as nobody changed the file since:
content, permission bits and time of modification. Owners and extended attributes are not.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any, ClassVar

import msgspec

from edge_agent.tools import Argument, Effect, Receipt, Risk, Tool, build, check_arguments
from edge_agent.tools.build import Place
from edge_agent.tools.files import reading
from edge_agent.tools.files.changes import Changes, Details
from edge_agent.tools.files.ledger import Ledger
from edge_agent.tools.files.paths import Roots
from shared.actions import Action
from shared.codec import hex_sha256
from shared.errors import Refused

_PATH = Argument(about="root-name/folder/file")
_EXPECTED = Argument(
    required=False, about="SHA-256 of what stands there now, or 'nothing'; refused where it is otherwise"
)
_WRITE = {"path": _PATH, "text": Argument(about="the whole new content"), "expected": _EXPECTED}
_MOVE = {"from": _PATH, "to": _PATH}
_TRASH = {"path": _PATH}
_RESTORE = {"entry": Argument(about="entry of a receipt")}


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``roots``: absolute folders by name. ``max_bytes``: the largest file that is read, written, or kept."""

    roots: dict[str, str]
    max_bytes: int = 10_000_000


def make(place: Place, given: dict[str, Any]) -> list[Tool]:
    """The tools of one table. Raises ``BadInput('tools.setting')``, ``BadInput('files.roots')``."""
    changes = open_changes(place, build.settings(Settings, place, given))
    return [kind(place.name, changes) for kind in (Write, Move, Trash, Restore, reading.Read, reading.List)]


def open_changes(place: Place, given: Settings) -> Changes:
    """The changes of one table, for this adapter and for others that work on files."""
    roots = Roots(given.roots, where=f"tools.toml [{place.name}]")
    return Changes(roots, Ledger(place.state), max_bytes=given.max_bytes, now=place.now)


class Changing(Tool):
    """A tool that changes files through ``Changes``: once a key, askable, and undone by the same table's restore."""

    verb: ClassVar[str]
    effect: Effect = "reversible"
    idempotent = True
    askable = True

    def __init__(self, table: str, changes: Changes) -> None:
        self.name = f"{table}.{self.verb}"
        self._table = table
        self._changes = changes

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        return Receipt(await asyncio.to_thread(self.change, action, key))

    @abstractmethod
    def change(self, action: Action, key: str) -> Details:
        """Do it; the receipt."""

    async def ask(self, key: str, action: Action) -> Receipt | None:
        known = await asyncio.to_thread(self._changes.known, key)
        return None if known is None else Receipt(known)

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        return await asyncio.to_thread(self.look, receipt)

    def look(self, receipt: Details) -> tuple[bool, Details]:
        """Whether the disk is as the receipt says."""
        if "to" in receipt:
            found = reading.about(self._changes.roots, receipt["to"], 0)
            gone = reading.about(self._changes.roots, receipt["from"], 0)["kind"] == "nothing"
            wanted = {name: receipt[name] for name in ("bytes", "modified_us")}
            return gone and {name: found.get(name) for name in wanted} == wanted, {**found, "first_is_gone": gone}
        found = reading.about(self._changes.roots, receipt["path"], receipt["bytes"])
        wanted_sha = None if self._leaves_nothing(receipt) else receipt["sha256"]
        return (found["kind"] == "nothing") if wanted_sha is None else (found.get("sha256") == wanted_sha), found

    def _leaves_nothing(self, receipt: Details) -> bool:
        return "replaced" not in receipt  # only what leaves a content tells what it replaced

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action:
        return Action(f"{self._table}.restore", {"entry": receipt["entry"]}, action.subject)


class Write(Changing):
    """``TABLE.write``: text into a file, whole."""

    verb = "write"
    about = "Write a text file, new or over the former one, which is kept."
    risk: Risk = "medium"
    arguments = _WRITE

    def change(self, action: Action, key: str) -> Details:
        text, expected = str(action.arguments["text"]), action.arguments.get("expected")
        spot = self._changes.roots.spot(str(action.arguments["path"]))
        content = reading.encoded(text)

        def compute(now: bytes | None) -> tuple[bytes, Details]:
            found = "nothing" if now is None else hex_sha256(now)
            if expected is not None and found != expected:
                raise Refused(
                    "files.changed",
                    f"{spot} is not what was expected: {found}",
                    advice="read it again, and decide again",
                )
            return content, {}

        return self._changes.put(key, spot, compute)


class Move(Changing):
    """``TABLE.move``: another name or folder for a file, never over another file."""

    verb = "move"
    about = "Move or rename a file; the new name must be free."
    risk: Risk = "medium"
    arguments = _MOVE

    def change(self, action: Action, key: str) -> Details:
        spot = self._changes.roots.spot
        return self._changes.move(key, spot(str(action.arguments["from"])), spot(str(action.arguments["to"])))


class Trash(Changing):
    """``TABLE.trash``: take a file away and keep it."""

    verb = "trash"
    about = "Take a file away; it is kept and can be restored."
    risk: Risk = "medium"
    arguments = _TRASH

    def change(self, action: Action, key: str) -> Details:
        return self._changes.remove(key, self._changes.roots.spot(str(action.arguments["path"])))


class Restore(Changing):
    """``TABLE.restore``: take back one earlier change of this table, which may be a restore too."""

    verb = "restore"
    about = "Take back an earlier write, move, trash or restore, named by the entry of its receipt."
    risk: Risk = "low"
    arguments = _RESTORE

    def change(self, action: Action, key: str) -> Details:
        return self._changes.restore(key, str(action.arguments["entry"]))
