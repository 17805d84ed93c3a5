"""Changes as programs other than ours might write them, made with the codec itself."""

from __future__ import annotations

from typing import Any

from automerge import core

from shared.memory import Item
from shared.memory.document import Document
from shared.memory.item import INTEGERS, STRINGS

Write = tuple[Any, ...]  # what to do, where ("kind" or "fields/lane"), and with what
_KINDS = {str: core.ScalarType.Str, int: core.ScalarType.Int, bool: core.ScalarType.Boolean, float: core.ScalarType.F64}


def change(document: Document, actor: bytes, writes: list[Write]) -> bytes:
    """A change of ``document`` by ``actor`` that the document itself would not make."""
    native = core.Document.load(document.save())
    native.set_actor(actor)
    before = native.get_heads()
    with native.transaction() as tx:
        for write in writes:
            _write(tx, *write)
    (made,) = native.get_changes(before)
    return bytes(made.raw_bytes)


def first_change(item: Item, actor: bytes) -> bytes:
    """An item's first change as the codec writes it, operation by operation, at no time and by nobody."""
    native = core.Document(actor)
    with native.transaction() as tx:
        for name in STRINGS:
            tx.put(core.ROOT, name, core.ScalarType.Str, getattr(item, name))
        for name in INTEGERS:
            tx.put(core.ROOT, name, core.ScalarType.Int, getattr(item, name))
        text = tx.put_object(core.ROOT, "text", core.ObjType.Text)
        for place, letter in enumerate(item.text):
            tx.insert(text, place, core.ScalarType.Str, letter)
        fields = tx.put_object(core.ROOT, "fields", core.ObjType.Map)
        for name, value in sorted(item.fields.items()):
            tx.put(fields, name, core.ScalarType.Str, value)
        tags = tx.put_object(core.ROOT, "tags", core.ObjType.Map)
        for tag in sorted(set(item.tags)):
            tx.put(tags, tag, core.ScalarType.Boolean, True)
        if item.pinned:
            tx.put(core.ROOT, "pinned", core.ScalarType.Boolean, True)
    (made,) = native.get_changes([])
    return bytes(made.raw_bytes)


def _write(tx: core.Transaction, what: str, where: str, value: Any = None) -> None:
    within, _, name = where.rpartition("/")
    found: Any = tx.get(core.ROOT, within) if within else (None, core.ROOT)
    at = found[1]
    if what == "put":
        tx.put(at, name, _KINDS[type(value)], value)
    elif what == "delete":
        tx.delete(at, name)
    elif what == "map":
        tx.put_object(at, name, core.ObjType.Map)
    elif what == "text":
        text = tx.put_object(at, name, core.ObjType.Text)
        for place, letter in enumerate(value):
            tx.insert(text, place, core.ScalarType.Str, letter)
    else:
        assert what == "letters"
        into: Any = tx.get(at, name)
        tx.insert(into[1], 0, core.ScalarType.Str, value)
