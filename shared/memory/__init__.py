"""Long-term memory: one small Automerge document per item.

Importing this package does not load the codec: only ``document`` and ``scratch`` do, and they are imported where a
document is opened.
"""

from __future__ import annotations

from shared.memory.item import KINDS, Edit, Item, check, item_id, new_id

__all__ = ["KINDS", "Edit", "Item", "check", "item_id", "new_id"]
