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

from shared.codec import hex_sha256
from shared.errors import BadInput, Tampered

KINDS = ("fact", "note", "document", "brand-rule", "decision", "preference", "contact", "summary")
TEXT_CHARS = 100_000
NAME_CHARS = 1_000  # source, subject, scope, sensitivity, the name of a field, a tag
FIELD_CHARS = 10_000
PARTS = 64  # fields, and as many tags


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an item says. ``scope`` is ``device``, ``person`` or ``team/NAME``; ``source`` says where it came from."""

    kind: str
    text: str
    source: str
    scope: str = "person"
    fields: dict[str, str] = msgspec.field(default_factory=dict)
    tags: list[str] = msgspec.field(default_factory=list)
    confidence: int = 1000
    sensitivity: str = "normal"
    subject: str = ""
    valid_from: int = 0
    expires_at: int = 0


_STRINGS = ("kind", "scope", "source", "sensitivity", "subject")
_INTEGERS = ("confidence", "valid_from", "expires_at")


def item_id(item: Item) -> str:
    """An id from what the item says and where it came from, so that importing the same thing twice makes one item."""
    whole = "\n".join(["outrider/item/v1", item.kind, item.scope, item.source, item.text])
    return "mem_" + hex_sha256(whole.encode())[:24]


def check(item: Item) -> None:
    """Raise ``BadInput('memory.item')`` unless the item is of a known kind and scope and within bounds."""
    team = item.scope.removeprefix("team/")
    if item.kind not in KINDS:
        raise _bad(f"{item.kind!r} is not a kind", f"use one of {', '.join(KINDS)}")
    if item.scope not in ("device", "person") and (team == item.scope or not team):
        raise _bad(f"{item.scope!r} is not a scope", "use device, person or team/NAME")
    if not item.text or len(item.text) > TEXT_CHARS:
        raise _bad(f"the text has {len(item.text)} characters", f"keep it between 1 and {TEXT_CHARS}")
    if not 0 <= item.confidence <= 1000:
        raise _bad("confidence is permille", "keep it between 0 and 1000")
    if not (0 <= item.valid_from < 2**63 and 0 <= item.expires_at < 2**63):
        raise _bad("a time is out of range", "use microseconds since 1970 UTC, or 0")
    _check_texts(item)


def _check_texts(item: Item) -> None:
    names = [item.source, item.subject, item.scope, item.sensitivity, *item.fields, *item.tags]
    if len(item.fields) > PARTS or len(item.tags) > PARTS:
        raise _bad("it has too many fields or tags", f"keep to {PARTS} of each")
    if any(len(name) > NAME_CHARS for name in names) or not all([*item.fields, *item.tags]):
        raise _bad("a source, subject, field name or tag is empty or too long", f"keep to {NAME_CHARS} characters")
    if any(len(value) > FIELD_CHARS for value in item.fields.values()):
        raise _bad("a field is too long", f"keep to {FIELD_CHARS} characters")
    for text in (item.text, *names, *item.fields.values()):
        if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise _bad("a text has characters that are none", "remove NULs and broken characters")


def _bad(said: str, advice: str) -> BadInput:
    return BadInput("memory.item", said, advice=advice)


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
