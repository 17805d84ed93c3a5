"""The real worker process with the real model; crashes are real signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from server.embedding.encoder import Encoder
from server.embedding.messages import TEXTS
from shared.errors import BadInput, Unavailable
from shared.memory.vector import Embedding
from tests.server.embedding.items import GOLDEN

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]  # loading torch takes a minute on a busy machine


def test_sentence_transformers_embed_as_published(published: dict[str, Embedding]) -> None:
    for one, other, cosine in GOLDEN:
        assert abs(published[one].similarity(published[other]) - cosine) <= 10
        assert published[one].similarity(published[one]) >= 998


async def test_requests_asked_at_once_get_their_own_answers(encoder: Encoder) -> None:
    assert encoder.pid is None
    texts = [f"text number {n}" for n in range(12)]
    answers = await asyncio.gather(*(encoder.embed([text], "query") for text in texts))
    together = await encoder.embed(texts)
    for place, answer in enumerate(answers):
        assert answer.vectors[0].similarity(together.vectors[place]) >= 999
    assert (await encoder.embed([])).vectors == []
    with pytest.raises(BadInput) as caught:
        await encoder.embed(["x"] * (TEXTS + 1))
    assert caught.value.code == "embedder.batch"


async def test_an_answer_nobody_waits_for_is_not_taken_for_the_next(encoder: Encoder) -> None:
    first = await encoder.embed(["the kitchen sink"])
    pid = encoder.pid
    lost = asyncio.create_task(encoder.embed(["nobody waits"] * 100))
    await asyncio.sleep(0.01)
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)
    again = await encoder.embed(["the kitchen sink"])
    assert again == first
    assert encoder.pid == pid


async def test_a_crash_costs_one_request(encoder: Encoder) -> None:
    await encoder.start()
    pid = encoder.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # so that it has no answer by then, however fast it is
    long = asyncio.create_task(encoder.embed(["word " * 300] * 200))
    await asyncio.sleep(0.2)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unavailable) as caught:
        await long
    assert caught.value.code == "embedder.crashed"
    assert "SIGKILL" in caught.value.message
    assert len((await encoder.embed(["after"])).vectors) == 1
    assert encoder.pid != pid


async def test_a_request_that_takes_too_long_ends_the_worker(artefact: Path) -> None:
    encoder = Encoder(artefact, answer_s=0.2)
    with pytest.raises(Unavailable) as caught:
        await encoder.embed(["word " * 300] * 200)
    assert caught.value.code == "embedder.slow"
    assert encoder.pid is None
    await encoder.close()


async def test_a_worker_leaves_when_its_hub_is_killed(artefact: Path) -> None:
    program = (
        "import asyncio, sys, pathlib\n"
        "from server.embedding.encoder import Encoder\n"
        "async def main():\n"
        "    encoder = Encoder(pathlib.Path(sys.argv[1]))\n"
        "    await encoder.start()\n"
        "    print(encoder.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    hub = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(artefact), stdout=asyncio.subprocess.PIPE
    )
    assert hub.stdout is not None
    pid = int(await hub.stdout.readline())
    hub.kill()
    await hub.wait()
    async with asyncio.timeout(60):
        while _alive(pid):
            await asyncio.sleep(0.05)
    assert not _alive(pid)


async def test_a_worker_that_cannot_start_says_why_and_then_rests(tmp_path: Path) -> None:
    now = [0.0]
    encoder = Encoder(tmp_path / "none", clock=lambda: now[0])
    with pytest.raises(Unavailable) as caught:
        await encoder.embed(["text"])
    assert caught.value.code == "embedder.none"
    await encoder.close()


async def test_workers_that_die_are_not_started_without_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    now = [0.0]
    encoder = Encoder(tmp_path, clock=lambda: now[0])
    codes = []
    for _ in range(4):
        with pytest.raises(Unavailable) as caught:
            await encoder.embed(["text"])
        codes.append(caught.value.code)
    assert codes == ["embedder.crashed"] * 3 + ["embedder.resting"]
    now[0] += 61
    with pytest.raises(Unavailable) as caught:
        await encoder.embed(["text"])
    assert caught.value.code == "embedder.crashed"


async def test_an_idle_worker_leaves(artefact: Path) -> None:
    encoder = Encoder(artefact, idle_s=0.2)
    await encoder.start()
    pid = encoder.pid
    assert pid is not None
    async with asyncio.timeout(60):
        while encoder.pid is not None or _alive(pid):
            await asyncio.sleep(0.05)
    await encoder.close()
    assert encoder.ready is None


def _alive(pid: int) -> bool:
    """A process whose parent is gone may wait for ever that somebody notes its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
