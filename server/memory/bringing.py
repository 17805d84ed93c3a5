"""Items of a file, brought in by a person at the console: read line by line, weighed first, then pushed as by a device.

What is in a file was written by anybody. Each item goes where it says it is of, if the person may write there; its
changes are judged as a device's are; and what was forgotten stays forgotten. One bad line costs itself. In the feed
such changes stand as brought from a file, and by whom: what their history says of its writers, nobody here has seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from server.memory.access import Access
from server.memory.feeds import NO_ROLE, SCOPE_FULL, Feeds
from server.memory.judging import ERASED, OTHER_SCOPE
from server.memory.rows import derived
from shared import limits
from shared.errors import BadInput
from shared.memory.exchange import Exported, each_line, from_markdown
from shared.memory.feed import DEVICE, PERSON, WRITER, Change, change, may
from shared.memory.item import Item, item_id

FROM_FILE = "file:"  # and who brought it: where a record else has the device that it came from
NEW, MORE, KNOWN = "new", "more", "known"
_AT_ONCE = 128  # items in one push
_SAID = {
    ERASED: "it was forgotten for good",
    OTHER_SCOPE: "its history is of another scope",
    SCOPE_FULL: "the scope has no room for more",
}


class Row(msgspec.Struct, frozen=True):
    """One item of a file. ``does`` is ``new``, ``more`` (it is here, and ``changes`` of its changes are not) or
    ``known``; it is empty where ``code`` says why it is not taken. ``scope`` is as the hub names it."""

    where: str
    scope: str = ""
    item: str = ""
    title: str = ""
    does: str = ""
    changes: int = 0
    code: str = ""
    said: str = ""

    def but(self, code: str, said: str = "") -> Row:
        said = said or _SAID.get(code, "its changes are not such as this product makes")
        return msgspec.structs.replace(self, does="", changes=0, code=code, said=said)


@dataclass(frozen=True)
class _Ready:
    """An item that can be weighed. Without its history it is only for who does not have it yet."""

    row: Row
    changes: list[Change]
    whole: bool


class Bringing:
    def __init__(self, feeds: Feeds, access: Access) -> None:
        self._feeds = feeds
        self._access = access

    def weigh(self, data: bytes, name: str, person: str) -> list[Row]:
        """What ``bring`` would do with a file of ``name``: a row for each item, in the order of the file. Raises
        ``BadInput('memory.import')`` where it cannot be read at all, or is too much at once."""
        return [row for row, _ in self._weighed(data, name, person)]

    def bring(self, data: bytes, name: str, person: str) -> list[Row]:
        """Bring in what can be, for a user of the hub, and say of each item what became of it. Doing it again adds
        nothing. Raises as ``weigh``."""
        rows: list[Row] = []
        waiting: list[tuple[Row, list[Change]]] = []
        for row, changes in self._weighed(data, name, person):
            if row.does in (NEW, MORE):
                waiting.append((row, changes))
            rows.append(row)
        refused: dict[tuple[str, str], str] = {}
        for scope, part in _batches(waiting):
            done = self._feeds.push(scope, [one for _, changes in part for one in changes], FROM_FILE + person)
            refused |= {(scope, one.item): one.code for one in done.refused}
        return [row.but(refused[at]) if (at := (row.scope, row.item)) in refused else row for row in rows]

    def _weighed(self, data: bytes, name: str, person: str) -> list[tuple[Row, list[Change]]]:
        found = list(self._ready(_read(data, name), name, person))
        ready = [(one.row, one.changes) for one in found if isinstance(one, _Ready)]
        whole = {(one.row.scope, one.row.item): one.whole for one in found if isinstance(one, _Ready)}
        judged: dict[tuple[str, str], Row] = {}
        for scope, part in _batches(ready):
            judged |= self._judged(scope, part, whole)
        return [
            (judged[one.row.scope, one.row.item], one.changes) if isinstance(one, _Ready) else (one, [])
            for one in found
        ]

    def _judged(
        self, scope: str, part: Sequence[tuple[Row, list[Change]]], whole: dict[tuple[str, str], bool]
    ) -> dict[tuple[str, str], Row]:
        try:
            outcome = self._feeds.weigh(scope, [one for _, changes in part for one in changes])
        except BadInput as error:  # more of one item than a push may have
            return {(scope, row.item): row.but(error.code, error.message) for row, _ in part}
        refused = {one.item: one.code for one in outcome.refused}
        drafts = {draft.item: draft for draft in outcome.drafts}
        found = {}
        for row, _ in part:
            draft = drafts.get(row.item)
            here = draft is None or (draft.known.changes > 0 and not whole[scope, row.item])
            if row.item in refused:
                said = row.but(refused[row.item])
            elif here or draft is None:
                said = msgspec.structs.replace(row, does=KNOWN)
            else:
                does = MORE if draft.known.changes else NEW
                said = msgspec.structs.replace(row, does=does, changes=len(draft.records), title=draft.row["title"])
            found[scope, row.item] = said
        return found

    def _ready(
        self, given: Iterable[tuple[str, Exported | BadInput]], name: str, person: str
    ) -> Iterator[_Ready | Row]:
        roles: dict[str, bool] = {}
        seen: set[tuple[str, str]] = set()
        for where, one in given:
            if isinstance(one, BadInput):
                yield Row(where, code=one.code, said=one.message)
                continue
            item = one.item if one.item.source or one.chunks else msgspec.structs.replace(one.item, source=name)
            scope = f"{PERSON}/{person}" if item.scope == PERSON else item.scope
            row = Row(where, scope, one.id or item_id(item), derived(item)["title"])
            if scope not in roles:
                roles[scope] = may(self._access.role(scope, f"user:{person}"), WRITER)
            if item.scope == DEVICE:
                yield row.but(OTHER_SCOPE, "what is a device's own stays on devices")
            elif not roles[scope]:
                yield row.but(NO_ROLE, f"you may not write what {scope} remembers")
            elif (scope, row.item) in seen:
                yield row.but("memory.import", "it stands in the file twice")
            else:
                seen.add((scope, row.item))
                yield _Ready(row, [change(row.item, chunk) for chunk in one.chunks or _made(item)], bool(one.chunks))


def _read(data: bytes, name: str) -> Iterator[tuple[str, Exported | BadInput]]:
    """The items of a file with their places. JSON Lines begin with a bracket; anything else is Markdown."""
    if len(data) > limits.MEMORY_IMPORT_BYTES:
        raise too_large()
    if data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        found = [(f"line {number}", one) for number, one in each_line(data.splitlines(), name)]
    else:
        try:
            found = [(f"item {n}", one) for n, one in enumerate(from_markdown(data.decode(), name), 1)]
        except UnicodeDecodeError as error:
            raise BadInput("memory.import", f"{name} is not UTF-8", advice="save it as UTF-8") from error
    if not found:
        said = f"there is no item in {name}"
        raise BadInput("memory.import", said, advice="choose a .jsonl or .md of an export")
    if len(found) > limits.MEMORY_IMPORT_ITEMS:
        raise BadInput(
            "memory.import",
            f"{len(found)} items are more than {limits.MEMORY_IMPORT_ITEMS} at once",
            advice="part the file",
        )
    return iter(found)


def too_large() -> BadInput:
    mb = limits.MEMORY_IMPORT_BYTES // 1024**2
    return BadInput("memory.import", f"the file has more than {mb} MB", advice="part it, or import it on a device")


def _made(item: Item) -> list[bytes]:
    """An item without its history is made anew, the same way everywhere."""
    from shared.memory.document import Document

    return Document.imported(item, b"").changes()


def _batches(rows: Iterable[tuple[Row, list[Change]]]) -> Iterator[tuple[str, list[tuple[Row, list[Change]]]]]:
    """By scope, in pushes that are not too large."""
    by_scope: dict[str, list[tuple[Row, list[Change]]]] = {}
    for row, changes in rows:
        by_scope.setdefault(row.scope, []).append((row, changes))
    for scope, all_of in by_scope.items():
        part: list[tuple[Row, list[Change]]] = []
        count = size = 0
        for row, changes in all_of:
            more = sum(len(one.data) for one in changes)
            full = count + len(changes) > limits.MEMORY_BATCH or size + more > limits.MEMORY_BATCH_BYTES
            if part and (full or len(part) == _AT_ONCE):
                yield scope, part
                part, count, size = [], 0, 0
            part.append((row, changes))
            count, size = count + len(changes), size + more
        yield scope, part
