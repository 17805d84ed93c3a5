"""The asyncio face over a real worker process with the real models."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.models.catalogue import known
from edge_agent.models.engine import Models
from edge_agent.models.messages import BACKGROUND, BATCH, INTERACTIVE, Choice, Completion
from edge_agent.models.process import Worker
from edge_agent.models.store import ModelStore
from shared.errors import BadInput, Tampered, Unavailable

pytestmark = pytest.mark.timeout(300)

Make = Callable[..., Models]
PREFIX = "Permit desk. " + " ".join(f"Item {n} goes to lane {n % 3}." for n in range(12)) + "\n"
GRAMMAR = 'root ::= "{\\"lane\\": \\"" ("simple" | "review") "\\"}"'
ENDLESS = Completion(prompt="Count for ever: 1, 2, 3,", grammar='root ::= ([0-9]+ ", ")*', max_tokens=1500)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{pid}/stat").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not what():
            await asyncio.sleep(0.02)


async def at_work(models: Models) -> None:
    """Until the worker has a job, and a moment more, in which it computes."""
    await until(lambda: models.status().worker == "busy")
    await asyncio.sleep(0.1)


async def test_a_plan_comes_with_everything_the_log_wants(models: Models) -> None:
    result = await models.complete(Completion(prompt="Replace a sink.", prefix=PREFIX, grammar=GRAMMAR, max_tokens=20))
    assert json.loads(result.text)["lane"] in ("simple", "review")
    assert result.model == known("smollm2-135m").sha256
    assert result.prompt_tokens > 64 and result.generated_tokens > 3
    assert 0 < result.confidence <= result.token_confidence <= 1000
    assert result.timings.load_us > 0 and result.timings.prompt_us > 0 and result.timings.generation_us > 0


async def test_embeddings_come_in_order_with_their_model(models: Models) -> None:
    texts = ["Replace the kitchen sink", "Stock prices fell", "A new sink for the kitchen"]
    result = await models.embed(texts)
    sink, stock, again = result.embeddings
    assert sink.similarity(again) > 700 > 300 > sink.similarity(stock)
    assert result.model == known("minilm-l6").sha256
    assert result.timings.load_us > 0
    assert (await models.embed(["x"])).timings.load_us < 1000


async def test_choosing_works_through_the_pipe(models: Models) -> None:
    result = await models.choose(Choice(options=(" Paris", " potato"), prompt="The capital of France is"))
    assert result.best == 0
    assert len(result.shares) == 2


async def test_nothing_starts_before_the_first_request(models: Models) -> None:
    status = models.status()
    assert (status.worker, status.pid, status.language.trouble, status.embedder.trouble) == ("stopped", 0, "", "")
    assert (status.language.name, status.embedder.name) == ("smollm2-135m", "minilm-l6")
    await models.embed(["x"])
    status = models.status()
    assert status.worker == "idle" and alive(status.pid)
    assert status.embedder.loaded and not status.language.loaded


async def test_the_prefix_state_survives_in_memory_and_on_disk(make_models: Make) -> None:
    first, second = make_models(), make_models()
    job = Completion(prompt="Replace a sink.", prefix=PREFIX, grammar=GRAMMAR, max_tokens=20)
    cold = await first.complete(job)
    warm = await first.complete(Completion(prompt="A new roof.", prefix=PREFIX, grammar=GRAMMAR, max_tokens=20))
    assert (cold.reused_tokens, cold.reused_from) == (0, "")
    assert warm.reused_tokens >= 64 and warm.reused_from == "memory"
    await first.close()
    fresh = await second.complete(job)
    assert fresh.reused_tokens >= 64 and fresh.reused_from == "disk"
    assert fresh.text == cold.text
    assert await second.forget() == 1
    assert (await second.complete(job)).reused_from == ""


async def test_cancelling_stops_the_computation_and_the_worker_stays(models: Models) -> None:
    await models.complete(Completion(prompt="warm up", max_tokens=1))
    pid = models.status().pid
    task = asyncio.create_task(models.complete(ENDLESS))
    await at_work(models)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # A worker that goes on computing is killed after a while, and another one has another number.
    assert (await models.complete(Completion(prompt="Say", grammar='root ::= "yes"'))).text == "yes"
    assert models.status().pid == pid


async def test_a_cancelled_wait_never_reaches_the_worker(models: Models) -> None:
    running = asyncio.create_task(models.complete(ENDLESS))
    waiting = asyncio.create_task(models.complete(Completion(prompt="x", max_tokens=1)))
    await until(lambda: models.status().waiting == 2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert models.status().waiting == 0


async def test_a_deadline_ends_a_slow_answer(models: Models) -> None:
    await models.complete(Completion(prompt="warm up", max_tokens=1))
    job = Completion(prompt=ENDLESS.prompt, grammar=ENDLESS.grammar, max_tokens=1500, deadline_s=0.3)
    with pytest.raises(Unavailable) as caught:
        await models.complete(job)
    assert caught.value.code == "model.deadline"
    assert (await models.embed(["still here"])).embeddings


async def test_a_worker_that_ignores_cancelling_is_killed(make_models: Make, tmp_path: Path) -> None:
    models = make_models(grace_s=0.2, command=(sys.executable, "-c", "import time; time.sleep(60)"))
    with pytest.raises(Unavailable) as caught:
        await models.embed(["x"], deadline_s=0.3)
    assert caught.value.code == "model.deadline"
    assert models.status().worker == "stopped"


async def test_a_killed_worker_costs_one_request(models: Models) -> None:
    await models.embed(["x"])
    pid = models.status().pid
    task = asyncio.create_task(models.complete(ENDLESS))
    await at_work(models)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unavailable) as caught:
        await task
    assert caught.value.code == "model.crashed"
    assert "SIGKILL" in caught.value.message
    assert "GGML_NATIVE=OFF" in caught.value.advice
    assert (await models.complete(Completion(prompt="Say", grammar='root ::= "yes"'))).text == "yes"
    assert models.status().pid != pid
    assert models.status().crashes == 1


async def test_a_worker_killed_while_idle_is_replaced(models: Models) -> None:
    await models.embed(["x"])
    pid = models.status().pid
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not alive(pid))
    codes = []
    for _ in range(2):
        try:
            await models.embed(["x"])
            codes.append("ok")
        except Unavailable as error:
            codes.append(error.code)
    assert codes[-1] == "ok"
    assert codes[0] in ("ok", "model.crashed")


async def test_after_three_crashes_in_a_row_the_worker_rests(make_models: Make) -> None:
    now = [0.0]
    crash = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    models = make_models(command=crash, clock=lambda: now[0], rest_s=60)
    for _ in range(3):
        with pytest.raises(Unavailable, match="SIGILL"):
            await models.embed(["x"])
    with pytest.raises(Unavailable, match="rests") as caught:
        await models.embed(["x"])
    assert caught.value.code == "model.crashed"
    assert models.status().crashes == 3
    now[0] = 61
    with pytest.raises(Unavailable, match="SIGILL"):
        await models.embed(["x"])


async def test_a_full_queue_refuses(make_models: Make) -> None:
    models = make_models(queue=2)
    tasks = [asyncio.create_task(models.complete(ENDLESS)) for _ in range(2)]
    await until(lambda: models.status().waiting == 2)
    with pytest.raises(Unavailable) as caught:
        await models.embed(["x"])
    assert caught.value.code == "model.busy"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (await models.embed(["x"])).embeddings


async def test_batch_work_may_queue_longer_and_never_keeps_others_out(make_models: Make) -> None:
    models = make_models(queue=1)
    endless = msgspec.structs.replace(ENDLESS, urgency=BATCH)
    batch = [asyncio.create_task(models.complete(endless)) for _ in range(8)]
    await until(lambda: models.status().waiting == 8)
    with pytest.raises(Unavailable, match="8 requests") as caught:
        await models.embed(["x"], urgency=BATCH)
    assert caught.value.code == "model.busy"
    assert models.status().waiting == 8
    assert (await models.complete(saying("yes", INTERACTIVE))).text == "yes"
    for task in batch:
        task.cancel()
    await asyncio.gather(*batch, return_exceptions=True)
    assert models.status().waiting == 0


# --- urgency ------------------------------------------------------------------------------------------------------


def saying(word: str, urgency: int) -> Completion:
    return Completion(prompt="Say", grammar=f'root ::= "{word}"', urgency=urgency)


def counting(tokens: int, urgency: int) -> Completion:
    """Some ten milliseconds a token."""
    return msgspec.structs.replace(ENDLESS, max_tokens=tokens, urgency=urgency)


async def test_the_most_urgent_request_is_answered_first(models: Models) -> None:
    await models.complete(saying("warm", BACKGROUND))
    done: list[str] = []

    async def ask(word: str, urgency: int) -> None:
        done.append((await models.complete(saying(word, urgency))).text)

    async with asyncio.TaskGroup() as group:
        group.create_task(models.complete(counting(40, BACKGROUND)))
        for word, urgency in (("late", BATCH), ("later", BATCH), ("mid", BACKGROUND), ("now", INTERACTIVE)):
            group.create_task(ask(word, urgency))  # they come in this order, and all while the first is at work
    assert done == ["now", "mid", "late", "later"]


async def test_batch_work_gives_way_and_comes_to_the_same_answer(models: Models) -> None:
    alone = await models.complete(counting(90, BATCH))
    pid = models.status().pid
    batch = asyncio.create_task(models.complete(counting(90, BATCH)))
    await until(lambda: models.status().worker == "busy")
    began = time.perf_counter_ns()
    await asyncio.sleep(0.1)
    spent_us = (time.perf_counter_ns() - began) // 1000
    person = await models.complete(saying("yes", INTERACTIVE))
    assert person.text == "yes"
    assert not batch.done(), "it has to begin anew"
    broken = await batch
    assert (broken.text, broken.generated_tokens) == (alone.text, 90)
    assert broken.timings.queue_us > spent_us, "what was done before it was broken off counts as waiting"
    assert models.status().pid == pid


async def test_a_choice_in_a_batch_gives_way_too(models: Models) -> None:
    words = tuple(f" option number {n} of a long list" for n in range(24))
    job = Choice(options=words, prompt="The best is" + " really" * 150, urgency=BATCH)
    alone = await models.choose(job)
    await models.complete(saying("other", BACKGROUND))
    batch = asyncio.create_task(models.choose(job))
    await at_work(models)
    assert (await models.complete(saying("yes", INTERACTIVE))).text == "yes"
    assert not batch.done(), "it has to begin anew"
    assert (await batch).best == alone.best


async def test_batch_work_is_broken_off_a_few_times_only(models: Models) -> None:
    await models.complete(saying("warm", BACKGROUND))
    batch = asyncio.create_task(models.complete(counting(200, BATCH)))
    over = []
    while not batch.done():
        await at_work(models)
        await models.complete(saying("yes", INTERACTIVE))
        over.append(batch.done())
    assert (await batch).generated_tokens == 200
    assert over == [False, False, False, True], "somebody had to wait for it in the end; before that, three did not"


async def test_background_work_is_not_broken_off(models: Models) -> None:
    await models.complete(saying("warm", BACKGROUND))
    work = asyncio.create_task(models.complete(counting(100, BACKGROUND)))
    await until(lambda: models.status().worker == "busy")
    person = await models.complete(saying("yes", INTERACTIVE))
    assert work.done()
    assert person.timings.queue_us > (await work).timings.generation_us / 2


async def test_a_batch_request_that_was_broken_off_can_be_cancelled(models: Models) -> None:
    await models.complete(saying("warm", BACKGROUND))
    batch = asyncio.create_task(models.complete(msgspec.structs.replace(ENDLESS, urgency=BATCH)))
    await at_work(models)
    person = asyncio.create_task(models.complete(counting(200, INTERACTIVE)))
    await asyncio.sleep(0.2)
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    assert not person.done()
    assert (await person).generated_tokens == 200
    assert models.status().waiting == 0


async def test_the_deadline_of_a_batch_request_counts_from_its_beginning(models: Models) -> None:
    await models.complete(saying("warm", BACKGROUND))
    job = msgspec.structs.replace(ENDLESS, urgency=BATCH, deadline_s=1.0)
    batch = asyncio.create_task(models.complete(job))
    await asyncio.sleep(0.3)
    await models.complete(counting(20, INTERACTIVE))
    with pytest.raises(Unavailable) as caught:
        await batch
    assert caught.value.code == "model.deadline"
    assert (await models.complete(saying("yes", INTERACTIVE))).text == "yes"


async def test_others_come_in_between_the_slices_of_many_texts(models: Models) -> None:
    texts = [f"Case {n}: " + "replace the sink and the pipe under it, then paint the wall. " * 18 for n in range(40)]
    few = (await models.embed(texts[:8])).embeddings
    await models.complete(saying("warm", BACKGROUND))
    many = asyncio.create_task(models.embed(texts, urgency=BATCH))
    for _ in range(3):
        await until(lambda: models.status().worker == "busy")
        assert (await models.complete(saying("yes", INTERACTIVE))).text == "yes"
        assert not many.done()  # it takes ten slices
    result = await many
    assert len(result.embeddings) == 40
    assert all(a.similarity(b) > 990 for a, b in zip(result.embeddings, few, strict=False))
    assert result.timings.prompt_us > 0 and result.timings.queue_us > 0


async def test_texts_are_cut_by_number_and_by_length(models: Models) -> None:
    for texts in ([], [""], ["a"] * 65, ["a" * 50_000] * 5, ["a", "b" * 3990, "c" * 20, "d"], ["word " * 100] * 20):
        result = await models.embed(texts)
        assert len(result.embeddings) == len(texts)
        for text, found in zip(texts[-3:], result.embeddings[-3:], strict=True) if len(texts) > 2 else ():
            # Numbers are rounded by what else is computed at the same time, so the same text comes out a little other.
            assert found.similarity((await models.embed([text])).embeddings[0]) > 900


async def test_texts_of_one_request_are_embedded_by_one_model(home: Path, make_models: Make) -> None:
    """A release that changes the embedder while many texts are at work."""
    first = known("minilm-l6").sha256
    data = (home / "models" / f"{first}.onnx").read_bytes()
    data += b"\xc0\x3e\x00"  # a field that no reader knows: the same model under another hash
    second = hashlib.sha256(data).hexdigest()
    store = ModelStore(home)
    with store.installing() as folder:
        (folder / "other").write_bytes(data)
        row = msgspec.structs.replace(store.by_hash(first), name="other", sha256=second, size=len(data))
        store.register(row, folder / "other")
    models = make_models()
    texts = [f"Case {n}: " + "replace the sink and the pipe under it. " * 25 for n in range(24)]
    many = asyncio.create_task(models.embed(texts))
    await models.embed(["x"], urgency=INTERACTIVE)
    assert not many.done()
    await models.use(language="", embedder=second)
    result = await many
    assert (result.model, len(result.embeddings)) == (second, 24)


async def test_requests_at_once_are_answered_each_with_its_own(models: Models) -> None:
    words = ["alpha", "beta", "gamma", "delta"]
    jobs = [models.complete(Completion(prompt="Say", grammar=f'root ::= "{word}"')) for word in words]
    assert [result.text for result in await asyncio.gather(*jobs)] == words


async def test_what_is_too_long_or_broken_is_the_callers_error(models: Models) -> None:
    for job, code in (
        (Completion(prompt="word " * 5000), "model.too-long"),
        (Completion(prompt="x", grammar="root ::= other"), "model.grammar"),
        (Completion(prompt=""), "model.empty"),
    ):
        with pytest.raises(BadInput) as caught:
            await models.complete(job)
        assert caught.value.code == code
    with pytest.raises(BadInput) as caught:
        await models.embed(["x"] * 1025)
    assert caught.value.code == "model.too-many"


async def test_an_idle_worker_ends_and_comes_back(make_models: Make) -> None:
    models = make_models(idle_s=0.3)
    await models.embed(["x"])
    pid = models.status().pid
    await until(lambda: models.status().worker == "stopped" and not alive(pid))
    assert (await models.embed(["x"])).embeddings


async def test_the_worker_leaves_when_its_parent_is_killed(home: Path) -> None:
    script = textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from edge_agent.models.engine import Models
        from edge_agent.models.messages import Completion
        async def main():
            models = Models(Path({str(home)!r}), language={known("smollm2-135m").sha256!r})
            await models.complete(Completion(prompt="x", max_tokens=1))
            print(models.status().pid, flush=True)
            await models.complete(Completion(prompt="One, two,", grammar='root ::= ([0-9]+ ", ")*', max_tokens=1500))
        asyncio.run(main())
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert alive(worker)
        await asyncio.sleep(0.3)
        parent.kill()
    await until(lambda: not alive(worker))


async def test_a_changed_model_file_is_never_loaded(home: Path, models: Models) -> None:
    path = home / "models" / f"{known('minilm-l6').sha256}.onnx"
    data = path.read_bytes()
    path.unlink()  # it is hard-linked to the shared cache
    path.write_bytes(data[:-1] + b"!")
    with pytest.raises(Tampered) as caught:
        await models.embed(["x"])
    assert caught.value.code == "model.hash"


async def test_no_model_and_no_release_are_said_with_advice(make_models: Make) -> None:
    models = make_models(language="", embedder="1" * 64)
    with pytest.raises(Unavailable) as caught:
        await models.complete(Completion(prompt="x"))
    assert caught.value.code == "model.not-chosen"
    with pytest.raises(Unavailable) as caught:
        await models.embed(["x"])
    assert caught.value.code == "model.missing"
    assert "outrider model add" in caught.value.advice
    status = models.status()
    assert (status.language.trouble, status.embedder.trouble) == ("model.not-chosen", "model.missing")
    assert status.worker == "stopped"


async def test_without_llama_cpp_the_embedder_works_and_advice_names_the_command(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)  # how Python itself marks a module that cannot be imported
    with pytest.raises(Unavailable) as caught:
        await models.complete(Completion(prompt="x"))
    assert caught.value.code == "model.runtime-missing"
    assert "GGML_NATIVE=OFF" in caught.value.advice and "llama-cpp-python==0.3.36" in caught.value.advice
    assert models.status().language.trouble == "model.runtime-missing"
    assert (await models.embed(["x"])).embeddings


async def test_a_new_release_changes_the_model(make_models: Make) -> None:
    models = make_models(embedder="")
    with pytest.raises(Unavailable):
        await models.embed(["x"])
    await models.use(language="", embedder=known("minilm-l6").sha256)
    assert (await models.embed(["x"])).embeddings
    with pytest.raises(Unavailable) as caught:
        await models.complete(Completion(prompt="x"))
    assert caught.value.code == "model.not-chosen"


async def test_closed_models_refuse(models: Models) -> None:
    await models.embed(["x"])
    pid = models.status().pid
    await models.close()
    assert not alive(pid)
    with pytest.raises(Unavailable) as caught:
        await models.embed(["x"])
    assert caught.value.code == "model.closed"


async def test_closing_ends_work_in_hand(models: Models) -> None:
    task = asyncio.create_task(models.complete(ENDLESS))
    await until(lambda: models.status().pid != 0)
    await models.close()
    with pytest.raises(Unavailable) as caught:
        await task
    assert caught.value.code in ("model.closed", "model.crashed")


async def test_closing_while_the_worker_starts_leaves_none(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    start, started, go_on = Worker.start, asyncio.Queue[Worker](), asyncio.Event()

    async def slow(*given: Any) -> Worker:
        made = await start(*given)
        await started.put(made)
        await go_on.wait()
        return made

    monkeypatch.setattr(Worker, "start", slow)
    task = asyncio.create_task(models.embed(["x"]))
    worker = await started.get()
    await models.close()
    go_on.set()
    with pytest.raises(Unavailable) as caught:
        await task
    assert caught.value.code == "model.closed"
    assert not alive(worker.pid) and models.status().worker == "stopped"


def test_the_agents_process_stays_free_of_runtimes(home: Path) -> None:
    script = textwrap.dedent(f"""
        import asyncio, sys
        from pathlib import Path
        import edge_agent.models.commands, edge_agent.models.probe
        from edge_agent.models.engine import Models
        async def main():
            models = Models(Path({str(home)!r}), embedder={known("minilm-l6").sha256!r})
            (one, two) = (await models.embed(["a sink", "a basin"])).embeddings
            one.similarity(two)
            await models.close()
        asyncio.run(main())
        print([name for name in ("numpy", "onnxruntime", "llama_cpp", "pip", "torch") if name in sys.modules])
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
