"""A memory item as one small Automerge document, with its history. This module and ``scratch`` alone touch Automerge.

Spec page: ``shared/spec/memory.md``.

The document's root is a map: ``kind``, ``scope``, ``source``, ``sensitivity``, ``subject`` (strings), ``confidence``
(permille), ``valid_from`` and ``expires_at`` (microseconds, 0 for none), ``text`` (a text object, so that edits merge),
``fields`` (a map of strings), ``tags`` (a map from tag to true, which is a set that merges) and, where the item was
ever pinned, ``pinned``. No counters: in this codec a counter write can crash the process. Every write goes through a
transaction on a scratch copy, and is one change, stamped with when and by whom before it is added to the document.

Changes from elsewhere must be screened (``screen``, ``scratch``) before they come here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from automerge import core

from shared.codec import canonical
from shared.errors import BadInput, OutriderError, Tampered
from shared.errors import Conflict as NotNow
from shared.memory.chunks import ACTION, ACTIONS, KEY_STR, ParsedChange, read_change
from shared.memory.columns import numbers
from shared.memory.conflicts import Cell, Conflict, Version, find, in_order
from shared.memory.difference import pieces
from shared.memory.feed import change_hash
from shared.memory.first import first_change
from shared.memory.item import EDITED, INTEGERS, STRINGS, Edit, Item, applied, check
from shared.memory.stamp import check_stamp, stamp, written

__all__ = ["NAMES", "Conflict", "Document", "Edit", "Version"]

_NEEDED = frozenset((*STRINGS, *INTEGERS, "text", "fields", "tags"))
NAMES = _NEEDED | {"pinned"}  # all that may stand in a document's root
_STR, _INT, _TRUTH = core.ScalarType.Str, core.ScalarType.Int, core.ScalarType.Boolean
_NUMBERS = (core.ScalarType.Int, core.ScalarType.Uint, core.ScalarType.F64)

Heads = list[bytes] | None


class Document:
    """One item and all its changes. Not for use by several threads at once."""

    def __init__(self, parts: Iterable[bytes], actor: bytes = b"") -> None:
        """Use ``create``, ``imported`` or ``load``."""
        self._parts = list(parts)
        self._actor = actor
        self._native: core.Document | None = None
        self._item: Item | None = None
        self._heads: tuple[str, ...] = ()

    @classmethod
    def create(cls, item: Item, actor: bytes, *, at: int, by: str) -> Document:
        """A new item as one change by ``actor`` (16 random bytes, this device and database), made at ``at`` (µs) by a
        person or ``run ID``. Raises ``BadInput('memory.item')`` or ``BadInput('memory.stamp')``."""
        check(item)
        check_stamp(at, by)
        made = cls([first_change(item, actor, at=at, by=by)], actor)
        made._item = msgspec.structs.replace(item, tags=sorted(set(item.tags)))
        return made

    @classmethod
    def imported(cls, item: Item, actor: bytes) -> Document:
        """A new item from somewhere else, whose id is ``item_id``. Its first change is made of nothing but what the
        item says, so that the same thing imported on two devices is one change; edits are by ``actor``."""
        check(item)
        said = msgspec.to_builtins(msgspec.structs.replace(item, tags=sorted(set(item.tags))))
        if not item.pinned:
            del said["pinned"]
        made = cls.create(item, hashlib.sha256(b"outrider/actor/v1\n" + canonical(said)).digest()[:16], at=0, by="")
        made._actor = actor
        return made

    @classmethod
    def load(cls, chunks: Iterable[bytes], actor: bytes = b"") -> Document:
        """A document from its saved form, single changes, or both, in any order and any number of times. Edits will be
        by ``actor``; without one it is for reading.

        Raises ``Tampered('memory.document')`` where it is not an item, and ``Conflict('memory.incomplete')`` where
        nothing of it can be read because the changes it was made upon are missing.
        """
        document = cls(chunks, actor)
        document.item()
        return document

    def item(self) -> Item:
        """What the item says now. Bounds are not looked at: edits that were each within them may have merged."""
        if self._item is None:
            self._item = _read(self._opened(), None)
        return self._item

    def heads(self) -> tuple[str, ...]:
        """Hashes of the changes that no other was made upon, sorted."""
        return self._heads or tuple(sorted(head.hex() for head in self._opened().get_heads()))

    def history(self) -> list[Version]:
        """Every change, oldest first: after those it was made upon, and in the same order wherever it is asked."""
        return in_order([_version(read_change(chunk)) for chunk in self.changes()])

    def conflicts(self) -> list[Conflict]:
        """Fields written by several who did not know of each other, until a later edit settles them."""
        document = self._opened()
        with _guarded():
            heads = document.get_heads()
            if len(heads) == 1 and all(len(change.deps) < 2 for change in document.get_changes([])):
                return []  # each was made upon the one before
            parsed = [read_change(chunk) for chunk in self.changes()]
            # A change without keys is about letters only, and these merge unless another text took their text's place.
            keyed = {change.hash for change in parsed if KEY_STR in change.columns}
            texts = {(document.get(core.ROOT, "text", [bytes.fromhex(name)]) or (None, None))[1] for name in keyed}
            several = len(texts) > 1
            looks: dict[tuple[str, ...], dict[str, Cell]] = {}

            def look(at: tuple[str, ...]) -> dict[str, Cell]:
                if at not in looks:
                    looks[at] = _cells(document, [bytes.fromhex(head) for head in at], with_text=several)
                return looks[at]

            made = sum(_texts_made(change) for change in parsed)
            touching = keyed if made == 1 else {change.hash for change in parsed}
            shown = _cells(document, heads, with_text=several)
            return find([_version(change) for change in parsed], touching, shown, look)

    def item_at(self, version: str) -> Item:
        """What the item said to whoever made a change, right after it. Raises ``BadInput('memory.version')``."""
        document = self._opened()
        if version not in {change.hash.hex() for change in document.get_changes([])}:
            raise BadInput("memory.version", "the item has no such version", advice="take one from its history")
        return _read(document, [bytes.fromhex(version)])

    def edit(self, edit: Edit, *, at: int, by: str) -> bytes | None:
        """Make a change and return its chunk; None where nothing would change. Setting a field that is in conflict
        settles it. Raises ``BadInput('memory.item')`` where the item would be out of bounds,
        ``BadInput('memory.stamp')`` and ``BadInput('memory.read-only')``."""
        check_stamp(at, by)
        if len(self._actor) != 16:
            raise BadInput("memory.read-only", "the item was opened for reading", advice="open it with an actor")
        item = applied(self.item(), edit)
        check(item)
        contested = {conflict.field for conflict in self.conflicts()}
        with _guarded():
            scratch = self._opened().fork()
            scratch.set_actor(self._actor)
            before = scratch.get_heads()
            with scratch.transaction() as tx:
                _write_edit(tx, edit, contested)
            made = scratch.get_changes(before)
        if not made:
            return None
        chunk = _stamped(made[0], at, by)
        self._parts.append(chunk)
        self._native, self._item, self._heads = None, item, (change_hash(chunk),)  # it was made upon all others
        return chunk

    def restore(self, version: str, *, at: int, by: str) -> bytes | None:
        """Make a change that brings back what the item said at a version; None where it says that already. What came
        in between stays in the history. Raises as ``item_at`` and ``edit``."""
        then, now = self.item_at(version), self.item()
        contested = {conflict.field for conflict in self.conflicts()}
        changed: dict[str, Any] = {
            name: getattr(then, name)
            for name in (*EDITED, "text", "pinned")
            if name in contested or getattr(then, name) != getattr(now, name)
        }
        fields: dict[str, str | None] = {
            name: then.fields.get(name)
            for name in {**then.fields, **now.fields}
            if f"fields/{name}" in contested or then.fields.get(name) != now.fields.get(name)
        }
        tags, had = set(then.tags), set(now.tags)
        edit = Edit(**changed, fields=fields, add_tags=sorted(tags - had), remove_tags=sorted(had - tags))
        return self.edit(edit, at=at, by=by)

    def changes(self) -> list[bytes]:
        """The chunk of every change that is in force, oldest first, not deflated."""
        with _guarded():
            return [bytes(change.raw_bytes) for change in self._opened().get_changes([])]

    def save(self) -> bytes:
        """The whole document, compact; changes that wait for others are in it too."""
        with _guarded():
            return bytes(self._opened().save())

    def merge(self, chunks: Iterable[bytes]) -> Document:
        """This document with more changes, as a new one. Raises as ``load``; this one stays as it is."""
        return Document.load([*self._parts, *chunks], self._actor)

    def _opened(self) -> core.Document:
        if self._native is None:
            self._native = _load(self._parts)
        return self._native


def _load(parts: list[bytes]) -> core.Document:
    try:
        with _guarded():
            return core.Document.load(b"".join(parts))
    except NotNow:
        # Changes may wait for others behind a saved document, but not where the codec is given changes alone.
        begun = [part for part in parts if _begins(part)]
        if not begun:
            raise
        with _guarded():
            return core.Document.load(core.Document.load(b"".join(begun)).save() + b"".join(parts))


def _begins(part: bytes) -> bool:
    try:
        return not read_change(part).deps
    except Tampered:
        return False  # a saved document, or several changes in one


@contextmanager
def _guarded() -> Iterator[None]:
    """Nothing of the codec's leaves this module but as one of our errors."""
    try:
        yield
    # BaseException: the codec is native, and its panics do not derive from Exception.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | OutriderError):
            raise
        if "deps should already be in the document" in str(error):
            code = "memory.incomplete"
            raise NotNow(code, "changes that this one was made upon are missing", advice="wait for them") from error
        raise _odd("a memory item does not open") from error


