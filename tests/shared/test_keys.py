"""Keys, signed notes, cosignatures and envelopes: golden bytes, and everything that must not verify."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadInput, OutriderError, Tampered
from shared.keys import (
    Envelope,
    PublicKey,
    SigningKey,
    cosign_note,
    key_id,
    seal,
    sign_note,
    split_note,
    unseal,
    verify_cosignature,
    verify_note,
)

DEVICE, HUB = SigningKey(bytes(range(32))), SigningKey(bytes(range(32, 64)))
NAME = "outrider.example/device/d1"
TEXT = f"{NAME}\n3\nAAAA\n"
AT = 1_790_000_000
NOTE = (
    TEXT + f"\n— {NAME} m7rgW1DlGNijJ+58kR+owNQ9JgK01WECVEoAVpmA+3lUxatk71DG4w1BxXHBReoY6DEZYgcbb5iu9OPjPs056I3rjgo=\n"
).encode()
COSIGNED = (
    NOTE
    + (
        "— hub.example t2Qn/AAAAABqsTuAj08QSMG9bFV5PH9JfCjFYUzqUq5f9+N3CRW0KezNTuGgYmmD7LA8QrFPehlaEFwUzujzjgsACcku"
        "2ic71+jIBg==\n"
    ).encode()
)


def code_of(call: object, kind: type[OutriderError], *args: object) -> str:
    with pytest.raises(kind) as caught:
        call(*args)  # type: ignore[operator]
    assert caught.value.advice
    return caught.value.code


# --- keys ---------------------------------------------------------------------------------------------------------


def test_rfc_8032_vector_1() -> None:
    key = SigningKey(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public.raw.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bb"
        "e24655141438e7a100b"
    )


def test_text_and_fingerprint() -> None:
    assert DEVICE.public.text == "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
    assert DEVICE.public.fingerprint == "56475aa75463474c"
    assert PublicKey.from_text(DEVICE.public.text) == DEVICE.public != HUB.public
    assert len({DEVICE.public, PublicKey(DEVICE.public.raw)}) == 1
    assert DEVICE.public != DEVICE.public.raw


@pytest.mark.parametrize("raw", [b"", b"x" * 31, b"x" * 33])
def test_keys_of_the_wrong_length(raw: bytes) -> None:
    assert code_of(PublicKey, BadInput, raw) == "key.length"
    assert code_of(SigningKey, BadInput, raw) == "key.length"


@pytest.mark.parametrize("text", ["", "!", "A6EHv", "é", DEVICE.public.text + "\n", DEVICE.public.text[:-4]])
def test_texts_that_are_no_key(text: str) -> None:
    assert code_of(PublicKey.from_text, BadInput, text) in {"codec.base64", "key.length"}


def test_a_private_key_does_not_show_itself() -> None:
    shown = f"{DEVICE} {DEVICE!r} {[DEVICE]}"
    assert DEVICE.public.fingerprint in shown
    for secret in (DEVICE.secret_bytes().hex(), base64.b64encode(DEVICE.secret_bytes()).decode(), "x00"):
        assert secret not in shown


@pytest.mark.parametrize("raw", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_odd_points_verify_nothing_of_ours(raw: bytes) -> None:
    assert code_of(lambda: PublicKey(raw).verify(DEVICE.sign(b"m"), b"m", code="x.y", what="it"), Tampered) == "x.y"


# --- notes --------------------------------------------------------------------------------------------------------


def test_key_id_of_a_published_verifier_key() -> None:
    """From the documentation of Go's note package: PeterNeumann+c74f20a3+ARpc2QcU..."""
    data = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    assert data[0] == 1
    assert key_id("PeterNeumann", PublicKey(data[1:])).hex() == "c74f20a3"


def test_golden_note_and_cosignature() -> None:
    assert sign_note(TEXT, NAME, DEVICE) == NOTE
    assert cosign_note(NOTE, "hub.example", HUB, AT) == COSIGNED
    assert verify_note(NOTE, NAME, DEVICE.public) == TEXT
    assert verify_note(COSIGNED, NAME, DEVICE.public) == TEXT
    assert verify_cosignature(COSIGNED, "hub.example", HUB.public) == AT


def test_what_a_cosignature_covers() -> None:
    _, lines = split_note(COSIGNED)
    name, line = lines[1]
    assert name == "hub.example" and line[:4] == key_id("hub.example", HUB.public, b"\x04")
    assert struct.unpack(">Q", line[4:12]) == (AT,)
    HUB.public.verify(line[12:], f"cosignature/v1\ntime {AT}\n{TEXT}".encode(), code="x", what="x")


def test_the_wrong_signer_or_name() -> None:
    assert code_of(verify_note, Tampered, NOTE, NAME, HUB.public) == "note.unsigned"
    assert code_of(verify_note, Tampered, NOTE, "somebody.else", DEVICE.public) == "note.unsigned"
    assert code_of(verify_cosignature, Tampered, NOTE, "hub.example", HUB.public) == "note.uncosigned"
    assert code_of(verify_cosignature, Tampered, COSIGNED, NAME, DEVICE.public) == "note.uncosigned"


def test_one_kind_of_signature_does_not_stand_for_the_other() -> None:
    signed = sign_note(TEXT, "hub.example", HUB)
    assert code_of(verify_cosignature, Tampered, signed, "hub.example", HUB.public) == "note.uncosigned"
    assert code_of(verify_note, Tampered, COSIGNED, "hub.example", HUB.public) == "note.unsigned"


