"""What devices score of releases on their own runs: the counts of their entries, as rows."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, insert

from server.store.replay_tables import SCORES
from shared.entries import DriftSampled, Entry, ReplayScored


def write_scores(conn: Connection, device: str, entries: Sequence[Entry]) -> None:
    rows = [_row(device, entry) for entry in entries if isinstance(entry.facts, ReplayScored | DriftSampled)]
    if rows:
        conn.execute(insert(SCORES), rows)


def _row(device: str, entry: Entry) -> dict[str, object]:
    counts = msgspec.structs.asdict(entry.facts)
    asked = counts.pop("id", "")
    nothing = {"golden": 0, "golden_wrong": 0, "code": ""}
    return nothing | counts | {"device": device, "seq": entry.seq, "at": entry.at, "asked": asked}