def _version(change: ParsedChange) -> Version:
    at, by = written(change.time, change.message)
    return Version(change.hash, change.actor, change.seq, at, by, change.deps)


def _texts_made(change: ParsedChange) -> int:
    """How many text objects a change makes: one is made with the item, others come from JavaScript."""
    runs = numbers(change.columns.get(ACTION, b""))
    return sum(times for action, times in runs if action is not None and ACTIONS[action] == "make-text")


def _odd(said: str) -> Tampered:
    return Tampered("memory.document", said, advice="restore memory from a backup")


def _stamped(change: core.Change, at: int, by: str) -> bytes:
    return stamp(
        bytes(change.raw_bytes),
        deps=len(change.deps),
        actor=bytes(change.actor_id),
        seq=change.seq,
        start_op=change.start_op,
        at=at,
        by=by,
    )


# Writing. All that is written between two heads is one change.


def _write_text(tx: core.Transaction, text: str) -> None:
    """A new text, in the place of any that is there."""
    at = tx.put_object(core.ROOT, "text", core.ObjType.Text)
    for place, letter in enumerate(text):  # this codec has no splice; the letters still make one change
        tx.insert(at, place, _STR, letter)


def _write_edit(tx: core.Transaction, edit: Edit, contested: set[str]) -> None:
    for name in EDITED:
        wanted = getattr(edit, name)
        if wanted is not None:
            _put(tx, core.ROOT, name, _STR if isinstance(wanted, str) else _INT, wanted, again=name in contested)
    if edit.pinned is not None and (edit.pinned or tx.get(core.ROOT, "pinned") is not None):
        _put(tx, core.ROOT, "pinned", _TRUTH, edit.pinned, again="pinned" in contested)
    if edit.text is not None:
        _edit_text(tx, edit.text, again="text" in contested)
    fields, tags = (_object_id(tx.get(core.ROOT, name), name) for name in ("fields", "tags"))
    for name, value in sorted(edit.fields.items()):
        if value is not None:
            _put(tx, fields, name, _STR, value, again=f"fields/{name}" in contested)
        elif tx.get(fields, name) is not None:
            tx.delete(fields, name)
    for tag in sorted(set(edit.remove_tags) - set(edit.add_tags)):
        if tx.get(tags, tag) is not None:
            tx.delete(tags, tag)
    for tag in sorted(set(edit.add_tags)):
        _put(tx, tags, tag, _TRUTH, True, again=False)


