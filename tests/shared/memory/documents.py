"""What tests of documents share: writers, an item, and changes as other programs might write them."""

from __future__ import annotations

from shared.memory import Item
from shared.memory.document import Document

ADA, BOB, CARL = bytes(range(16)), bytes(range(1, 17)), bytes(range(2, 18))
AT = 1_750_000_000_250_000
PLAIN = Item(kind="note", text="The desk opens at nine.", source="test")


def fork(document: Document, actor: bytes) -> Document:
    """The same document on another device."""
    return Document.load([document.save()], actor)
