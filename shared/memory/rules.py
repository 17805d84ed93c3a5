"""Memory rules: how long items live, when they are looked at again, and what of them may leave. Part of a release.

A file of rules, ``memory.yaml``:

    memory: 1
    expire:
      - {kinds: [note], scopes: [device, team/*], after: 90d}
    review:
      - {kinds: [fact, contact], after: 180d}
    sessions: {summarise: 7d, expire: 30d}
    leave:
      allow: [text, source, "fields/*"]
      dictionary: [Project Falcon]
    never: [secret, health]
    duplicates: {alike: 850}

Everything but ``memory`` may be left out. Where several rules fit an item the shortest time holds. Nothing here acts:
these are pure functions that say what should be done.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from shared import plainyaml
from shared.errors import BadInput
from shared.memory.item import KINDS, Item
from shared.redaction import KINDS as FOUND
from shared.redaction import Preview, Recogniser, Redaction, Withheld, find, leaving

After = Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,4}[hd]\Z")]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
_RULES = 200
_HOUR = 3_600_000_000
_SCOPE = re.compile(r"device|person|team/[^\x00-\x1f]{1,995}|\*")


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every part: unknown fields are errors."""


class Expire(_Part, frozen=True):
    """Items of these kinds and scopes (``team/*`` is any team; none named: all) live so long."""

    after: After
    kinds: list[str] = msgspec.field(default_factory=list)
    scopes: list[str] = msgspec.field(default_factory=list)


class Review(_Part, frozen=True):
    """Items of these kinds are to be looked at again when they have not changed for so long."""

    after: After
    kinds: list[str] = msgspec.field(default_factory=list)


class Sessions(_Part, frozen=True):
    """A session that rests for ``summarise`` becomes items of kind ``summary``; its turns go at ``expire``."""

    summarise: After = "7d"
    expire: After = "30d"


class Duplicates(_Part, frozen=True):
    """How alike two texts are before a merge is proposed, in permille."""

    alike: Annotated[int, msgspec.Meta(ge=500, le=1000)] = 850


class MemoryRules(_Part, frozen=True):
    """The rules of one release. Items whose sensitivity is one of the words of ``never`` stay where they are."""

    memory: Literal[1] = 1
    expire: Annotated[list[Expire], msgspec.Meta(max_length=_RULES)] = msgspec.field(default_factory=list)
    review: Annotated[list[Review], msgspec.Meta(max_length=_RULES)] = msgspec.field(default_factory=list)
    sessions: Sessions = Sessions()
    leave: Redaction = Redaction()
    never: Annotated[list[Word], msgspec.Meta(max_length=_RULES)] = msgspec.field(default_factory=list)
    duplicates: Duplicates = Duplicates()


class Dated(msgspec.Struct, frozen=True):
    """An item with its id, when it last changed, and when it was made (microseconds since 1970 UTC)."""

    id: str
    item: Item
    changed_at: int
    made_at: int = 0


class Stale(msgspec.Struct, frozen=True):
    """An item that is due for review since ``due_at``."""

    id: str
    due_at: int


def read_rules(text: str, where: str) -> MemoryRules:
    """Parse and check a file of rules. Raises ``BadInput('memory.rules-yaml' | 'memory.rules')`` with file, line and
    field."""
    source = plainyaml.read(text, where, _broken)

    def bad(path: list[str], said: str) -> BadInput:
        field = ".".join(path) or "the file"
        return BadInput(
            "memory.rules", f"{field}: {said}", advice="see the reference of memory rules", where=source.place(path)
        )

    if not isinstance(source.plain, dict) or "memory" not in source.plain:
        raise bad([], "`memory: 1` is missing")
    rules = plainyaml.fit(source, MemoryRules, bad, _broken)
    for path, said in _faults(rules):
        raise bad(path, said)
    return rules


def _broken(said: str, place: str) -> BadInput:
    return BadInput("memory.rules-yaml", said, advice="correct the YAML", where=place)


def _faults(rules: MemoryRules) -> Iterable[tuple[list[str], str]]:
    named = [("expire", number, rule.kinds) for number, rule in enumerate(rules.expire)]
    named += [("review", number, rule.kinds) for number, rule in enumerate(rules.review)]
    for name, number, kinds in named:
        for place, kind in enumerate(kinds):
            if kind not in KINDS:
                yield [name, str(number), "kinds", str(place)], f"{kind!r} is none of {', '.join(KINDS)}"
    for number, rule in enumerate(rules.expire):
        for place, scope in enumerate(rule.scopes):
            if not _SCOPE.fullmatch(scope):
                yield ["expire", str(number), "scopes", str(place)], f"{scope!r} is not device, person or team/NAME"
    for place, kind in enumerate(rules.leave.keep):
        if kind not in FOUND:
            yield ["leave", "keep", str(place)], f"{kind!r} is none of {', '.join(FOUND)}"
    if microseconds(rules.sessions.summarise) > microseconds(rules.sessions.expire):
        yield ["sessions", "expire"], "a session would go before it is summarised"


