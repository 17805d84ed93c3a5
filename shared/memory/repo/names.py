"""The names of documents: what an item is called in an ``automerge:`` URL.

A document of automerge-repo is named by 16 bytes, written in base58 with a checksum of four bytes (Bitcoin's
Base58Check without a version). Ours are ``6d 65 6d 01`` ("mem", form 1) and the 12 bytes of the item's id, so that
each can be told from the other without a table:

    mem_0123456789abcdef01234567  <->  automerge:2XPyuRn934A2fxS4NXSxpMtNRn1b
"""

from __future__ import annotations

import hashlib
import hmac

from shared.errors import BadInput

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_PLACES = {letter: place for place, letter in enumerate(_ALPHABET)}
_FORM = b"mem\x01"
_LONGEST = 64
URL = "automerge:"


def document_id(item: str) -> str:
    """What automerge-repo calls the item: ``mem_`` and 24 hex digits become base58."""
    raw = bytes.fromhex(item.removeprefix("mem_"))
    if len(raw) != 12 or not item.startswith("mem_"):
        raise _bad(item)
    return base58check(_FORM + raw)


def document_url(item: str) -> str:
    """What a client gives to ``repo.find``."""
    return URL + document_id(item)


def item_of(document: str) -> str | None:
    """The item that a document's name stands for; ``None`` where it is another's document.

    Raises ``BadInput('repo.document')`` where it names no document at all.
    """
    raw = unbase58check(document)
    if len(raw) != 16 or not raw.startswith(_FORM):
        return None
    return f"mem_{raw[4:].hex()}"


def base58check(data: bytes) -> str:
    whole = data + _checksum(data)
    number, letters = int.from_bytes(whole, "big"), ""
    while number:
        number, place = divmod(number, 58)
        letters = _ALPHABET[place] + letters
    zeros = len(whole) - len(whole.lstrip(b"\0"))
    return "1" * zeros + letters


def unbase58check(text: str) -> bytes:
    """The bytes behind base58 with a checksum. Raises ``BadInput('repo.document')``."""
    if not 6 <= len(text) <= _LONGEST or any(letter not in _PLACES for letter in text):
        raise _bad(text)
    number = 0
    for letter in text:
        number = number * 58 + _PLACES[letter]
    zeros = len(text) - len(text.lstrip("1"))
    whole = b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
    data, sum_ = whole[:-4], whole[-4:]
    if not hmac.compare_digest(_checksum(data), sum_):
        raise _bad(text)
    return data


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()[:4]


def _bad(name: str) -> BadInput:
    return BadInput("repo.document", f"{name[:80]!r} names no document", advice="copy the automerge: URL again, whole")
