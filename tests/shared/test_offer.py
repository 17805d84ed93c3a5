"""What people are shown and sign: a hub that was taken over cannot have one thing shown and another one signed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.codec import b64, canonical, hex_sha256
from shared.errors import BadInput, Conflict, OutriderError, Refused, Tampered
from shared.keys import SigningKey, vkey
from shared.offer import (
    Offer,
    Quorum,
    Signature,
    check_files,
    check_since,
    files_of,
    judge,
    missing,
    read_offer,
    read_signature,
    said,
    sign_offer,
)
from shared.release import Manifest, ModelRef

KEYS = {name: SigningKey(name.encode().ljust(32, b".")) for name in ("alice", "bob", "carol", "eve")}
LINES = {name: vkey(name, key.public) for name, key in KEYS.items()}
FILES = {"policy.cedar": b"permit;", "schema.cedarschema": b"entity;"}
MODEL = ModelRef("small", "language", "ab" * 32, 1000, "file:small.gguf")


def target(data: bytes) -> dict[str, Any]:
    return {"length": len(data), "hashes": {"sha256": hex_sha256(data)}}


def manifest(number: int) -> str:
    hashes = {path: hex_sha256(data) for path, data in FILES.items()}
    return canonical(Manifest(number, 1, "policy.cedar", "schema.cedarschema", {}, {}, [MODEL], hashes)).decode()


def policy(number: int, **more: Any) -> dict[str, Any]:
    own = {f"release/{number}/{path}": target(data) for path, data in FILES.items()}
    own[f"release/{number}/release.json"] = target(manifest(number).encode())
    earlier = {"release/1/release.json": target(b"{}"), "release/1/policy.cedar": target(b"x")}
    return {"_type": "targets", "version": 4, "expires": "2027-01-01T00:00:00Z", "targets": earlier | own} | more


def quorum(threshold: int = 2, *names: str) -> Quorum:
    return Quorum(threshold, [LINES[name] for name in names or ("alice", "bob", "carol")])


def release(payload: dict[str, Any] | None = None, number: int = 7) -> Offer:
    text = json.dumps(payload or policy(number))
    return Offer("release", number, 1, "mara", manifest(number), {"policy": text}, {"policy": [quorum()]})


def refused(kind: type[OutriderError], code: str, call: Any, *args: Any) -> OutriderError:
    with pytest.raises(kind) as caught:
        call(*args)
    assert caught.value.code == code and caught.value.advice
    return caught.value


def test_there_and_back() -> None:
    offer = read_offer(release().data())
    assert offer == release() and files_of(offer).keys() == FILES.keys() | {"release.json"}
    signature = read_signature(sign_offer(offer, LINES["bob"], KEYS["bob"]).data())
    judge(offer, [], signature)
    assert missing(offer, []) == {"policy": 2}
    assert missing(offer, [signature]) == {"policy": 1}
    assert missing(offer, [signature, sign_offer(offer, LINES["carol"], KEYS["carol"])]) == {}


def test_bytes_are_pinned() -> None:
    """Offers lie with people for weeks, and signatures travel: existing bytes do not change."""
    offer = Offer(
        "root", 2, 1_790_000_000_000_000, "mara", "", {"root": '{"_type":"root"}'}, {"root": [quorum(1, "bob")]}
    )
    assert offer.data().decode() == (
        '{"at":1790000000000000,"by":"mara","kind":"root","manifest":"","number":2,'
        '"payloads":{"root":"{\\"_type\\":\\"root\\"}"},'
        f'"quorums":{{"root":[{{"keys":["{LINES["bob"]}"],"threshold":1}}]}}}}\n'
    )
    assert LINES["bob"] == "bob+d13e3fdb+AUlb6aa1Dq/R/rJ1akvV7ZummYl8T1x1L3Z2Xy/rmYOz"
    assert offer.id == "86fc8ea9ab661b3c"
    signature = sign_offer(offer, LINES["bob"], KEYS["bob"])
    assert signature.data().decode() == (
        f'{{"key":"{LINES["bob"]}","offer":"{offer.id}","signatures":{{"root":"qKD79lIB8MSs8mejIWyxSZTu6NBCFCzjwi0J+sY4FM/N+mwIJ695+g+2mGOIizyN3bnVXonYZcEkfjmdTlscCg=="}}}}\n'
    )


def test_the_same_key_under_two_names_is_one() -> None:
    twice = Quorum(2, [LINES["alice"], vkey("anna", KEYS["alice"].public), LINES["bob"]])
    offer = msgspec.structs.replace(release(), quorums={"policy": [twice]})
    mine = sign_offer(offer, LINES["alice"], KEYS["alice"])
    assert missing(offer, [mine]) == {"policy": 1}
    again = sign_offer(offer, vkey("anna", KEYS["alice"].public), KEYS["alice"])
    refused(Conflict, "sign.twice", judge, offer, [mine], again)


def test_old_and_new_root_keys_must_both_be_enough() -> None:
    text = json.dumps({"_type": "root", "version": 2, "expires": "2029-01-01T00:00:00Z"})
    offer = Offer(
        "root", 2, 1, "mara", "", {"root": text}, {"root": [quorum(2, "alice", "bob"), quorum(2, "bob", "eve")]}
    )
    held = [sign_offer(offer, LINES["alice"], KEYS["alice"])]
    assert missing(offer, held) == {"root": 2}
    held.append(sign_offer(offer, LINES["bob"], KEYS["bob"]))
    assert missing(offer, held) == {"root": 1}
    held.append(sign_offer(offer, LINES["eve"], KEYS["eve"]))
    assert missing(offer, held) == {}


def test_what_does_not_count() -> None:
    offer = release()
    refused(Refused, "sign.not-wanted", sign_offer, offer, LINES["eve"], KEYS["eve"])
    right = sign_offer(offer, LINES["bob"], KEYS["bob"])
    wrong = msgspec.structs.replace(right, key=LINES["alice"])
    refused(Tampered, "sign.wrong", judge, offer, [], wrong)
    refused(BadInput, "sign.other-offer", judge, release(number=8), [], right)
    more = msgspec.structs.replace(right, signatures=right.signatures | {"root": b64(b"x" * 64)})
    refused(Refused, "sign.not-wanted", judge, offer, [], more)
    refused(BadInput, "codec.base64", judge, offer, [], Signature(offer.id, LINES["bob"], {"policy": "!"}))
    refused(BadInput, "key.form", judge, offer, [], msgspec.structs.replace(right, key="bob"))


@pytest.mark.parametrize(
    "payload",
    [
        policy(7, _type="root"),
        policy(7, _type="snapshot"),
        policy(7, delegations={"keys": {}, "roles": []}),
        policy(7) | {"targets": policy(7)["targets"] | {"models/evil": target(b"evil")}},
        policy(7) | {"targets": policy(7)["targets"] | {"release/7/hidden.cedar": target(b"evil")}},
        policy(7) | {"targets": policy(7)["targets"] | {"release/7/policy.cedar": target(b"permit all;")}},
        policy(7) | {"targets": {}},
        policy(8),
    ],
)
def test_a_release_that_says_more_or_other_than_is_shown(payload: dict[str, Any]) -> None:
    refused(Tampered, "sign.payload", read_offer, release(payload).data())


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp", "other"])
def test_a_release_cannot_bring_along_another_list(role: str) -> None:
    offer = release()
    text = json.dumps({"_type": "targets", "version": 1, "expires": "", "delegations": {"keys": {}, "roles": []}})
    for kind in ("release", "root"):
        odd = msgspec.structs.replace(
            offer, kind=kind, payloads=offer.payloads | {role: text}, quorums=offer.quorums | {role: [quorum()]}
        )
        if (kind, role) != ("root", "targets"):
            refused(Tampered, "sign.payload", read_offer, odd.data())
    refused(Tampered, "sign.payload", read_offer, msgspec.structs.replace(offer, quorums={}).data())


def test_delegations_cannot_be_signed_as_a_list_of_releases() -> None:
    """The root's keys sign both kinds; each is shown for what it is."""
    text = json.dumps(policy(7))
    offer = Offer("root", 2, 1, "mara", "", {"targets": text}, {"targets": [quorum()]})
    refused(Tampered, "sign.payload", read_offer, offer.data())


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"kind":"release"}', b"[" * 5000])
def test_junk(data: bytes) -> None:
    refused(BadInput, "sign.form", read_offer, data)
    refused(BadInput, "sign.form", read_signature, data)


