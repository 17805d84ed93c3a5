"""``outrider memory session``: the conversations that programs keep with the agent, seen and forgotten by a person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from edge_agent.memory_commands.common import made_home, opened, utc
from edge_agent.options import HomeOption, JsonOption, show_json

if TYPE_CHECKING:
    from edge_agent.sessions import Sessions

session = typer.Typer(help="See and forget the conversations that programs keep here.", no_args_is_help=True)
SessionArgument = Annotated[str, typer.Argument(metavar="SESSION", help="As `outrider memory session list` shows it.")]


@contextmanager
def opened_sessions(home: Path | None) -> Iterator[Sessions]:
    from edge_agent.sessions import Sessions
    from edge_agent.upkeep import tokens

    store = Sessions(made_home(home).sessions, count=tokens)
    try:
        yield store
    finally:
        store.close()


@session.command("list")
def list_(
    home: HomeOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    as_json: JsonOption = False,
) -> None:
    """Sessions, the one that was used last first."""
    with opened_sessions(home) as store:
        found = store.newest(limit)
        rows = [
            {name: value for name, value in msgspec.to_builtins(one).items() if name != "told"}
            | {"turns": len(store.turns(one.id))}
            for one in found
        ]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        state = "summarised" if row["summarised"] else "open"
        typer.echo(f"{row['id']:30} {row['scope']:16} {row['turns']:5} turns  {utc(row['touched_at'])}  {state}")
    if not rows:
        typer.echo("there are no sessions")


@session.command("show")
def show(id: SessionArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """What was said, what stands for the turns that are folded, and what the newest context held and left out."""
    from edge_agent.talk import shown

    with opened_sessions(home) as store:
        told = shown(store, id)
    if as_json:
        show_json(told)
        return
    typer.echo(f"{id}  {told['scope']}{', run ' + told['run'] if told['run'] else ''}, from {utc(told['opened_at'])}\n")
    for turn in told["turns"]:
        mark = "~" if turn["n"] <= told["folded"] else " "
        text = "(erased)" if turn["erased"] else f"{turn['role']}: {turn['text']}"
        typer.echo(f"{mark}{turn['n']:5}  {text}")
    for one in told["summary"]:
        typer.echo(f"summary, of turn {one['turn']}: {one['text']}")
    last = told["told"]
    if last:
        typer.echo(f"the newest context: {last['tokens']} of {last['budget']} tokens, {len(last['blocks'])} parts")
        for left in last["left_out"]:
            typer.echo(f"  left out: {left['kind']} {left['id']} ({left['tokens']} tokens, {left['reason']})")


@session.command("forget")
def forget(
    ids: Annotated[list[str], typer.Argument(metavar="SESSION", help="Sessions to forget.")],
    home: HomeOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase what was said. Items that sessions have become stay; forget those with `outrider memory forget`."""
    from edge_agent.upkeep import forget_sessions

    if not yes and not typer.confirm("This cannot be undone. Forget it?"):
        raise typer.Exit(1)
    with opened(home) as memory, opened_sessions(home) as store:
        gone = forget_sessions(memory, store, ids)
    noun = "session is" if gone == 1 else "sessions are"
    show_json({"erased": gone}) if as_json else typer.echo(f"{gone} {noun} gone from this computer")
