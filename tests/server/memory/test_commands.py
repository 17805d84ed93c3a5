"""``outrider hub memory``, with a hub that runs and with none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.server.test_commands import first, joined, made, running, typed

__all__ = ["first", "made"]  # the fixtures
pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


def ask(home: Path, *arguments: str) -> Any:
    done = typed(*arguments, "--home", str(home), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(home: Path, *arguments: str) -> str:
    done = typed(*arguments, "--home", str(home))
    assert done.returncode != 0
    return done.stderr


def test_roles_holds_and_erasing_while_the_hub_runs(made: Path) -> None:
    with running(made):
        laptop = joined(made, "laptop")
        assert ask(made, "device", "own", laptop.id, "mara")["scope"] == "person/mara"
        assert "memory.owner" in refused(made, "device", "own", laptop.id, "otto")
        assert ask(made, "memory", "grant", "team/permits", "user:mara", "writer")["role"] == "writer"
        assert "memory.role" in refused(made, "memory", "grant", "team/permits", "user:mara", "king")
        assert "memory.team" in refused(made, "memory", "grant", "person/mara", "user:mara", "reader")
        assert "memory.member" in refused(made, "memory", "grant", "team/permits", "user:nobody", "reader")
        scopes = ask(made, "memory", "scopes")
        assert [(one["scope"], [m["member"] for m in one["members"]]) for one in scopes] == [
            ("person/mara", []),
            ("team/permits", ["user:mara"]),
        ]
        hold = ask(made, "memory", "hold", "team/permits", "--reason", "court")["hold"]
        assert "memory.held" in refused(made, "memory", "erase", "--scope", "team/permits", "--yes")
        assert ask(made, "memory", "holds")[0]["reason"] == "court"
        ask(made, "memory", "unhold", hold)
        name = ask(made, "memory", "erase", "--subject", "Anna", "--yes")["tombstone"]
        (shown,) = ask(made, "memory", "erasures")
        assert (shown["id"], shown["state"], [p["name"] for p in shown["parties"]]) == (name, "done", ["laptop"])
        assert "memory.order" in refused(made, "memory", "erase", "--yes")
        ask(made, "memory", "revoke", "team/permits", "user:mara")


def test_the_same_without_a_running_hub(made: Path) -> None:
    with running(made):
        joined(made, "laptop")
    name = ask(made, "memory", "erase", "--scope", "team/permits", "--yes")["tombstone"]
    assert ask(made, "memory", "erasures")[0]["id"] == name
    text = typed("memory", "erasures", "--home", str(made)).stdout
    assert name in text and "0 of 0 confirmed" in text
    assert typed("memory", "erase", "--scope", "team/x", "--home", str(made), stdin="n\n").returncode != 0
