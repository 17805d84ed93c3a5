"""Looking through a database file for copies that SQLite left behind.

Format: https://sqlite.org/fileformat2.html , section 1.6. A page of a b-tree begins with a header and the places of its
cells; the cells stand at its end, and the middle is unused. When SQLite spreads rows over pages anew it does not clear
that middle, not even with ``secure_delete``. Freed pages and freed cells it does clear.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

_LEAVES, _INNER = (0x0A, 0x0D), (0x02, 0x05)
_WINDOW = 12  # bytes of a text that are looked for, from every such place on
_MOST = 1_000  # things to look for; a larger erasure is worth rewriting the file for
_STEM = 4  # shorter words say nothing


class Pages:
    """A database file, read only."""

    def __init__(self, path: Path) -> None:
        self._handle = path.open("rb", buffering=0)

    def close(self) -> None:
        self._handle.close()

    def unused(self) -> Iterator[bytes]:
        """What stands where no cell is, of each page of a b-tree where that is not only zeros."""
        self._handle.seek(0)
        head = self._handle.read(100)
        size = int.from_bytes(head[16:18], "big")
        size = 65536 if size == 1 else size
        self._handle.seek(0)
        begin = 100  # the first page begins with the file's own header
        while page := self._handle.read(size * 256):
            for at in range(0, len(page), size):
                kind = page[at + begin]
                if kind in _LEAVES or kind in _INNER:
                    cells, start = struct.unpack_from(">HH", page, at + begin + 3)
                    first = at + begin + (12 if kind in _INNER else 8) + 2 * cells
                    middle = page[first : at + (start or 65536)]
                    if middle.count(0) != len(middle):
                        yield middle
                begin = 0


class Traces:
    """What erased items leave if they leave something. ``erased`` is how many were put in."""

    def __init__(self) -> None:
        self.erased = 0
        self._parts: set[bytes] = set()

    def add(self, texts: Iterable[str], stems: Iterable[str]) -> None:
        """Texts of an item, and words that no other item has."""
        for text in texts:
            self._windows(text.encode(), _WINDOW)
        self._parts.update(stem.encode() for stem in stems if len(stem) >= _STEM)

    def add_blobs(self, rows: Iterable[tuple[bytes]]) -> None:
        """Changes and vectors of an item."""
        for (data,) in rows:
            self._windows(data, 2 * _WINDOW)

    def _windows(self, data: bytes, step: int) -> None:
        if len(self._parts) > _MOST or len(data) < _STEM:
            return
        last = max(len(data) - _WINDOW, 0)
        self._parts.update(data[at : at + _WINDOW] for at in (*range(0, last, step), last))

    def found_in(self, pages: Pages) -> bool:
        """Whether some of it stands in the unused parts of the file; true as well where it is too much to look for."""
        if len(self._parts) > _MOST:
            return True
        unused = b"\0".join(pages.unused())
        return any(part in unused for part in self._parts)
