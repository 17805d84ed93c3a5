"""The vectors of all items as one matrix of small integers, and the rows nearest to a question's. Needs numpy.

It is a cache: built from the database when a question first needs it, kept up with each commit of this process, dropped
when another process has written. What is erased is overwritten in place at once. Up to ``PREFILTER`` rows every allowed
row is compared; beyond that the signs of the numbers are compared first, 48 bytes a row, and only the best are compared
in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from edge_agent.memory.moves import Traits
from shared.memory.vector import Embedding

PREFILTER = 50_000
_RESCORED = 6_000
_BLOCK = 4_096  # rows that are unpacked into numbers at a time
_SPARE = 1_024  # rows of room when the matrix grows

Mask = npt.NDArray[np.bool_]
Row = tuple[int, int, int, bytes]  # the item's row number, part, scale, values


class Traited:
    """By row number of the item: by what it is let in. Codes stand for scopes and kinds."""

    def __init__(self, rows: Iterable[tuple[int, Traits]]) -> None:
        self._codes: dict[str, int] = {"": 0}
        self._table: npt.NDArray[np.int64] = np.zeros((4, _SPARE), np.int64)
        for n, traits in rows:
            self.put(n, traits)

    def put(self, n: int, traits: Traits) -> None:
        if n >= self._table.shape[1]:
            wider = np.zeros((4, n + n // 8 + _SPARE), np.int64)
            wider[:, : self._table.shape[1]] = self._table
            self._table = wider
        scope, kind = (self._codes.setdefault(name, len(self._codes)) for name in (traits.scope, traits.kind))
        self._table[:, n] = (scope, kind, traits.expires_at, traits.changed_at)

    def drop(self, n: int) -> None:
        if n < self._table.shape[1]:
            self._table[:, n] = 0

    def allowed(
        self,
        scopes: Sequence[str],
        kinds: Sequence[str],
        since: int,
        until: int,
        now: int | None,
        only: Sequence[int] | None,
    ) -> Mask:
        """A mask over row numbers. Empty ``scopes`` and ``kinds`` let in all; ``now`` leaves out the expired."""
        scope, kind, expires, changed = self._table
        mask: Mask = scope > 0
        for names, column in ((scopes, scope), (kinds, kind)):
            if names:
                mask &= np.isin(column, [self._codes.get(name, -1) for name in names])
        if since:
            mask &= changed >= since
        if until:
            mask &= changed < until
        if now is not None:
            mask &= (expires == 0) | (expires > now)
        if only is not None:
            chosen = np.zeros_like(mask)
            chosen[[n for n in only if n < len(chosen)]] = True
            mask &= chosen
        return mask


class Matrix:
    """The vectors of one model, one row for each passage of an item. A row without an item is free."""

    def __init__(self, model: str, width: int, blocks: Iterable[Sequence[Row]], size: int) -> None:
        """``blocks`` of rows, about ``size`` rows in all; vectors that are not ``width`` long are left out."""
        self.model, self._width = model, width
        self._used = 0
        self._make(size + _SPARE)
        for block in blocks:
            self._load([row for row in block if len(row[3]) == width])

    def put(self, n: int, part: int, vector: Embedding) -> None:
        """Add or replace one vector."""
        if len(vector.values) != self._width:
            return
        taken = np.flatnonzero((self._owner == n) & (self._part == part))
        free = taken if len(taken) else np.flatnonzero(self._owner[: self._used] == 0)
        if not len(free) and self._used == len(self._owner):
            self._grow()
        at = int(free[0]) if len(free) else self._used
        self._used = max(self._used, at + 1)
        self._write(at, [(n, part, vector.scale, vector.values)])

    def drop(self, n: int) -> None:
        """Overwrite all vectors of an item."""
        for at in np.flatnonzero(self._owner == n):
            self._values[at], self._signs[at] = 0, 0
            self._scales[at], self._owner[at], self._part[at] = 0, 0, 0

    def nearest(self, vector: Embedding, allowed: Mask | None, limit: int) -> dict[int, float]:
        """Cosines of the ``limit`` items nearest to ``vector`` (of a long item: of its nearest passage). ``allowed`` is
        a mask over the items' row numbers."""
        if len(vector.values) != self._width:
            return {}
        mask = self._mask(allowed)
        wanted = self._numbers(vector)
        if np.count_nonzero(mask) > PREFILTER:
            distance = np.bitwise_count(self._signs[: self._used] ^ _signs(wanted[None, :])).sum(
                axis=1, dtype=np.uint16
            )
            distance[~mask] = np.iinfo(np.uint16).max
            rows = np.argpartition(distance, min(_RESCORED, len(distance) - 1))[:_RESCORED]
            rows = rows[mask[rows]]
        else:
            rows = np.flatnonzero(mask)
        return self._best(rows, self._cosines(rows, wanted), limit)

    def cosines(self, vector: Embedding, items: Sequence[int]) -> dict[int, float]:
        """Cosines of the given items, those without a vector left out."""
        if len(vector.values) != self._width or not items:
            return {}
        asked = np.zeros(max(int(self._owner.max(initial=0)), *items) + 1, np.bool_)
        asked[list(items)] = True
        rows = np.flatnonzero(self._mask(asked))
        return self._best(rows, self._cosines(rows, self._numbers(vector)), len(rows))

    def _mask(self, allowed: Mask | None) -> Mask:
        """Which rows are vectors of allowed items."""
        owner = self._owner[: self._used]
        found: Mask = owner > 0
        if allowed is not None:
            found &= allowed[np.minimum(owner, len(allowed) - 1)]
            if len(owner) and owner.max() >= len(allowed):
                found &= owner < len(allowed)
        return found

    def _cosines(self, rows: npt.NDArray[np.intp], wanted: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        found = np.empty(len(rows), np.float32)
        for begin in range(0, len(rows), _BLOCK):
            some = rows[begin : begin + _BLOCK]
            found[begin : begin + _BLOCK] = (self._values[some].astype(np.float32) @ wanted) * self._scales[some]
        return found

    def _best(self, rows: npt.NDArray[np.intp], cosines: npt.NDArray[np.float32], limit: int) -> dict[int, float]:
        """The ``limit`` items of the highest cosines. Several rows may be of one item, so more rows are ordered."""
        most = 4 * limit
        while True:
            whole = most >= len(rows)
            top = np.arange(len(rows)) if whole else np.argpartition(-cosines, most)[:most]
            best: dict[int, float] = {}
            for place in top[np.argsort(-cosines[top], kind="stable")]:
                best.setdefault(int(self._owner[rows[place]]), float(cosines[place]))
                if len(best) >= limit:
                    return best
            if whole:
                return best
            most *= 8

    def _numbers(self, vector: Embedding) -> npt.NDArray[np.float32]:
        return np.frombuffer(vector.values, np.int8).astype(np.float32) * np.float32(vector.scale / 1e9)

    def _make(self, room: int) -> None:
        self._values: npt.NDArray[np.int8] = np.zeros((room, self._width), np.int8)
        self._signs: npt.NDArray[np.uint64] = np.zeros((room, -(-self._width // 64)), np.uint64)
        self._scales: npt.NDArray[np.float32] = np.zeros(room, np.float32)
        self._owner: npt.NDArray[np.int32] = np.zeros(room, np.int32)
        self._part: npt.NDArray[np.int16] = np.zeros(room, np.int16)

    def _grow(self) -> None:
        names = ("_values", "_signs", "_scales", "_owner", "_part")
        old = [getattr(self, name) for name in names]
        self._make(self._used + self._used // 8 + _SPARE)
        for name, was in zip(names, old, strict=True):
            getattr(self, name)[: len(was)] = was
            was[:] = 0  # nothing of it stays in memory that was given back

    def _load(self, rows: Sequence[Row]) -> None:
        while self._used + len(rows) > len(self._owner):
            self._grow()
        if rows:
            self._write(self._used, rows)
            self._used += len(rows)

    def _write(self, at: int, rows: Sequence[Row]) -> None:
        place = slice(at, at + len(rows))
        values = np.frombuffer(b"".join(row[3] for row in rows), np.int8).reshape(len(rows), self._width)
        self._values[place] = values
        self._signs[place] = _signs(values)
        self._owner[place], self._part[place] = [row[0] for row in rows], [row[1] for row in rows]
        self._scales[place] = [row[2] / 1e9 for row in rows]


def _signs(values: npt.NDArray[np.int8] | npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """Which numbers are above 0, as bits, 64 to a number."""
    bits = np.packbits(values > 0, axis=1)
    whole = np.zeros((len(bits), -(-values.shape[1] // 64) * 8), np.uint8)
    whole[:, : bits.shape[1]] = bits
    return whole.view(np.uint64)
