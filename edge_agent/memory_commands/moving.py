"""Items from files and into files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.memory_commands.common import ScopeOption, count, now_us, opened
from edge_agent.options import HomeOption, JsonOption, show_json
from shared.errors import BadInput


def import_(
    file: Annotated[
        Path, typer.Argument(help="A .jsonl or .md of an export; or a CSV of decisions: description, lane.")
    ],
    home: HomeOption = None,
    scope: ScopeOption = "team/permits",
    as_json: JsonOption = False,
) -> None:
    """Keep items from a file, all or none. Importing a file again adds nothing. The scope is for a CSV."""
    from edge_agent.memory.whole import brought

    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadInput("memory.import", f"{file}: {error.strerror}", advice="check the path") from error
    with opened(home) as store:
        new, known = brought(store, file.name, data, scope)
    show_json({"new": new, "known": known}) if as_json else typer.echo(f"{count(new)} kept, {known} known already")


def export(
    file: Annotated[
        Path, typer.Argument(help="Where to: .jsonl with the whole history, .md to be read. Not overwritten.")
    ],
    home: HomeOption = None,
    scope: Annotated[list[str] | None, typer.Option(help="Only these scopes; may be repeated.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write items into a file. What is forgotten later stays in it: keep exports as you would the memory itself."""
    from edge_agent.memory.search import Query
    from edge_agent.memory.whole import exported
    from shared.memory.exchange import to_lines, to_markdown

    if file.suffix not in (".jsonl", ".md"):
        raise BadInput("memory.export", f"{file.name} is neither .jsonl nor .md", advice="name the file so")
    with opened(home) as store:
        ids = store.ids(Query("", scope or [], include_expired=True), now=now_us())
        items = exported(store, ids)
        parts = to_lines(items) if file.suffix == ".jsonl" else (part.encode() for part in to_markdown(items))
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(handle, "wb") as out:  # noqa: PTH123 - a path has no way to say O_EXCL and the mode
                out.writelines(parts)
        except OSError as error:
            raise BadInput("memory.export", f"{file}: {error.strerror}", advice="take another name") from error
    show_json({"items": len(ids)}) if as_json else typer.echo(f"{count(len(ids))} written to {file}")
