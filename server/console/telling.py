"""What a chapter of a run is told with: its words, and careful ways to read what a device sent.

Facts are checked by the fold, but bodies are what a device chose to send: every value is read warily, and text is
escaped by the templates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from server.console import formats
from server.console.catalogue import Wording
from shared.codec import parse
from shared.errors import OutriderError
from shared.keys import Envelope

JSON = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Fact:
    """A name and its value. ``kind``: text, code (shown short, whole on hover), time (``at``), private, absent."""

    name: str
    text: str = ""
    kind: str = "text"
    at: int = 0


@dataclass(frozen=True)
class Source:
    """What a recommendation leans on: a memory item or a rule of the playbook."""

    kind: str
    id: str
    sha256: str
    text: str


@dataclass(frozen=True)
class Told:
    """The words of one entry. ``tone`` names a colour, ``icon`` a picture; ``quote`` is what someone wrote. ``until``
    follows the lead as a time, behind ``until_words``; ``steps`` are a person's work, one after the other; ``child`` is
    the name of another run. ``main`` chapters carry the story; the rest stand back."""

    icon: str
    tone: str
    title: str
    lead: str = ""
    headline: str = ""
    confidence: int = -1
    quote: str = ""
    until: int = 0
    until_words: str = ""
    facts: list[Fact] = field(default_factory=list)
    rules: list[tuple[str, str]] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    context: list[Fact] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    child: str = ""
    main: bool = False


def signed(body: JSON, kind: type[T]) -> T | None:
    """The message in an entry's envelope, for its words: whether it holds was verified when the device and the hub took
    it. ``None`` where it is gone or odd."""
    try:
        envelope = msgspec.convert(mapping(body, "envelope"), Envelope)
        return parse(envelope.payload, kind, code="signed.form", what="the message")
    except (msgspec.ValidationError, OutriderError):
        return None


def text(body: JSON, name: str) -> str:
    found = body.get(name)
    return found if isinstance(found, str) else ""


def mapping(body: JSON, name: str) -> JSON:
    found = body.get(name)
    return found if isinstance(found, dict) else {}


def named_values(values: JSON, words: Wording) -> list[Fact]:
    """A mapping as facts, in the playbook's order; an absent value says so, a lane is named by its label."""
    facts = []
    for name, raw in words.ordered(values):
        if name == "lane" and isinstance(raw, str):
            shown = words.lane(raw)
        elif name.endswith("_at") and isinstance(raw, int):
            shown = formats.exact(raw)
        else:
            shown = formats.value(raw, words.kind(name))
        facts.append(Fact(formats.words(name), shown, "absent" if raw in (None, "") else "text"))
    return facts


def sources(found: Any) -> list[Source]:
    """The sources of a plan's body."""
    kept = [source for source in found if isinstance(source, dict)] if isinstance(found, list) else []
    return [Source(text(s, "kind"), text(s, "id"), text(s, "sha256"), text(s, "text")) for s in kept]


def filled(facts: list[Fact | None]) -> list[Fact]:
    return [fact for fact in facts if fact is not None]


def code(name: str, value: str) -> Fact | None:
    return Fact(name, value, "code") if value else None