def _put(tx: core.Transaction, at: bytes, name: str, kind: core.ScalarType, value: Any, *, again: bool) -> None:
    """Put a value where another stands; the same one only ``again``, which settles a conflict."""
    found = tx.get(at, name)
    if found is not None:
        if found[0] == (kind, value) and not again:
            return
        if again:
            tx.delete(at, name)  # the codec leaves out a write of the value that stands there
    tx.put(at, name, kind, value)


def _edit_text(tx: core.Transaction, wanted: str, *, again: bool) -> None:
    at = _object_id(tx.get(core.ROOT, "text"), "text")
    if not again:
        for start, end, text in pieces(tx.text(at), wanted):
            # What is new first: the codec takes thirty times as long to insert behind letters that were just deleted.
            for place, letter in enumerate(text, start):
                tx.insert(at, place, _STR, letter)
            for _ in range(start, end):
                tx.delete(at, start + len(text))
    # Others may have written several letters as one, and these cannot be told apart from outside.
    if again or tx.text(at) != wanted:
        _write_text(tx, wanted)


# Reading, as the item is or as it was at some heads.


def _read(document: core.Document, heads: Heads) -> Item:
    """Raises ``Tampered('memory.document')`` unless the document is an item."""
    with _guarded():
        root = _entries(document, core.ROOT, heads)
        if root.keys() - {"pinned"} != _NEEDED:
            raise _odd("a memory item lacks a field or has one too many")
        fields = _entries(document, _object_id(root["fields"], "fields"), heads)
        tags = _entries(document, _object_id(root["tags"], "tags"), heads)
        if not all(_scalar(found, tag, _TRUTH) for tag, found in tags.items()):
            raise _odd("a memory item has a tag that is not set")
        plain: dict[str, Any] = {name: _string(document, root[name], name, heads) for name in STRINGS}
        plain |= {name: _integer(root[name], name) for name in INTEGERS}
        return Item(
            **plain,
            text=document.text(_object_id(root["text"], "text"), heads),
            fields={name: _string(document, found, name, heads) for name, found in fields.items()},
            tags=sorted(tags),
            pinned="pinned" in root and _scalar(root["pinned"], "pinned", _TRUTH),
        )


