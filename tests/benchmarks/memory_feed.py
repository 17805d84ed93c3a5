"""What the hub's processor pays to sync memory, screening included, beside the automerge-repo sync server from npm.

Run: ``python tests/benchmarks/memory_feed.py`` (about two minutes; the first time npm installs its packages, a minute
more). ``--json`` prints the figures for a program; ``--small`` is the short mode.

Two questions. *Offline*: a device comes back with 10,000 changes of 1,000 items, made apart from the hub, and pushes
them; another device then pulls them all. *Documents*: 1,000 new documents of 400 characters are pushed by one client
and pulled by another, here and through ``@automerge/automerge-repo-sync-server`` with its own unmodified client, whose
documents have the same text. The figure is the processor time of the server and all its children (the worker that
judges the changes), from ``/proc``: what a hub can serve, whatever the network and the clients do. The sync server
judges nothing and knows no roles; it keeps its documents in files, the hub keeps its records in SQLite with a disk sync
for each push.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from shared import limits  # noqa: E402 - found only now
from shared.keys import Envelope  # noqa: E402
from shared.memory.document import Document  # noqa: E402
from shared.memory.feed import Change, change  # noqa: E402
from shared.memory.item import Edit, Item, new_id  # noqa: E402
from shared.protocol import Recall, Recalled, Remember, Remembered  # noqa: E402
from tests import npm  # noqa: E402
from tests.fakes import FakeDevice, Wire  # noqa: E402

HUB = [sys.executable, "-m", "server"]
TICKS = os.sysconf("SC_CLK_TCK")
SCRIPT = Path(__file__).with_name("memory_feed_client.mjs")
WORDS = "roof slate gate permit review desk counter lane wall street garden fence window door paint brick".split()  # noqa: SIM905


class Cost(NamedTuple):
    """Seconds: the server's processor time, and the clock's."""

    cpu: float
    wall: float


def spent(process: int) -> float:
    """Processor seconds of a process and everything it started, also of what has ended since."""
    total = 0
    waiting = [process]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
            for thread in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
    return total / TICKS


def measured(process: int, work: Callable[[], Any]) -> Cost:
    cpu, begun = spent(process), time.monotonic()
    work()
    wall = time.monotonic() - begun
    time.sleep(1.0)  # what the server still does of it afterwards counts as well
    return Cost(spent(process) - cpu, wall)


def text(n: int, size: int = 400) -> str:
    words = [WORDS[(n * 7 + i * (i + 3)) % len(WORDS)] for i in range(size // 5)]
    return f"{n} {' '.join(words)}"[:size]


def now() -> int:
    return time.time_ns() // 1000


# --- this hub -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def hub(folder: Path) -> Iterator[tuple[int, str, Path]]:
    """A hub that runs: its process, address and home."""
    home = folder / "hub"
    made = [*HUB, "init", "--home", str(home), "--user", "clara", "--password-stdin"]
    subprocess.run(made, input="correct horse battery\n", text=True, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    process = subprocess.Popen(
        [*HUB, "run", "--home", str(home), "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        yield process.pid, address, home
    finally:
        process.terminate()
        process.communicate(timeout=30)


def joined(home: Path, address: str, name: str) -> FakeDevice:
    """A device of mara's."""
    import http.client

    from server.admin import Operator
    from server.config import HubConfig

    operator = Operator(HubConfig(home=home))
    device = FakeDevice(now, name)
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
    connection.request("POST", "/api/join", msgspec.json.encode(device.request(operator.token(600))))
    device.enrolled(msgspec.json.decode(connection.getresponse().read(), type=Envelope))
    connection.close()
    operator.memory("own", device=device.id, person="mara")
    return device


def offline(items: int, edits: int) -> list[Change]:
    """What a device wrote while it was away: items, and edits of each, together as its outbox sends them."""
    actor, clock = secrets.token_bytes(16), now()
    made = []
    for n in range(items):
        item = Item("note", text(n, 200), "benchmark", tags=["a"])
        name, document = new_id(secrets.token_bytes), Document.create(item, actor, at=clock, by="mara")
        made += [change(name, chunk) for chunk in document.changes()]
        for turn in range(edits):
            kinds = (
                Edit(text=text(n, 200) + f" and {turn}"),
                Edit(add_tags=[f"t{turn}"]),
                Edit(fields={"lane": f"lane {turn}"}),
            )
            chunk = document.edit(kinds[turn % 3], at=clock + turn + 1, by="mara")
            assert chunk is not None
            made.append(change(name, chunk))
    return made


