"""The case register: where a city keeps what was decided about each application. SQLite stands for the city's system.

It takes an idempotency key and can be asked by key. A key sent twice acts once; another key for an application that is
decided already is refused, so that a case is never decided twice. A decision that is withdrawn stays on record.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from edge_agent.tools import Argument, Effect, Manual, Receipt, Risk, Tool, check_arguments
from shared.actions import Action
from shared.errors import Refused, Unavailable

_FORM = 2  # of the tables below; a register of the first form has no withdrawals
_SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    key TEXT PRIMARY KEY, application_id TEXT NOT NULL UNIQUE, lane TEXT NOT NULL, work_type TEXT, reason TEXT NOT NULL,
    decided_at INTEGER NOT NULL, calls INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS calls (key TEXT NOT NULL, at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS withdrawals (
    key TEXT PRIMARY KEY, decision TEXT NOT NULL, application_id TEXT NOT NULL, lane TEXT NOT NULL, work_type TEXT,
    reason TEXT NOT NULL, decided_at INTEGER NOT NULL, withdrawn_at INTEGER NOT NULL
);
"""

_DECIDE = {
    "application_id": Argument(about="the application's number"),
    "lane": Argument(about="the lane it is routed to"),
    "work_type": Argument(required=False, about="what kind of work it is"),
    "reason": Argument(about="one line for the file"),
}
_WITHDRAW = {
    "application_id": Argument(about="the application's number"),
    "lane": Argument(about="the lane it was routed to; another one is left alone"),
}
_FOUND = ("application_id", "lane", "work_type", "decided_at")


class _Desk(Tool):
    """What both tools share: the file, and its faults in our words."""

    effect: Effect = "reversible"
    risk: Risk = "low"
    idempotent = True
    askable = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._preparing = threading.Lock()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, isolation_level=None, timeout=30)) as db:
                db.execute("PRAGMA synchronous=FULL")
                with self._preparing:
                    if db.execute("PRAGMA user_version").fetchone()[0] < _FORM:
                        self._prepare(db)
                yield db
        except sqlite3.Error as error:
            raise Unavailable("register.unavailable", f"{self._path}: {error}", advice="check the register") from error

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Make the tables, once: opening the register must not write, or those who open it at once wait in line."""
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";\n"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {_FORM}")
        db.execute("COMMIT")

    def _decision(self, key: str) -> dict[str, Any] | None:
        """The decision that stands under a key."""
        with self._open() as db:
            row = db.execute(
                "SELECT application_id, lane, work_type, decided_at FROM decisions WHERE key = ?", (key,)
            ).fetchone()
        return dict(zip(_FOUND, row, strict=True)) if row else None


class Register(_Desk):
    """``register.decide``: route an application into a lane."""

    name = "register.decide"
    about = "Route an application into a lane of the case register."
    arguments = _DECIDE

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        return await asyncio.to_thread(self._send, action, key)

    def _send(self, action: Action, key: str) -> Receipt:
        a = action.arguments
        at = time.time_ns() // 1000
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO calls VALUES (?, ?)", (key, at))
            known = db.execute("SELECT key FROM decisions WHERE application_id = ?", (a["application_id"],)).fetchone()
            if known is None:
                row = (key, a["application_id"], a["lane"], a.get("work_type"), a["reason"], at, 1)
                db.execute("INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            elif known[0] == key:
                db.execute("UPDATE decisions SET calls = calls + 1 WHERE key = ?", (key,))
            db.execute("COMMIT")
        if known is not None and known[0] != key:
            raise Refused(
                "register.decided", f"{a['application_id']} is decided already", advice="amend it in the register"
            )
        return Receipt({"register": self._path.name, "application_id": a["application_id"], "lane": a["lane"]})

    async def ask(self, key: str, action: Action) -> Receipt | None:
        found = await asyncio.to_thread(self._decision, key)
        return Receipt(found) if found else None

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        found = await asyncio.to_thread(self._decision, key)
        wanted = {name: action.arguments.get(name) for name in ("application_id", "lane", "work_type")}
        return bool(found and {name: found[name] for name in wanted} == wanted), found or {}

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual | None:
        arguments = {name: action.arguments[name] for name in _WITHDRAW}
        return Action("register.withdraw", arguments, action.subject)


class Withdraw(_Desk):
    """``register.withdraw``: take a decision back, as if the application had not been routed."""

    name = "register.withdraw"
    about = "Take back the lane an application was routed into."
    arguments = _WITHDRAW

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        return Receipt(await asyncio.to_thread(self._send, action, key))

    def _send(self, action: Action, key: str) -> dict[str, Any]:
        number, lane = action.arguments["application_id"], action.arguments["lane"]
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            if db.execute("SELECT 1 FROM withdrawals WHERE key = ?", (key,)).fetchone() is None:
                moved = db.execute(
                    "INSERT INTO withdrawals SELECT ?, key, application_id, lane, work_type, reason, decided_at, ?"
                    " FROM decisions WHERE application_id = ? AND lane = ?",
                    (key, time.time_ns() // 1000, number, lane),
                ).rowcount
                db.execute("DELETE FROM decisions WHERE application_id = ? AND lane = ?", (number, lane))
                if moved == 0:
                    db.execute("ROLLBACK")
                    raise Refused("register.undecided", f"{number} is not in {lane}", advice="look into the register")
            db.execute("COMMIT")
        return self._withdrawn(key) or {}

    def _withdrawn(self, key: str) -> dict[str, Any] | None:
        with self._open() as db:
            row = db.execute(
                "SELECT application_id, lane, work_type, reason FROM withdrawals WHERE key = ?", (key,)
            ).fetchone()
        return dict(zip(_DECIDE, row, strict=True)) if row else None

    async def ask(self, key: str, action: Action) -> Receipt | None:
        found = await asyncio.to_thread(self._withdrawn, key)
        return Receipt(found) if found else None

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        def decided() -> bool:
            number, lane = action.arguments["application_id"], action.arguments["lane"]
            with self._open() as db:
                sql = "SELECT 1 FROM decisions WHERE application_id = ? AND lane = ?"
                return db.execute(sql, (number, lane)).fetchone() is not None

        stands = await asyncio.to_thread(decided)
        return not stands, {"decided": stands}

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual | None:
        if not {"application_id", "lane", "reason"} <= set(receipt):
            return Manual([f"Route {action.subject} into {action.arguments['lane']} again, in the register."])
        return Action("register.decide", {name: receipt[name] for name in _DECIDE if receipt.get(name)}, action.subject)
