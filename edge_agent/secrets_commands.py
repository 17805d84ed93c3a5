"""``outrider agent secret``: set, list, remove. A value is read from standard input or asked for, and never shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.options import PLAIN, HomeOption, home_of
from edge_agent.secrets import MOST_BYTES, Secrets

secret = typer.Typer(name="secret", help="The secrets that this agent's tools use.", no_args_is_help=True, **PLAIN)

Name = Annotated[str, typer.Argument(help="The secret's name, as tools.toml names it.")]


def _secrets(home: Path | None) -> Secrets:
    return Secrets(home_of(home).secrets)


@secret.command("set")
def set_(name: Name, home: HomeOption = None) -> None:
    """Keep a secret, in place of a former one: asked for on a terminal, else read from standard input."""
    if sys.stdin.isatty():
        value = str(typer.prompt(f"Value of {name}", hide_input=True))
    else:
        value = sys.stdin.read(MOST_BYTES + 3).removesuffix("\n").removesuffix("\r")
    _secrets(home).put(name, value)
    typer.echo(f"{name} is set")


@secret.command("list")
def list_(home: HomeOption = None) -> None:
    """The names of the secrets, and nothing else."""
    for name in _secrets(home).names():
        typer.echo(name)


@secret.command("remove")
def remove(name: Name, home: HomeOption = None) -> None:
    """Forget a secret. What it opens elsewhere stays open until it is withdrawn there."""
    _secrets(home).remove(name)
    typer.echo(f"{name} is removed")
