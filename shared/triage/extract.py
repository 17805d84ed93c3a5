"""Typed fields read out of a description without a model, each with the place it stands at.

A playbook lists the fields of its step:

    fields:
      work_type:  {type: choice, ask: Main work, options: {roofing: ["roof*", "shingle*"], masonry: ["tuckpoint*",
      "brick*"]}} area_sqft:  {type: area} windows:    {type: count, of: ["window*"]}

Types: ``area`` (square feet), ``length`` (linear feet), ``storeys``, ``units``, ``amps``, ``kilowatts`` (whole),
``count`` (a number beside one of the words of ``of``), ``reference`` (the number of an earlier permit), ``scope`` (the
first clause that says something) and ``choice``. A choice that exactly one option's phrases fit is settled here. Where
several fit, the one mentioned first is likely (0.87 of our samples) but not sure, so the choice is *left* for a second
opinion; where none fits, the field stays empty.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from shared.errors import BadInput
from shared.playbook import Playbook
from shared.triage import phrases
from shared.triage.text import Word, clean, split

OPTIONS = 32  # of one choice
SCOPE_CHARS = 120
COUNT_GAP = 2  # words between a number and its noun, as in "12 double hung windows"

_MEASURES = {
    "amp",
    "amps",
    "by",
    "feet",
    "foot",
    "ft",
    "in",
    "inch",
    "inches",
    "kw",
    "lb",
    "lf",
    "of",
    "sf",
    "sq",
    "to",
}

_N = r"(?P<n>\d{1,3}(?:,\d{3}){1,2}|\d{1,7})"
_LETTERS = "|".join(phrases.NUMBERS)
_PATTERNS = {
    "area": re.compile(rf"\b{_N}(?:\.\d+)?\s?-?(?:sq\.?\s?(?:ft|feet|foot)|square\s(?:feet|foot)|sf\b|s\.f\.)", re.I),
    "length": re.compile(rf"\b{_N}(?:\.\d+)?\s?-?(?:linear\s(?:feet|foot|ft)|lin\.?\s?ft|lf\b|l\.f\.)", re.I),
    "storeys": re.compile(rf"\b(?P<n>\d{{1,3}}|{_LETTERS})[\s-]?(?:stor(?:e?ys?|e?ies)\b|sty\b|floors?\b)", re.I),
    "units": re.compile(
        rf"\b(?P<n>\d{{1,4}}|{_LETTERS})[\s-]?(?:(?:dwelling|residential|condo(?:minium)?)\s)?"
        r"(?:units?\b|du\b|d\.u\.|flats?\b|apartments?\b)",
        re.I,
    ),
    "amps": re.compile(rf"\b{_N}\s?-?(?:amps?\b|amperes?\b)", re.I),
    "kilowatts": re.compile(rf"\b{_N}(?:\.\d+)?\s?-?(?:kw\b|kilowatts?\b)", re.I),
}
_REFERENCE = re.compile(
    r"\b(?:permit|application)\s?(?:no\b\.?|number|num\b\.?)?\s?[#:]?\s?(?P<n>[A-Z]{0,3}-?\d{4,12})\b", re.I
)
_CLAUSE = re.compile(r"[^.;*]+")

Kind = Literal["choice", "area", "length", "storeys", "units", "amps", "kilowatts", "count", "reference", "scope"]


class _Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Kind
    options: dict[str, list[str]] = msgspec.field(default_factory=dict)
    ask: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z][A-Za-z ]{0,39}$")] = ""
    of: list[str] = msgspec.field(default_factory=list)


class Field(msgspec.Struct, frozen=True):
    """A checked field. ``options`` maps each value of a choice to its phrases, ``ask`` is what a prompt calls the
    choice; ``of`` holds a count's nouns."""

    name: str
    kind: Kind
    options: dict[str, list[tuple[str, ...]]]
    of: list[tuple[str, ...]]
    ask: str = ""


class Found(msgspec.Struct, frozen=True):
    """A value and the applicant's characters it was read from (half-open, in the cleaned text). ``how`` is ``words``,
    or ``model`` where the language model confirmed it."""

    value: str | int
    start: int
    end: int
    how: str = "words"


class Extraction(msgspec.Struct, frozen=True):
    """``found`` by field; ``left`` holds, for each choice that words did not settle, the options that stand in the text
    with their places, in the order they are first mentioned."""

    found: dict[str, Found]
    left: dict[str, dict[str, tuple[int, int]]]


