"""Near-identical facts: found without comparing each with each, proposed with what would be lost."""

from __future__ import annotations

import random
import time

import pytest

from shared.memory import Item
from shared.memory.duplicates import Loss, Proposal, duplicates
from shared.memory.rules import Dated, MemoryRules

RULES = MemoryRules()
LONG = "the tenant of the house by the river prefers to be called in the morning and never on a weekend"


def fact(name: str, text: str, changed_at: int = 0, **more: object) -> Dated:
    return Dated(name, Item("fact", text, f"source of {name}", **more), changed_at)  # type: ignore[arg-type]  # a test's


def test_a_merge_is_proposed_with_everything_it_would_drop() -> None:
    one = fact("mem_1", LONG, 5, fields={"lane": "a", "by": "x"}, tags=["b"], expires_at=90, valid_from=7)
    two = fact(
        "mem_2", LONG.replace("weekend", "sunday"), 9, fields={"lane": "b"}, tags=["a"], confidence=900, pinned=True
    )
    other = fact("mem_3", "roofs over four units need a review by the board before anything is built")
    (found,) = duplicates([one, two, other], RULES)
    assert found == Proposal(
        "mem_2",
        ["mem_1"],
        Item(
            "fact",
            LONG.replace("weekend", "sunday"),
            "source of mem_2",
            fields={"lane": "b", "by": "x"},
            tags=["a", "b"],
            confidence=900,
            expires_at=90,
            pinned=True,
        ),
        found.alike,
        [Loss("mem_1", "text", LONG), Loss("mem_1", "source", "source of mem_1"), Loss("mem_1", "fields/lane", "a")],
    )
    assert 850 <= found.alike < 1000


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LONG + " until 2024", LONG + " until 2025"),
        (LONG, LONG.replace("never ", "")),
        ("the roof is red", "the door is red"),
        (LONG, " ".join(reversed(LONG.split()))),
    ],
)
def test_what_differs_in_a_number_or_a_no_is_not_the_same(one: str, other: str) -> None:
    assert duplicates([fact("mem_1", one), fact("mem_2", other)], RULES) == []


@pytest.mark.parametrize("field", ["scope", "subject", "sensitivity"])
def test_only_items_of_one_kind_scope_and_subject_are_compared(field: str) -> None:
    items = [fact("mem_1", LONG), fact("mem_2", LONG, **{field: "team/x"})]
    assert duplicates(items, RULES) == []
    assert len(duplicates([fact("mem_1", LONG), fact("mem_2", LONG)], RULES)) == 1


def test_vectors_may_say_that_two_texts_are_alike() -> None:
    reworded = LONG.replace("prefers to be called", "likes to be phoned").replace("house", "home")
    items = [fact("mem_1", LONG), fact("mem_2", reworded)]
    assert duplicates(items, RULES) == []
    (found,) = duplicates(items, RULES, lambda one, other: 930)
    assert found.alike == 930
    assert duplicates(items, RULES, lambda one, other: 200) == []


def many(count: int) -> list[Dated]:
    chance = random.Random(7)
    words = ["".join(chance.choice("abcdefghij") for _ in range(6)) for _ in range(3000)]
    items: list[Dated] = []
    for number in range(count):
        text = [chance.choice(words) for _ in range(chance.randint(12, 28))]
        if number % 10 == 9:
            text = items[chance.randrange(len(items))].item.text.split()
            text[-1] = chance.choice(words)
        items.append(fact(f"mem_{number:06d}", " ".join(text), number))
    return items


def test_order_does_not_matter() -> None:
    items = many(400)
    found = duplicates(items, RULES)
    assert found == duplicates(random.Random(1).sample(items, 400), RULES)
    assert len(found) >= 30
    dropped = [name for proposal in found for name in proposal.drop]
    kept = [proposal.keep for proposal in found]
    assert len(set(dropped)) == len(dropped)
    assert not set(dropped) & set(kept)


def test_nearly_all_pairs_are_found() -> None:
    items = many(600)
    parts = {entry.id: entry.item.text.split() for entry in items}
    found = {name for proposal in duplicates(items, RULES) for name in (proposal.keep, *proposal.drop)}
    likely = {  # a copy with another last word, long enough for two such parts not to matter
        one.id
        for place, one in enumerate(items)
        for other in items[place + 1 :]
        if len(parts[one.id]) >= 20 and parts[one.id][:-1] == parts[other.id][:-1]
    }
    assert len(likely) >= 20
    assert len(likely & found) >= 0.97 * len(likely)


@pytest.mark.parametrize("alike", [False, True])
def test_time_grows_with_the_number_of_items_and_not_with_its_square(alike: bool) -> None:
    def items(count: int) -> list[Dated]:
        if alike:  # the worst crowd: one sentence with one word of its own in each
            return [
                fact(f"mem_{i:06d}", f"{LONG} {LONG} house {chr(97 + i % 26)}{chr(97 + i // 26 % 26)}")
                for i in range(count)
            ]
        return many(count)

    def taken(count: int) -> float:
        given = items(count)
        began = time.process_time()
        duplicates(given, RULES)
        return time.process_time() - began

    small, large = taken(500), taken(4000)
    assert large < 24 * max(small, 0.02), (small, large)
