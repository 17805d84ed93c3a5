"""The context of a prompt: never over budget, rules last to go, nothing lost by more room, everything accounted for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.context import Context, LeftOut, Part, Parts, assemble
from shared.errors import BadInput


def words(text: str) -> int:
    return len(text.split())


def quarters(text: str) -> int:
    """As a tokenizer that packs four bytes into a token."""
    return -(-len(text.encode()) // 4)


def greedy(text: str) -> int:
    """A count that is more for the whole than for its parts, as some tokenizers have it."""
    return words(text) + text.count("\n") * 2


texts = st.lists(st.text(alphabet="ab é\n", max_size=30), max_size=8)
counts = st.sampled_from([words, quarters, len])


@st.composite
def given_parts(draw: st.DrawFn) -> Parts:
    return Parts(*([Part(f"{kind}{i}", text) for i, text in enumerate(draw(texts))] for kind in ("p", "t", "i", "s")))


@given(
    given_parts(), st.integers(0, 120), st.sampled_from([words, quarters, len, greedy]), st.none() | st.integers(0, 20)
)
def test_never_over_budget_and_nothing_unaccounted_for(
    parts: Parts, budget: int, count: object, most: int | None
) -> None:
    made = assemble(parts, budget, count, most=most)  # type: ignore[arg-type]  # one of the counts above
    assert made.used == (count(made.text) if made.text else 0) <= budget  # type: ignore[operator]  # the same
    assert made == assemble(parts, budget, count, most=most)  # type: ignore[arg-type]  # the same
    every = sorted(part.id for each in (parts.pinned, parts.turns, parts.items, parts.summary) for part in each)
    assert sorted([block.id for block in made.blocks] + [left.id for left in made.left_out]) == every
    assert made.text == "\n".join(block.text for block in made.blocks)


@given(given_parts(), st.integers(0, 120), counts)
def test_rules_are_the_last_to_go(parts: Parts, budget: int, count: object) -> None:
    made = assemble(parts, budget, count)  # type: ignore[arg-type]  # one of the counts above
    if made.lacks_pinned:
        assert {block.kind for block in made.blocks} <= {"pinned"}
    turns = [block.id for block in made.blocks if block.kind == "turn"]
    kept = [part.id for part in parts.turns if part.text.strip()]
    assert turns == kept[len(kept) - len(turns) :], "the turns that stay are the newest, in their order"


@given(given_parts(), st.integers(0, 100), st.integers(0, 40), counts, st.none() | st.integers(0, 20))
def test_more_room_loses_nothing(parts: Parts, budget: int, more: int, count: object, most: int | None) -> None:
    def ids(made: Context) -> set[tuple[str, str]]:
        return {(block.kind, block.id) for block in made.blocks}

    small = assemble(parts, budget, count, most=most)  # type: ignore[arg-type]  # one of the counts above
    large = assemble(parts, budget + more, count, most=most)  # type: ignore[arg-type]  # the same
    assert ids(small) <= ids(large)


def test_the_order_on_the_page_and_of_trimming() -> None:
    parts = Parts(
        pinned=[Part("rule", "never promise")],
        turns=[Part("1", "first said"), Part("2", "then this"), Part("3", "asked now")],
        items=[Part("best", "good fact"), Part("weak", "other fact"), Part("again", "good  fact")],
        summary=[Part("s", "so far")],
    )
    whole = assemble(parts, 100, words)
    assert whole.text == "never promise\nso far\ngood fact\nother fact\nfirst said\nthen this\nasked now"
    assert whole.left_out == [LeftOut("item", "again", 2, "repeated")]
    taken = [{block.id for block in assemble(parts, budget, words).blocks} for budget in range(2, 15, 2)]
    added = [next(iter(after - before)) for before, after in zip([set(), *taken], taken, strict=False)]
    assert added == ["rule", "3", "s", "best", "2", "1", "weak"]
    assert [left.id for left in assemble(parts, 8, words).left_out] == ["2", "1", "weak", "again"]
    assert not whole.lacks_pinned
    assert assemble(parts, 1, words).lacks_pinned


def test_what_is_too_large_or_empty_says_so() -> None:
    parts = Parts(items=[Part("huge", "word " * 50), Part("none", " \n"), Part("good", "a fact")])
    made = assemble(parts, 20, words, most=10)
    assert [block.id for block in made.blocks] == ["good"]
    assert [(left.id, left.reason, left.tokens) for left in made.left_out] == [
        ("huge", "too-large", 50),
        ("none", "empty", 0),
    ]


def test_a_negative_budget_is_a_mistake() -> None:
    with pytest.raises(BadInput, match="plan.budget"):
        assemble(Parts(), -1, words)
