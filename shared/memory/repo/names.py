"""The names of documents: what an item is called in an ``automerge:`` URL.

A document of automerge-repo is named by 16 bytes, written in base58 with a checksum of four bytes (Bitcoin's
Base58Check without a version). Ours are ``6d 65 6d 01`` ("mem", form 1) and the 12 bytes of the item's id:

    mem_0123456789abcdef01234567  ->  automerge:2XPyuRn934A2fxS4NXSxpMtNRn1b
"""

from __future__ import annotations

import hashlib
import re

from shared.errors import BadInput

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_FORM = b"mem\x01"
_ITEM = re.compile(r"mem_([0-9a-f]{24})")
URL = "automerge:"


def document_id(item: str) -> str:
    """What automerge-repo calls the item: ``mem_`` and 24 hex digits become base58. Raises
    ``BadInput('repo.document')``."""
    named = _ITEM.fullmatch(item)
    if named is None:
        raise BadInput("repo.document", f"{item[:80]!r} is no item", advice="use an item's id, whole")
    return base58check(_FORM + bytes.fromhex(named[1]))


def document_url(item: str) -> str:
    """What a client gives to ``repo.find``."""
    return URL + document_id(item)


def base58check(data: bytes) -> str:
    whole = data + _checksum(data)
    number, letters = int.from_bytes(whole, "big"), ""
    while number:
        number, place = divmod(number, 58)
        letters = _ALPHABET[place] + letters
    zeros = len(whole) - len(whole.lstrip(b"\0"))
    return "1" * zeros + letters


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()[:4]
