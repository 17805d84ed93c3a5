"""What the agent's commands have in common: whose home they are about, and how they answer scripts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_agent.config import Config, Home, read_config

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", envvar="OUTRIDER_HOME", help="The agent's folder. [default: ~/.local/share/outrider/agent]"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

# Plain help and tracebacks: the library that draws boxes costs more than all our commands.
PLAIN: Any = {"rich_markup_mode": None, "pretty_exceptions_enable": False}


def config_of(home: Path | None) -> Config:
    """The settings, with the home that was given before all others."""
    return read_config(os.environ, home=home)


def home_of(home: Path | None) -> Home:
    return Home(config_of(home).home)


def show_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
