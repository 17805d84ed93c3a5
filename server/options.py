"""What the commands of the hub have in common: where it lives, and how they say what was done."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from server.config import HubConfig
from shared.errors import BadInput

Home = Annotated[
    Path | None, typer.Option("--home", help="The hub's directory. [default: OUTRIDER_HUB_HOME or ~/.local/share/...]")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def config(home: Path | None, **given: Any) -> HubConfig:
    """The settings of the hub in ``home``; what is given and not None goes before them. Raises
    ``BadInput('hub.config')``."""
    known = {name: value for name, value in given.items() if value is not None}
    try:
        return HubConfig(**(known | ({"home": home} if home is not None else {})))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadInput("hub.config", f"{place}: {first['msg']}", advice="correct the option or variable") from error


def show(as_json: bool, value: Any, text: str) -> None:
    """Say what was done: ``value`` for scripts, ``text`` for people."""
    typer.echo(json.dumps(value, ensure_ascii=False) if as_json else text)


def seconds(text: str) -> int:
    """A duration as people write it: 30m, 1h, 2d. Raises ``BadInput('token.ttl')``."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", text)
    if found is None:
        raise BadInput("token.ttl", f"{text!r} is no duration", advice="write 30m, 1h or 2d")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]
