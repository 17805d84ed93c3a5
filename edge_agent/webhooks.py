"""Signatures of webhooks, out and in, as the Standard Webhooks specification has them (symmetric, ``v1``).

    webhook-id         identifies the message; the same when it is sent again
    webhook-timestamp  when it was sent, whole seconds since 1970 UTC
    webhook-signature  ``v1,`` and base64 of HMAC-SHA256 over ``ID.TIMESTAMP.BODY``; several, separated by a space

A secret is written ``whsec_`` and base64 of 24 to 64 bytes. Several, separated by white space, are in force at once, so
that one can be replaced without losing a message: each of them signs, and any of them verifies.

Pure: bytes, headers and the time in, judgement out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping

from shared.errors import BadInput, Refused

TOLERANCE_S = 300
_PREFIX = "whsec_"
_ID = re.compile(r"[!-\-/-~]{1,256}")  # printable, and no dot: dots divide what is signed
_SECONDS = re.compile(r"[0-9]{1,11}")
_SIGNATURES = 16


def signing_keys(secret: str) -> list[bytes]:
    """The keys of a secret. Raises ``Refused('webhook.secret')``, which does not show it."""
    keys = [_key(word) for word in secret.split()]
    if not keys or any(key is None for key in keys):
        raise Refused(
            "webhook.secret",
            "the secret is no webhook secret",
            advice="set it as whsec_ and base64 of 24 to 64 random bytes, as the other side shows it",
        )
    return [key for key in keys if key is not None]


def sign(keys: list[bytes], message: str, seconds: int, body: bytes) -> dict[str, str]:
    """The three headers of a message."""
    made = " ".join(_signature(key, message, str(seconds), body) for key in keys)
    return {"webhook-id": message, "webhook-timestamp": str(seconds), "webhook-signature": made}


def verify(keys: list[bytes], headers: Mapping[str, str], body: bytes, now_s: int) -> str:
    """The message's id, if one of the keys signed it lately. Header names are lower case.

    Raises ``BadInput('hook.headers')``, ``Refused('hook.stale')`` and ``Refused('hook.signature')``.
    """
    message, seconds = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not _ID.fullmatch(message) or not _SECONDS.fullmatch(seconds) or not headers.get("webhook-signature"):
        raise BadInput(
            "hook.headers",
            "webhook-id, webhook-timestamp and webhook-signature are needed",
            advice="sign as the Standard Webhooks specification says; an id has no dot",
        )
    off = abs(now_s - int(seconds))
    if off > TOLERANCE_S:
        raise Refused("hook.stale", f"the message was sent {off} s from now", advice="send it anew; check the clocks")
    given = headers["webhook-signature"].split(" ")[:_SIGNATURES]
    wanted = [_signature(key, message, seconds, body).encode() for key in keys]
    # Every pair is compared, so that the time taken tells nothing.
    matches = [hmac.compare_digest(one.encode(errors="replace"), other) for one in given for other in wanted]
    if not any(matches):
        raise Refused(
            "hook.signature", "no signature holds", advice="check the secret, and that nothing rewrote the body"
        )
    return message


def _signature(key: bytes, message: str, seconds: str, body: bytes) -> str:
    made = hmac.new(key, f"{message}.{seconds}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(made).decode()}"


def _key(word: str) -> bytes | None:
    try:
        key = base64.b64decode(word.removeprefix(_PREFIX), validate=True) if word.startswith(_PREFIX) else b""
    except (binascii.Error, ValueError):
        return None
    return key if 24 <= len(key) <= 64 else None
