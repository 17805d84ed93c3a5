"""Find personal data, put something else in its place, and say exactly what would leave."""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal

import msgspec

from shared.redaction.finding import Span, settle, shadow

KINDS = (
    *("EMAIL", "PHONE", "IBAN", "CARD", "ACCOUNT", "SSN", "TAX-ID", "NATIONAL-ID", "VEHICLE", "BIRTHDATE", "IP", "MAC"),
    *("SECRET", "ADDRESS", "NAME", "TERM"),
)
Style = Literal["numbered", "kind", "blank"]
Recogniser = Callable[[str], Iterable[Span]]

_DIGIT = re.compile(r"\d")
TERMS = 2_000
TERM_CHARS = 200

Term = Annotated[str, msgspec.Meta(min_length=2, max_length=TERM_CHARS)]


class Redaction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may leave, and what is replaced in it. ``allow`` lists fields by name (``fields/*`` stands for all fields);
    a field not listed stays. ``dictionary`` lists the owner's own names and terms. ``keep`` lists kinds that are left
    as they are. Findings below ``floor`` (permille) are left. ``style``: ``numbered`` (``[EMAIL-1]``, the same value
    the same number), ``kind`` (``[EMAIL]``) or ``blank`` (``[...]``)."""

    allow: list[Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]] = msgspec.field(default_factory=list)
    dictionary: Annotated[list[Term], msgspec.Meta(max_length=TERMS)] = msgspec.field(default_factory=list)
    keep: list[str] = msgspec.field(default_factory=list)
    floor: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 500
    style: Style = "numbered"


class Replaced(msgspec.Struct, frozen=True):
    """One finding in a field that leaves: its place in the original, and what stands there instead."""

    field: str
    span: Span
    placeholder: str


class Withheld(msgspec.Struct, frozen=True):
    """A field that stays, and why: ``not-allowed``, or ``sensitivity``."""

    field: str
    why: str


class Preview(msgspec.Struct, frozen=True):
    """Exactly what would leave (``sent``, by field), what would not, and what was replaced."""

    sent: dict[str, str]
    withheld: list[Withheld]
    replaced: list[Replaced]


def find(text: str, rules: Redaction | None = None, also: Iterable[Recogniser] = ()) -> list[Span]:
    """Personal data in ``text``: spans that do not overlap, in order. ``also`` are further recognisers, as one that
    uses a language model. Raises ``BadInput('redaction.too-long')``."""
    # A hundred patterns take a fifth of a second to compile: not before a text is to be searched.
    from shared.redaction.addresses import emails, networks, postal, secrets
    from shared.redaction.names import names
    from shared.redaction.numbers import accounts, births, identities, phones

    rules = rules or Redaction()
    shade = shadow(text)
    read = shade.text
    spans = [*emails(read), *secrets(read), *names(read), *_terms(read, rules.dictionary)]
    if _DIGIT.search(read):
        spans += [*phones(read), *accounts(read), *identities(read), *births(read), *networks(read), *postal(read)]
    elif ":" in read:
        spans += networks(read)
    for recogniser in also:
        spans += recogniser(read)
    spans = [s for s in spans if s.end > s.start and s.kind not in rules.keep and s.confidence >= rules.floor]
    return [shade.original(span) for span in settle(spans, read)]


def _terms(text: str, dictionary: list[str]) -> Iterable[Span]:
    """The owner's own terms, whatever their case; whole words only."""
    terms = sorted({shadow(term).text.strip() for term in dictionary} - {""}, key=lambda term: (-len(term), term))
    if not terms:
        return
    every = "|".join(r"\s{1,3}".join(re.escape(word) for word in term.split()) for term in terms)
    for match in re.finditer(rf"(?<!\w)(?:{every})(?!\w)", text, re.I):
        yield Span(*match.span(), "TERM", "dictionary", 1000)


class Placeholders:
    """What stands for each value. The same value has the same placeholder through all texts that are replaced with one
    ``Placeholders``; numbers that stand in a text already are not given out."""

    def __init__(self, style: Style = "numbered") -> None:
        self._style = style
        self._given: dict[tuple[str, str], str] = {}
        self._next: dict[str, int] = {}
        self._taken: set[str] = set()

    def avoid(self, text: str) -> None:
        self._taken.update(re.findall(r"\[[A-Z-]{2,16}-\d{1,6}\]", text))

    def of(self, kind: str, value: str) -> str:
        if self._style == "blank":
            return "[...]"
        if self._style == "kind":
            return f"[{kind}]"
        key = kind, _same(kind, value)
        while key not in self._given:
            number = self._next[kind] = self._next.get(kind, 0) + 1
            if f"[{kind}-{number}]" not in self._taken:
                self._given[key] = f"[{kind}-{number}]"
        return self._given[key]


def _same(kind: str, value: str) -> str:
    """Two spellings of one value have the same key: ``(312) 555-0123`` and ``312.555.0123``."""
    folded = unicodedata.normalize("NFKC", value).casefold()
    if kind in ("PHONE", "IBAN", "CARD", "ACCOUNT", "SSN", "TAX-ID", "NATIONAL-ID", "VEHICLE", "MAC"):
        return re.sub(r"[^0-9a-z]", "", folded)
    return " ".join(folded.split())


def redact(text: str, findings: Iterable[Span], style: Style | Placeholders = "numbered") -> str:
    """``text`` with something else in the place of each finding. Findings are as ``find`` gives them: in order, without
    overlaps."""
    placeholders = style if isinstance(style, Placeholders) else Placeholders(style)
    placeholders.avoid(text)
    parts, at = [], 0
    for span in findings:
        parts += [text[at : span.start], placeholders.of(span.kind, text[span.start : span.end])]
        at = span.end
    return "".join([*parts, text[at:]])


def leaving(fields: Mapping[str, str], rules: Redaction, also: Iterable[Recogniser] = ()) -> Preview:
    """What of ``fields`` would leave under ``rules``: first only the fields that may, then without personal data."""
    also = tuple(also)
    sent: dict[str, str] = {}
    withheld: list[Withheld] = []
    replaced: list[Replaced] = []
    placeholders = Placeholders(rules.style)
    allowed = {name: value for name, value in fields.items() if allows(name, rules)}
    for value in allowed.values():
        placeholders.avoid(value)
    for name, value in fields.items():
        if name not in allowed:
            withheld.append(Withheld(name, "not-allowed"))
            continue
        spans = find(value, rules, also)
        sent[name] = redact(value, spans, placeholders)
        replaced += [Replaced(name, s, placeholders.of(s.kind, value[s.start : s.end])) for s in spans]
    return Preview(sent, withheld, replaced)


def allows(name: str, rules: Redaction) -> bool:
    """Whether the field is on the list of those that may leave."""
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in rules.allow)
