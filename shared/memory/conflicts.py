"""What was written twice by people who did not know of each other: found from how the item looked to each writer.

A change *writes* a cell (a field of the item) when the cell is another one after it than before it. Of the writers of a
cell those count that no later writer of the same cell knew. Where one of them wrote something else than the item shows,
that is a conflict: both are kept in the document, the same one shows everywhere, and a later write settles it.
Text is different: edits of one text merge, and only a text put in the place of another is a second value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import reduce
from heapq import heapify, heappop, heappush
from operator import or_

import msgspec

Value = str | int | bool | None
Heads = tuple[str, ...]


class Version(msgspec.Struct, frozen=True):
    """One change. ``hash`` and ``actor`` are hex, ``at`` is in µs, ``by`` is what the writer called itself and proves
    nothing; ``parents`` are the hashes of the changes it was made upon."""

    hash: str
    actor: str
    seq: int
    at: int
    by: str
    parents: tuple[str, ...]


class Conflict(msgspec.Struct, frozen=True):
    """A field with several values, as (value, hash of the change, by), the one that shows first. None: it was removed.

    ``field`` is a field of the item, ``fields/NAME`` or ``tags/NAME``.
    """

    field: str
    values: tuple[tuple[Value, str, str], ...]


class Cell(msgspec.Struct, frozen=True):
    """What stands in a field, and which operation put it there. ``text``: what is there is a text that merges."""

    operation: bytes
    value: Value
    text: bool = False


Look = Callable[[Heads], Mapping[str, Cell]]
_ABSENT = Cell(b"", None)


def in_order(versions: Sequence[Version]) -> list[Version]:
    """Changes by their time, but none before one it was made upon. Depends on nothing but the changes."""
    children: dict[str, list[Version]] = {}
    missing = {version.hash: len(version.parents) for version in versions}
    for version in versions:
        for parent in version.parents:
            children.setdefault(parent, []).append(version)
    ready = [(version.at, version.hash, version) for version in versions if not version.parents]
    heapify(ready)
    found = []
    while ready:
        _, name, version = heappop(ready)
        found.append(version)
        for child in children.get(name, ()):
            missing[child.hash] -= 1
            if not missing[child.hash]:
                heappush(ready, (child.at, child.hash, child))
    return found


def find(
    versions: Sequence[Version], touching: Collection[str], shown: Mapping[str, Cell], look: Look
) -> list[Conflict]:
    """The conflicts of an item, by name. ``versions`` are all its changes, each after those it was made upon, and
    ``touching`` the hashes of those that may have written a cell; ``shown`` is how the item looks now and
    ``look(heads)`` how it looked to somebody who knew these changes and those before them."""
    start = _first_fork(versions)
    if start is None:
        return []
    known = _known(versions[start:], touching)
    after: dict[str, Mapping[str, Cell]] = {}
    writers: dict[str, list[Version]] = {}
    for version in versions[start:]:
        if version.hash in touching:
            before = look(version.parents)
            after[version.hash] = look((version.hash,))
            for name in {**before, **after[version.hash]}:
                if before.get(name, _ABSENT) != after[version.hash].get(name, _ABSENT):
                    writers.setdefault(name, []).append(version)
    found = []
    for name, wrote in sorted(writers.items()):
        settled = reduce(or_, (known[version.hash][0] for version in wrote))
        last = [version for version in wrote if not settled & known[version.hash][1]]
        values = [(after[version.hash].get(name, _ABSENT), version) for version in last]
        if told := _told(name, shown.get(name, _ABSENT), values):
            found.append(Conflict(name, told))
    return found


def _told(name: str, shown: Cell, values: list[tuple[Cell, Version]]) -> tuple[tuple[Value, str, str], ...]:
    """The values of a conflict, or nothing where there is none."""
    if name.startswith("tags/"):  # a set: adding wins
        values = [(cell, version) for cell, version in values if cell.value is not None or shown.value is None]
    values.sort(
        key=lambda value: (value[1].at, value[1].hash)
    )  # of those who wrote the same, the latest stands for all
    same = [version for cell, version in values if cell.operation == shown.operation]
    other = {cell.value: version for cell, version in values if not _merged(cell, shown)}
    if not other:
        return ()
    first = (shown.value, same[-1].hash, same[-1].by) if same else (shown.value, "", "")
    rest = sorted((version.hash, version.by, value) for value, version in other.items())
    return (first, *((value, name, by) for name, by, value in rest))


def _merged(cell: Cell, shown: Cell) -> bool:
    """Whether what somebody wrote is what shows, or has gone into it."""
    return cell.value == shown.value or (cell.text and cell.operation == shown.operation)


def _first_fork(versions: Sequence[Version]) -> int | None:
    """From which change on there are some made apart. None where each was made upon the one before."""
    place = {version.hash: number for number, version in enumerate(versions)}
    start: int | None = None
    for number, version in enumerate(versions):
        newest = max((place[parent] for parent in version.parents), default=-1)
        if len(version.parents) > 1 or newest != number - 1:
            start = newest + 1 if start is None else min(start, newest + 1)
    return start


def _known(versions: Sequence[Version], touching: Collection[str]) -> dict[str, tuple[int, int]]:
    """For each change those of ``touching`` that its writer knew, as bits, and its own bit."""
    known: dict[str, tuple[int, int]] = {}
    bit = 1
    for version in versions:
        bits = 0
        for before, own in (known[parent] for parent in version.parents if parent in known):
            bits |= before | own
        known[version.hash] = (bits, bit if version.hash in touching else 0)
        bit <<= version.hash in touching
    return known
