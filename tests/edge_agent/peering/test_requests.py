"""Requests as bytes: whatever comes, it is read as one, or refused with an error of ours."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.peering import requests
from shared.errors import BadInput, OutriderError
from shared.keys import Envelope, SigningKey
from tests.edge_agent.peering.kit import MODEL, asking

KEY = SigningKey(b"a" * 32)
TICKET = Envelope("ticket", '{"device":"d-peer"}', "AAAA")
RIGHT = asking(TICKET, KEY, 5, 99, nonce="cd" * 16)


def test_what_a_device_sends_is_read_back() -> None:
    asked = requests.read(RIGHT)
    assert (asked.sha256, asked.start, asked.end, asked.nonce) == (MODEL.sha256, 5, 99, "cd" * 16)
    assert asked.ticket == TICKET


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_no_bytes_do_anything_else(data: bytes) -> None:
    with pytest.raises(OutriderError):
        requests.read(data)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(RIGHT) - 1), st.binary(min_size=1, max_size=4), st.integers(0, 4))
def test_a_changed_request_is_refused_or_says_the_same_in_other_words(place: int, put: bytes, out: int) -> None:
    changed = RIGHT[:place] + put + RIGHT[place + out :]
    try:
        asked = requests.read(changed)
    except BadInput:
        return
    assert len(asked.sha256) == 64 and 0 <= asked.start < 10**16 and len(asked.signature) == 64
    assert set(asked.sha256 + asked.nonce) <= set("0123456789abcdef")
    with pytest.raises(OutriderError):
        requests.judge(asked, SigningKey(b"h" * 32).public, "d-peer", 0)
    assert msgspec.json.encode(asked.ticket)
