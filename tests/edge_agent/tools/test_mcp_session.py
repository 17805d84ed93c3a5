"""A session with a server that misbehaves: what is told is what is known, and nothing is left running."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config import now_us
from edge_agent.tools import NotSent, Tool
from edge_agent.tools.mcp import make
from edge_agent.tools.mcp.session import LOG, Session
from edge_agent.tools.mcp.settings import read
from shared.codec import canonical
from shared.errors import BadInput, OutriderError, Refused, Unavailable
from tests.edge_agent.tools.mcp_rig import (
    ROGUE,
    accepted,
    alive,
    children,
    pinned,
    place,
    rogue,
    send,
    server_pid,
    session,
    until,
)
from tests.listening import listening

Tools = dict[str, Tool]


@pytest.fixture
async def tools(tmp_path: Path) -> AsyncIterator[Tools]:
    found = pinned(place(tmp_path), rogue(tmp_path, timeout_s=60.0, start_s=60.0))
    yield found
    await found["note"].close()


def notes(root: Path) -> list[str]:
    path = root / "world" / "notes"
    return path.read_text().splitlines() if path.exists() else []


async def failure(tool: Tool, **arguments: Any) -> OutriderError:
    with pytest.raises(OutriderError) as caught:
        await send(tool, **arguments)
    return caught.value


async def test_a_call_is_made_and_its_receipt_names_the_description(tools: Tools, tmp_path: Path) -> None:
    receipt = await send(tools["note"], text="one")
    assert receipt.details["text"] == "noted"
    assert receipt.details["tool"] == "note"
    assert len(receipt.details["description_sha256"]) == 64
    assert notes(tmp_path) == ['note {"text": "one"}']


async def test_nothing_runs_until_the_first_call_and_nothing_after_close(tools: Tools) -> None:
    assert session(tools["note"]).pid is None
    await send(tools["note"], text="one")
    worker, server = session(tools["note"]).pid, server_pid(tools["note"])
    assert worker is not None and os.getpgid(server) == server != os.getpgid(worker) != os.getpgid(0)
    await tools["note"].close()
    assert not alive(worker) and not alive(server)
    await send(tools["note"], text="two")  # and again after close
    assert session(tools["note"]).pid not in (None, worker)


async def test_it_ends_when_idle(tmp_path: Path) -> None:
    tools = pinned(place(tmp_path), rogue(tmp_path, idle_s=0.3))
    await send(tools["note"], text="one")
    server = server_pid(tools["note"])
    await until(lambda: session(tools["note"]).pid is None and not alive(server))
    await send(tools["note"], text="two")
    assert len(notes(tmp_path)) == 2
    await tools["note"].close()


async def test_calls_at_once_share_one_session(tools: Tools, tmp_path: Path) -> None:
    await asyncio.gather(*(send(tools["note"], text=str(n)) for n in range(10)))
    assert sorted(notes(tmp_path)) == sorted(f'note {{"text": "{n}"}}' for n in range(10))
    server_pid(tools["note"])  # there is just one


async def test_a_server_that_dies_in_the_call_leaves_a_doubt(tools: Tools, tmp_path: Path) -> None:
    error = await failure(tools["die"])
    assert (type(error), error.code) == (Unavailable, "mcp.lost")
    assert notes(tmp_path) == ["die {}"]
    await send(tools["note"], text="after")  # a new server
    assert len(notes(tmp_path)) == 2


async def test_a_server_killed_in_the_call_leaves_a_doubt(tools: Tools, tmp_path: Path) -> None:
    call = asyncio.create_task(failure(tools["sleep"]))
    await until(lambda: notes(tmp_path) == ["sleep {}"])
    os.kill(server_pid(tools["note"]), signal.SIGKILL)
    error = await call
    assert (type(error), error.code) == (Unavailable, "mcp.lost")
    assert notes(tmp_path) == ["sleep {}"]


async def test_a_worker_killed_in_the_call_leaves_a_doubt_and_takes_the_server_along(
    tools: Tools, tmp_path: Path
) -> None:
    call = asyncio.create_task(failure(tools["sleep"]))
    await until(lambda: notes(tmp_path) == ["sleep {}"])
    worker, server = session(tools["note"]).pid, server_pid(tools["note"])
    assert worker is not None
    os.kill(server, signal.SIGSTOP)  # it cannot even notice that its pipes are closed
    os.kill(worker, signal.SIGKILL)
    error = await call
    assert (type(error), error.code) == (Unavailable, "mcp.lost")
    await until(lambda: not alive(server))


async def test_a_server_killed_between_calls_costs_nothing(tools: Tools, tmp_path: Path) -> None:
    await send(tools["note"], text="one")
    os.kill(server_pid(tools["note"]), signal.SIGKILL)
    await until(lambda: session(tools["note"]).pid is None)
    await send(tools["note"], text="two")
    assert len(notes(tmp_path)) == 2


async def test_no_answer_in_time_leaves_a_doubt_and_the_server_is_told(tmp_path: Path) -> None:
    tools = pinned(place(tmp_path), rogue(tmp_path, timeout_s=0.5))
    error = await failure(tools["sleep"])
    assert (type(error), error.code) == (Unavailable, "mcp.timeout")
    await until(lambda: notes(tmp_path) == ["sleep {}", "cancelled"])
    await send(tools["note"], text="the session goes on")
    await tools["note"].close()


async def test_a_cancelled_call_is_cancelled_at_the_server(tools: Tools, tmp_path: Path) -> None:
    call = asyncio.create_task(send(tools["sleep"]))
    await until(lambda: notes(tmp_path) == ["sleep {}"])
    worker = session(tools["note"]).pid
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: notes(tmp_path) == ["sleep {}", "cancelled"])
    await send(tools["note"], text="the session goes on")
    assert session(tools["note"]).pid == worker


async def test_an_error_of_the_tool_is_refused_with_its_words(tools: Tools) -> None:
    error = await failure(tools["fail"])
    assert (type(error), error.code, error.message) == (Refused, "mcp.tool-error", "no such [31mcase")


@pytest.mark.parametrize(
    ("code", "kind", "expected"),
    [
        (-32602, BadInput, "mcp.rejected"),
        (-32601, BadInput, "mcp.rejected"),
        (-32042, Refused, "mcp.wants-input"),
        (-32603, Unavailable, "mcp.failed"),
        (7, Unavailable, "mcp.failed"),
    ],
)
async def test_protocol_errors_say_what_is_known(
    tools: Tools, code: int, kind: type[OutriderError], expected: str
) -> None:
    error = await failure(tools["error"], code=code)
    assert (type(error), error.code) == (kind, expected)


async def test_an_answer_that_is_none_leaves_a_doubt(tools: Tools) -> None:
    error = await failure(tools["wrong"])
    assert (type(error), error.code) == (Unavailable, "mcp.answer")


async def test_an_answer_that_breaks_the_servers_own_schema_is_still_done(tools: Tools, tmp_path: Path) -> None:
    assert (await send(tools["lie"])).details["structured"] == {"n": "seven"}
    assert notes(tmp_path) == ["lie {}"]


async def test_a_question_to_a_person_is_refused(tools: Tools, tmp_path: Path) -> None:
    assert (await failure(tools["ask"])).code == "mcp.tool-error"
    assert notes(tmp_path) == ["ask {}", "asked refused"]


async def test_fractions_become_text(tools: Tools) -> None:
    assert (await send(tools["fractions"])).details["structured"] == {
        "part": "0.1",
        "whole": "3.0",
        "huge": "1180591620717411303424",
        "rows": ["1.5", -2],
    }


async def test_a_large_answer_is_bounded(tools: Tools) -> None:
    details = (await send(tools["big"])).details
    assert 15_000 < len(canonical(details["text"])) <= 16_000
    assert details["cut"]["characters"] == 200_000
    assert details["structured_left_out"]["bytes"] > 100_000
    assert details["parts_left_out"] == 10


async def test_a_flood_without_end_ends_in_a_doubt(tmp_path: Path) -> None:
    tools = pinned(place(tmp_path), rogue(tmp_path, timeout_s=3.0))
    error = await failure(tools["flood"])
    assert type(error) is Unavailable
    assert error.code in ("mcp.timeout", "mcp.lost", "mcp.answer")
    await tools["note"].close()


async def test_arguments_that_do_not_fit_never_reach_the_server(tools: Tools, tmp_path: Path) -> None:
    for arguments, code in [
        ({}, "tool.arguments"),
        ({"text": 7}, "tool.arguments"),
        ({"texts": "x"}, "tool.arguments"),
    ]:
        assert (await failure(tools["note"], **arguments)).code == code
    assert notes(tmp_path) == []


async def test_a_pattern_that_takes_for_ever_does_not(tools: Tools, tmp_path: Path) -> None:
    error = await failure(tools["slow-pattern"], text="a" * 60 + "!")
    assert (type(error), error.code) == (NotSent, "mcp.start")
    assert notes(tmp_path) == []


async def test_a_changed_description_is_blocked_until_it_is_reviewed(tools: Tools, tmp_path: Path) -> None:
    await send(tools["note"], text="one")
    await send(tools["change"])  # announces it
    error = await failure(tools["note"], text="two")
    assert (type(error), error.code) == (Refused, "mcp.changed")
    assert "title (added)" in error.message and "annotations (removed)" in error.message
    assert "outrider agent mcp diff rogue" in error.advice
    await send(tools["peek"])  # the others are as they were
    await tools["note"].close()
    assert (await failure(tools["note"], text="two")).code == "mcp.changed"  # in a new session too
    assert [line for line in notes(tmp_path) if line.startswith("note")] == ['note {"text": "one"}']
    again = await accepted(place(tmp_path), rogue(tmp_path))
    assert (await send(again["note"], text="three")).details["text"] == "noted"
    await again["note"].close()


async def test_a_change_that_is_not_announced_is_found_too(tmp_path: Path) -> None:
    tools = pinned(place(tmp_path), rogue(tmp_path, recheck_s=0))
    await send(tools["note"], text="one")
    listed = tmp_path / "world" / "tools.json"
    listed.write_text(listed.read_text().replace("Do note.", "Do note, and mail it."))
    error = await failure(tools["note"], text="two")
    assert (type(error), error.code) == (Refused, "mcp.changed")
    assert len(notes(tmp_path)) == 1
    await tools["note"].close()


async def test_a_change_under_the_newest_protocol_is_heard(tmp_path: Path) -> None:
    where, program = place(tmp_path, "modern"), str(Path(ROGUE).with_name("mcp_modern.py"))
    tools = await accepted(where, {"command": sys.executable, "args": [program], "recheck_s": 3600})
    assert (await send(tools["echo"], text="one", rate="2.25")).details["structured"] == {"result": "one at 2.25"}
    await send(tools["change"])
    code = ""
    for _ in range(100):  # the announcement has a way of its own, beside the answer
        with contextlib.suppress(OutriderError):
            await send(tools["echo"], text="two")
            await asyncio.sleep(0.02)
            continue
        code = (await failure(tools["echo"], text="two")).code
        break
    assert code == "mcp.changed"
    await tools["echo"].close()


async def test_a_vanished_tool_is_not_called(tools: Tools, tmp_path: Path) -> None:
    await send(tools["note"], text="one")
    await tools["note"].close()
    listed = tmp_path / "world" / "tools.json"
    listed.write_text(json.dumps([one for one in json.loads(listed.read_text()) if one["name"] != "note"]))
    error = await failure(tools["note"], text="two")
    assert (type(error), error.code) == (NotSent, "mcp.gone")
    assert len(notes(tmp_path)) == 1


async def test_a_server_gets_no_secrets_but_those_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("OUTRIDER_TOKEN", "hunter3")
    where = place(tmp_path, secret={"t": "s3cret"}.__getitem__)
    tools = pinned(where, rogue(tmp_path, env={"A": "1"}, env_secrets={"TOKEN": "t"}))
    found = json.loads((await send(tools["peek"])).details["text"])
    assert found["A"] == "1" and found["TOKEN"] == "s3cret" and found["PATH"] == os.environ["PATH"]
    assert {*found} <= {"A", "TOKEN", "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ"}
    # Nor does the command line of a process show them, nor the worker's environment.
    for pid in (session(tools["peek"]).pid, server_pid(tools["peek"])):
        assert b"s3cret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert b"hunter" not in Path(f"/proc/{session(tools['peek']).pid}/environ").read_bytes()
    await tools["peek"].close()


async def test_a_bearer_token_goes_to_the_address_and_nowhere_else(tmp_path: Path) -> None:
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()

    async with listening(answer) as port:
        where = place(tmp_path, secret={"t": "S3cret-Token"}.__getitem__)
        given = {"url": f"http://127.0.0.1:{port}/mcp", "bearer": "t", "headers": {"X-Desk": "7"}, "start_s": 5}
        note = pinned(where, given)["note"]
        error = await failure(note, text="x")
        assert (type(error), error.code) == (NotSent, "mcp.start")
        assert "authorization: bearer s3cret-token\r\n" in seen[0] and "x-desk: 7\r\n" in seen[0]
        assert "S3cret-Token" not in str(error)
        await note.close()
        assert "S3cret-Token" not in (tmp_path / "state" / "rogue" / LOG).read_text()


async def test_what_the_server_says_on_standard_error_is_in_a_private_file(tools: Tools, tmp_path: Path) -> None:
    await send(tools["note"], text="one")
    log = tmp_path / "state" / "rogue" / LOG
    await until(lambda: "rogue is up" in log.read_text())
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"command": "no-such-program"}, "no program 'no-such-program'"),
        ({"command": "/bin/sh", "args": ["-c", "exit 3"]}, "cannot be used"),
        ({"command": "/bin/sh", "args": ["-c", "echo hello; sleep 60"]}, "cannot be used"),
        ({"command": "/bin/sh", "args": ["-c", "sleep 60"]}, "not ready within"),
        ({"command": "/bin/sh", "cwd": "/no/such/folder"}, "cannot be used"),
    ],
)
async def test_a_server_that_does_not_start_means_that_nothing_was_sent(
    tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    where = place(tmp_path)
    pinned(where, rogue(tmp_path))
    tools = {tool.name: tool for tool in make(where, {"start_s": 2.0, **more})}
    error = await failure(tools["rogue.note"], text="x")
    assert (type(error), error.code) == (NotSent, "mcp.start")
    assert said in error.message
    await tools["rogue.note"].close()


async def test_a_server_that_keeps_failing_is_let_rest(tmp_path: Path) -> None:
    clock = [now_us()]
    where = place(tmp_path, now=lambda: clock[0])
    pinned(where, rogue(tmp_path))
    note = {tool.name: tool for tool in make(where, {"command": "no-such-program"})}["rogue.note"]
    assert [(await failure(note, text="x")).code for _ in range(3)] == ["mcp.start", "mcp.start", "mcp.resting"]
    clock[0] += 3_000_000
    assert [(await failure(note, text="x")).code for _ in range(2)] == ["mcp.start", "mcp.resting"]
    clock[0] += 3_000_000
    assert (await failure(note, text="x")).code == "mcp.resting"  # each rest is longer
    await note.close()


async def test_a_missing_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = pinned(place(tmp_path), rogue(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    error = await failure(tools["note"], text="x")
    assert (type(error), error.code) == (NotSent, "mcp.missing")


async def test_a_worker_that_cannot_run_is_told(tmp_path: Path) -> None:
    where = place(tmp_path)
    broken = Session(where, read(where, rogue(tmp_path)), command=("/no/such/python",))
    with pytest.raises(NotSent) as caught:
        await broken.list()
    assert caught.value.code == "mcp.start"


def test_it_all_ends_when_the_agent_is_killed(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from tests.edge_agent.tools.mcp_rig import *\n"
        "async def main():\n"
        f"    root = Path({str(tmp_path)!r})\n"
        "    tools = pinned(place(root), rogue(root))\n"
        "    await send(tools['note'], text='x')\n"
        "    print(session(tools['note']).pid, server_pid(tools['note']), flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    agent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert agent.stdout is not None
    worker, server = map(int, agent.stdout.readline().split())
    assert alive(worker) and alive(server)
    agent.kill()
    agent.wait()
    agent.stdout.close()
    asyncio.run(until(lambda: not alive(worker) and not alive(server)))


def test_building_the_tools_loads_neither_the_library_nor_a_process(tmp_path: Path) -> None:
    pinned(place(tmp_path), rogue(tmp_path))
    script = (
        "import sys, asyncio\nfrom pathlib import Path\n"
        "from edge_agent.tools.build import Place\nfrom edge_agent.tools.mcp import make\n"
        f"made = make(Place('rogue', Path({str(tmp_path)!r}) / 'state' / 'rogue', str, int), {rogue(tmp_path)!r})\n"
        "print(len(made), [m for m in ('mcp', 'mcp_types', 'pydantic', 'anyio', 'jsonschema') if m in sys.modules])\n"
        "sys.stdin.read()\n"
    )
    # The asking process, not this one, is looked at: whoever runs the tests may have children of its own.
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split(maxsplit=1) == ["14", "[]\n"]
        assert not list(children(process.pid))
