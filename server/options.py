"""What the commands of the hub have in common: where it lives, and how they say what was done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from server.config import HubConfig

Home = Annotated[
    Path | None, typer.Option("--home", help="The hub's directory. [default: OUTRIDER_HUB_HOME or ~/.local/share/...]")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def config(home: Path | None) -> HubConfig:
    return HubConfig(home=home) if home is not None else HubConfig()


def show(as_json: bool, value: Any, text: str) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False) if as_json else text)