def read(playbook: Playbook) -> list[Field]:
    """Check the fields of a playbook. Raises ``BadInput('field.form' | 'plan.phrase')`` naming the field."""
    return [_read_one(name, form) for name, form in playbook.fields.items()]


def _read_one(name: str, form: object) -> Field:
    try:
        read_form = msgspec.convert(form, _Form)
    except msgspec.ValidationError as error:
        raise _bad(name, str(error)) from error
    if (read_form.type == "choice") != bool(read_form.options) or len(read_form.options) > OPTIONS:
        raise _bad(name, f"a choice, and only a choice, has 1 to {OPTIONS} options")
    if (read_form.type == "count") != bool(read_form.of):
        raise _bad(name, "a count, and only a count, has `of`")
    for option in read_form.options:
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", option):
            raise _bad(name, f"{option!r} is not an option's name: lower case letters, digits, - and _")
    where = f"fields.{name}"
    options = {key: [phrases.parse(p, where=where) for p in said] for key, said in read_form.options.items()}
    of = [phrases.parse(p, where=where) for p in read_form.of]
    return Field(name, read_form.type, options, of, read_form.ask or name.replace("_", " ").replace("-", " "))


def _bad(name: str, said: str) -> BadInput:
    return BadInput("field.form", said, advice="see the playbook reference, fields", where=f"fields.{name}")


def extract(fields: list[Field], text: str) -> Extraction:
    """Read all fields out of ``text``, which is cleaned first. Never raises: what is not there is not found."""
    text = clean(text)
    tokens = split(text)
    found: dict[str, Found] = {}
    left: dict[str, dict[str, tuple[int, int]]] = {}
    for field in fields:
        if field.kind == "choice":
            fitting = _fits(field, tokens)
            if len(fitting) == 1:
                ((value, place),) = fitting.items()
                found[field.name] = Found(value, *place)
            elif fitting:
                left[field.name] = fitting
        elif (value_found := _typed(field, text, tokens)) is not None:
            found[field.name] = value_found
    return Extraction(found, left)


def _fits(field: Field, tokens: list[Word]) -> dict[str, tuple[int, int]]:
    """The options whose phrases stand in the text, in the order they are first mentioned, with that place."""
    have = [token.text for token in tokens]
    places: list[tuple[int, int, str]] = []
    for option, said in field.options.items():
        ranges = [place for parts in said if (place := phrases.find(parts, have))]
        if ranges:
            start, end = min(ranges)
            places.append((tokens[start].start, tokens[end - 1].end, option))
    return {option: (start, end) for start, end, option in sorted(places)}


def _typed(field: Field, text: str, tokens: list[Word]) -> Found | None:
    if field.kind == "count":
        return _count(field, tokens)
    if field.kind == "scope":
        return _scope(text)
    if field.kind == "reference":
        match = _REFERENCE.search(text)
        return Found(match["n"].upper(), match.start("n"), match.end("n")) if match else None
    match = _PATTERNS[field.kind].search(text)
    if match is None:
        return None
    said = match["n"].replace(",", "").casefold()
    value = phrases.number(said)
    return None if value is None else Found(value, match.start(), match.end())


def _count(field: Field, tokens: list[Word]) -> Found | None:
    """``12 double hung windows`` or ``windows (12)``: the number nearest before a noun, else right after it."""
    have = [token.text for token in tokens]
    for noun in field.of:
        for pattern in (("#", phrases.GAP, *noun), (*noun, "#")):
            place = phrases.find(pattern, have)
            if place is None:
                continue
            at, value = [(at, n) for at in range(*place) if (n := phrases.number(have[at])) is not None][-1]
            between = have[at + 1 : place[1] - len(noun)]
            if len(between) <= COUNT_GAP and not _MEASURES.intersection(between):
                return Found(value, tokens[at if pattern[0] == "#" else place[0]].start, tokens[place[1] - 1].end)
    return None


def _scope(text: str) -> Found | None:
    """The first clause with at least three words; a long one is shortened at its last comma that fits, or at a word."""
    for match in _CLAUSE.finditer(text):
        inner = split(match.group())
        if len(inner) < 3:
            continue
        start = match.start() + inner[0].start
        ends = [match.start() + word.end for word in inner if match.start() + word.end - start <= SCOPE_CHARS]
        if ends:
            end = ends[-1]
            if len(ends) < len(inner):
                comma = text.rfind(",", start, end)
                end = max((place for place in ends[2:] if place <= comma), default=end)
            return Found(text[start:end], start, end)
    return None
