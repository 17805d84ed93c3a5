"""XML parts of a workbook, read with the place of each element in the bytes, so that they can be changed in place.

Only what a change needs is replaced; all else stays as the program that wrote it left it. Entities of a document's own
are refused, as workbooks have none and hostile files do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from xml.parsers import expat

from edge_agent.tools.tables.sheet import broken, too_large

ELEMENTS = 300_000  # of one part; each costs some hundred bytes while it is read

_TAG = re.compile(rb"<(?:[^\"'>]|\"[^\"]*\"|'[^']*')*>")
_CODED = re.compile(r"_x([0-9A-Fa-f]{4})_")


@dataclass(slots=True)
class Node:
    """An element: its name without prefix, its attributes, its text, and where it and its start tag stand."""

    name: str
    attributes: dict[str, str]
    start: int
    inside: int = 0  # after the start tag
    outside: int = 0  # where the end tag begins; ``inside`` where there is none
    end: int = 0
    text: str = ""
    nodes: list[Node] = field(default_factory=list)

    def first(self, name: str) -> Node | None:
        return next((node for node in self.nodes if node.name == name), None)

    def all(self, name: str) -> list[Node]:
        return [node for node in self.nodes if node.name == name]


def parse(what: str, raw: bytes) -> Node:
    """The root element. Raises ``Refused('tables.form')``, ``Refused('tables.too-large')``."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        broken(what, "a part is written in UTF-16")
    reader = _Reader(what, raw)
    try:
        reader.parser.Parse(raw, True)
    except expat.ExpatError as error:
        broken(what, f"a part is no XML: {error}")
    return reader.open[0].nodes[0]


class _Reader:
    """Builds the tree while the parser reads."""

    def __init__(self, what: str, raw: bytes) -> None:
        self._what, self._raw, self._count = what, raw, 0
        self.open = [Node("", {}, 0)]
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler, self.parser.EndElementHandler = self._start, self._end
        self.parser.CharacterDataHandler, self.parser.XmlDeclHandler = self._text, self._declared
        self.parser.StartDoctypeDeclHandler = self._doctype

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > ELEMENTS:
            too_large(self._what, f"more than {ELEMENTS} elements in one part")
        node = Node(name.rpartition(":")[2], attributes, self.parser.CurrentByteIndex)
        node.inside = node.outside = _tag_end(self._raw, node.start)
        self.open.append(node)

    def _end(self, _: str) -> None:
        node, at = self.open.pop(), self.parser.CurrentByteIndex
        if at == node.start:  # <c/> is told as a start and an end at one place
            node.end = node.inside
        else:
            node.outside, node.end = at, _tag_end(self._raw, at)
        self.open[-1].nodes.append(node)

    def _text(self, data: str) -> None:
        self.open[-1].text += data

    def _declared(self, _version: str, encoding: str | None, _alone: int) -> None:
        if encoding is not None and encoding.lower() != "utf-8":
            broken(self._what, f"a part is written in {encoding}")

    def _doctype(self, *_: object) -> None:
        broken(self._what, "a part has a document type of its own")


def prefix(raw: bytes, node: Node) -> bytes:
    """``x:`` where the part writes its elements so."""
    name = re.match(rb"<([^\s/>]+)", raw[node.start :])
    return name[1][: -len(node.name)] if name else b""


def with_attribute(tag: bytes, name: str, value: str | None) -> bytes:
    """A start tag with one attribute set, or taken out."""
    bare = re.sub(rb"\s" + name.encode() + rb"\s*=\s*(\"[^\"]*\"|'[^']*')", b"", tag)
    if value is None:
        return bare
    cut = len(bare) - (2 if bare.endswith(b"/>") else 1)
    return bare[:cut].rstrip() + f' {name}="{escape(value)}"'.encode() + bare[cut:]


def splice(raw: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Replace pieces, given as (start, end, new); of two at one place the first given comes first."""
    parts, at = [], 0
    for start, end, new in sorted(changes, key=lambda change: change[:2]):
        parts += [raw[at:start], new]
        at = end
    return b"".join([*parts, raw[at:]])


def written(text: str) -> bytes:
    """A text as it stands in a part. What looks like a coded sign is coded, so that it is read as it was."""
    return escape(_CODED.sub(lambda found: f"_x005F_x{found[1]}_", text), quote=False).encode()


def told(text: str) -> str:
    """The text again, coded signs read."""
    return _CODED.sub(lambda found: chr(int(found[1], 16)), text)


def _tag_end(raw: bytes, at: int) -> int:
    """After the tag that begins at ``at``; a quoted attribute may hold the sign that ends one."""
    found = _TAG.match(raw, at)
    return found.end() if found else len(raw)