def test_the_files_at_hand_are_compared() -> None:
    offer = release()
    assert check_files(offer, FILES).models == [MODEL]
    for other in (FILES | {"policy.cedar": b"permit all;"}, FILES | {"new.yaml": b""}, {"policy.cedar": b"permit;"}):
        error = refused(Refused, "sign.files", check_files, offer, other)
        assert error.where in {"policy.cedar", "new.yaml", "schema.cedarschema"}


def test_what_else_the_list_says_is_compared_with_the_offer_before() -> None:
    before, after = release(), release(policy(7), 7)
    check_since(after, before)
    old = policy(6)
    before = Offer("release", 6, 1, "mara", manifest(6), {"policy": json.dumps(old)}, {"policy": [quorum()]})
    new = policy(7)
    refused(Refused, "sign.more", check_since, release(new), before)  # release 6 is gone
    new["targets"] |= old["targets"]
    check_since(release(new), before)
    slipped = new | {"targets": new["targets"] | {"release/5/policy.cedar": target(b"permit all;")}}
    assert refused(Refused, "sign.more", check_since, release(slipped), before).where == "release/5/policy.cedar"
    changed = new | {"targets": new["targets"] | {"release/6/policy.cedar": target(b"permit all;")}}
    assert refused(Refused, "sign.more", check_since, release(changed), before).where == "release/6/policy.cedar"


