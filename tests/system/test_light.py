"""The agent's process stays small: what it never loads at rest and by rules, and how much memory it holds then."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from demo_kit import Process

if TYPE_CHECKING:
    from tests.system.conftest import City

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

# Model runtimes and arrays belong in the worker, the documents' codec where memory is written, what tools need where a
# table of tools.toml names their kind, expressions where a playbook has one, templates where a panel is opened, and the
# rest in the hub.
HEAVY = {
    *("automerge", "cel", "dbus_fast", "fastapi", "imapclient", "jinja2", "jsonschema", "llama_cpp", "mcp", "numpy"),
    *("onnxruntime", "openpyxl", "opentelemetry", "pg8000", "pydantic", "pydantic_core", "rich", "sqlalchemy"),
    *("torch", "typer"),
}
ROWS = [f"T-{n:03},Tear off shingles and reroof the garage,{4000 + n}" for n in range(20)]
MOST_BYTES = 80_000_000


def test_an_agent_that_works_by_rules_stays_light(city: City) -> None:
    desk = city.desk("light")
    words = ("agent", "run", "--home", str(desk.home))
    desk.process = Process("light", city.folder / "light.log", *words, env={"PYTHONPROFILEIMPORTTIME": "1"})
    desk.start()
    desk.until(lambda status: bool(status["release"] and status["linked"] and status["idle"]))
    at_rest = _rss(desk.home / "live.json")
    desk.drop("morning.csv", ROWS)
    status = desk.until(lambda status: status["runs"]["closed"] == len(ROWS))
    assert status["decided_alone"] == len(ROWS)
    loaded = set(re.findall(r"^import time:[^|]+\|[^|]+\| +(\w+)", desk.process.output(), re.MULTILINE))
    assert "edge_agent" in loaded
    assert sorted(loaded & HEAVY) == []
    assert at_rest < MOST_BYTES
    assert _rss(desk.home / "live.json") < MOST_BYTES


def _rss(live: Path) -> int:
    found: int = json.loads(live.read_bytes())["rss_bytes"]
    assert found > 0
    return found
