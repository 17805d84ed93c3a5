"""Messages of the link: pinned bytes, a round trip for each, and a refusal for everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import limits
from shared import protocol as p
from shared.codec import parse
from shared.errors import KINDS, BadInput, OutriderError, Tampered
from tests.shared import examples

VECTORS: dict[str, str] = json.loads((Path(__file__).parents[1] / "vectors" / "protocol.json").read_text())
TAGS = [str(type(message).__struct_config__.tag) for message in examples.MESSAGES]


def test_there_is_a_vector_for_every_message() -> None:
    assert {type(message) for message in examples.MESSAGES} == set(p.Message.__args__)
    assert list(VECTORS) == [*TAGS, "join", "joined"]


@pytest.mark.parametrize("message", examples.MESSAGES, ids=TAGS)
def test_bytes_are_pinned_and_come_back(message: p.Message) -> None:
    frame = VECTORS[str(type(message).__struct_config__.tag)]
    assert p.encode(message) == frame
    assert p.decode(frame) == message


@pytest.mark.parametrize(("name", "example"), [("join", examples.JOIN), ("joined", examples.JOINED)])
def test_enrolment_is_pinned_too(name: str, example: p.Join | p.Joined) -> None:
    assert msgspec.json.encode(example).decode() == VECTORS[name]
    assert parse(VECTORS[name], type(example), code="join.form", what="it") == example


@pytest.mark.parametrize("tag", TAGS)
def test_other_fields_are_refused(tag: str) -> None:
    whole = json.loads(VECTORS[tag])
    for wrong in (whole | {"more": 1}, whole | {"t": "shout"}, {k: v for k, v in whole.items() if k != "t"}):
        with pytest.raises(BadInput) as caught:
            p.decode(json.dumps(wrong))
        assert caught.value.code == "link.message"


@pytest.mark.parametrize("tag", TAGS)
def test_fields_of_another_type_are_refused(tag: str) -> None:
    whole = json.loads(VECTORS[tag])
    for name in whole:
        with pytest.raises(BadInput):
            p.decode(json.dumps(whole | {name: {"x": 0.5}}))


@pytest.mark.parametrize("frame", ["", "null", "[]", "{}", "{", b'{"t":"notice","topics":[]}', "[" * 100_000, "\ud800"])
def test_what_is_no_message(frame: Any) -> None:
    with pytest.raises(BadInput) as caught:
        p.decode(frame)
    assert caught.value.code == "link.message"


@given(st.text(max_size=200))
def test_no_frame_leaks_another_error(frame: str) -> None:
    with pytest.raises(BadInput):
        p.decode(frame)


def test_a_message_beyond_the_bound_is_neither_sent_nor_read() -> None:
    big = p.Notice(["x" * limits.MESSAGE_BYTES])
    with pytest.raises(BadInput) as caught:
        p.encode(big)
    assert caught.value.code == "link.too-large"
    with pytest.raises(BadInput):
        p.decode(msgspec.json.encode(big).decode())


def test_the_worst_batch_fits_one_message() -> None:
    """Bytes as the batch counts them, all of them quotes: each doubles once more on the wire."""
    text = '"' * (limits.BATCH_BYTES // limits.BATCH_ENTRIES)
    sent = p.Sent(data=text, body=None)
    batch = p.Batch(2**53, [sent] * (limits.BATCH_ENTRIES - 1) + [p.Sent(text, p.Body("00" * 32, ""))], "x" * 1000)
    assert p.decode(p.encode(batch)) == batch
    bodies = [p.Sent("", p.Body("00" * 32, text))] * limits.BATCH_ENTRIES
    assert p.encode(p.Batch(2**53, bodies, "x" * 1000))


@pytest.mark.parametrize("kind", KINDS.values())
def test_errors_cross_the_link(kind: type[OutriderError]) -> None:
    error = kind("log.gap", "a gap", advice="send again")
    message = p.decode(p.encode(p.refusal(error, fatal=True, held=3)))
    assert isinstance(message, p.Refusal) and message.fatal and message.held == 3
    back = p.error_of(message)
    assert (type(back), back.code, back.message, back.advice, back.where) == (
        kind,
        "log.gap",
        "a gap",
        "send again",
        "hub",
    )


def test_an_unknown_kind_of_error_is_bad_input() -> None:
    assert type(p.error_of(p.Refusal("Panic", "x.y", "m", "a"))) is BadInput


def test_what_the_handshake_signs() -> None:
    hello = p.Hello(1, "dev_1", "aa", 8, "bb", 2, "agent 0.1.0", "")
    signed = p.hello_bytes("city", "cc", hello)
    assert signed == b"outrider/hello/v1\ncity\ncc\n1\ndev_1\naa\n8\nbb\n2\nagent 0.1.0"
    assert p.welcome_bytes("dev_1", "aa", 8, 3) == b"outrider/welcome/v1\ndev_1\naa\n8\n3"
    assert p.join_bytes("f00d", examples.JOIN).startswith(b"outrider/join/v1\nf00d\n1\nSECRET\nfront desk\n")


@pytest.mark.parametrize("name", [field for field in p.Hello.__struct_fields__ if field != "signature"])
def test_every_field_of_a_hello_is_signed(name: str) -> None:
    hello = next(message for message in examples.MESSAGES if isinstance(message, p.Hello))
    value = getattr(hello, name)
    other = msgspec.structs.replace(hello, **{name: value + 1 if isinstance(value, int) else value + "x"})
    assert p.hello_bytes("city", "cc", hello) != p.hello_bytes("city", "cc", other)


@pytest.mark.parametrize("name", [field for field in p.Join.__struct_fields__ if not field.endswith("_proof")])
def test_every_field_of_a_join_is_signed(name: str) -> None:
    value = getattr(examples.JOIN, name)
    other = msgspec.structs.replace(examples.JOIN, **{name: value + 1 if isinstance(value, int) else value + "x"})
    assert p.join_bytes("f", examples.JOIN) != p.join_bytes("f", other)


def test_a_line_break_cannot_move_one_field_into_the_next() -> None:
    hello = p.Hello(1, "dev_1", "aa", 8, "bb", 2, "agent", "")
    for wrong in (msgspec.structs.replace(hello, device="dev_1\naa"), msgspec.structs.replace(hello, software="a\nb")):
        with pytest.raises(Tampered) as caught:
            p.hello_bytes("city", "cc", wrong)
        assert caught.value.code == "link.line-break"
    with pytest.raises(Tampered):
        p.join_bytes("f", msgspec.structs.replace(examples.JOIN, name="a\nb"))