def _cells(document: core.Document, heads: list[bytes], *, with_text: bool) -> dict[str, Cell]:
    """The fields of the item, each with what wrote it. A value that was overruled may be of any kind."""
    cells = {}
    for name, found in _entries(document, core.ROOT, heads).items():
        if name in ("fields", "tags") and found[0] == core.ObjType.Map:
            for key, inner in _entries(document, found[1], heads).items():
                cells[f"{name}/{key}"] = _cell(document, inner, heads)
        elif name != "text" or with_text:
            cells[name] = _cell(document, found, heads)
    return cells


def _entries(document: core.Document, at: bytes, heads: Heads) -> dict[str, Any]:
    """A whole map: what stands under each name, and the operation that put it there. Asking name by name is slower."""
    return dict(zip(document.keys(at, heads), document.values(at, heads), strict=True))


def _cell(document: core.Document, found: Any, heads: list[bytes]) -> Cell:
    value, operation = found
    if value == core.ObjType.Text:
        return Cell(operation, document.text(operation, heads), text=True)
    plain = value[1] if isinstance(value, tuple) else None
    return Cell(operation, plain if isinstance(plain, str | int) else None)


def _string(document: core.Document, found: Any, name: str, heads: Heads) -> str:
    """A string. JavaScript writes its plain strings as texts."""
    if found[0] == core.ObjType.Text:
        return str(document.text(found[1], heads))
    return str(_scalar(found, name, _STR))


def _integer(found: Any, name: str) -> int:
    """An integer. JavaScript writes 0 as a float where it makes a document."""
    value = _scalar(found, name, *_NUMBERS)
    if isinstance(value, float) and value:
        raise _odd(f"a memory item has no proper {name}")
    return int(value)


def _scalar(found: Any, name: str, *kinds: core.ScalarType) -> Any:
    if not isinstance(found[0], tuple) or found[0][0] not in kinds:
        raise _odd(f"a memory item has no proper {name}")
    return found[0][1]


def _object_id(found: Any, name: str) -> bytes:
    wanted = core.ObjType.Text if name == "text" else core.ObjType.Map
    if found is None or found[0] != wanted:
        raise _odd(f"a memory item has no proper {name}")
    return bytes(found[1])
