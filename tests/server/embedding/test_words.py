from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.embedding.words import WORD_CHARS, asked, bm25, counted, stem


@pytest.mark.parametrize(
    "word, cut",
    [
        ("permits", "permit"), ("policies", "policy"), ("boxes", "box"), ("fees", "fee"), ("houses", "house"),
        ("glass", "glass"), ("status", "status"), ("basis", "basis"), ("gas", "gas"), ("churches", "church"),
        ("kitchen", "kitchen"), ("s", "s"), ("ties", "ty"),
    ],
)  # fmt: skip
def test_plurals_become_singular_and_the_rest_stays(word: str, cut: str) -> None:
    assert stem(word) == cut


@given(st.text(max_size=300))
def test_what_is_asked_in_the_words_of_a_text_is_in_the_text(text: str) -> None:
    said = counted(text)
    assert all(word in said for word in asked(text) if any(word == other for other in said))
    assert all(len(word) <= WORD_CHARS and times > 0 for word, times in said.items())


def test_stop_words_are_not_kept_and_the_written_word_is_remembered() -> None:
    assert counted("The fees and the fee") == {"fee": 2}
    assert asked("Which fees?") == {"fee": "fees"}


def test_scores_are_those_of_sqlite() -> None:
    """FTS5's BM25 of the same words, so that agent and hub rank alike; idf differs only where it would be negative."""
    texts = {f"i{n}": f"{'permit ' * (n % 3 + 1)}fence {'roof ' * (n % 2)}filler words {n}" for n in range(9)}
    texts |= {f"o{n}": f"nothing of interest stands here {n}" for n in range(30)}
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE t USING fts5 (id UNINDEXED, text)")
    kept = {
        name: " ".join(word for word, times in counted(text).items() for _ in range(times))
        for name, text in texts.items()
    }
    database.executemany("INSERT INTO t VALUES (?, ?)", kept.items())
    rows = database.execute("SELECT id, -bm25(t) FROM t WHERE t MATCH 'permit OR roof'").fetchall()
    database.close()
    lengths = {name: len(text.split()) for name, text in kept.items()}
    postings = {
        word: {name: counted(text)[word] for name, text in texts.items() if word in counted(text)}
        for word in ("permit", "roof")
    }
    found = bm25(postings, lengths, len(texts), sum(lengths.values()) / len(texts))
    assert set(found) == {name for name, _ in rows}
    ratios = [found[name] / score for name, score in rows]
    assert max(ratios) / min(ratios) < 1.1


def test_a_word_that_every_item_says_ranks_nothing_below_zero() -> None:
    found = bm25({"permit": {"a": 1, "b": 3}}, {"a": 5, "b": 5}, 2, 5.0)
    assert 0 < found["a"] < found["b"]
