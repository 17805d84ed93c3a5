"""Long-term memory: one small Automerge document per item.

Importing this package does not load the codec: only ``document`` does, and it is imported where a document is opened.
"""

from __future__ import annotations

from shared.memory.item import KINDS, Item, check, item_id

__all__ = ["KINDS", "Item", "check", "item_id"]
