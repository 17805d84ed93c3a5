"""Past decisions from a table, as memory items."""

from __future__ import annotations

import csv
import io

from shared.errors import BadInput
from shared.memory import Item, check


def read_decisions(data: bytes, name: str, scope: str) -> list[Item]:
    """Past decisions from a CSV with the columns ``description`` and ``lane``, and optionally ``reason``,
    ``decided_by``, ``decided_on``. Raises ``BadInput('memory.import')`` with the row."""
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput("memory.import", str(error), advice="save the file as 'CSV UTF-8'", where=name) from error
    if not rows or not {"description", "lane"} <= set(rows[0]):
        raise BadInput(
            "memory.import", "columns description and lane are needed", advice="name the columns so", where=name
        )
    items = []
    for number, row in enumerate(rows, 1):
        text, lane = (row["description"] or "").strip(), (row["lane"] or "").strip()
        if not text or not lane:
            raise BadInput(
                "memory.import", "description or lane is empty", advice="fill them in", where=f"{name} row {number}"
            )
        extra = {key: (row.get(key) or "").strip() for key in ("reason", "decided_by", "decided_on")}
        fields = {"lane": lane} | {key: value for key, value in extra.items() if value}
        item = Item(kind="decision", text=text, source=f"{name} row {number}", scope=scope, fields=fields)
        try:
            check(item)
        except BadInput as error:
            raise BadInput("memory.import", error.message, advice=error.advice, where=f"{name} row {number}") from error
        items.append(item)
    return items
