"""An assistant that speaks MCP, the agent between, and an MCP server behind its guard: all real, all processes."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from demo_kit import OUTRIDER, outrider
from mcp import Client, StdioServerParameters

from edge_agent.api.client import Client as Agent

if TYPE_CHECKING:
    from tests.system.conftest import City, Desk

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PLAYBOOK = """
playbook: assistant
version: 1
owner: desk@city.example
trigger: {assistant: true}
urgency: interactive
inputs: {}
business_key: []
steps:
  - id: act
    planner: assistant
    tools: [git.git_status, git.git_add, git.git_commit, git.git_reset]
approvals: {roles: [clerk]}
"""
POLICY = """
@id("assistants-read")
@about("An assistant may look.")
permit (principal, action, resource) when { context.source == "assistant" && context.effect == "read" };

@id("assistants-stage")
@about("An assistant may stage files.")
permit (principal, action, resource == Tool::"git.git_add") when { context.source == "assistant" };

@id("assistants-commit")
@about("An assistant may commit.")
permit (principal, action, resource == Tool::"git.git_commit") when { context.source == "assistant" };

@id("commits-ask")
@about("A commit is for a person to allow.")
@local("yes")
forbid (principal, action == Action::"execute_unattended", resource == Tool::"git.git_commit");

@id("no-reset")
@about("Nobody throws staged work away.")
forbid (principal, action, resource == Tool::"git.git_reset");
"""


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def commits(folder: Path) -> list[str]:
    done = subprocess.run(["git", "-C", str(folder), "log", "--format=%s"], capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "Ada")
    git(folder, "config", "user.email", "ada@example.org")
    (folder / "page.html").write_text("<h1>Hello</h1>\n")
    return folder


@pytest.fixture
def desk(own_city: City, site: Path) -> Desk:
    """A running agent with git's MCP server behind its guard, reviewed and accepted by command."""
    workspace = own_city.home / "workspace"
    (workspace / "playbooks" / "assistant.yaml").write_text(PLAYBOOK)
    (workspace / "policy.cedar").write_text(POLICY)
    for cases in (workspace / "playbooks").glob("*.cases.yaml"):
        cases.unlink()  # they are the starter's, for the starter's policy
    own_city.publish()
    desk = own_city.desk("assisted")
    program = Path(sys.executable).with_name("mcp-server-git")
    (desk.home / "tools.toml").write_text(
        f'[git]\nkind = "mcp"\ncommand = "{program}"\nargs = ["--repository", "{site}"]\n'
    )
    shown = subprocess.run(
        [OUTRIDER, "agent", "mcp", "review", "git", "--home", str(desk.home)], capture_output=True, text=True
    )
    assert shown.returncode == 1, shown.stderr
    digest = shown.stdout.rsplit("--digest ", 1)[1].strip()
    outrider("agent", "mcp", "accept", "git", "--digest", digest, "--home", str(desk.home))
    desk.start()
    desk.until(lambda status: bool(status["release"] and status["linked"] and status["idle"]))
    return desk


@contextlib.asynccontextmanager
async def assistant(desk: Desk) -> AsyncIterator[Client]:
    parameters = StdioServerParameters(command=str(OUTRIDER), args=["mcp", "--home", str(desk.home)])
    async with Client(parameters, cache=None) as client:
        yield client


def text(result: Any) -> str:
    return "\n".join(part.text for part in result.content)


async def closed(client: Client, run: str) -> Any:
    """What the assistant sees of a run once it is over."""
    deadline = time.monotonic() + 90
    while True:
        found = await client.call_tool("outrider_run_status", {"run": run})
        if found.structured_content["status"] == "closed":
            return found
        assert time.monotonic() < deadline, text(found)
        await asyncio.sleep(0.1)


async def test_an_assistant_works_under_policy_and_a_person_has_the_last_word(desk: Desk, site: Path) -> None:
    agent = Agent(desk.home)
    async with assistant(desk) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names == {"outrider_run_status", "git_git_status", "git_git_add", "git_git_commit", "git_git_reset"}
        # Allowed: looking, and staging.
        status = await client.call_tool("git_git_status", {"repo_path": str(site)})
        assert not status.is_error and "page.html" in text(status)
        added = await client.call_tool("git_git_add", {"repo_path": str(site), "files": ["page.html"]})
        assert not added.is_error, text(added)
        # Denied, with the rule's own words.
        reset = await client.call_tool("git_git_reset", {"repo_path": str(site)})
        assert reset.is_error and "Nobody throws staged work away." in text(reset)
        # Asked: at once, without an error, and nothing is done.
        asked = await client.call_tool("git_git_commit", {"repo_path": str(site), "message": "add the page"})
        assert not asked.is_error and "A commit is for a person to allow." in text(asked)
        assert commits(site) == []
        run = asked.structured_content["run"]
        (question,) = agent.approvals()
        assert (question["run"], question["local"]) == (run, True)
        agent.answer(question["approval"], "approve", by="ada", reason="looks right")
        found = await closed(client, run)
        assert text(found).startswith(f"Done (run {run})")
        assert commits(site) == ["add the page"]
    assert desk.verify()["error"] is None
    assert commits(site) == ["add the page"]


async def test_an_agent_that_is_stopped_is_told_as_that(desk: Desk, site: Path) -> None:
    async with assistant(desk) as client:
        assert not (await client.call_tool("git_git_status", {"repo_path": str(site)})).is_error
        desk.process.kill()
        gone = await client.call_tool("git_git_status", {"repo_path": str(site)})
        assert gone.is_error and "[agent.not-running]" in text(gone) and "outrider agent run" in text(gone)
