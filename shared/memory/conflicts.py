"""What was written twice by people who did not know of each other: found from how the item looked to each writer.

A change *writes* a cell (a field of the item) when the cell is another one after it than before it. Of the writers of a
cell those count that no later writer of the same cell knew. Where one of them wrote something else than the item shows,
that is a conflict: both are kept in the document, the same one shows everywhere, and a later write settles it.
Text is different: edits of one text merge, and only a text put in the place of another is a second value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heapify, heappop, heappush

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


def find(versions: Sequence[Version], shown: Mapping[str, Cell], look: Look) -> list[Conflict]:
    """The conflicts of an item, by name. ``versions`` are all its changes, oldest first; ``shown`` is how it looks now
    and ``look(heads)`` how it looked to somebody who knew these changes and those before them."""
    start = _first_fork(versions)
    if start is None:
        return []
    versions = versions[start:]
    known = _known(versions)
    writers: dict[str, list[int]] = {}
    after: dict[int, Mapping[str, Cell]] = {}
    for place, version in enumerate(versions):
        before = look(version.parents)
        after[place] = look((version.hash,))
        for name in {**before, **after[place]}:
            if before.get(name, _ABSENT) != after[place].get(name, _ABSENT):
                writers.setdefault(name, []).append(place)
    found = []
    for name, places in sorted(writers.items()):
        last = [place for place in places if not any(known[other] >> place & 1 for other in places if other != place)]
        values = [(after[place].get(name, _ABSENT), versions[place]) for place in last]
        if told := _told(name, shown.get(name, _ABSENT), values):
            found.append(Conflict(name, told))
    return found


def _told(name: str, shown: Cell, values: list[tuple[Cell, Version]]) -> tuple[tuple[Value, str, str], ...]:
    """The values of a conflict, or nothing where there is none."""
    if name.startswith("tags/"):  # a set: adding wins
        values = [(cell, version) for cell, version in values if cell.value is not None or shown.value is None]
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


def _known(versions: Sequence[Version]) -> list[int]:
    """For each change the changes its writer knew, as bits."""
    place = {version.hash: number for number, version in enumerate(versions)}
    known: list[int] = []
    for version in versions:
        bits = 0
        for parent in version.parents:
            if parent in place:
                bits |= known[place[parent]] | 1 << place[parent]
        known.append(bits)
    return known
