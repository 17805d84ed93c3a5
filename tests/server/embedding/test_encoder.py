"""The real worker process with the real model; crashes are real signals."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from server.embedding.encoder import Encoder
from server.embedding.folder import describe
from server.embedding.messages import TEXTS
from shared.errors import BadInput, Unavailable

pytestmark = pytest.mark.system

# Cosines (permille) of the published float32 weights, from two independent forward passes (numpy and llama.cpp).
GOLDEN = [
    ("The cat sat on the mat", "A feline rested on a rug", 561),
    ("Replace the kitchen sink", "Install a new sink in the kitchen", 850),
    ("Replace the kitchen sink", "Stock prices fell sharply on Tuesday", -1),
    ("How do I renew an expired permit?", "What must be done when a permit has run out?", 522),
]


async def test_the_whole_life_of_a_worker(encoder: Encoder, model_folder: Path) -> None:
    """One start serves all of this: loading torch is what takes the time."""
    assert encoder.pid is None
    ready = await encoder.start()
    assert (ready.model, ready.width) == (describe(model_folder).id, 384)

    made = await encoder.embed([text for one in GOLDEN for text in one[:2]])
    assert made.model == ready.model
    for place, (_, _, cosine) in enumerate(GOLDEN):
        one, other = made.vectors[2 * place : 2 * place + 2]
        assert abs(one.similarity(other) - cosine) <= 10

    # Asked at once, each has its own answer; odd texts have vectors too.
    odd = ["", "word " * 50_000, "naïve café 漢字 \u202e", "\ud83d\ude00 😀".encode("utf-8", "replace").decode()]
    answers = await asyncio.gather(*(encoder.embed([text], "query") for text in odd))
    together = await encoder.embed(odd)
    assert [len(answer.vectors[0].values) for answer in answers] == [384] * len(odd)
    assert all(a.vectors[0].similarity(b) >= 995 for a, b in zip(answers, together.vectors, strict=True))
    assert (await encoder.embed([])).vectors == []
    with pytest.raises(BadInput) as caught:
        await encoder.embed(["x"] * (TEXTS + 1))
    assert caught.value.code == "embedder.batch"

    # A request that nobody waits for any more does not hand its answer to the next.
    lost = asyncio.create_task(encoder.embed(["nobody waits"] * 100))
    await asyncio.sleep(0.01)
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)
    pid = (await encoder.start()) and encoder.pid
    assert pid is not None

    # A crash costs the request it met; the next one has a new worker.
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unavailable) as crashed:
        for _ in range(2):  # the signal may be noticed before the first request or in it
            await encoder.embed(["after"])
            if encoder.pid != pid:
                raise Unavailable("embedder.crashed", "noticed at once, and replaced", advice="")
    assert crashed.value.code == "embedder.crashed"
    assert len((await encoder.embed(["after"])).vectors) == 1
    assert encoder.pid != pid


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


async def test_an_idle_worker_leaves(model_folder: Path) -> None:
    from server.embedding import worker

    assert worker.BATCH > 0
    encoder = Encoder(model_folder, idle_s=0.2)
    await encoder.start()
    pid = encoder.pid
    assert pid is not None
    async with asyncio.timeout(20):
        while encoder.pid is not None or _alive(pid):
            await asyncio.sleep(0.05)
    await encoder.close()
    assert encoder.ready is None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
