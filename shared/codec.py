"""Canonical bytes and hashes.

Canonical JSON here is: UTF-8, keys sorted, no white space, integers only. Money is integer cents, time is integer
microseconds since 1970 UTC, ratios are integer permille. A float in signed bytes is an error, because two platforms
may print it differently. Stored bytes are hashed as they are and never written again to be verified.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection
from typing import Any, TypeVar

import msgspec

from shared.errors import BadInput

T = TypeVar("T")

_ENCODER = msgspec.json.Encoder(order="sorted")
_PLAIN = frozenset((str, int, bool, type(None)))
_TEXT = frozenset((str,))


def canonical(value: Any) -> bytes:
    """Deterministic JSON of dicts, lists, strings, ints, bools, None and msgspec structs; ``BadInput`` on others.

    Struct fields are written in sorted order too, so a struct and the dict it came from have the same bytes.
    """
    try:
        _check_plain(value)
        return _ENCODER.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:  # also lone surrogates
        raise BadInput("codec.form", f"not canonical data: {error}", advice="use plain JSON values") from error


def encode(value: msgspec.Struct) -> bytes:
    """The canonical bytes of a struct that was read by its type, so that nothing in it is without one form."""
    return _ENCODER.encode(value)


def _check_plain(value: Any) -> None:
    """Refuse what has no one form. Most values are text and numbers, so all of these in one container are passed over
    at once: every entry, body and action comes through here."""
    if type(value) in _PLAIN:
        return
    if isinstance(value, msgspec.Struct):
        _check_all(msgspec.structs.astuple(value))
    elif isinstance(value, float):
        raise BadInput(
            "codec.float", "a float stands in canonical data", advice="use integer cents, microseconds or permille"
        )
    elif isinstance(value, dict):
        if not _TEXT.issuperset(map(type, value)):
            for key in value:
                if not isinstance(key, str):
                    raise BadInput("codec.form", f"the key {key!r} is not text", advice="use plain JSON values")
        _check_all(value.values())
    elif isinstance(value, list | tuple):
        _check_all(value)
    elif isinstance(value, bytes | bytearray):
        raise BadInput("codec.form", f"a {type(value).__name__} has no one form", advice="use plain JSON values")


def _check_all(values: Collection[Any]) -> None:
    if not _PLAIN.issuperset(map(type, values)):
        for value in values:
            if type(value) not in _PLAIN:
                _check_plain(value)


def parse(data: bytes | str, kind: type[T], *, code: str, what: str) -> T:
    """Read JSON strictly into ``kind``. Unknown fields are refused where it forbids them; never ``ValueError``."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadInput(code, f"{what} does not parse: {error}", advice="check its version and sender") from error


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def hex_sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """Hex SHA-256 of the canonical bytes: the identity of an action, a context or a playbook."""
    return hex_sha256(canonical(value))


def salted(salt: bytes, body: bytes) -> str:
    """Hex hash that commits to a body without giving it away: SHA-256(0x02 || salt || body), salt of 32 bytes.

    The prefix keeps it apart from leaf (0x00) and node (0x01) hashes; the salt stops guessing of short bodies, and
    deleting body and salt together leaves nothing to test a guess against.
    """
    if len(salt) != 32:
        raise BadInput("codec.salt", "a body salt has 32 bytes", advice="use secrets.token_bytes(32)")
    return hashlib.sha256(b"\x02" + salt + body).hexdigest()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def unb64(text: str, *, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput("codec.base64", f"{what} is not base64", advice="copy it again, whole") from error
