"""What the memory commands share: options, the store, and how things are printed and read."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.config import Home
from edge_agent.options import home_of
from shared.errors import BadInput

if TYPE_CHECKING:
    from edge_agent.memory import Memory

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The item, as `outrider memory list` shows it.")]
ScopeOption = Annotated[str, typer.Option("--scope", help="device, person or team/NAME.")]
FieldOption = Annotated[list[str] | None, typer.Option("--field", metavar="NAME=VALUE", help="May be repeated.")]
TagOption = Annotated[list[str] | None, typer.Option("--tag", help="May be repeated.")]


def made_home(home: Path | None) -> Home:
    """The agent's folder, which is there from then on."""
    kept = home_of(home)
    kept.make()
    return kept


@contextmanager
def opened(home: Path | None) -> Iterator[Memory]:
    from edge_agent.memory import Memory

    store = Memory(made_home(home).memory)
    try:
        yield store
    finally:
        store.close()


def now_us() -> int:
    return time.time_ns() // 1000


def utc(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at / 1e6)) if at else "-"


def pairs(given: list[str] | None) -> dict[str, str]:
    found = {}
    for pair in given or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise BadInput("memory.field", f"{pair!r} is not NAME=VALUE", advice="for example --field lane=express")
        found[name] = value
    return found


def until(span: str) -> int:
    """When an item that lives for ``90d`` or ``12h`` from now expires; 0 for no end."""
    return now_us() + _microseconds(span) if span else 0


def ago(span: str) -> int:
    """The moment ``90d`` or ``12h`` before now; 0 for none."""
    return now_us() - _microseconds(span) if span else 0


def _microseconds(span: str) -> int:
    from shared.memory.rules import microseconds

    if not re.fullmatch(r"[1-9][0-9]{0,4}[hd]", span):
        raise BadInput("memory.span", f"{span!r} is no span of time", advice="write 12h or 90d")
    return microseconds(span)


def text_of(text: str) -> str:
    return sys.stdin.read().rstrip("\n") if text == "-" else text


def count(number: int) -> str:
    return f"{number} item" if number == 1 else f"{number} items"
