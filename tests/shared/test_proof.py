"""A proof shows what it says to somebody who has two public keys and nothing else; whatever is changed in it is met.
Checked also by code that is not ours."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tlog_scales import signing as other_keys
from tlog_scales import tlog as other

from shared.codec import b64, canonical
from shared.entries import Body, Draft, SourceRefused, Written, write
from shared.errors import BadInput, OutriderError, Tampered
from shared.keys import SigningKey, cosign_note, vkey
from shared.proof import MOST_BYTES, WITNESS, Proved, Verifier, check, make, read_verifier
from shared.tlog import Checkpoint, Frontier, leaf_hash
from tests.shared import examples

LOG, HUB = SigningKey(b"k" * 32), SigningKey(b"h" * 32)
ORIGIN, SIZE = "city/dev_1", 21
OWN, CITY = Verifier(LOG.public, ORIGIN), Verifier(HUB.public, "city")


def entry(seq: int) -> Written:
    facts = SourceRefused("00", f"a{seq}")
    return write(Draft(facts, bodies={"shared": {"n": seq}, "private": {"n": -seq}}), seq, examples.AT, examples.salt)


ENTRIES = [entry(seq) for seq in range(SIZE)]
NODES: dict[tuple[int, int], bytes] = {}


def node(level: int, index: int) -> bytes:
    return NODES[level, index]


def note(size: int = SIZE, *, cosigned: bool = True) -> bytes:
    tree = Frontier()
    NODES.update(((level, index), found) for level, index, found in tree.extend(leaf_hash(e.data) for e in ENTRIES))
    signed = Checkpoint(ORIGIN, size, Frontier.load(size, node).root()).sign(LOG)
    return cosign_note(signed, "city", HUB, 1_790_000_000) if cosigned else signed


NOTE = note()


def proof(seq: int, *, body: bool = False, checkpoint: bytes = NOTE) -> bytes:
    bodies = {"shared": ENTRIES[seq].bodies["shared"]} if body else {}
    return make(ENTRIES[seq].data, seq, node, checkpoint, bodies)


def test_every_entry_is_proved_by_every_later_checkpoint() -> None:
    for size in (1, 2, 3, 8, 13, 21):
        checkpoint = note(size)
        for seq in range(size):
            shown = check(proof(seq, checkpoint=checkpoint), OWN, CITY)
            assert (shown.index, shown.size, shown.origin) == (seq, size, ORIGIN)
            assert shown.entry == ENTRIES[seq].entry


def test_what_a_stranger_is_told() -> None:
    shown = check(proof(7, body=True), Verifier(LOG.public), Verifier(HUB.public))
    body = ENTRIES[7].bodies["shared"]
    root = Frontier.load(SIZE, node).root()
    assert shown == Proved(ORIGIN, 7, SIZE, root, ENTRIES[7].entry, {"shared": body}, "city", 1_790_000_000)
    alone = check(proof(7), Verifier(LOG.public))
    assert (alone.witness, alone.cosigned_at, alone.bodies) == ("", 0, {})


def test_a_log_that_the_hub_has_not_seen_yet_is_proved_by_its_own_key() -> None:
    data = proof(3, checkpoint=note(cosigned=False))
    assert check(data, OWN).entry.seq == 3
    with pytest.raises(Tampered, match="note.uncosigned"):
        check(data, OWN, CITY)


@pytest.mark.parametrize(
    ("log", "witness", "code"),
    [
        (Verifier(HUB.public), None, "note.unsigned"),
        (Verifier(LOG.public, "city/dev_2"), None, "note.unsigned"),
        (OWN, Verifier(LOG.public), "note.uncosigned"),
        (OWN, Verifier(HUB.public, "town"), "note.uncosigned"),
    ],
)
def test_other_keys_and_names_show_nothing(log: Verifier, witness: Verifier | None, code: str) -> None:
    with pytest.raises(Tampered) as caught:
        check(proof(7), log, witness)
    assert caught.value.code == code


def extra(data: bytes) -> bytes:
    return base64.b64decode(data.split(b"\n")[1].removeprefix(b"extra "))


def with_extra(data: bytes, changed: bytes) -> bytes:
    lines = data.split(b"\n")
    return b"\n".join([lines[0], b"extra " + base64.b64encode(changed), *lines[2:]])


def swapped(data: bytes, number: int, line: bytes) -> bytes:
    lines = data.split(b"\n")
    lines[number] = line
    return b"\n".join(lines)


HONEST = proof(7, body=True)
LIES = {
    "another entry": (with_extra(HONEST, extra(HONEST).replace(b"a7", b"a8")), "tlog.inclusion"),
    "another entry's proof": (with_extra(proof(8), extra(proof(7))), "tlog.inclusion"),
    "another index": (HONEST.replace(b"index 7", b"index 6"), "tlog.inclusion"),
    "an index beyond": (HONEST.replace(b"index 7", b"index 21"), "tlog.inclusion"),
    "a node changed": (swapped(HONEST, 4, b64(bytes(32)).encode()), "tlog.inclusion"),
    "a node left out": (b"\n".join(line for n, line in enumerate(HONEST.split(b"\n")) if n != 4), "tlog.inclusion"),
    "a node more": (swapped(HONEST, 4, HONEST.split(b"\n")[4] + b"\n" + b64(bytes(32)).encode()), "tlog.inclusion"),
    "another size": (HONEST.replace(b"\n21\n", b"\n20\n"), "note.signature"),
    "another body": (with_extra(HONEST, extra(HONEST).replace(b'\\"n\\":7', b'\\"n\\":9')), "body.hash"),
    "another salt": (with_extra(HONEST, extra(HONEST).replace(b'"salt":"00', b'"salt":"01')), "body.hash"),
    "no salt": (with_extra(HONEST, extra(HONEST).replace(b'"salt":"00', b'"salt":"zz')), "body.hash"),
    "a body of another name": (
        with_extra(HONEST, extra(HONEST).replace(b'"shared":{"data', b'"other":{"data')),
        "body.hash",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_what_was_changed_shows_nothing(name: str) -> None:
    data, code = LIES[name]
    assert data != HONEST
    with pytest.raises(Tampered) as caught:
        check(data, OWN, CITY)
    assert caught.value.code == code and caught.value.advice


def test_an_entry_in_a_place_that_it_does_not_claim() -> None:
    """A log whose owner signed nonsense: the tree holds, the entry does not stand where it says."""
    tree, nodes = Frontier(), {}
    nodes.update({(level, index): n for level, index, n in tree.extend([leaf_hash(ENTRIES[5].data)])})
    signed = Checkpoint(ORIGIN, 1, tree.root()).sign(LOG)
    with pytest.raises(Tampered, match="proof.index"):
        check(make(ENTRIES[5].data, 0, lambda level, index: nodes[level, index], signed, {}), OWN)


FORMS = {
    "nothing": b"",
    "text": b"hello\n\nworld\n",
    "not text": HONEST.replace(b"index", b"\xff"),
    "another version": HONEST.replace(b"@v1", b"@v2"),
    "no extra": b"\n".join(line for n, line in enumerate(HONEST.split(b"\n")) if n != 1),
    "no index": b"\n".join(line for n, line in enumerate(HONEST.split(b"\n")) if n != 2),
    "a padded index": HONEST.replace(b"index 7", b"index 07"),
    "a signed index": HONEST.replace(b"index 7", b"index +7"),
    "a long index": HONEST.replace(b"index 7", b"index " + b"7" * 40),
    "a space more": HONEST.replace(b"index 7", b"index  7"),
    "a short node": swapped(HONEST, 4, b64(bytes(31)).encode()),
    "a node that is no base64": swapped(HONEST, 4, b"!"),
    "an extra that is no base64": swapped(HONEST, 1, b"extra !"),
    "an extra that is no JSON": with_extra(HONEST, b"{"),
    "an extra with more in it": with_extra(HONEST, extra(HONEST)[:-1] + b',"x":1}'),
    "an extra with white space": with_extra(HONEST, extra(HONEST).replace(b'{"bodies"', b'{ "bodies"')),
    "windows line ends": HONEST.replace(b"\n", b"\r\n"),
    "no checkpoint": HONEST.split(b"\n\n")[0] + b"\n\n",
    "too large": HONEST + b"x" * MOST_BYTES,
    "too many nodes": HONEST.replace(b"\n\n", b"\n" + b"\n".join([b64(bytes(32)).encode()] * 65) + b"\n\n", 1),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_is_no_proof_is_called_that(name: str) -> None:
    with pytest.raises(BadInput) as caught:
        check(FORMS[name], OWN, CITY)
    assert caught.value.code in ("proof.form", "codec.base64", "note.form")
    assert caught.value.advice


def test_an_entry_of_a_kind_unknown_here_is_not_judged() -> None:
    data = ENTRIES[0].data.replace(b"source.refused", b"source.unheard")
    tree = Frontier()
    tree.extend([leaf_hash(data)])
    made = make(data, 0, lambda *_: b"", Checkpoint(ORIGIN, 1, tree.root()).sign(LOG), {})
    with pytest.raises(BadInput, match="entry.unknown"):
        check(made, OWN)


@given(st.data())
def test_no_change_of_a_byte_gets_through_and_none_is_a_crash(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(HONEST) - 1))
    changed = HONEST[:place] + bytes([data.draw(st.integers(0, 255))]) + HONEST[place + 1 :]
    if changed == HONEST:
        return
    try:
        check(changed, OWN, CITY)
    except OutriderError:
        return
    raise AssertionError(f"byte {place} does not matter")


@given(st.binary(max_size=300))
def test_any_bytes_are_answered(data: bytes) -> None:
    for made in (data, b"c2sp.org/tlog-proof@v1\n" + data):
        with pytest.raises(OutriderError):
            check(made, OWN)


# --- keys as text -------------------------------------------------------------------------------------------------


def test_keys_are_read_as_they_are_written() -> None:
    assert read_verifier(LOG.public.text) == Verifier(LOG.public)
    assert read_verifier(vkey(ORIGIN, LOG.public)) == OWN
    assert read_verifier(vkey("city", HUB.public, WITNESS), WITNESS) == CITY


def test_a_key_of_the_other_kind_or_changed_is_refused() -> None:
    log, witness = vkey(ORIGIN, LOG.public), vkey("city", HUB.public, WITNESS)
    for text, kind in ((log, WITNESS), (witness, b"\x01"), (log.replace("dev_1", "dev_2"), b"\x01")):
        with pytest.raises(BadInput, match="key.form"):
            read_verifier(text, kind)
    for text in ("", "x", "a+b", b64(b"short")):
        with pytest.raises(BadInput):
            read_verifier(text)


# --- by code that is not ours -------------------------------------------------------------------------------------


def by_another(data: bytes, leaf: bytes, keys: list[str]) -> None:
    """What C2SP tlog-proof asks of whoever verifies one, with another's checkpoint, key and Merkle code."""
    head, _, checkpoint = data.decode().partition("\n\n")
    first, _, index, *path = head.split("\n")
    assert first == "c2sp.org/tlog-proof@v1"
    signed = other.Checkpoint.from_text(checkpoint)
    for key in keys:
        signed.verify(other_keys.Vkey.from_string(key))
    nodes = [base64.b64decode(line) for line in path]
    place = int(index.removeprefix("index "))
    other.InclusionProof(place, signed.size, nodes).check(leaf, signed.root_hash)


