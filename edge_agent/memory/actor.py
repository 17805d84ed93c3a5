"""Under which name this database makes changes, and when it needs another.

Automerge counts the changes of each actor and takes it for granted that two with one number are the same. A database
put back from a backup would break that: it has forgotten changes that others have seen. So each transaction counts up
in the database, and the count and the actor are copied to ``memory.sqlite3-actor`` beside it. A database that has no
such file beside it, or another actor's, or one that is ahead, was copied or put back: it takes a new actor. The file is
not synced: after a power failure it may be behind, which means nothing. Where the file was put back too nothing can be
seen from here; the log beside it then tells the hub, the device joins again, and ``Memory.new_actor`` is called.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from shared.errors import Unavailable

BYTES = 16
_DIGITS = 20


class Beside:
    """The file beside a memory that says how far it was."""

    def __init__(self, path: Path) -> None:
        file = path.with_name(path.name + "-actor")
        try:
            file.touch(mode=0o600)
            self._handle = file.open("r+b", buffering=0)
        except OSError as error:
            raise Unavailable(
                "memory.storage", f"{file}: {error.strerror}", advice="make the agent's home writable for its user"
            ) from error

    def read(self) -> tuple[bytes, int]:
        """The actor and its count; no actor where the file says nothing."""
        self._handle.seek(0)
        actor, _, count = self._handle.read(BYTES * 2 + 1 + _DIGITS).partition(b" ")
        try:
            return bytes.fromhex(actor.decode()), int(count)
        except ValueError:
            return b"", 0

    def write(self, actor: bytes, count: int) -> None:
        """A disk that will not take it does not stop memory: then a new actor is taken, which is always safe."""
        try:
            self._handle.seek(0)
            self._handle.write(f"{actor.hex()} {count:0{_DIGITS}}".encode())
        except OSError:
            return

    def close(self) -> None:
        self._handle.close()


def read(db: sqlite3.Connection) -> tuple[bytes, int]:
    """The actor and the count as the database has them; no actor where it has none yet."""
    found = dict(db.execute("SELECT name, value FROM self WHERE name IN ('actor', 'count')"))
    return bytes(found.get("actor", b"")), int(found["count"])


def stale(inside: tuple[bytes, int], beside: tuple[bytes, int]) -> bool:
    """Whether the database is not the one that was last written here. ``beside`` must have been read first."""
    return not inside[0] or inside[0] != beside[0] or beside[1] > inside[1]
