"""The client against the real server: the desk's answers and errors as they were, and who is not there."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.api.client import Client
from edge_agent.config import Home
from edge_agent.lock import Lock
from shared.errors import OutriderError, Unavailable
from tests.edge_agent.api.kit import ERRORS, Served, serving


@pytest.fixture
def held(tmp_path: Path) -> Iterator[None]:
    lock = Lock(Home(tmp_path).lock)
    yield
    lock.release()


@pytest.fixture
async def served(tmp_path: Path, held: None) -> AsyncIterator[Served]:
    async with serving(tmp_path) as made:
        yield made


async def test_each_method_asks_its_route(served: Served, tmp_path: Path) -> None:
    client = Client(tmp_path)

    def talk() -> None:
        assert client.tools()[0]["name"] == "shop.order"
        run = client.act("shop.order", {"n": 3}, "PA-1", client="claude", key="k")
        assert run == client.act("shop.order", {"n": 3}, "PA-1", client="claude", key="k") == "r-1"
        assert client.start("triage", {"a": 1}, by="mara", dry_run=True) == "r-9"
        assert client.run(run)["status"] == client.wait(run, 0)["status"] == "open"
        client.order(run, "retry", by="mara", reason="again", step="notify")
        assert client.approvals() == [{"approval": "a-1", "run": "r-1"}]
        client.answer("a-1", "approve", by="mara", reason="fits")
        assert client.event("order.paid", "e-1", {"total": 7}) == 1
        assert client.metrics().endswith("runs 3\n")

    await asyncio.to_thread(talk)
    assert [row[0] for row in served.desk.asked] == ["act", "act", "start", "order", "answer"]
    assert served.desk.asked[3] == ("order", "r-1", "retry", "mara", "again", "notify")
    assert served.desk.events == {("order.paid", "e-1"): {"total": 7}}


@pytest.mark.parametrize("name", ERRORS)
async def test_errors_come_back_as_they_were(name: str, served: Served, tmp_path: Path) -> None:
    with pytest.raises(OutriderError) as caught:
        await asyncio.to_thread(Client(tmp_path).run, name)
    error = ERRORS[name]
    assert (type(caught.value), str(caught.value)) == (type(error), str(error))


async def test_a_fault_and_a_wrong_id_are_errors_of_ours_too(served: Served, tmp_path: Path) -> None:
    for run, code in (("fault", "api.fault"), ("a/b", "api.not-found")):
        with pytest.raises(OutriderError) as caught:
            await asyncio.to_thread(Client(tmp_path).run, run)
        assert caught.value.code == code


async def test_a_token_that_is_old_is_told(served: Served, tmp_path: Path) -> None:
    (tmp_path / "api.json").write_text(json.dumps({"port": served.port, "token": "old"}))
    with pytest.raises(OutriderError, match="api.token"):
        await asyncio.to_thread(Client(tmp_path).tools)


# --- nobody there -------------------------------------------------------------------------------------------------


def absent(home: Path) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        Client(home).tools()
    assert caught.value.code == "agent.not-running" and "outrider agent run" in caught.value.advice
    return caught.value


@pytest.mark.parametrize("told", [None, "", "{", '{"port": "x"}', '{"port": 1}'])
def test_without_a_file_nobody_runs(told: str | None, tmp_path: Path, held: None) -> None:
    if told is not None:
        (tmp_path / "api.json").write_text(told)
    absent(tmp_path)
    absent(tmp_path / "no-such-home")


def test_a_file_that_points_nowhere_means_that_nobody_runs(tmp_path: Path, held: None) -> None:
    (tmp_path / "api.json").write_text('{"port": 1, "token": "t"}')
    absent(tmp_path)


def test_a_stranger_on_the_port_of_an_agent_that_was_killed_is_sent_nothing(tmp_path: Path) -> None:
    """The lock is held by nobody: the file is a dead agent's."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(0.2)
        (tmp_path / "api.json").write_text(json.dumps({"port": stranger.getsockname()[1], "token": "t"}))
        Lock(Home(tmp_path).lock).release()
        absent(tmp_path)
        with pytest.raises(TimeoutError):
            stranger.accept()


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\n\r\nno json", b"HTTP/1.1 500 X\r\n\r\nplain", b"SSH-2.0\r\n"]
)
def test_an_answer_that_is_none_is_lost(said: bytes, tmp_path: Path, held: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def serve_once() -> None:
            connection, _ = odd.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)

        thread = threading.Thread(target=serve_once)
        thread.start()
        (tmp_path / "api.json").write_text(json.dumps({"port": odd.getsockname()[1], "token": "t"}))
        with pytest.raises(Unavailable) as caught:
            Client(tmp_path).tools()
        thread.join()
    assert caught.value.code == "api.answer"


async def test_a_restarted_agent_is_found_again(tmp_path: Path, held: None) -> None:
    client = Client(tmp_path)
    for _ in range(2):
        async with serving(tmp_path):
            tools: Any = await asyncio.to_thread(client.tools)
            assert tools[0]["name"] == "shop.order"
        absent(tmp_path)
