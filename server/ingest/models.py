"""What batches of entries say of models: which one a device uses, and which failed there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from server.store.model_tables import DEVICE_MODELS
from shared.entries import Entry, ModelRefused, ModelTaken

_NONE_REFUSED = {"refused": "", "refused_release": 0, "refused_code": "", "refused_at": 0}


def write_models(conn: Connection, device: str, entries: Sequence[Entry]) -> None:
    """Keep the newest word of the device on each kind of model."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in entries:
        facts = entry.facts
        if not isinstance(facts, ModelTaken | ModelRefused):
            continue
        if facts.kind not in rows:
            rows[facts.kind] = _held(conn, device, facts.kind)
        if isinstance(facts, ModelTaken):
            taken = {"model": facts.model, "sha256": facts.sha256, "release": facts.release, "at": entry.at}
            rows[facts.kind] |= taken | _NONE_REFUSED
        else:
            rows[facts.kind] |= {
                "refused": facts.model,
                "refused_release": facts.release,
                "refused_code": facts.code,
                "refused_at": entry.at,
            }
    for kind, row in rows.items():
        conn.execute(delete(DEVICE_MODELS).where(DEVICE_MODELS.c.device == device, DEVICE_MODELS.c.kind == kind))
        conn.execute(insert(DEVICE_MODELS), [row])


def _held(conn: Connection, device: str, kind: str) -> dict[str, Any]:
    columns = DEVICE_MODELS.c
    found = conn.execute(select(DEVICE_MODELS).where(columns.device == device, columns.kind == kind)).mappings().first()
    if found is not None:
        return dict(found)
    none = {"model": "", "sha256": "", "release": 0, "at": 0}
    return {"device": device, "kind": kind} | none | _NONE_REFUSED
