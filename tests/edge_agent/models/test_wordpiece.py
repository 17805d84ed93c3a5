from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.models.catalogue import known
from edge_agent.models.wordpiece import WordPiece, words

# Ids that the reference implementation (the tokenizers package, with this model's own tokenizer file) gave.
# fmt: off
GOLDEN = [
    ("Replace the kitchen sink", [101, 5672, 1996, 3829, 7752, 102]),
    (
        "Re-roof: 24 squares, comp. shingle @ $8,500.00 (tear-off)",
        [101, 2128, 1011, 4412, 1024, 2484, 14320, 1010, 4012, 2361, 1012, 12277, 9354, 1030, 1002, 1022, 1010, 3156,
         1012, 4002, 1006, 7697, 1011, 2125, 1007, 102],
    ),
    ("Café naïve ÅNGSTRÖM", [101, 7668, 15743, 17076, 15687, 102]),
    ("hello\u200bworld\ufeff\x00!", [101, 7592, 11108, 999, 102]),
    ("日本語テスト", [101, 1864, 1876, 1950, 1713, 30233, 30240, 102]),
    ("x\u00a0y\u2003z\tq", [101, 1060, 1061, 1062, 1053, 102]),
    ("don't `x` ~y^2 + 3", [101, 2123, 1005, 1056, 1036, 1060, 1036, 1066, 1061, 1034, 1016, 1009, 1017, 102]),
    ("a" * 101, [101, 100, 102]),
    ("", [101, 102]),
    ("İstanbul", [101, 9960, 102]),
    ("ﬁ ½ ™ 😀", [101, 1984, 1092, 1580, 100, 102]),
]
# fmt: on


@pytest.fixture(scope="module")
def tokens(model_home: Path) -> WordPiece:
    path = model_home / "models" / f"{known('minilm-l6').sha256}.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return WordPiece(session.get_modelmeta().custom_metadata_map["vocabulary"].splitlines())


@pytest.mark.parametrize("text, ids", GOLDEN)
def test_ids_are_those_of_the_reference(tokens: WordPiece, text: str, ids: list[int]) -> None:
    assert tokens.ids(text, 256) == ids


def test_a_long_text_is_cut_and_still_ends(tokens: WordPiece) -> None:
    ids = tokens.ids("word " * 1000, 256)
    assert len(ids) == 256
    assert (ids[0], ids[-1]) == (101, 102)


def test_control_tokens_in_a_text_are_text(tokens: WordPiece) -> None:
    assert 103 not in tokens.ids("[MASK]", 16)


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_any_text_has_ids_and_its_words_have_no_space(tokens: WordPiece, text: str) -> None:
    ids = tokens.ids(text, 32)
    assert 2 <= len(ids) <= 32
    assert all(word and not any(char.isspace() for char in word) for word in words(text))
