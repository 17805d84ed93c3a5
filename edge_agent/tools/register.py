"""The case register: where a city keeps what was decided about each application. SQLite stands for the city's system.

It takes an idempotency key and can be asked by key. A key sent twice acts once; another key for an application that is
decided already is refused, so that a case is never decided twice.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from edge_agent.tools import Argument, Effect, Receipt, Risk, Tool, check_arguments
from shared.actions import Action
from shared.errors import Refused, Unavailable

_SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    key TEXT PRIMARY KEY, application_id TEXT NOT NULL UNIQUE, lane TEXT NOT NULL, work_type TEXT, reason TEXT NOT NULL,
    decided_at INTEGER NOT NULL, calls INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS calls (key TEXT NOT NULL, at INTEGER NOT NULL);
"""

_ARGUMENTS = {
    "application_id": Argument(about="the application's number"),
    "lane": Argument(about="the lane it is routed to"),
    "work_type": Argument(required=False, about="what kind of work it is"),
    "reason": Argument(about="one line for the file"),
}


class Register(Tool):
    """``register.decide``: route an application into a lane."""

    name = "register.decide"
    about = "Route an application into a lane of the case register."
    effect: Effect = "reversible"
    risk: Risk = "low"
    idempotent = True
    askable = True
    arguments = _ARGUMENTS

    def __init__(self, path: Path) -> None:
        self._path = path

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, timeout=5)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(_SCHEMA)
        return db

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        return await asyncio.to_thread(self._send, action, key)

    def _send(self, action: Action, key: str) -> Receipt:
        a = action.arguments
        at = time.time_ns() // 1000
        try:
            with closing(self._open()) as db:
                db.execute("BEGIN IMMEDIATE")
                db.execute("INSERT INTO calls VALUES (?, ?)", (key, at))
                known = db.execute(
                    "SELECT key FROM decisions WHERE application_id = ?", (a["application_id"],)
                ).fetchone()
                if known is None:
                    row = (key, a["application_id"], a["lane"], a.get("work_type"), a["reason"], at, 1)
                    db.execute("INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                elif known[0] == key:
                    db.execute("UPDATE decisions SET calls = calls + 1 WHERE key = ?", (key,))
                db.execute("COMMIT")
        except sqlite3.Error as error:
            raise Unavailable("register.unavailable", f"{self._path}: {error}", advice="check the register") from error
        if known is not None and known[0] != key:
            raise Refused(
                "register.decided", f"{a['application_id']} is decided already", advice="amend it in the register"
            )
        return Receipt({"register": self._path.name, "application_id": a["application_id"], "lane": a["lane"]})

    async def ask(self, key: str, action: Action) -> Receipt | None:
        found = await asyncio.to_thread(self._find, key)
        return Receipt(found) if found else None

    def _find(self, key: str) -> dict[str, Any] | None:
        try:
            with closing(self._open()) as db:
                sql = "SELECT application_id, lane, work_type, decided_at FROM decisions WHERE key = ?"
                row = db.execute(sql, (key,)).fetchone()
        except sqlite3.Error as error:
            raise Unavailable("register.unavailable", f"{self._path}: {error}", advice="check the register") from error
        return dict(zip(("application_id", "lane", "work_type", "decided_at"), row, strict=True)) if row else None

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        found = await asyncio.to_thread(self._find, key)
        wanted = {name: action.arguments.get(name) for name in ("application_id", "lane", "work_type")}
        return bool(found and {name: found[name] for name in wanted} == wanted), found or {}