def batches(changes: list[Change]) -> Iterator[list[Change]]:
    part: list[Change] = []
    size = 0
    for one in changes:
        if part and (len(part) == limits.MEMORY_BATCH or size + len(one.data) > limits.MEMORY_BATCH_BYTES):
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one.data)
    yield part


def push(address: str, device: FakeDevice, changes: list[Change]) -> None:
    async def whole() -> None:
        wire = await Wire.greeted(address, device, max_size=None)
        stored = 0
        for part in batches(changes):
            await wire.send(Remember("person", part))
            done = await wire.until(Remembered)
            assert not done.refused, done.refused[0]
            stored += len(done.stored)
        assert stored == len(changes)
        await wire.close()

    asyncio.run(whole())


def pull(address: str, device: FakeDevice, expected: int) -> None:
    async def whole() -> None:
        wire = await Wire.greeted(address, device, max_size=None)
        cursor = got = 0
        while got < expected:
            await wire.send(Recall({"person": cursor}))
            answer = await wire.until(Recalled)
            cursor, got = answer.cursor, got + len(answer.records)
        await wire.close()

    asyncio.run(whole())


def of_this_hub(items: int, edits: int, documents: int) -> dict[str, Cost]:
    found = {}
    with tempfile.TemporaryDirectory() as folder, hub(Path(folder)) as (process, address, home):
        first, second = joined(home, address, "first"), joined(home, address, "second")
        warm = offline(20, 1)
        push(address, first, warm)  # the worker is up, and every import done
        whole = offline(items, edits)
        found["offline push"] = measured(process, lambda: push(address, first, whole))
        found["offline pull"] = measured(process, lambda: pull(address, second, len(warm) + len(whole)))
    with tempfile.TemporaryDirectory() as folder, hub(Path(folder)) as (process, address, home):
        first, second = joined(home, address, "first"), joined(home, address, "second")
        push(address, first, warm)
        actor = secrets.token_bytes(16)
        made = []
        for n in range(documents):
            document = Document.create(Item("document", text(n), "benchmark"), actor, at=now(), by="mara")
            made.append(change(new_id(secrets.token_bytes), document.changes()[0]))
        found["documents push"] = measured(process, lambda: push(address, first, made))
        found["documents pull"] = measured(process, lambda: pull(address, second, len(warm) + documents))
    return found


# --- the sync server from npm -------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def of_the_sync_server(documents: int) -> dict[str, Cost]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = os.environ | {"PORT": str(port), "DATA_DIR": f"{folder}/data"}
        command = npm.program("@automerge/automerge-repo-sync-server")
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=folder)
        try:
            _answers(port)
            client = [*npm.script(SCRIPT, Path(folder)), f"ws://127.0.0.1:{port}"]
            texts, ids = Path(folder) / "texts.json", Path(folder) / "ids.json"
            texts.write_text(json.dumps([text(n) for n in range(20)]))
            subprocess.run([*client, "push", str(texts), str(ids)], check=True, timeout=300)  # warm
            texts.write_text(json.dumps([text(n) for n in range(documents)]))

            def run(*words: str) -> None:
                subprocess.run([*client, *words], check=True, timeout=900)

            found["documents push"] = measured(process.pid, lambda: run("push", str(texts), str(ids)))
            found["documents pull"] = measured(process.pid, lambda: run("pull", str(texts), str(ids)))
        finally:
            process.kill()
            process.wait()
    return found


def _answers(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError("the sync server does not answer")


# --- telling ------------------------------------------------------------------------------------------------------


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--json", action="store_true")
    reader.add_argument("--small", action="store_true")
    given = reader.parse_args()
    items, edits, documents = (50, 9, 50) if given.small else (1_000, 9, 1_000)
    ours = of_this_hub(items, edits, documents)
    theirs = of_the_sync_server(documents) if shutil.which("npm") else {}
    ratios = {name: ours[name].cpu / theirs[name].cpu for name in theirs if theirs[name].cpu}
    if given.json:
        print(json.dumps({"hub": ours, "automerge-repo": theirs, "ratios": ratios}))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"offline: {items * (edits + 1):,} changes of {items:,} items; documents: {documents:,}")
    print(f"{'server CPU s (wall s)':24}{'this hub':>18}{'automerge-repo':>20}{'ratio':>9}")
    for name, cost in ours.items():
        other = f"{theirs[name].cpu:.2f} ({theirs[name].wall:.1f})" if name in theirs else "-"
        ratio = f"{ratios[name]:.2f}" if name in ratios else ""
        print(f"{name:24}{f'{cost.cpu:.2f} ({cost.wall:.1f})':>18}{other:>20}{ratio:>9}")


if __name__ == "__main__":
    main()
