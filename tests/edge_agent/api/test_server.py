"""The server's life: one address, a private file that comes and goes, a quiet loop, an end that waits for nobody."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from edge_agent.api.server import serve
from shared.errors import Unavailable
from tests.edge_agent.api.kit import NOW, TestDesk, hook_secret, serving
from tests.ports import Port


async def test_the_file_says_where_it_is_to_this_user_alone(tmp_path: Path) -> None:
    file = tmp_path / "api.json"
    async with serving(tmp_path) as served:
        assert json.loads(file.read_bytes()) == {"port": served.port, "token": served.token}
        assert file.stat().st_mode & 0o777 == 0o600 and len(served.token) >= 43
        first = served.token
        assert (await served.ask("GET", "/healthz")).status == 200
    assert not file.exists()
    async with serving(tmp_path) as served:
        assert served.token != first


async def test_only_the_loopback_is_listened_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        lines = [*Path("/proc/net/tcp").read_text().splitlines(), *Path("/proc/net/tcp6").read_text().splitlines()]
        listening = [line.split()[1] for line in lines if line.split()[3] == "0A"]
        ours = {address for address in listening if address.endswith(f":{served.port:04X}")}
        assert ours == {f"0100007F:{served.port:04X}"}
        with pytest.raises(OSError):
            socket.create_connection(("::1", served.port), timeout=1)


async def test_a_port_can_be_named_and_one_in_use_is_told(tmp_path: Path) -> None:
    with Port() as held:
        port = held.number
        with socket.create_server(("127.0.0.1", port)), pytest.raises(Unavailable) as caught:
            await serve(TestDesk(), tmp_path, port=port, hook_secret=hook_secret, now=lambda: NOW)
        assert caught.value.code == "api.port" and str(port) in caught.value.message
        async with serving(tmp_path, port=port) as served:
            assert served.port == port
        async with serving(tmp_path, port=port) as served:  # and at once again
            assert (await served.ask("GET", "/healthz")).status == 200
    with pytest.raises(Unavailable, match="api.port"):
        await serve(TestDesk(), tmp_path, port=70_000, hook_secret=hook_secret, now=lambda: NOW)


async def test_a_home_that_cannot_be_written_is_told_and_nothing_listens_any_more(tmp_path: Path) -> None:
    with Port() as held:
        with pytest.raises(Unavailable) as caught:
            await serve(TestDesk(), tmp_path / "none", port=held.number, hook_secret=hook_secret, now=lambda: NOW)
        assert caught.value.code == "disk.write"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", held.number), timeout=60)


async def test_the_file_of_another_agent_is_left(tmp_path: Path) -> None:
    async with serving(tmp_path):
        (tmp_path / "api.json").write_text('{"port": 1, "token": "another"}')
    assert json.loads((tmp_path / "api.json").read_text())["token"] == "another"


async def test_it_ends_soon_though_somebody_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with serving(tmp_path) as served:
            waiting = asyncio.create_task(served.ask("POST", "/v1/runs/r-1/wait", {"timeout_s": 60}))
            await served.desk.waited_for.wait()
            served.task.cancel()
            async with asyncio.timeout(30):  # half of what is waited for
                await asyncio.gather(served.task, return_exceptions=True)
            assert served.task.cancelled()
            answer = await waiting
    assert (answer.status, answer.json["code"]) == (503, "api.stopping") and caplog.text == ""


async def test_no_request_or_token_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with serving(tmp_path) as served:
            await served.ask("GET", "/v1/tools?secret=hunter2")
            await served.ask("POST", "/v1/actions", {"tool": "hunter2"})
            await served.ask("GET", "/v1/tools", headers={"Authorization": "Bearer hunter2"})
            token = served.token
    assert "hunter2" not in caplog.text and token not in caplog.text and "GET" not in caplog.text


async def test_many_ask_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        answers = await asyncio.gather(*(served.ask("GET", f"/v1/runs/r-{n}") for n in range(60)))
    assert [answer.json["run"] for answer in answers] == [f"r-{n}" for n in range(60)]


PROGRAM = """
import asyncio, signal, sys
from pathlib import Path
from edge_agent.api.server import serve
from tests.edge_agent.api.kit import TestDesk, hook_secret

async def main():
    task = asyncio.create_task(serve(TestDesk(), Path(sys.argv[1]), hook_secret=hook_secret, now=lambda: 0))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        print("ours", flush=True)

asyncio.run(main())
"""


def test_signals_stay_the_agents_own_and_at_rest_nothing_runs(tmp_path: Path) -> None:
    """A process of its own: SIGTERM comes to its handler, and once it is at rest, it sleeps for a second on end."""
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path)]
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root) as process:
        try:
            until = time.monotonic() + 60
            while not (tmp_path / "api.json").exists() and time.monotonic() < until:
                time.sleep(0.02)
            woken = 99
            while woken > 3 and time.monotonic() < until:  # a busy computer lets it come to rest late
                before = _switches(process.pid)
                time.sleep(1.5)
                woken = _switches(process.pid) - before
            os.kill(process.pid, signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (out, err, process.returncode) == (b"ours\n", b"", 0)
    assert woken <= 3 and not (tmp_path / "api.json").exists()


def _switches(pid: int) -> int:
    """How often the process went to sleep so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
