"""The tools of one agent, as its ``tools.toml`` names them. Reference: ``docs/reference/tools.md``.

Each table of the file is a tool set: ``[shop] kind = "files"`` gives ``shop.write``, ``shop.move`` and so on. What a
kind is comes from the entry points ``outrider.tools``, so other packages can add kinds, and a kind that no table names
is never imported. Which tools exist is for the person at this computer; whether one may be used is for the policy.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edge_agent.tools import Tool
from shared.errors import BadInput, OutriderError, Unavailable

GROUP = "outrider.tools"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True)
class Place:
    """What a factory is given besides its settings. ``name`` is the table's name and the first part of every tool's;
    ``state`` a private folder, not yet made, for the adapter's own records; ``secret`` reads a named secret and raises
    ``Unavailable('secret.missing')``; ``now`` is the clock, microseconds since 1970 UTC."""

    name: str
    state: Path
    secret: Callable[[str], str]
    now: Callable[[], int]


Factory = Callable[[Place, dict[str, Any]], list[Tool]]


def settings(kind: type[S], place: Place, given: dict[str, Any]) -> S:
    """A table's settings as ``kind``, a msgspec struct that forbids unknown fields. ``BadInput('tools.setting')``."""
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise BadInput(
            "tools.setting", str(error), advice="see docs/reference/tools.md", where=f"tools.toml [{place.name}]"
        ) from error


def build(
    file: Path, state: Path, *, secret: Callable[[str], str], now: Callable[[], int]
) -> tuple[dict[str, Tool], list[OutriderError]]:
    """All tools by name, and what was wrong with the tables that gave none: one bad table does not take the others'
    tools away. No file means no tools. Raises ``BadInput('tools.form')`` where the file cannot be read at all."""
    kinds = {point.name: point for point in entry_points(group=GROUP)}
    tools: dict[str, Tool] = {}
    troubles: list[OutriderError] = []
    for name, table in _tables(file).items():
        try:
            for tool in _make(name, table, kinds, Place(name, state / name, secret, now)):
                tools[tool.name] = tool
        except OutriderError as error:
            troubles.append(error)
    return tools, troubles


def _tables(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput("tools.form", str(error), advice="see docs/reference/tools.md", where=str(file)) from error


def _make(name: str, table: Any, kinds: dict[str, Any], place: Place) -> list[Tool]:
    where = f"tools.toml [{name}]"
    if not _NAME.fullmatch(name) or not isinstance(table, dict):
        raise BadInput("tools.name", f"{name!r} is no table of a tool set", advice="[lower-case-name]", where=where)
    kind = table.get("kind")
    if kind not in kinds:
        known = ", ".join(sorted(kinds))
        raise BadInput("tools.kind", f"there is no kind {kind!r}", advice=f"use one of {known}", where=where)
    try:
        factory: Factory = kinds[kind].load()
    except ImportError as error:
        raise Unavailable(
            "tools.missing", f"{kind} needs a package that is not installed: {error.name}",
            advice="install outrider[tools]", where=where,
        ) from error  # fmt: skip
    made = factory(place, {key: value for key, value in table.items() if key != "kind"})
    for tool in made:
        if not tool.name.startswith(f"{name}."):
            raise BadInput("tools.name", f"{tool.name!r} does not begin with {name!r}", advice="report it", where=where)
    return made