def test_a_right_key_id_over_a_wrong_signature() -> None:
    forged = key_id(NAME, DEVICE.public) + HUB.sign(TEXT.encode())
    note = f"{TEXT}\n— {NAME} {base64.b64encode(forged).decode()}\n".encode()
    assert code_of(verify_note, Tampered, note, NAME, DEVICE.public) == "note.signature"


def test_every_changed_byte_of_the_text_is_found() -> None:
    for at in range(len(TEXT.encode())):
        changed = bytearray(NOTE)
        changed[at] ^= 1
        with pytest.raises((Tampered, BadInput)):
            verify_note(bytes(changed), NAME, DEVICE.public)


def test_the_time_of_a_cosignature_cannot_be_changed() -> None:
    _, lines = split_note(COSIGNED)
    line = lines[1][1]
    later = line[:4] + struct.pack(">Q", AT + 1) + line[12:]
    note = NOTE + f"— hub.example {base64.b64encode(later).decode()}\n".encode()
    assert code_of(verify_cosignature, Tampered, note, "hub.example", HUB.public) == "note.cosignature"


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n",
        b"\n\n",
        b"text\n",
        b"text\n\n",
        NOTE[:-1],
        NOTE.replace(b"\n\n", b"\n"),
        NOTE.replace("— ".encode(), b"- "),
        NOTE.replace(b"m7rgW1Dl", b"m7rg!1Dl"),
        f"{TEXT}\n— {NAME} AAAA\n".encode(),
        f"{TEXT}\n— {NAME}\n".encode(),
        f"{TEXT}\n—\n".encode(),
        NOTE + b"\n",
        NOTE + b"trailing",
        b"\xff" + NOTE,
    ],
)
def test_malformed_notes(note: bytes) -> None:
    assert code_of(split_note, BadInput, note) in {"note.form", "codec.base64"}


def test_names_and_texts_that_cannot_be_signed() -> None:
    for name in ("", "a b", "a+b", "a\nb", "a\tb"):
        assert code_of(sign_note, BadInput, TEXT, name, DEVICE) == "note.name"
        assert code_of(cosign_note, BadInput, NOTE, name, HUB, AT) == "note.name"
    assert code_of(sign_note, BadInput, "no newline", NAME, DEVICE) == "note.text"


def test_a_text_that_looks_like_a_note_stays_text() -> None:
    inner = NOTE.decode()
    outer = sign_note(inner, "hub.example", HUB)
    assert verify_note(outer, "hub.example", HUB.public) == inner
    assert code_of(verify_note, Tampered, outer, NAME, DEVICE.public) == "note.unsigned"


LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=40)


@given(LINES)
def test_notes_round_trip(text: str) -> None:
    note = sign_note(text + "\n", NAME, DEVICE)
    assert verify_note(cosign_note(note, "hub.example", HUB, AT), NAME, DEVICE.public) == text + "\n"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_note_or_refused(data: bytes) -> None:
    try:
        text, lines = split_note(data)
    except BadInput as error:
        assert error.code in {"note.form", "codec.base64"}
    else:
        assert text.endswith("\n") and lines


# --- envelopes ----------------------------------------------------------------------------------------------------


def test_golden_envelope() -> None:
    envelope = seal("lease", b'{"n":1}', HUB)
    assert envelope.payload == '{"n":1}'
    HUB.public.verify(
        base64.b64decode(envelope.signature),
        b'outrider/lease/v1\n{"n":1}',
        code="x",
        what="what the page says is signed",
    )
    assert unseal(envelope, "lease", HUB.public) == b'{"n":1}'


def test_an_envelope_for_one_purpose_is_none_for_another() -> None:
    envelope = seal("lease", b"{}", HUB)
    assert code_of(unseal, Tampered, envelope, "answer", HUB.public) == "envelope.purpose"
    renamed = Envelope("answer", envelope.payload, envelope.signature)
    assert code_of(unseal, Tampered, renamed, "answer", HUB.public) == "envelope.signature"


def test_purpose_and_payload_cannot_flow_into_each_other() -> None:
    envelope = seal("lease", b"x", HUB)
    shifted = Envelope("lease/v1\nx", "", envelope.signature)
    assert code_of(unseal, Tampered, shifted, "lease/v1\nx", HUB.public) == "envelope.signature"


def test_changed_and_foreign_envelopes() -> None:
    envelope = seal("lease", b'{"n":1}', HUB)
    for changed in (
        Envelope("lease", '{"n":2}', envelope.signature),
        Envelope("lease", '{"n":1} ', envelope.signature),
        Envelope("lease", "", envelope.signature),
        Envelope("lease", envelope.payload, seal("lease", b'{"n":1}', DEVICE).signature),
        Envelope("lease", envelope.payload, ""),
        Envelope("lease", envelope.payload, base64.b64encode(bytes(64)).decode()),
    ):
        assert code_of(unseal, Tampered, changed, "lease", HUB.public) == "envelope.signature"
    assert code_of(unseal, BadInput, Envelope("lease", "", "not base64"), "lease", HUB.public) == "codec.base64"
    assert code_of(unseal, Tampered, envelope, "lease", DEVICE.public) == "envelope.signature"
