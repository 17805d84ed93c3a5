"""What a memory item says, and its bounds. Spec page: ``shared/spec/memory.md``."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from shared.codec import hex_sha256
from shared.errors import BadInput

KINDS = ("fact", "note", "document", "brand-rule", "decision", "preference", "contact", "summary")
TEXT_CHARS = 100_000
NAME_CHARS = 1_000  # source, subject, scope, sensitivity, the name of a field, a tag
FIELD_CHARS = 10_000
PARTS = 64  # fields, and as many tags
STRINGS = ("kind", "scope", "source", "sensitivity", "subject")  # in the order in which a document has them
INTEGERS = ("confidence", "valid_from", "expires_at")
EDITED = (*(name for name in STRINGS if name != "scope"), *INTEGERS)  # an item stays in its scope
_NO_LETTER = re.compile("[\x00\ud800-\udfff]")  # NUL, and halves of characters


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an item says. ``scope`` is ``device``, ``person`` or ``team/NAME``; ``source`` says where it came from;
    ``confidence`` is permille; times are microseconds since 1970 UTC, or 0; ``pinned`` is always put before a planner.
    """

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
    pinned: bool = False


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to become of an item. None, or not named: it stays as it is. In ``fields`` None removes one."""

    text: str | None = None
    kind: str | None = None
    source: str | None = None
    sensitivity: str | None = None
    subject: str | None = None
    fields: dict[str, str | None] = msgspec.field(default_factory=dict)
    add_tags: list[str] = msgspec.field(default_factory=list)
    remove_tags: list[str] = msgspec.field(default_factory=list)
    confidence: int | None = None
    valid_from: int | None = None
    expires_at: int | None = None
    pinned: bool | None = None


def applied(item: Item, edit: Edit) -> Item:
    """What an item says after an edit. A tag that is both added and removed is added."""
    changed = {name: value for name in (*EDITED, "text", "pinned") if (value := getattr(edit, name)) is not None}
    fields = {name: value for name, value in {**item.fields, **edit.fields}.items() if value is not None}
    tags = (set(item.tags) - set(edit.remove_tags)) | set(edit.add_tags)
    return msgspec.structs.replace(item, **changed, fields=fields, tags=sorted(tags))


def item_id(item: Item) -> str:
    """An id from what the item says and where it came from, so that importing the same thing twice makes one item."""
    whole = "\n".join(["outrider/item/v1", item.kind, item.scope, item.source, item.text])
    return "mem_" + hex_sha256(whole.encode())[:24]


def new_id(random: Callable[[int], bytes]) -> str:
    """An id for what was written by hand: two people may write the same words. ``random(n)`` gives n random bytes."""
    return "mem_" + random(12).hex()


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
    if any(map(_NO_LETTER.search, (item.text, *names, *item.fields.values()))):
        raise _bad("a text has characters that are none", "remove NULs and broken characters")


def _bad(said: str, advice: str) -> BadInput:
    return BadInput("memory.item", said, advice=advice)
