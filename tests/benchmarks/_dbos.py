"""DBOS as a contestant: a workflow of three trivial steps in its own SQLite database, every setting as it comes.

Its file is in SQLite's rollback mode by default, which syncs several times for a commit. With ``wal`` as a second
argument the file is put into WAL first, which the application never asked for: to see how much of its cost is that.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from _contestant import serve
from dbos import DBOS  # type: ignore[import-not-found]  # it is in an environment of its own

ROW = {"application_id": "PA-2026-0141", "work": "Tear off shingles and reroof the garage", "value": 1250000}


@DBOS.step()  # type: ignore[untyped-decorator]  # for the same reason
def work(row: dict[str, Any], step: int) -> dict[str, Any]:
    return {**row, "step": step}


@DBOS.workflow()  # type: ignore[untyped-decorator]  # for the same reason
def run(row: dict[str, Any]) -> dict[str, Any]:
    for step in range(3):
        row = work(row, step)
    return row


def main(folder: Path, mode: str) -> None:
    path = folder / "dbos.sqlite3"
    if mode == "wal":
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode=WAL")
    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{path}", "log_level": "WARNING"})
    DBOS.launch()
    serve(lambda: run(ROW))
    DBOS.destroy()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