def test_another_implementation_accepts_them() -> None:
    keys = [vkey(ORIGIN, LOG.public), vkey("city", HUB.public, WITNESS)]
    for size in range(1, SIZE + 1):
        checkpoint = note(size)
        for seq in range(size):
            by_another(proof(seq, body=True, checkpoint=checkpoint), leaf_hash(ENTRIES[seq].data), keys)


@pytest.mark.parametrize(
    "name", ["another index", "an index beyond", "a node changed", "a node left out", "a node more"]
)
def test_another_implementation_refuses_what_we_refuse(name: str) -> None:
    with pytest.raises(other.InclusionProofInvalid):
        by_another(LIES[name][0], leaf_hash(ENTRIES[7].data), [])


def test_we_accept_what_another_implementation_signed() -> None:
    """Its checkpoint and its signature, our proof."""
    signer = other_keys.PlainEd25519Signer(ORIGIN, LOG.secret_bytes())
    root = Frontier.load(SIZE, node).root()
    signed = other.Checkpoint.make_signed(ORIGIN, SIZE, root, [signer]).serialize().encode()
    assert signed == Checkpoint(ORIGIN, SIZE, root).sign(LOG)
    assert check(proof(7, checkpoint=signed), OWN).entry.seq == 7
    assert signer.vkey.serialize() == vkey(ORIGIN, LOG.public)


def test_the_extra_line_is_canonical() -> None:
    body: Body = ENTRIES[7].bodies["shared"]
    wanted = {"bodies": {"shared": {"data": body.data, "salt": body.salt}}, "entry": ENTRIES[7].data.decode()}
    assert extra(HONEST) == canonical(wanted)
