"""Chunk lists: of any length, from pieces of any length, and none but the signed one."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import limits
from shared.chunks import Lister, list_bytes, read_list
from shared.errors import Tampered

CHUNK = limits.MODEL_CHUNK_BYTES
DATA = bytes(range(251)) * (3 * CHUNK // 251)


def listed(data: bytes, cuts: list[int]) -> tuple[str, bytes]:
    lister = Lister()
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        lister.take(data[start:end])
    assert lister.size == len(data)
    return lister.done()


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_a_list_is_the_hash_of_each_chunk(size: int) -> None:
    whole, made = listed(DATA[:size], [])
    assert whole == hashlib.sha256(DATA[:size]).hexdigest()
    wanted = [hashlib.sha256(DATA[place : min(place + CHUNK, size)]).digest() for place in range(0, size, CHUNK)]
    assert read_list(made, size, hashlib.sha256(made).hexdigest()) == wanted
    assert len(made) == list_bytes(size)


@settings(max_examples=25, deadline=None)
@given(size=st.integers(0, len(DATA)), cuts=st.lists(st.integers(0, len(DATA)), max_size=6))
def test_how_the_bytes_come_makes_no_difference(size: int, cuts: list[int]) -> None:
    assert listed(DATA[:size], cuts) == listed(DATA[:size], [])


def test_another_list_is_refused() -> None:
    _, made = listed(DATA[: CHUNK + 1], [])
    right = hashlib.sha256(made).hexdigest()
    for data, size in ((made[:-1], CHUNK + 1), (made, 3 * CHUNK), (bytes(64), CHUNK + 1)):
        with pytest.raises(Tampered) as caught:
            read_list(data, size, right)
        assert caught.value.code == "chunks.hash"
