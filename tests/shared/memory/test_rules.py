"""Memory rules: read strictly, and what they say of items."""

from __future__ import annotations

import random

import pytest

from shared.errors import BadInput
from shared.memory import Item
from shared.memory.rules import (
    Dated,
    MemoryRules,
    Stale,
    expired,
    expiry,
    leaving_item,
    microseconds,
    read_rules,
    stale,
)
from shared.redaction import Withheld

DAY = 86_400_000_000
RULES = """\
memory: 1
expire:
  - {kinds: [note], scopes: [device, team/*], after: 90d}
  - {kinds: [note, summary], after: 200d}
review:
  - {kinds: [fact, contact], after: 180d}
  - {after: 400d}
sessions: {summarise: 12h, expire: 30d}
leave:
  allow: [text, source, "fields/*", "tags/*"]
  dictionary: [Project Falcon]
  keep: [IP]
never: [secret]
duplicates: {alike: 800}
"""


def item(kind: str = "note", text: str = "a note", **more: object) -> Item:
    return Item(kind, text, "page 1", **more)  # type: ignore[arg-type]  # the fields a test names


def test_rules_are_read() -> None:
    rules = read_rules(RULES, "memory.yaml")
    assert rules.expire[0].scopes == ["device", "team/*"]
    assert microseconds(rules.sessions.summarise) == DAY // 2
    assert rules.leave.dictionary == ["Project Falcon"]
    assert rules.duplicates.alike == 800
    assert read_rules("memory: 1\n", "m") == MemoryRules()


@pytest.mark.parametrize(
    ("text", "code", "where", "said"),
    [
        ("memory: 1\nexpire:\n  - {kind: [note], after: 1d}\n", "memory.rules", "m:3", "expire.0.kind"),
        ("memory: 1\nexpire:\n  - after: 1d\n    kinds:\n      - nope\n", "memory.rules", "m:5", "expire.0.kinds.0"),
        ("memory: 1\nexpire:\n  - {after: 1d, scopes: [teams/x]}\n", "memory.rules", "m:3", "expire.0.scopes.0"),
        ("memory: 1\nreview:\n  - after: soon\n", "memory.rules", "m:3", "review.0.after"),
        ("memory: 1\nleave:\n  keep: [MAIL]\n", "memory.rules", "m:3", "leave.keep.0"),
        ("memory: 1\nsessions: {summarise: 3d, expire: 1d}\n", "memory.rules", "m:2", "sessions.expire"),
        ("memory: 2\n", "memory.rules", "m:1", "memory"),
        ("expire: []\n", "memory.rules", "m:1", "is missing"),
        ("[]\n", "memory.rules", "m:1", "is missing"),
        ("", "memory.rules", "m:1", "is missing"),
        ("memory: 1\nmemory: 1\n", "memory.rules-yaml", "m:2", "stands twice"),
        ("memory: [\n", "memory.rules-yaml", "m:2", ""),
        ("memory: 1\nnever: [&a x, *a]\n", "memory.rules-yaml", "m:2", "aliases"),
    ],
)
def test_refusals_name_file_line_and_field(text: str, code: str, where: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_rules(text, "m")
    assert caught.value.code == code
    assert caught.value.where == where
    assert said in caught.value.message


def test_the_shortest_time_that_fits_holds() -> None:
    rules = read_rules(RULES, "m")
    assert expiry(item(scope="device"), rules, 1000) == 1000 + 90 * DAY
    assert expiry(item(scope="team/roofs"), rules, 1000) == 1000 + 90 * DAY
    assert expiry(item(scope="person"), rules, 1000) == 1000 + 200 * DAY
    assert expiry(item("fact"), rules, 1000) == 0
    assert expiry(item("fact", expires_at=7), rules, 1000) == 7
    assert expiry(item(scope="device", expires_at=2**60), rules, 1000) == 1000 + 90 * DAY
    assert expiry(item(scope="device", valid_from=5000), rules, 1000) == 5000 + 90 * DAY
    assert expiry(item(scope="device", pinned=True), rules, 1000) == 1000 + 90 * DAY
    assert expiry(item(scope="device"), rules, 0) == 0, "nobody knows how old it is"
    assert expiry(item(scope="device", expires_at=7), rules, 0) == 7


def test_what_is_over_and_what_is_due() -> None:
    rules = read_rules(RULES, "m")
    items = [
        Dated("mem_b", item(scope="device"), 0, 1),
        Dated("mem_a", item(), 0, 1),
        Dated("mem_c", item("fact"), 40 * DAY),
        Dated("mem_d", item("decision"), 0),
    ]
    assert expired(items, rules, 90 * DAY + 1) == ["mem_b"]
    assert expired(items, rules, 90 * DAY) == []
    assert expired(items, rules, 200 * DAY + 1) == ["mem_a", "mem_b"]
    assert stale(items, rules, 219 * DAY) == []
    assert stale(items, rules, 400 * DAY) == [
        Stale("mem_c", 220 * DAY),
        Stale("mem_a", 400 * DAY),
        Stale("mem_b", 400 * DAY),
        Stale("mem_d", 400 * DAY),
    ]
    assert stale(random.Random(1).sample(items, 4), rules, 400 * DAY) == stale(items, rules, 400 * DAY)


def test_an_item_leaves_without_people_and_without_what_is_not_listed() -> None:
    rules = read_rules(RULES, "m")
    whole = item(
        text="Mr. Paul Weber runs Project Falcon from 203.0.113.7",
        subject="Paul Weber",
        fields={"lane": "express", "ann@example.com": "yes", "mail": "paul@example.com"},
        tags=["roof", "paul@example.com"],
        confidence=900,
    )
    sent, preview = leaving_item(whole, rules)
    assert sent == item(
        text="Mr. [NAME-1] runs [TERM-1] from 203.0.113.7",
        fields={"lane": "express", "mail": "[EMAIL-1]"},
        tags=["[EMAIL-1]", "roof"],
        confidence=900,
    )
    assert preview.withheld == [
        Withheld("subject", "not-allowed"),
        Withheld("sensitivity", "not-allowed"),
        Withheld("fields/ann@example.com", "field-name"),
    ]
    assert "Paul" not in repr(preview.sent)


def test_what_is_marked_never_leaves() -> None:
    rules = read_rules(RULES, "m")
    sent, preview = leaving_item(item(sensitivity="secret"), rules)
    assert sent is None
    assert preview.sent == {}
    assert {entry.why for entry in preview.withheld} == {"sensitivity"}


def test_nothing_leaves_where_nothing_is_listed() -> None:
    sent, preview = leaving_item(item(), MemoryRules())
    assert sent is None
    assert preview.sent == {}