def test_it_is_told_in_lines_without_tricks() -> None:
    told = said(release())
    assert told[0] == "release 7" and f"  {hex_sha256(b'permit;')[:16]}  policy.cedar" in told
    assert "  model small  abababababababab  1000 bytes" in told
    assert "1 other policy entries" in told[-1] or "2 other policy entries" in told[-1]
    other = policy(7)
    other["targets"]["release/1/policy.cedar"] = target(b"y")
    assert said(release(other))[-1] != told[-1], "a change in another release changes the digest"
    sharing = manifest(7).replace('"playbooks"', '"peers":true,"playbooks"')
    told_of = [line for line in said(msgspec.structs.replace(release(), manifest=sharing)) if "hand models" in line]
    assert told_of == ["  devices may hand models to each other"] and not any("hand models" in line for line in told)
    key = {"keyval": {"public": KEYS["bob"].public.raw.hex()}, "x-outrider-name": "bob\x1b[2Jalice"}
    text = json.dumps(
        {
            "_type": "targets",
            "version": 2,
            "expires": "2029-01-01T00:00:00Z",
            "delegations": {"keys": {"k": key}, "roles": [{"name": "policy", "keyids": ["k"], "threshold": 1}]},
        }
    )
    offer = Offer("root", 2, 1, "mara", "", {"targets": text}, {"targets": [quorum()]})
    told = said(offer)
    assert told[1] == f"  policy: 1 of {KEYS['bob'].public.fingerprint} (bob?[2Jalice)"
    for odd in (text.replace('"k": {', '"l": {'), text.replace('"public": "', '"public": "zz')):
        refused(Tampered, "sign.payload", said, msgspec.structs.replace(offer, payloads={"targets": odd}))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["root", "targets", "release/7/x", "k", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_PAYLOADS = st.fixed_dictionaries(
    {"_type": st.sampled_from(["root", "targets"]), "version": st.integers(), "expires": st.text(max_size=5)},
    optional=dict.fromkeys(("keys", "roles", "targets", "delegations"), _JSON),
)


@settings(max_examples=200, deadline=None)
@given(role=st.sampled_from(["root", "targets", "policy", "model"]), payload=_PAYLOADS, text=st.text(max_size=20))
def test_hostile_offers_never_raise_anything_but_ours(role: str, payload: Any, text: str) -> None:
    for offer in (
        Offer("root", 2, 1, text, "", {role: json.dumps(payload)}, {role: [quorum()]}),
        Offer("release", 7, 1, text, manifest(7), {role: json.dumps(payload)}, {role: [Quorum(1, [text])]}),
    ):
        try:
            said(read_offer(offer.data()))
            sign_offer(offer, LINES["bob"], KEYS["bob"])
        except OutriderError as error:
            assert error.code.partition(".")[0] in ("sign", "key", "codec", "note")
