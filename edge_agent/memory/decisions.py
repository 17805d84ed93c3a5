"""Past decisions from a table, as memory items."""

from __future__ import annotations

import csv
import datetime
import io

from shared.errors import BadInput
from shared.memory import Item, check


def read_decisions(data: bytes, name: str, scope: str) -> list[Item]:
    """Past decisions from a CSV with the columns ``description`` and ``lane``, and optionally ``reason``,
    ``decided_by``, ``decided_on``. A decision is aged from the day it was made, where ``decided_on`` is an ISO 8601
    date; else from the import on. Raises ``BadInput('memory.import')`` with the row."""
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
        made = _day(extra["decided_on"])
        item = Item("decision", text, f"{name} row {number}", scope=scope, fields=fields, valid_from=made)
        try:
            check(item)
        except BadInput as error:
            raise BadInput("memory.import", error.message, advice=error.advice, where=f"{name} row {number}") from error
        items.append(item)
    return items


def _day(text: str) -> int:
    """The beginning of an ISO date, UTC, in microseconds since 1970; 0 where it is none that can be kept."""
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        return 0
    return max(0, (day - datetime.date(1970, 1, 1)).days * 86_400_000_000)
