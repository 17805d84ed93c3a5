"""``outrider agent mcp``: list, review, diff, accept. What a server says is shown without control characters."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_agent.config import now_us
from edge_agent.options import PLAIN, HomeOption, home_of
from edge_agent.secrets import Secrets
from edge_agent.tools.build import Place
from edge_agent.tools.mcp import pins, settings
from edge_agent.tools.mcp.effects import Class, classify
from edge_agent.tools.mcp.review import Review, Seen
from edge_agent.tools.mcp.review import accept as keep
from edge_agent.tools.mcp.review import review as look
from edge_agent.tools.mcp.schema import arguments, clean
from edge_agent.tools.mcp.tool import name_of
from shared.errors import BadInput

mcp = typer.Typer(
    name="mcp", help="The MCP servers this agent uses, and what was accepted of them.", no_args_is_help=True, **PLAIN
)

Name = Annotated[str, typer.Argument(help='The tool set: a table of tools.toml with kind = "mcp".')]


def places(home: Path | None) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Every table of kind ``mcp`` in the home's ``tools.toml``, with its place. Raises ``BadInput('tools.form')``."""
    paths = home_of(home)
    file, secrets = paths.tools, Secrets(paths.secrets)
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput("tools.form", str(error), advice="see docs/reference/tools.md", where=str(file)) from error
    for name, table in tables.items():
        if isinstance(table, dict) and table.get("kind") == "mcp":
            given = {key: value for key, value in table.items() if key != "kind"}
            yield Place(name, paths.tool_state / name, secrets.get, now_us), given


def _place(home: Path | None, name: str) -> tuple[Place, dict[str, Any]]:
    for place, given in places(home):
        if place.name == name:
            return place, given
    raise BadInput("mcp.name", f"tools.toml has no MCP server {name!r}", advice="see: outrider agent mcp list")


def _kind(kind: Class) -> str:
    return f"{kind.effect}, {kind.risk} risk" + (", may be sent again" if kind.idempotent else ", never sent again")


@mcp.command("list")
def list_(home: HomeOption = None) -> None:
    """What was accepted, without connecting."""
    for place, given in places(home):
        found, accepted = settings.read(place, given), pins.load(place.state)
        target = found.url or " ".join([found.command, *found.args])
        typer.echo(f"{place.name}: {target}")
        if accepted is None:
            typer.echo(f"  nothing accepted yet -> outrider agent mcp review {place.name}")
            continue
        for one in accepted.tools:
            override = found.tools.get(one.name)
            used = override is None or override.use
            kind = _kind(classify(one.facts.get("annotations"), override)) if used else "left out by tools.toml"
            typer.echo(f"  {name_of(place.name, one.name)}: {kind}")


@mcp.command()
def review(name: Name, home: HomeOption = None) -> None:
    """Connect, and show every tool with the effect class it would have. Exit code 1 if something is to be decided."""
    place, given = _place(home, name)
    found = asyncio.run(look(place, given))
    _show(found)
    if found.open:
        typer.echo(f"\naccept it with: outrider agent mcp accept {name} --digest {found.digest}")
        raise typer.Exit(1)


@mcp.command()
def diff(name: Name, home: HomeOption = None) -> None:
    """Connect, and show what is not as it was accepted. Exit code 1 if there is anything."""
    place, given = _place(home, name)
    found = asyncio.run(look(place, given))
    for seen in found.open:
        typer.echo(f"{seen.name}: {seen.state}")
        for line in seen.difference():
            typer.echo(f"  {line}")
    if found.open:
        raise typer.Exit(1)
    typer.echo("everything is as it was accepted")


@mcp.command()
def accept(
    name: Name,
    tool: Annotated[list[str] | None, typer.Option("--tool", help="Only this tool; may be given again.")] = None,
    digest: Annotated[str, typer.Option(help="What the review showed; without it you are asked.")] = "",
    home: HomeOption = None,
) -> None:
    """Connect, and let the agent use what the server offers now, as you reviewed it."""
    place, given = _place(home, name)
    found = asyncio.run(look(place, given))
    if not digest:
        _show(found)
        typer.confirm("\nAccept these descriptions?", abort=True)
    accepted = keep(place, found, digest or found.digest, only=tool)
    typer.echo(f"{name}: {len(accepted.tools)} tools accepted; start the agent again to use them")


def _show(found: Review) -> None:
    typer.echo(f"{found.table}: {found.server or 'a server without a name'}, MCP {clean(found.protocol, 40)}")
    for seen in found.tools:
        _show_tool(seen)
    typer.echo("\nThese words are the server's. What it says about effects is a claim; tools.toml overrides it.")


def _show_tool(seen: Seen) -> None:
    typer.echo(f"\n{seen.name}  [{seen.state}]{': ' + seen.why if seen.why else ''}")
    if seen.offered is None or seen.kind is None:
        return
    typer.echo(f"  {_kind(seen.kind)}")
    if parts := seen.parts():
        typer.echo(f"  changed: {clean(', '.join(parts), 400)}")
    facts = seen.offered.facts
    typer.echo(f"  says: {clean(str(facts.get('description') or facts.get('title') or ''), 4000)}")
    for argument, one in arguments(facts.get("inputSchema") or {}).items():
        needed = "" if one.required else " (optional)"
        typer.echo(f"  - {clean(argument, 80)}: {one.kind}{needed} {one.about}".rstrip())
