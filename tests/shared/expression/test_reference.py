"""The reference page is true: every example in it gives what it says, and every function and bound stands in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from shared import limits
from shared.errors import BadInput
from shared.expression import Expression, functions

PAGE = (Path(__file__).parents[3] / "docs/reference/expressions.md").read_text()
NAMES: dict[str, Any] = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])  # type: ignore[index]  # it is there


def rows(heading: str) -> list[tuple[str, str]]:
    """The rows of all tables with this heading: the code in their two cells."""
    tables = re.findall(rf"^\| Expression \| {heading} \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    found = [re.fullmatch(r"\| `(.+)` \| `(.+)` \|", line) for table in tables for line in table.splitlines()]
    assert all(found)
    return [(row[1].replace("\\|", "|"), row[2]) for row in found if row]


@pytest.mark.parametrize(("source", "gives"), rows("Gives"))
def test_example_gives_what_the_page_says(source: str, gives: str) -> None:
    value = Expression.parse(source, names=frozenset(NAMES)).evaluate(NAMES)
    assert json.dumps(value) == json.dumps(json.loads(gives), sort_keys=True)


@pytest.mark.parametrize(("source", "code"), rows("Refused with"))
def test_example_is_refused_as_the_page_says(source: str, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        Expression.parse(source, names=frozenset(NAMES)).evaluate(NAMES)
    assert caught.value.code == code


def test_every_function_has_an_example() -> None:
    shown = " ".join(source for source, _ in rows("Gives"))
    for name in {*functions.GLOBAL, *functions.METHOD, *functions.LOOPS, "has"}:
        assert f"{name}(" in shown, name


def test_every_name_has_a_row() -> None:
    table = PAGE.split("## Names")[1].split("\n## ")[0]
    assert {*re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)))} == {*NAMES}


@pytest.mark.parametrize("name", [name for name in dir(limits) if name.startswith("EXPRESSION_")])
def test_every_bound_stands_on_the_page(name: str) -> None:
    value: int = getattr(limits, name)
    assert f"{value:,}" in PAGE or str(value) in PAGE


def test_every_code_stands_on_the_page() -> None:
    room = Path(functions.__file__).parent
    raised = {code for file in room.glob("*.py") for code in re.findall(r'"(expression\.[a-z-]+)"', file.read_text())}
    listed = set(re.findall(r"^\| `(expression\.[a-z-]+)` \|", PAGE, re.MULTILINE))
    assert raised == listed
