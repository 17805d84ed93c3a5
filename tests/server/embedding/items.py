"""Items of team memory as rows, without the feed that makes them."""

from __future__ import annotations

from sqlalchemy import delete, insert, update

from server.store import Store
from server.store.memory_tables import MEMORY_INDEXED, MEMORY_ITEMS, MEMORY_VECTORS, MEMORY_WORDS

NOW = 1_790_000_000_000_000
TEXTS = {
    "sink": "Replacing a kitchen sink like for like needs no plan review.",
    "solar": "Solar panels on a roof are reviewed over the counter up to 10 kW.",
    "tone": "We write warmly and plainly, and never promise a delivery date.",
    "fence": "A fence up to two metres is exempt from permits.",
    "refund": "An invoice that was paid twice is refunded within five working days.",
    "spindle": "A spindle above 80 degrees for ten minutes is told to the shift leader.",
    "crane": "Tower cranes need a licence from the aviation authority when above 60 metres.",
    "émigré": "Naïve café owners in Łódź ask for a terrace licence in spring.",
}
QUESTIONS = [
    {"query": "photovoltaic installation", "relevant": ["solar"]},
    {"query": "Do I need approval for a garden wall?", "relevant": ["fence"]},
    {"query": "money back for a double payment", "relevant": ["refund"]},
    {"query": "machine overheating", "relevant": ["spindle"]},
    {"query": "how should we write to customers", "relevant": [TEXTS["tone"]]},
    {"query": "who empties the bins", "relevant": ["Bins are emptied by the night shift."]},
]
# Cosines (permille) of the published float32 weights, from two independent forward passes (numpy and llama.cpp).
GOLDEN = [
    ("The cat sat on the mat", "A feline rested on a rug", 561),
    ("Replace the kitchen sink", "Install a new sink in the kitchen", 850),
    ("Replace the kitchen sink", "Stock prices fell sharply on Tuesday", -1),
    ("How do I renew an expired permit?", "What must be done when a permit has run out?", 522),
]


class Items:
    def __init__(self, store: Store) -> None:
        self.store = store
        self._seq = 0

    def add(self, item: str, text: str, scope: str = "team/permits", kind: str = "note", expires_at: int = 0) -> None:
        self._seq += 1
        row = {
            "scope": scope, "item": item, "seq": self._seq, "kind": kind, "title": text[:40], "text": text,
            "source": "test", "sensitivity": "normal", "subject": "", "fields": "{}", "tags": "[]", "confidence": 1000,
            "valid_from": 0, "expires_at": expires_at, "pinned": False, "conflicts": 0, "changes": 1, "size": len(text),
            "first_at": NOW, "changed_at": NOW, "changed_by": "test", "sha256": "0" * 64, "base": b"",
        }  # fmt: skip
        with self.store.write() as conn:
            conn.execute(insert(MEMORY_ITEMS), row)

    def change(self, item: str, text: str) -> None:
        self._seq += 1
        with self.store.write() as conn:
            conn.execute(
                update(MEMORY_ITEMS).where(MEMORY_ITEMS.c.item == item).values(text=text, title=text, seq=self._seq)
            )

    def erase(self, item: str) -> None:
        with self.store.write() as conn:
            for table in (MEMORY_ITEMS, MEMORY_WORDS, MEMORY_INDEXED, MEMORY_VECTORS):
                conn.execute(delete(table).where(table.c.item == item))
