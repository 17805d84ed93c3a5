"""MCP servers that others wrote, behind the guard: the reference servers from npm over pipes and HTTP, and git's."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.tools import Manual, NotSent, Tool
from edge_agent.tools.build import Place
from edge_agent.tools.conformance import ToolContract
from edge_agent.tools.mcp import make, pins
from shared.actions import Action
from shared.errors import BadInput, OutriderError, Refused, Unavailable
from tests import npm
from tests.edge_agent.tools.mcp_rig import (
    accepted,
    action,
    alive,
    called,
    children,
    place,
    send,
    server_pid,
    session,
    until,
)
from tests.ports import Port

pytestmark = pytest.mark.timeout(300)

Tools = dict[str, Tool]
EVERYTHING = "@modelcontextprotocol/server-everything"
FILESYSTEM = "@modelcontextprotocol/server-filesystem"
_REVIEWED: dict[str, pins.Accepted] = {}
GIT = str(Path(sys.executable).with_name("mcp-server-git"))


def started(package: str, *arguments: str) -> dict[str, Any]:
    command, *more = npm.program(package)
    return {"command": command, "args": [*more, *arguments]}


async def reviewed(where: Place, given: dict[str, Any]) -> Tools:
    """The tools of a server that is reviewed by the first test that needs it: it says the same to all of them."""
    if where.name not in _REVIEWED:
        await accepted(where, given)
        found = pins.load(where.state)
        assert found is not None
        _REVIEWED[where.name] = found
    pins.save(where.state, _REVIEWED[where.name])
    return {tool.name.removeprefix(f"{where.name}."): tool for tool in make(where, given)}


async def failure(tool: Tool, **arguments: Any) -> OutriderError:
    with pytest.raises(OutriderError) as caught:
        await send(tool, **arguments)
    return caught.value


# --- everything, over pipes and over HTTP -------------------------------------------------------------------------


class Remote:
    """The everything server over HTTP, as a process that can be killed and started again at its port."""

    def __init__(self) -> None:
        self._held = Port()
        self.port = self._held.number
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {"PATH": os.environ["PATH"], "PORT": str(self.port)}
        command = [*npm.program(EVERYTHING), "streamableHttp"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 90
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None and time.monotonic() < until, "the server does not listen"
            time.sleep(0.05)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.kill()
        self._held.close()


@pytest.fixture
def remote() -> Iterator[Remote]:
    found = Remote()
    found.start()
    yield found
    found.close()


@pytest.fixture(params=["stdio", "http"])
async def everything(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Tools]:
    remote = request.getfixturevalue("remote") if request.param == "http" else None
    given = {"url": remote.url} if remote else started(EVERYTHING, "stdio")
    tools = await reviewed(place(tmp_path, "all"), {**given, "timeout_s": 60})
    yield tools
    await tools["echo"].close()


async def test_everything_is_mapped_and_used(everything: Tools) -> None:
    echo, add = everything["echo"], everything["get-sum"]
    assert (echo.effect, echo.risk, echo.idempotent, echo.askable) == ("read", "low", True, False)
    assert everything["toggle-simulated-logging"].effect == "irreversible"
    assert (await send(echo, message="grüße 👋")).details["text"] == "Echo: grüße 👋"
    assert (await send(add, a="0.1", b="41")).details["text"] == "The sum of 0.1 and 41 is 41.1."
    found = (await send(everything["get-structured-content"], location="Chicago")).details["structured"]
    assert found["conditions"] and isinstance(found["temperature"], int | str)
    (picture,) = (await send(everything["get-tiny-image"])).details["parts"]
    assert picture["mime"] == "image/png" and picture["bytes"] > 1000 and len(picture["sha256"]) == 64
    links = (await send(everything["get-resource-links"], count="2")).details["parts"]
    assert [one["type"] for one in links] == ["link", "link"]
    (resource,) = (await send(everything["get-resource-reference"], resourceType="Blob", resourceId="2")).details[
        "parts"
    ]
    assert resource["type"] == "resource" and resource["uri"].startswith("demo://")


async def test_arguments_are_checked_against_the_accepted_schema(everything: Tools) -> None:
    cases: list[tuple[str, dict[str, Any], str, str]] = [
        ("echo", {}, "tool.arguments", "message is missing"),
        ("echo", {"message": 7}, "tool.arguments", "message is not text"),
        ("echo", {"message": "x", "more": "y"}, "tool.arguments", "more is not an argument"),
        ("get-sum", {"a": "x", "b": "1"}, "tool.arguments", "a is not a plain decimal"),
        ("get-resource-links", {"count": "11"}, "mcp.arguments", "count: it must fit maximum 10"),
        ("get-structured-content", {"location": "Oslo"}, "mcp.arguments", "location: it must fit enum"),
        ("get-sum", {"a": "0.12345678901234567890", "b": "1"}, "mcp.number", "no exact JSON number"),
    ]
    for name, arguments, code, said in cases:
        error = await failure(everything[name], **arguments)
        assert (type(error), error.code) == (BadInput, code)
        assert said in error.message


async def test_many_calls_at_once_do_not_mix(everything: Tools) -> None:
    receipts = await asyncio.gather(*(send(everything["echo"], message=str(n)) for n in range(20)))
    assert [receipt.details["text"] for receipt in receipts] == [f"Echo: {n}" for n in range(20)]


async def test_a_long_call_is_cut_off(everything: Tools) -> None:
    call = asyncio.create_task(send(everything["trigger-long-running-operation"], duration="60", steps="2"))
    await called(everything["echo"])
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await send(everything["echo"], message="still here")).details["text"] == "Echo: still here"


async def test_the_program_gets_no_environment_but_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "hunter2")
    tools = await reviewed(place(tmp_path, "all"), {**started(EVERYTHING, "stdio"), "env": {"COLOUR": "blue"}})
    said = (await send(tools["get-env"])).details["text"]
    assert '"COLOUR": "blue"' in said
    assert "hunter2" not in said and "GITHUB_TOKEN" not in said
    await tools["echo"].close()


async def test_a_program_killed_in_a_call_leaves_a_doubt(tmp_path: Path) -> None:
    tools = await reviewed(place(tmp_path, "all"), started(EVERYTHING, "stdio"))
    await send(tools["echo"], message="x")
    call = asyncio.create_task(failure(tools["trigger-long-running-operation"], duration="60", steps="2"))
    await called(tools["echo"])
    os.kill(server_pid(tools["echo"]), signal.SIGKILL)
    error = await call
    assert (type(error), error.code) == (Unavailable, "mcp.lost")
    assert (await send(tools["echo"], message="again")).details["text"] == "Echo: again"
    await tools["echo"].close()


async def test_an_address_that_goes_away_and_comes_back(tmp_path: Path, remote: Remote) -> None:
    tools = await reviewed(place(tmp_path, "all"), {"url": remote.url, "timeout_s": 10})
    await send(tools["echo"], message="x")
    call = asyncio.create_task(failure(tools["trigger-long-running-operation"], duration="60", steps="2"))
    await called(tools["echo"])
    remote.kill()
    error = await call
    assert type(error) is Unavailable and error.code in ("mcp.lost", "mcp.timeout")
    error = await failure(tools["echo"], message="x")
    assert (type(error), error.code) == (NotSent, "mcp.start")
    remote.start()
    assert (await send(tools["echo"], message="back")).details["text"] == "Echo: back"
    # A session that was warm when the address went away: the connection was refused, so nothing was sent.
    remote.kill()
    error = await failure(tools["toggle-simulated-logging"])
    assert (type(error), error.code) == (NotSent, "mcp.start")
    await tools["echo"].close()


# --- files --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Tools]:
    (tmp_path / "desk").mkdir()
    tools = await reviewed(place(tmp_path, "fs"), started(FILESYSTEM, str(tmp_path / "desk")))
    yield tools
    await tools["read_text_file"].close()


async def test_a_file_is_written_on_the_disk_and_read_back(files: Tools, tmp_path: Path) -> None:
    write, path = files["write_file"], tmp_path / "desk" / "letter.txt"
    assert (write.effect, write.risk, write.idempotent) == ("irreversible", "high", True)
    one = action(write, path=str(path), content="Dear Ada,\n")
    receipt = await write.send(one, one.key)
    assert path.read_text() == "Dear Ada,\n"
    undo = write.undo(one, receipt.details)
    assert isinstance(undo, Manual) and "fs.write_file" in undo.steps[0]
    assert (await send(files["read_text_file"], path=str(path))).details["structured"] == {"content": "Dear Ada,\n"}
    assert files["read_text_file"].effect == "read"
    edits: list[Any] = [{"oldText": "Ada", "newText": "Grace"}]
    await send(files["edit_file"], path=str(path), edits=edits)
    assert path.read_text() == "Dear Grace,\n"


async def test_what_the_server_forbids_is_refused_and_not_done(files: Tools, tmp_path: Path) -> None:
    error = await failure(files["write_file"], path=str(tmp_path / "outside.txt"), content="x")
    assert (type(error), error.code) == (Refused, "mcp.tool-error")
    assert not (tmp_path / "outside.txt").exists()
    error = await failure(files["edit_file"], path=str(tmp_path / "desk" / "x"), edits=["not an object"])
    assert (type(error), error.code) == (BadInput, "mcp.arguments")


async def test_another_version_of_the_program_is_blocked_until_it_is_reviewed(tmp_path: Path) -> None:
    """The same program with one word of a description changed, as an update would bring it."""
    (tmp_path / "desk").mkdir()
    where, given = place(tmp_path, "fs"), started(FILESYSTEM, str(tmp_path / "desk"))
    old = await reviewed(where, given)
    await old["read_text_file"].close()
    # Node finds the copy's libraries where they always were.
    folder = Path(given["args"][0]).parent
    copy = tmp_path / "node_modules" / "updated" / "dist"
    shutil.copytree(folder, copy)
    shutil.copy(folder.parent / "package.json", copy.parent)
    (tmp_path / "node_modules" / "libraries").symlink_to(folder.parents[2])
    for entry in folder.parents[2].iterdir():
        if not (tmp_path / "node_modules" / entry.name).exists():
            (tmp_path / "node_modules" / entry.name).symlink_to(entry)
    program = copy / "index.js"
    text = program.read_text()
    assert "Create a new file or completely overwrite" in text
    program.write_text(text.replace("Create a new file or completely overwrite", "Mail and completely overwrite"))
    updated = {**given, "args": [str(program), *given["args"][1:]]}
    tools = {tool.name.removeprefix("fs."): tool for tool in make(where, updated)}
    error = await failure(tools["write_file"], path=str(tmp_path / "desk" / "x"), content="x")
    assert (type(error), error.code) == (Refused, "mcp.changed")
    assert error.message.endswith("otherwise than was accepted: description")
    assert not (tmp_path / "desk" / "x").exists()
    await send(tools["list_directory"], path=str(tmp_path / "desk"))  # what did not change goes on
    await tools["write_file"].close()
    tools = await accepted(where, updated)
    await send(tools["write_file"], path=str(tmp_path / "desk" / "x"), content="x")
    assert (tmp_path / "desk" / "x").read_text() == "x"
    await tools["write_file"].close()


# --- git ----------------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "Ada")
    git(folder, "config", "user.email", "ada@example.org")
    return folder


def subjects(folder: Path) -> list[str]:
    done = subprocess.run(["git", "-C", str(folder), "log", "--format=%s"], capture_output=True, text=True)
    return done.stdout.split("\n")[:-1]


async def test_a_commit_happens_once(tmp_path: Path, repository: Path) -> None:
    tools = await reviewed(place(tmp_path, "git"), {"command": GIT, "args": ["--repository", str(repository)]})
    commit = tools["git_commit"]
    assert (commit.effect, commit.risk, commit.idempotent) == ("irreversible", "medium", False)
    assert tools["git_status"].effect == "read"
    (repository / "page.html").write_text("<h1>Hello</h1>\n")
    await send(tools["git_add"], repo_path=str(repository), files=["page.html"])
    receipt = await send(commit, repo_path=str(repository), message="add the page")
    assert subjects(repository) == ["add the page"]
    assert git(repository, "show", "--name-only", "--format=").split() == ["page.html"]
    assert git(repository, "rev-parse", "HEAD").strip()[:7] in receipt.details["text"]
    found = await send(tools["git_log"], repo_path=str(repository), max_count=1)
    assert "add the page" in found.details["text"]
    error = await failure(tools["git_status"], repo_path=str(tmp_path))
    assert (type(error), error.code) == (Refused, "mcp.tool-error")  # outside of what it was given
    await commit.close()


async def test_a_checkout_whose_server_is_killed_leaves_a_doubt_and_is_not_sent_again(
    tmp_path: Path, repository: Path
) -> None:
    """A hook holds git after the deed was done: the answer is lost, nobody knows, and nothing is tried again."""
    tools = await reviewed(place(tmp_path, "git"), {"command": GIT, "args": ["--repository", str(repository)]})
    git(repository, "commit", "-q", "--allow-empty", "-m", "first")
    git(repository, "branch", "other")
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\necho begun >> {tmp_path}/begun\nsleep 5\n")
    hook.chmod(0o755)
    call = asyncio.create_task(failure(tools["git_checkout"], repo_path=str(repository), branch_name="other"))
    await until((tmp_path / "begun").exists)
    os.kill(server_pid(tools["git_checkout"]), signal.SIGKILL)
    error = await call
    assert (type(error), error.code) == (Unavailable, "mcp.lost")
    assert git(repository, "branch", "--show-current") == "other\n"
    assert (tmp_path / "begun").read_text() == "begun\n"
    await tools["git_checkout"].close()


# --- the promises -------------------------------------------------------------------------------------------------


class Contract(ToolContract):
    """A server as a program that can be taken away: its command is a script, and what runs is killed."""

    verb: str
    made: list[Tool]

    def prepare(self, root: Path, name: str, given: dict[str, Any]) -> None:
        self.root, self.made = root, []
        script = root / "server.sh"
        command = " ".join(f"'{part}'" for part in (given["command"], *given["args"]))
        script.write_text(f"#!/bin/sh\nexec {command}\n")
        script.chmod(0o755)
        self.script, self.where, self.given = script, place(root, name), {"command": str(script), "start_s": 60}
        asyncio.run(reviewed(self.where, self.given))

    def make_tool(self) -> Tool:
        found = {tool.name: tool for tool in make(self.where, self.given)}
        self.made.append(found[self.verb])
        return found[self.verb]

    async def break_receiver(self) -> None:
        self.script.rename(self.root / "away.sh")
        for tool in self.made:
            worker = session(tool).pid
            for pid in list(children(worker)) if worker else ():
                os.kill(pid, signal.SIGKILL)
                await until(lambda pid=pid: not alive(pid))
            await until(lambda tool=tool: session(tool).pid is None)

    async def mend_receiver(self) -> None:
        (self.root / "away.sh").rename(self.script)


class TestWritingAFile(Contract):
    verb = "fs.write_file"

    @pytest.fixture(autouse=True)
    def world(self, tmp_path: Path) -> None:
        self.desk = tmp_path / "desk"
        self.desk.mkdir()
        self.prepare(tmp_path, "fs", started(FILESYSTEM, str(self.desk)))

    def good_action(self, n: int) -> Action:
        return Action(self.verb, {"path": str(self.desk / f"{n}.txt"), "content": f"case {n}"}, f"case {n}")

    async def effects(self, action: Action | None) -> int:
        if action is None:
            return len(list(self.desk.iterdir()))
        path = Path(str(action.arguments["path"]))
        return int(path.exists() and path.read_text() == action.arguments["content"])


class TestBranching(Contract):
    verb = "git.git_create_branch"

    @pytest.fixture(autouse=True)
    def world(self, tmp_path: Path, repository: Path) -> None:
        git(repository, "commit", "-q", "--allow-empty", "-m", "first")
        self.folder = repository
        self.prepare(tmp_path, "git", {"command": GIT, "args": ["--repository", str(repository)]})

    def good_action(self, n: int) -> Action:
        return Action(self.verb, {"repo_path": str(self.folder), "branch_name": f"case-{n}"}, f"case {n}")

    async def effects(self, action: Action | None) -> int:
        found = git(self.folder, "branch", "--format=%(refname:short)", "--list", "case-*").split()
        return len(found) if action is None else found.count(str(action.arguments["branch_name"]))