def microseconds(after: str) -> int:
    """``90d`` or ``12h``, in microseconds."""
    return int(after[:-1]) * (_HOUR if after[-1] == "h" else 24 * _HOUR)


# --- how long -----------------------------------------------------------------------------------------------------


def expiry(item: Item, rules: MemoryRules, made_at: int) -> int:
    """From when on the item is to be erased, in microseconds since 1970 UTC; 0 for never. Its own ``expires_at`` and
    the shortest rule that fits: the earlier holds. Time runs from ``made_at``, or from ``valid_from`` if that is
    later; of an item that tells neither (an import) nobody knows how old it is, and no rule ends it. Being pinned does
    not make an item live longer."""
    ends = [item.expires_at] if item.expires_at else []
    begin = max(made_at, item.valid_from)
    if begin:
        ends += [begin + microseconds(rule.after) for rule in rules.expire if _fits(rule, item)]
    return min(ends, default=0)


def _fits(rule: Expire, item: Item) -> bool:
    scope = not rule.scopes or any(fnmatch.fnmatchcase(item.scope, pattern) for pattern in rule.scopes)
    return scope and (not rule.kinds or item.kind in rule.kinds)


def expired(items: Iterable[Dated], rules: MemoryRules, now: int) -> list[str]:
    """The ids of items whose time is over, in order."""
    found = []
    for entry in items:
        ends = expiry(entry.item, rules, entry.made_at or entry.changed_at)
        if ends and ends <= now:
            found.append(entry.id)
    return sorted(found)


def stale(items: Iterable[Dated], rules: MemoryRules, now: int) -> list[Stale]:
    """Items that nobody has changed for longer than a review rule allows, the longest due first."""
    ages = {kind: _shortest(rules, kind) for kind in KINDS}
    found = []
    for entry in items:
        age = ages.get(entry.item.kind, 0)
        if age and entry.changed_at + age <= now:
            found.append(Stale(entry.id, entry.changed_at + age))
    return sorted(found, key=lambda stale: (stale.due_at, stale.id))


def _shortest(rules: MemoryRules, kind: str) -> int:
    return min((microseconds(rule.after) for rule in rules.review if not rule.kinds or kind in rule.kinds), default=0)


# --- what may leave -----------------------------------------------------------------------------------------------


def fields(item: Item) -> dict[str, str]:
    """The texts of an item by the names that the list ``leave.allow`` uses."""
    named = {"text": item.text, "source": item.source, "subject": item.subject, "sensitivity": item.sensitivity}
    named |= {f"fields/{name}": value for name, value in sorted(item.fields.items())}
    named |= {f"tags/{place}": tag for place, tag in enumerate(item.tags)}
    return {name: value for name, value in named.items() if value}


def leaving_item(item: Item, rules: MemoryRules, also: Iterable[Recogniser] = ()) -> tuple[Item | None, Preview]:
    """The item as it may leave its scope, and a preview of exactly that; ``None`` where it may not leave at all: its
    sensitivity forbids it, or its text is not on the list. Its kind, confidence and times go along as they are; a field
    whose very name tells something personal stays."""
    given = fields(item)
    if item.sensitivity in rules.never:
        return None, Preview({}, [Withheld(name, "sensitivity") for name in given], [])
    telling = {name for name in given if name.startswith("fields/") and find(name.removeprefix("fields/"), rules.leave)}
    preview = leaving({name: value for name, value in given.items() if name not in telling}, rules.leave, also)
    preview = msgspec.structs.replace(
        preview, withheld=[*preview.withheld, *(Withheld(name, "field-name") for name in sorted(telling))]
    )
    sent = preview.sent
    if "text" not in sent:
        return None, Preview({}, [Withheld(name, "not-allowed") for name in given], [])
    return msgspec.structs.replace(
        item,
        text=sent["text"],
        source=sent.get("source", ""),
        subject=sent.get("subject", ""),
        sensitivity=sent.get("sensitivity", "normal"),
        fields={name.removeprefix("fields/"): value for name, value in sent.items() if name.startswith("fields/")},
        tags=sorted({value for name, value in sent.items() if name.startswith("tags/")}),
    ), preview
