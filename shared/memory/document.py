"""A memory item as one small Automerge document. This module alone touches Automerge.

Spec page: ``shared/spec/memory.md``.

The document's root is a map: ``kind``, ``scope``, ``source``, ``sensitivity``, ``subject`` (strings), ``confidence``
(permille), ``valid_from`` and ``expires_at`` (microseconds, 0 for none), ``text`` (a text object, so that edits merge),
``fields`` (a map of strings) and ``tags`` (a map from tag to true, which is a set that merges). No counters: in this
codec a counter write can crash the process. Every write goes through a transaction, and an item is one change.

Only documents made on this device are opened here. Changes from elsewhere must be screened first.
"""

from __future__ import annotations

import msgspec
from automerge import core

from shared.errors import Tampered
from shared.memory.item import Item, check

_STRINGS = ("kind", "scope", "source", "sensitivity", "subject")
_INTEGERS = ("confidence", "valid_from", "expires_at")


def create(item: Item, actor: bytes) -> bytes:
    """A saved document with the item in it, as one change by ``actor`` (16 bytes, this device and database)."""
    check(item)
    document = core.Document(actor)
    with document.transaction() as tx:
        for name in _STRINGS:
            tx.put(core.ROOT, name, core.ScalarType.Str, getattr(item, name))
        for name in _INTEGERS:
            tx.put(core.ROOT, name, core.ScalarType.Int, getattr(item, name))
        text = tx.put_object(core.ROOT, "text", core.ObjType.Text)
        for place, letter in enumerate(item.text):  # this codec has no splice; the letters still make one change
            tx.insert(text, place, core.ScalarType.Str, letter)
        fields = tx.put_object(core.ROOT, "fields", core.ObjType.Map)
        for name, value in sorted(item.fields.items()):
            tx.put(fields, name, core.ScalarType.Str, value)
        tags = tx.put_object(core.ROOT, "tags", core.ObjType.Map)
        for tag in sorted(set(item.tags)):
            tx.put(tags, tag, core.ScalarType.Boolean, True)
    return bytes(document.save())


def open_item(saved: bytes) -> Item:
    """Read a document this device made. Raises ``Tampered('memory.document')`` when it does not open."""
    try:
        document = core.Document.load(saved)
        strings = {name: str(_scalar(document, core.ROOT, name)) for name in _STRINGS}
        integers = {name: int(str(_scalar(document, core.ROOT, name))) for name in _INTEGERS}
        text = document.text(_object(document, "text"))
        fields_at, tags_at = _object(document, "fields"), _object(document, "tags")
        fields = {name: str(_scalar(document, fields_at, name)) for name in document.keys(fields_at)}
        tags = sorted(document.keys(tags_at))
    # BaseException: the codec is native, and its panics do not derive from Exception.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise Tampered(
            "memory.document", "a memory item does not open", advice="restore memory from a backup"
        ) from error
    return msgspec.convert({**strings, **integers, "text": text, "fields": fields, "tags": tags}, Item)


def _scalar(document: core.Document, at: bytes, name: str) -> object:
    found = document.get(at, name)
    if found is None or not isinstance(found[0], tuple):
        raise Tampered("memory.document", f"a memory item lacks {name}", advice="restore memory from a backup")
    return found[0][1]


def _object(document: core.Document, name: str) -> bytes:
    found = document.get(core.ROOT, name)
    if found is None or isinstance(found[0], tuple):
        raise Tampered("memory.document", f"a memory item lacks {name}", advice="restore memory from a backup")
    return found[1]
