"""The page of tools says what the tools are: kinds and settings from the code, and each example builds its tools.

Compared both ways, so that neither a setting nor a row can be left behind.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from edge_agent.tools import Tool
from edge_agent.tools.build import GROUP, build
from edge_agent.tools.files import Settings as Files
from edge_agent.tools.http.table import Settings as Http
from edge_agent.tools.mail.account import Mail
from edge_agent.tools.mcp import pins
from edge_agent.tools.mcp.settings import Settings as Mcp
from edge_agent.tools.notify import Notify
from edge_agent.tools.person import Confirm
from edge_agent.tools.register import Register, Withdraw
from edge_agent.tools.sql import Settings as Sql
from edge_agent.tools.webhook import Settings as Webhook

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "reference" / "tools.md").read_text("utf-8")
SETTINGS: dict[str, type[msgspec.Struct]] = {
    "files": Files, "tables": Files, "sql": Sql, "http": Http, "webhook": Webhook, "mail": Mail, "notify": Notify,
    "mcp": Mcp,
}  # fmt: skip
FIXED = ("files", "tables", "webhook", "mail", "notify")  # their tools are the same whatever a table says
NOW = 1_800_000_000_000_000


def section(heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def examples() -> list[str]:
    return re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def first_cells(text: str) -> set[str]:
    """What stands between backticks in the first cells of the rows."""
    return {
        name for cell in re.findall(r"^\| ([^|]*?) \|", text, re.MULTILINE) for name in re.findall("`([^`]+)`", cell)
    }


def words(text: str) -> set[str]:
    """Every word that stands between backticks, outside of the examples."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return {word for quoted in re.findall("`([^`]+)`", plain) for word in re.findall(r"\w+", quoted)}


def fields(kind: type[msgspec.Struct]) -> set[str]:
    """The settings of a table and of what stands inside it, as they are written."""
    return set(_fields(inspect.type_info(kind)))


def _fields(kind: Any) -> Iterator[str]:
    if isinstance(kind, inspect.Metadata):
        yield from _fields(kind.type)
    if isinstance(kind, inspect.StructType):
        if kind.tag_field:
            yield from (kind.tag_field, str(kind.tag))
        for field in kind.fields:
            yield field.encode_name
            yield from _fields(field.type)
    for name in ("item_type", "value_type", "key_type"):
        yield from _fields(getattr(kind, name)) if hasattr(kind, name) else ()
    for part in getattr(kind, "types", ()):
        yield from _fields(part)


def made(text: str, place: Path) -> list[Tool]:
    """The tools of a page's example, built as the agent builds them. MCP servers were accepted, with one tool each."""
    file = place / "tools.toml"
    file.write_text(text)
    for name, table in tomllib.loads(text).items():
        if table["kind"] == "mcp":
            schema = {"type": "object", "properties": {}}
            text = pins.describe({"name": "git_commit", "description": "Commits.", "inputSchema": schema})
            pins.save(place / "tools" / name, pins.Accepted(name, NOW, [pins.pin(text)]))
    tools, troubles = build(file, place / "tools", secret=lambda name: f"the secret {name}", now=lambda: NOW)
    assert troubles == []
    return list(tools.values())


def row(tool: Tool) -> list[str]:
    return [tool.effect, tool.risk, *("yes" if said else "no" for said in (tool.idempotent, tool.askable))]


def rows(text: str) -> dict[str, list[str]]:
    """The cells of a section's table of tools, by the tool's name."""
    found = re.findall(r"^\| `([a-z]+\.[a-z]+)` \| (.*) \|$", text, re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in found}


def test_every_kind_has_its_section_and_its_settings_are_known_here() -> None:
    kinds = {point.name for point in entry_points(group=GROUP)}
    assert kinds == set(SETTINGS)
    assert first_cells(PAGE.split("## What every tool declares")[0]) == kinds
    for kind in kinds:
        assert section(kind)


def test_no_factory_parses_other_settings() -> None:
    """Whatever is handed to ``build.settings`` in our adapters is one of the structs above."""
    given = set()
    for path in (ROOT / "edge_agent" / "tools").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and re.fullmatch(r"(build\.)?(read_)?settings", ast.unparse(node.func)):
                given.add(ast.unparse(node.args[0]))
    assert given == {kind.__name__ for kind in SETTINGS.values()}


@pytest.mark.parametrize("kind", SETTINGS)
def test_each_setting_is_described_and_no_other(kind: str) -> None:
    text = section(kind)
    assert fields(SETTINGS[kind]) <= words(text)
    tables = "\n".join(part for part in re.split(r"\n\n", text) if part.startswith("| Setting"))
    assert first_cells(re.sub(r"^\| Setting.*$", "", tables, flags=re.MULTILINE)) <= fields(SETTINGS[kind])


@pytest.mark.parametrize("text", examples(), ids=lambda text: text.splitlines()[0])
def test_each_example_builds_its_tools(text: str, tmp_path: Path) -> None:
    tools = made(text, tmp_path)
    assert {tool.name.partition(".")[0] for tool in tools} == set(tomllib.loads(text))


def test_every_kind_has_an_example() -> None:
    assert {table["kind"] for text in examples() for table in tomllib.loads(text).values()} == set(SETTINGS)


@pytest.mark.parametrize("kind", FIXED)
def test_each_tool_stands_with_what_it_declares(kind: str, tmp_path: Path) -> None:
    text = section(kind)
    (example,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    _check(made(example, tmp_path), rows(text))


def test_the_tools_that_are_always_there_stand_with_what_they_declare(tmp_path: Path) -> None:
    register = tmp_path / "register.sqlite3"
    _check([Register(register), Withdraw(register), Confirm()], rows(section("Always there")))


def _check(tools: list[Tool], told: dict[str, list[str]]) -> None:
    assert {tool.name for tool in tools} == set(told)
    for tool in tools:
        cells = told[tool.name]
        assert cells[:4] == row(tool), tool.name
        optional = {name for name, argument in tool.arguments.items() if not argument.required}
        assert set(re.findall(r"\[`(\w+)`\]", cells[4])) == optional, tool.name
        assert set(tool.arguments) <= set(re.findall(r"`(\w+)`", cells[4])), tool.name
        assert bool(cells[5]) == (tool.effect != "read"), tool.name
