"""Signatures of webhooks: the specification's own example, and every way to forge or repeat one."""

from __future__ import annotations

import base64

import pytest

from edge_agent.webhooks import TOLERANCE_S, sign, signing_keys, verify
from shared.errors import BadInput, Refused

# The reference vector that the Standard Webhooks libraries share.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
OTHER = "whsec_" + base64.b64encode(b"another key of thirty-two bytes!").decode()


def headers(**changes: str) -> dict[str, str]:
    made = {"webhook-id": ID, "webhook-timestamp": str(AT), "webhook-signature": SIGNATURE}
    return made | {name.replace("_", "-"): value for name, value in changes.items()}


def test_the_reference_vector_is_made_and_verified() -> None:
    keys = signing_keys(SECRET)
    assert sign(keys, ID, AT, BODY) == headers()
    assert verify(keys, headers(), BODY, AT) == ID


def test_a_secret_can_be_replaced_without_losing_a_message() -> None:
    old, new, both = signing_keys(SECRET), signing_keys(OTHER), signing_keys(f"{OTHER}\n{SECRET}\n")
    assert verify(both, sign(old, ID, AT, BODY), BODY, AT) == ID
    assert verify(both, sign(new, ID, AT, BODY), BODY, AT) == ID
    for receiver in (old, new):
        assert verify(receiver, sign(both, ID, AT, BODY), BODY, AT) == ID
    with pytest.raises(Refused, match="hook.signature"):
        verify(new, sign(old, ID, AT, BODY), BODY, AT)


def test_other_kinds_of_signatures_beside_ours_do_no_harm() -> None:
    mixed = f"v1a,abcd v2,{SIGNATURE[3:]} v1,ZZZZ {SIGNATURE}"
    assert verify(signing_keys(SECRET), headers(webhook_signature=mixed), BODY, AT) == ID


@pytest.mark.parametrize(
    "forged",
    [
        "v1,",
        "v1,AAAA",
        SIGNATURE[:-1],
        SIGNATURE[3:],
        SIGNATURE.replace("v1", "v1a"),
        SIGNATURE.replace("v1", "v2"),
        SIGNATURE.lower(),
        "v1,\udcff",
        " ".join(["v1,AAAA"] * 16 + [SIGNATURE]),
    ],
)
def test_a_forged_signature_is_refused(forged: str) -> None:
    with pytest.raises(Refused) as caught:
        verify(signing_keys(SECRET), headers(webhook_signature=forged), BODY, AT)
    assert caught.value.code == "hook.signature"


@pytest.mark.parametrize(
    ("changes", "body"),
    [({}, BODY + b" "), ({}, b""), ({"webhook_id": "msg_other"}, BODY), ({"webhook_timestamp": str(AT + 1)}, BODY)],
)
def test_nothing_that_is_signed_can_be_changed(changes: dict[str, str], body: bytes) -> None:
    with pytest.raises(Refused, match="hook.signature"):
        verify(signing_keys(SECRET), headers(**changes), body, AT)


def test_a_boundary_cannot_be_moved() -> None:
    """``a.1.2.body`` could be the id ``a`` at 1, or the id ``a.1`` at 2: ids have no dots."""
    key = signing_keys(SECRET)
    signed = sign(key, "a", AT, f"{AT}.body".encode())
    moved = signed | {"webhook-id": f"a.{AT}", "webhook-timestamp": str(AT)}
    with pytest.raises(BadInput, match="hook.headers"):
        verify(key, moved, b"body", AT)


@pytest.mark.parametrize(("off", "fits"), [(0, True), (TOLERANCE_S, True), (TOLERANCE_S + 1, False), (10**9, False)])
@pytest.mark.parametrize("sense", [1, -1])
def test_an_old_or_future_message_is_stale(off: int, fits: bool, sense: int) -> None:
    if fits:
        assert verify(signing_keys(SECRET), headers(), BODY, AT + sense * off) == ID
        return
    with pytest.raises(Refused) as caught:
        verify(signing_keys(SECRET), headers(), BODY, AT + sense * off)
    assert caught.value.code == "hook.stale"


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook_id": ""},
        {"webhook_id": "a b"},
        {"webhook_id": "a\n"},
        {"webhook_id": "x" * 257},
        {"webhook_timestamp": ""},
        {"webhook_timestamp": "-1"},
        {"webhook_timestamp": "1614265330.5"},
        {"webhook_timestamp": "١٦١٤٢٦٥٣٣٠"},
        {"webhook_timestamp": "9" * 12},
        {"webhook_signature": ""},
    ],
)
def test_headers_that_are_missing_or_malformed_are_told(changes: dict[str, str]) -> None:
    with pytest.raises(BadInput) as caught:
        verify(signing_keys(SECRET), headers(**changes), BODY, AT)
    assert caught.value.code == "hook.headers"


@pytest.mark.parametrize(
    "secret",
    [
        "",
        " ",
        "hunter2",
        SECRET.removeprefix("whsec_"),
        "whsec_",
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        "whsec_not base64!",
        f"{SECRET} hunter2",
    ],
)
def test_what_is_no_webhook_secret_is_refused_unshown(secret: str) -> None:
    with pytest.raises(Refused) as caught:
        signing_keys(secret)
    assert caught.value.code == "webhook.secret" and "hunter2" not in str(caught.value)
