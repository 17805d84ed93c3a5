from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.memory.ranking import STOP, TERMS, Ranked, mix, terms

NAMES = st.sampled_from("abcdefgh")
WORDS = st.dictionaries(NAMES, st.floats(0.001, 50), max_size=8)
MEANING = st.dictionaries(NAMES, st.floats(-1, 1), max_size=8)


def test_words_asked_for_are_lower_case_once_and_without_stop_words() -> None:
    assert terms("What is the Fee for the fee schedule?") == ["fee", "schedule"]


def test_a_question_of_stop_words_alone_keeps_them() -> None:
    assert terms("to be or not to be") == ["to", "be", "or", "not"]
    assert {"to", "be", "or", "not"} <= STOP


def test_an_endless_question_is_bounded() -> None:
    assert len(terms(" ".join(f"word{n}" for n in range(10_000)))) == TERMS
    assert terms("?!") == []


def test_an_item_found_both_ways_stands_before_those_found_one_way() -> None:
    found = mix({"both": 3.0, "words": 3.0}, {"both": 0.9, "meaning": 0.9, "far": 0.1})
    assert [one.id for one in found] == ["both", "meaning", "words", "far"]
    assert found[0] == Ranked("both", 1.0, 1.0, 1.0)
    assert (found[2].words, found[2].meaning) == (1.0, 0.0)


def test_one_way_alone_decides_where_the_other_found_nothing() -> None:
    assert [one.score for one in mix({"a": 4.0, "b": 1.0}, {})] == [1.0, 0.25]
    assert [one.id for one in mix({}, {"a": -0.2, "b": 0.3})] == ["b", "a"]
    assert mix({}, {}) == []


def test_equal_scores_are_ordered_by_id_and_cut_at_the_limit() -> None:
    assert [one.id for one in mix({"c": 1.0, "a": 1.0, "b": 1.0}, {}, limit=2)] == ["a", "b"]


@given(WORDS, MEANING, st.floats(0, 1))
def test_every_item_stands_once_between_0_and_1_and_order_of_giving_does_not_matter(
    words: dict[str, float], meaning: dict[str, float], weight: float
) -> None:
    found = mix(words, meaning, weight=weight)
    assert sorted(one.id for one in found) == sorted({*words, *meaning})
    assert all(-1e-9 <= value <= 1 + 1e-9 for one in found for value in (one.score, one.words, one.meaning))
    turned = mix(dict(reversed(words.items())), dict(reversed(meaning.items())), weight=weight)
    assert found == turned


@given(WORDS, MEANING, st.floats(0.1, 10))
def test_the_scale_of_the_scores_does_not_matter(
    words: dict[str, float], meaning: dict[str, float], scale: float
) -> None:
    found = {one.id: one.score for one in mix(words, meaning)}
    scaled = mix({name: score * scale for name, score in words.items()}, meaning)
    assert all(abs(found[one.id] - one.score) < 1e-9 for one in scaled)
