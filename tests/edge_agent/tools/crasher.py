"""Kills a change of a file at each of its steps in turn: ``crasher.py CASE FOLDER`` prints what each kill led to.

A child does the change and is killed with SIGKILL before its n-th step (a sync, a rename, a link, an unlink, a folder
made or removed, a write to the ledger) or right after it. Then a fresh adapter is asked for the key, is sent it again,
and takes it back; what stands on the disk must agree with each answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.tools import Tool, files, tables
from edge_agent.tools.build import Place
from edge_agent.tools.files.ledger import Book
from shared.actions import Action, Value

STEPS = ("fsync", "rename", "link", "unlink", "mkdir", "rmdir")


def act(tool: str, **arguments: Value) -> Action:
    return Action(f"site.{tool}", arguments, "s")


OVER = act("write", path="pages/old.txt", text="new")
NEW = act("write", path="pages/deep/er/new.txt", text="new")
CASES: dict[str, tuple[list[Action], Action]] = {  # what was done before, and what is killed
    "append": (
        [],
        Action("books.append", {"path": "pages/list.csv", "rows": [{"No": "2", "Name": "Ben"}]}, "s"),
    ),
    "write-new": ([], act("write", path="pages/new.txt", text="new")),
    "write-over": ([], OVER),
    "write-deep": ([], NEW),
    "move": ([], act("move", **{"from": "pages/old.txt", "to": "pages/else/where.txt"})),
    "trash": ([], act("trash", path="pages/old.txt")),
    "restore-new": ([NEW], act("restore", entry=NEW.key)),
    "restore-old": ([OVER], act("restore", entry=OVER.key)),
}


def world(folder: Path) -> dict[str, Tool]:
    made: list[Tool] = []
    for table, kind in (("site", files), ("books", tables)):
        place = Place(table, folder / "state" / table, str, lambda: 1)
        made += kind.make(place, {"roots": {"pages": str(folder / "pages")}})
    return {tool.name: tool for tool in made}


def send(folder: Path, action: Action) -> dict[str, Any]:
    return asyncio.run(world(folder)[action.tool].send(action, action.key)).details


def seen(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): (path.read_text(), path.stat().st_mode, path.stat().st_mtime_ns)
        for path in sorted((folder / "pages").rglob("*"))
        if path.is_file()
    }


def begin(folder: Path, before: list[Action]) -> None:
    (folder / "pages").mkdir(parents=True)
    old = folder / "pages" / "old.txt"
    old.write_text("former")
    (folder / "pages" / "list.csv").write_text("No,Name\n1,Ann\n")
    for file in (folder / "pages").iterdir():
        os.utime(file, ns=(1, 1_700_000_000_000_000_001))
    for action in before:
        send(folder, action)


def die_at(last: int) -> None:
    """Count steps, each with a before and an after, and die at the ``last``."""
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **more: Any) -> Any:
            tick()
            result = real(*args, **more)
            tick()
            return result

        return step

    for name in STEPS:
        setattr(os, name, dying(getattr(os, name)))
    Book.write = dying(Book.write)  # type: ignore[method-assign]  # the points around each commit


def killed(folder: Path, action: Action, at: int) -> bool:
    child = os.fork()
    if child == 0:
        die_at(at)
        send(folder, action)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def look(folder: Path, action: Action, before: dict[str, Any], after: dict[str, str]) -> dict[str, Any]:
    wrong = []
    now = seen(folder)
    tool = world(folder)[action.tool]
    told = asyncio.run(tool.ask(action.key, action))
    texts = {name: text for name, (text, *_) in now.items() if "/.outrider-" not in name}
    if told is None and texts != {name: text for name, (text, *_) in before.items()}:
        # A link made and not yet ended is an effect: both names would be seen.
        wrong.append(f"asked, it never happened, and yet {texts}")
    if told is not None and {n: t for n, (t, *_) in seen(folder).items()} != after:
        wrong.append(f"asked, it happened, and yet {texts}")
    again = asyncio.run(tool.send(action, action.key))
    if told is not None and told.details != again.details:
        wrong.append("asked and sent again, it gives two receipts")
    if {name: text for name, (text, *_) in seen(folder).items()} != after:
        wrong.append(f"sent again: {seen(folder)}")
    undo = tool.undo(action, again.details)
    assert isinstance(undo, Action)
    send(folder, undo)
    if seen(folder) != before:
        wrong.append(f"taken back: {seen(folder)}, not {before}")
    folders = [str(p.relative_to(folder)) for p in (folder / "pages").rglob("*") if p.is_dir() and not any(p.iterdir())]
    if folders:
        wrong.append(f"taken back, empty folders stay: {folders}")
    return {"asked": "never" if told is None else "done", "wrong": wrong}


def main(case: str, home: Path) -> None:
    prepared, action = CASES[case]
    begin(home / "whole", prepared)
    send(home / "whole", action)
    after = {name: text for name, (text, *_) in seen(home / "whole").items()}
    points = []
    for at in range(1, 200):
        folder = home / f"point-{at}"
        begin(folder, prepared)
        before = seen(folder)
        if not killed(folder, action, at):
            break
        points.append({"at": at, **look(folder, action, before, after)})
    print(json.dumps(points))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
