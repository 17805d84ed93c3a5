"""Items leave and come back: as JSON Lines, which lose nothing, or as Markdown, which a person reads and edits.

JSON Lines: one item a line, with its id, what it says, and its changes where the history is wanted too:

    {"form":1,"id":"mem_…","item":{"kind":"note","text":"…",…},"changes":["base64 of a change",…]}

Markdown: one document. Each item begins with a front matter of ``name: value`` lines between two lines of three
hyphens, the values in JSON, which is YAML too; then come an empty line and the text. A line of the text that is itself
three hyphens has a backslash before it. What is as usual is left out, and so is the history.

Changes that come in this way were written by others: they must be screened before they are opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from shared.codec import b64, unb64
from shared.errors import BadInput
from shared.memory.item import Item, check

FORM = 1
_ID = re.compile(r"mem_[0-9a-f]{24}")
_RULE = "---"
_QUOTED = re.compile(r"\\*---")
_NAME = re.compile(r"[a-z_]+")
_USUAL = msgspec.structs.asdict(Item(kind="note", text="x", source=""))
_HEAD = ("kind", "source", "scope", "tags", "fields", "subject", "sensitivity", "confidence", "pinned")
_TIMES = ("valid_from", "expires_at")


class Exported(msgspec.Struct, frozen=True):
    """An item on its way. ``id`` is empty where a person wrote the item into a file; ``chunks`` are its changes, oldest
    first, and say the same as ``item``, or there are none."""

    id: str
    item: Item
    chunks: tuple[bytes, ...] = ()


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    form: int
    id: str
    item: Item
    changes: list[str] = msgspec.field(default_factory=list)


def to_lines(items: Iterable[Exported]) -> Iterator[bytes]:
    """JSON Lines, each with its newline."""
    for one in items:
        yield msgspec.json.encode(_Line(FORM, one.id, one.item, [b64(chunk) for chunk in one.chunks])) + b"\n"


def from_lines(lines: Iterable[bytes], name: str) -> Iterator[Exported]:
    """Items from JSON Lines; empty lines are passed over. Raises ``BadInput('memory.import')`` with the line of the
    file ``name``, when it gets there: whoever takes all or nothing must take all before keeping any."""
    for _, one in each_line(lines, name):
        if isinstance(one, BadInput):
            raise one
        yield one


def each_line(lines: Iterable[bytes], name: str) -> Iterator[tuple[int, Exported | BadInput]]:
    """The same, line by line with its number, for whoever takes the good ones: what is wrong with a line is told in
    its place."""
    known: set[str] = set()
    for number, line in enumerate(lines, 1):
        plain = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip()
        if not plain:
            continue
        try:
            yield number, _read_line(plain, known, f"{name} line {number}")
        except BadInput as error:
            yield number, error


def _read_line(plain: bytes, known: set[str], where: str) -> Exported:
    try:
        found = msgspec.json.decode(plain, type=_Line)
        chunks = tuple(unb64(change, what="a change") for change in found.changes)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _bad(f"this is no item: {error}", where) from error
    except BadInput as error:
        raise _bad(error.message, where) from error
    if found.form != FORM:
        raise _bad(f"this is form {found.form}, not {FORM}", where)
    if not found.id:
        raise _bad("an item has no id", where)
    return _checked(Exported(found.id, found.item, chunks), known, where)


def to_markdown(items: Iterable[Exported]) -> Iterator[str]:
    """Markdown, in pieces to be written one after the other, as UTF-8 and without touching the ends of lines."""
    for number, one in enumerate(items):
        said = msgspec.structs.asdict(one.item)
        kept = {name: said[name] for name in (*_HEAD, *_TIMES) if said[name] != _USUAL[name] or name == "kind"}
        head = [f"{name}: {msgspec.json.encode(value).decode()}" for name, value in {"id": one.id, **kept}.items()]
        text = "\n".join(f"\\{line}" if _QUOTED.fullmatch(line) else line for line in one.item.text.split("\n"))
        start = "\n" if number else ""
        yield "\n".join([start + _RULE, *head, _RULE, "", text, ""])


def from_markdown(text: str, name: str) -> list[Exported]:
    """Items from Markdown. Names that are left out are as usual; without an ``id`` it is a new item. Raises
    ``BadInput('memory.import')`` with the line of the file ``name``."""
    lines = text.removeprefix("\ufeff").split("\n")
    if all(line.endswith("\r") for line in lines[:-1]):  # the file went through Windows
        lines = [line.removesuffix("\r") for line in lines]
    rules = [number for number, line in enumerate(lines) if line == _RULE]
    for number, line in enumerate(lines[: rules[0] if rules else len(lines)], 1):
        if line.strip():
            raise _bad("there is text before the first item", f"{name} line {number}")
    if len(rules) % 2:
        raise _bad("a front matter does not end", f"{name} line {rules[-1] + 1}")
    known: set[str] = set()
    found = []
    for place in range(0, len(rules), 2):
        first, last = rules[place : place + 2]
        head = _head(lines[first + 1 : last], first + 2, name)
        until = rules[place + 2] if place + 2 < len(rules) else len(lines)
        said = _text(lines[last + 1 : until])
        where = f"{name} line {first + 1}"
        one = head.pop("id", "")
        try:
            item = msgspec.convert({"source": "", **head, "text": said}, Item)
        except msgspec.ValidationError as error:
            raise _bad(str(error), where) from error
        if not isinstance(one, str):
            raise _bad("an id is a text", where)
        found.append(_checked(Exported(one, item), known, where))
    return found


def _head(lines: list[str], first: int, name: str) -> dict[str, Any]:
    """The front matter, whose first line is number ``first``."""
    found: dict[str, Any] = {}
    for number, line in enumerate(lines, first):
        where = f"{name} line {number}"
        if not line.strip():
            continue
        key, _, value = line.partition(":")
        if not _NAME.fullmatch(key) or key not in ("id", *_HEAD, *_TIMES):
            raise _bad(f"{key[:40]!r} is no field of an item", where)
        if key in found:
            raise _bad(f"{key} stands twice", where)
        try:
            found[key] = msgspec.json.decode(value.strip().encode())
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise _bad(f"{key} is not JSON: {error}; texts stand in double quotes", where) from error
    return found


def _text(lines: list[str]) -> str:
    """The text below a front matter, without the empty line before it and the end of the last line after it."""
    if lines and not lines[0]:
        lines = lines[1:]
    if lines and not lines[-1]:
        lines = lines[:-1]
    return "\n".join(line[1:] if line.startswith("\\") and _QUOTED.fullmatch(line) else line for line in lines)


def _checked(one: Exported, known: set[str], where: str) -> Exported:
    if one.id and not _ID.fullmatch(one.id):
        raise _bad(f"{one.id[:40]!r} is no id", where)
    if one.id in known:
        raise _bad(f"{one.id} stands in the file twice", where)
    try:
        check(one.item)
    except BadInput as error:
        raise BadInput("memory.import", error.message, advice=error.advice, where=where) from error
    if one.id:
        known.add(one.id)
    return one


def _bad(said: str, where: str) -> BadInput:
    return BadInput("memory.import", said, advice="mend this line, or export the items again", where=where)
