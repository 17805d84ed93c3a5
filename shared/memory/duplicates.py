"""Facts that say nearly the same: found without comparing each with each, and proposed to a person as one.

A text becomes the set of its words and pairs of neighbouring words. One-permutation MinHash puts texts that are likely
alike into the same buckets; within a bucket the sets themselves are compared (Jaccard). Nothing is proposed for two
texts that differ in a number or a negation: "insured until 2024" and "insured until 2025" are alike, and not the same.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import msgspec

from shared.memory.item import FIELD_CHARS, PARTS, Item
from shared.memory.rules import Dated, MemoryRules

_SLOTS, _BAND = 24, 3  # MinHash slots, and how many of them make a bucket: 8 buckets for each text
_MOST = 12  # texts of a bucket that a text is compared with: a crowd of near-copies stays linear
_WORD = re.compile(r"\w+")
_NEGATION = frozenset(
    (
        "not",
        "no",
        "never",
        "none",
        "without",
        "cannot",
        "kein",
        "keine",
        "nicht",
        "nie",
        "ne",
        "pas",
        "sans",
        "sin",
        "non",
    )
)
_NEVER = 1 << 32


class Loss(msgspec.Struct, frozen=True):
    """What a merge would drop: ``value`` of ``field`` of the item ``id``."""

    id: str
    field: str
    value: str


class Proposal(msgspec.Struct, frozen=True):
    """``keep`` would become ``merged``; the items ``drop`` would go. ``alike`` is permille, of the least alike.
    ``losses`` are what is in none of ``merged``. Nothing happens before a person agrees."""

    keep: str
    drop: list[str]
    merged: Item
    alike: int
    losses: list[Loss]


class _Text(msgspec.Struct, frozen=True):
    place: int
    parts: array[int]  # as 32-bit numbers: a set of them would take ten times the memory
    key: str
    fixed: tuple[str, ...]


Similarity = Callable[[str, str], int]


def duplicates(items: Iterable[Dated], rules: MemoryRules, similarity: Similarity | None = None) -> list[Proposal]:
    """Propose merges, in order of the kept ids. Only items of one scope, kind, subject and sensitivity are compared.
    ``similarity(id, id)`` may say in permille how alike two vectors are: two texts that share most of their words count
    as alike where it says so. The same items give the same proposals, in whatever order they come."""
    groups: dict[tuple[str, str, str, str], list[Dated]] = defaultdict(list)
    for entry in items:
        item = entry.item
        groups[item.scope, item.kind, item.subject, item.sensitivity].append(entry)
    found = [
        proposal
        for group in groups.values()
        if len(group) > 1
        for proposal in _group(sorted(group, key=_rank), rules.duplicates.alike, similarity)
    ]
    return sorted(found, key=lambda proposal: proposal.keep)


def _rank(entry: Dated) -> tuple[bool, int, int, str]:
    """Best first: the one that is kept is pinned, surest, newest."""
    return not entry.item.pinned, -entry.item.confidence, -entry.changed_at, entry.id


def _group(group: list[Dated], alike: int, similarity: Similarity | None) -> Iterator[Proposal]:
    texts = [_text(place, entry.item.text) for place, entry in enumerate(group)]
    taken = [False] * len(group)
    for text, near in _near(texts):
        if taken[text.place]:
            continue
        members: list[tuple[int, int]] = []
        mine = frozenset(text.parts)
        for other in near:
            if taken[other.place] or other.fixed != text.fixed:
                continue
            value = _alike(text, mine, other)
            if similarity and alike > value >= alike // 2:
                value = max(value, similarity(group[text.place].id, group[other.place].id))
            if value >= alike:
                members.append((other.place, value))
                taken[other.place] = True
        if members:
            taken[text.place] = True
            yield _proposal(
                group[text.place], [group[place] for place, _ in members], min(value for _, value in members)
            )


def _near(texts: list[_Text]) -> Iterator[tuple[_Text, list[_Text]]]:
    """Each text, best first, with those after it that may be alike: the same words, or a bucket in common."""
    same: dict[str, list[_Text]] = defaultdict(list)
    for text in texts:
        same[text.key].append(text)
    # Copies of one text need no buckets: they are found by their words. Most buckets hold one text, and are not kept.
    keys = [array("q", _buckets(text.parts) if same[text.key][0] is text else ()) for text in texts]
    once: set[int] = set()
    buckets: dict[int, list[_Text]] = {}
    for each in keys:
        for key in each:
            if key in once:
                buckets[key] = []
            once.add(key)
    del once
    for text in texts:
        for key in keys[text.place]:
            if key in buckets:
                buckets[key].append(text)
    at: dict[int, int] = defaultdict(int)  # how far each bucket has been walked
    for text in texts:
        if not keys[text.place]:
            continue
        near = {other.place: other for other in same[text.key] if other.place > text.place}
        for key in keys[text.place]:
            bucket = buckets.get(key)
            if bucket is None:
                continue
            at[key] += 1
            for other in bucket[at[key] : at[key] + _MOST]:
                for copy in same[other.key][:_MOST]:
                    near[copy.place] = copy
        yield text, [near[place] for place in sorted(near) if place > text.place]


def _text(place: int, text: str) -> _Text:
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    fixed = tuple(sorted(word for word in words if word in _NEGATION or not word.isalpha()))
    parts = [*words, *(f"{one} {other}" for one, other in pairwise(words))]
    # A CRC alone is linear in its input; multiplying spreads it, so that the low bits are as good as random.
    hashed = frozenset((zlib.crc32(part.encode("utf-8", "replace")) * 0x9E3779B1) & 0xFFFFFFFF for part in parts)
    return _Text(place, array("I", sorted(hashed)), " ".join(words), fixed)


def _buckets(parts: array[int]) -> list[int]:
    """One-permutation MinHash: the parts are dealt to slots, each keeps its smallest; an empty slot borrows from the
    next full one. Three neighbouring slots make a bucket."""
    slots = [_NEVER] * _SLOTS
    for part in parts:
        slot, value = part % _SLOTS, part // _SLOTS
        if value < slots[slot]:
            slots[slot] = value
    if not parts:
        return []
    for slot in range(2 * _SLOTS - 1, -1, -1):
        here, after = slot % _SLOTS, (slot + 1) % _SLOTS
        if slots[here] == _NEVER and slots[after] != _NEVER:
            slots[here] = slots[after]
    return [hash((at, *slots[at : at + _BAND])) for at in range(0, _SLOTS, _BAND)]


def _alike(one: _Text, parts: frozenset[int], other: _Text) -> int:
    """Jaccard similarity in permille. ``parts`` are those of ``one``."""
    if one.key == other.key:
        return 1000
    both = len(parts.intersection(other.parts))
    return 1000 * both // max(1, len(one.parts) + len(other.parts) - both)


def _proposal(keep: Dated, drop: list[Dated], alike: int) -> Proposal:
    fields, tags, losses = dict(keep.item.fields), list(keep.item.tags), []
    for entry in drop:
        item = entry.item
        if item.text != keep.item.text:
            losses.append(Loss(entry.id, "text", item.text))
        if item.source != keep.item.source:
            losses.append(Loss(entry.id, "source", item.source))
        for name, value in sorted(item.fields.items()):
            if name not in fields and len(fields) < PARTS and len(value) <= FIELD_CHARS:
                fields[name] = value
            elif fields.get(name) != value:
                losses.append(Loss(entry.id, f"fields/{name}", value))
        for tag in item.tags:
            if tag not in tags and len(tags) < PARTS:
                tags.append(tag)
            elif tag not in tags:
                losses.append(Loss(entry.id, "tags", tag))
    every = [keep.item, *(entry.item for entry in drop)]
    ends = [item.expires_at for item in every if item.expires_at]
    merged = msgspec.structs.replace(
        keep.item,
        fields=fields,
        tags=sorted(tags),
        pinned=any(item.pinned for item in every),
        valid_from=min(item.valid_from for item in every),
        expires_at=min(ends, default=0),  # nothing lives longer for having been merged
    )
    return Proposal(keep.id, sorted(entry.id for entry in drop), merged, alike, losses)
