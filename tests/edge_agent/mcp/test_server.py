"""Assistants over real pipes: the SDK's own client, the npm inspector, and one that sends a request twice."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError, StdioServerParameters
from typer.testing import CliRunner

from edge_agent.mcp.commands import mcp
from shared.errors import Unavailable
from tests import npm
from tests.edge_agent.mcp.agent_api import TOOLS, Agent, serving

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[3]


def command(home: Path) -> list[str]:
    run = "from edge_agent.mcp.commands import mcp; mcp()"  # what the entry point of `outrider mcp` runs
    return [sys.executable, "-c", run, "--home", str(home), "--wait", "2"]


@contextlib.asynccontextmanager
async def assistant(home: Path, mode: str = "auto") -> AsyncIterator[Client]:
    program, *arguments = command(home)
    parameters = StdioServerParameters(command=program, args=arguments, cwd=ROOT)
    async with Client(parameters, mode=mode, cache=None) as client:
        yield client


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
def home(agent: Agent, tmp_path: Path) -> Iterator[Path]:
    with serving(agent, tmp_path) as found:
        yield found


def text(result: Any) -> str:
    return "\n".join(part.text for part in result.content)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_assistant_lists_and_calls(agent: Agent, home: Path, mode: str) -> None:
    async with assistant(home, mode) as client:
        assert client.instructions is not None and "outrider_run_status" in client.instructions
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert {*listed} == {"outrider_run_status", *(tool["name"].replace(".", "_") for tool in TOOLS)}
        page = listed["desk_read_page"].annotations
        assert page is not None and (page.read_only_hint, page.idempotent_hint) == (True, True)
        pay = listed["desk_pay"].annotations
        assert pay is not None and (pay.read_only_hint, pay.destructive_hint, pay.idempotent_hint) == (
            False,
            True,
            False,
        )
        assert listed["desk_pay"].input_schema["properties"]["cents"] == {"type": "integer"}
        done = await client.call_tool("desk_read_page", {"path": "/x"})
        assert not done.is_error
        assert text(done) == "Done (run run_1).\ndid {'path': '/x'}"
        assert done.structured_content == {
            "run": "run_1",
            "status": "closed",
            "outcome": "done",
            "receipt": {"text": "did {'path': '/x'}"},
        }
    (asked,) = agent.asked
    assert (asked["tool"], asked["arguments"], asked["subject"]) == ("desk.read_page", {"path": "/x"}, "")
    assert asked["client"] == "mcp-mcp" and len(asked["key"]) == 64


async def test_two_calls_are_two_and_a_subject_is_passed_on(agent: Agent, home: Path) -> None:
    for _ in range(2):  # two sessions
        async with assistant(home) as client:
            for _ in range(2):
                await client.call_tool("desk_note", {"text": "x", "outrider_subject": "order 7"})
    assert len({asked["key"] for asked in agent.asked}) == 4 == len(agent.runs)
    assert {asked["subject"] for asked in agent.asked} == {"order 7"}
    assert {str(asked["arguments"]) for asked in agent.asked} == {"{'text': 'x'}"}


def test_a_request_that_is_sent_twice_is_one(agent: Agent, home: Path) -> None:
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "Ünion & Co", "version": "1"}}
    call = {"id": 7, "method": "tools/call", "params": {"name": "desk_note", "arguments": {"text": "x"}}}
    other = {**call, "id": "7"}
    with subprocess.Popen(command(home), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None

        def ask(message: dict[str, Any]) -> dict[str, Any]:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
            process.stdin.flush()
            found: dict[str, Any] = json.loads(process.stdout.readline()) if "id" in message else {}
            return found

        ask({"id": 1, "method": "initialize", "params": hello})
        ask({"method": "notifications/initialized"})
        first, again, another = ask(call), ask(call), ask(other)
        process.stdin.close()
    assert first["result"] == again["result"]
    assert first["result"]["structuredContent"]["run"] == "run_1"
    assert another["result"]["structuredContent"]["run"] == "run_2"
    assert [asked["client"] for asked in agent.asked] == ["mcp-nion-co"] * 3


async def test_a_question_to_a_person_returns_at_once_and_can_be_looked_at(agent: Agent, home: Path) -> None:
    async with assistant(home) as client:
        asked = await client.call_tool("desk_pay", {"cents": 20_000})
        assert not asked.is_error
        assert "a person has to allow it first" in text(asked) and "apr_1" in text(asked)
        assert asked.structured_content["status"] == "waiting"
        run = asked.structured_content["run"]
        still = await client.call_tool("outrider_run_status", {"run": run})
        assert still.structured_content["status"] == "waiting" and not still.is_error
        agent.approve(run)
        done = await client.call_tool("outrider_run_status", {"run": run})
        assert text(done).startswith("Done (run run_1)")
        unknown = await client.call_tool("outrider_run_status", {"run": "run_99"})
        assert unknown.is_error and "run.unknown" in text(unknown)
        nothing = await client.call_tool("outrider_run_status", {})
        assert nothing.is_error and "mcp.arguments" in text(nothing)
    assert len(agent.asked) == 1


async def test_what_policy_denies_is_an_error_with_its_rules(home: Path) -> None:
    async with assistant(home) as client:
        denied = await client.call_tool("desk_wipe", {})
        assert denied.is_error
        assert "no-wiping: Nothing is wiped." in text(denied)
        foreign = await client.call_tool("desk_unheard", {})
        assert foreign.is_error and "Not done: 'desk.unheard' is not offered" in text(foreign)


async def test_what_is_open_or_unknown_is_no_error(home: Path) -> None:
    async with assistant(home) as client:
        slow = await client.call_tool("desk_slow", {})
        assert not slow.is_error and "still under way" in text(slow)
        lost = await client.call_tool("desk_lost", {})
        assert not lost.is_error and "not known whether it was done" in text(lost)


async def test_an_agent_that_does_not_answer_is_asked_again_under_the_same_key(agent: Agent, home: Path) -> None:
    async with assistant(home) as client:
        found = await client.call_tool("desk_drop", {})
        assert text(found).startswith("Done (run run_1)")
        assert len(agent.asked) == 2 and len({asked["key"] for asked in agent.asked}) == 1 == len(agent.runs)
        unclear = await client.call_tool("desk_vanish", {})
        assert not unclear.is_error
        assert "not known whether the agent took this call" in text(unclear)


async def test_no_running_agent_is_told_with_advice_and_found_once_it_runs(agent: Agent, tmp_path: Path) -> None:
    async with assistant(tmp_path) as client:
        with pytest.raises(MCPError, match="agent.not-running.*outrider agent run"):
            await client.list_tools()
        found = await client.call_tool("desk_note", {"text": "x"})
        assert found.is_error
        assert text(found).startswith("Not done: no agent runs in")
        assert "[agent.not-running]" in text(found) and "outrider agent run" in text(found)
        with serving(agent, tmp_path):
            assert not (await client.call_tool("desk_note", {"text": "x"})).is_error
    assert len(agent.asked) == 1


async def test_an_agent_that_went_away_after_it_took_the_call(agent: Agent, home: Path) -> None:
    async with assistant(home) as client:
        await client.list_tools()
        agent.show_nothing = True
        found = await client.call_tool("desk_note", {"text": "x"})
    assert not found.is_error
    assert "The agent took this as run run_1, and then did not answer" in text(found)


async def test_a_fraction_arrives_as_text_and_what_does_not_fit_is_refused(agent: Agent, home: Path) -> None:
    async with assistant(home) as client:
        await client.call_tool("desk_pay", {"cents": 0.1})
        bad = await client.call_tool("desk_note", {"text": "x", "outrider_subject": "a\nb"})
        assert bad.is_error and "Not done" in text(bad) and "api.body" in text(bad)
        none = await client.call_tool("desk_note", {"text": "x", "outrider_subject": 7})
        assert none.is_error and "mcp.arguments" in text(none)
    assert [asked["arguments"] for asked in agent.asked] == [{"cents": "0.1"}]


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = CliRunner().invoke(mcp, ["--home", str(tmp_path)])
    assert isinstance(done.exception, Unavailable) and done.exception.code == "mcp.missing"


def inspect(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [*npm.program("@modelcontextprotocol/inspector"), "--cli", *command(home)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    patience = ("--connect-timeout", "90000")  # milliseconds: a busy computer starts a program late
    return subprocess.run([*program, *arguments, *patience], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_inspector_lists_and_calls(agent: Agent, home: Path) -> None:
    listed = inspect(home, "--method", "tools/list", "--strict")
    assert listed.returncode == 0, listed.stderr
    assert len(json.loads(listed.stdout)["tools"]) == len(TOOLS) + 1
    called = inspect(home, "--method", "tools/call", "--tool-name", "desk_note", "--tool-arg", "text=hello")
    assert called.returncode == 0, called.stderr
    assert json.loads(called.stdout)["structuredContent"]["outcome"] == "done"
    denied = inspect(home, "--method", "tools/call", "--tool-name", "desk_wipe")
    assert denied.returncode == 5
    assert json.loads(denied.stdout)["isError"] is True
    assert [asked["tool"] for asked in agent.asked] == ["desk.note", "desk.wipe"]
    assert agent.asked[0]["client"] == "mcp-inspector-cli"
