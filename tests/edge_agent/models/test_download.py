"""A model of a gigabyte from a real hub over a bad line: cut five times, one chunk damaged, and every byte right."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from edge_agent.models.obtain import obtain
from edge_agent.models.store import ModelStore
from server.admin import Operator, init
from server.config import HubConfig
from server.models import Staging
from shared import limits
from shared.release import ModelRef

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

CHUNK = limits.MODEL_CHUNK_BYTES
SIZE = 1024 * CHUNK + 12_345
CUTS = [SIZE * n // 6 + 99_991 for n in range(1, 6)]  # none at the end of a chunk
BAD_AT = SIZE * 2 // 5


class Line(threading.Thread):
    """A TCP proxy before a hub. It breaks off at each place of ``cuts`` in the model's file, once, and once sends the
    byte at ``bad_at`` wrong."""

    def __init__(self, hub: tuple[str, int], cuts: list[int], bad_at: int) -> None:
        super().__init__(daemon=True)
        self._hub, self._cuts, self._bad_at = hub, list(cuts), bad_at
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self.broken: list[int] = []
        self.damaged = 0
        self.sent = 0
        self.ranges: list[str] = []

    def run(self) -> None:
        while True:
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            with near, socket.create_connection(self._hub) as far:
                self._pass(near, far)

    def close(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _pass(self, near: socket.socket, far: socket.socket) -> None:
        """One request and its answer; the hub is asked to hang up after it."""
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            asked += near.recv(65536)
        host = f"Host: {self._hub[0]}:{self._hub[1]}\r\nConnection: close".encode()
        far.sendall(re.sub(rb"Host: [^\r]*", host, asked, count=1))
        found = re.search(rb"Range: bytes=(\d+)-", asked)
        at = int(found[1]) if found else 0
        model = b".chunks " not in asked.split(b"\r\n")[0]
        if model:
            self.ranges.append(found[0].decode() if found else "")
        head = b""
        while b"\r\n\r\n" not in head:
            head += far.recv(65536)
        head, _, body = head.partition(b"\r\n\r\n")
        near.sendall(head + b"\r\n\r\n")
        buffer = bytearray(CHUNK)
        buffer[: len(body)] = body
        size = len(body)
        while size or (size := far.recv_into(buffer)):
            if not self._send(near, memoryview(buffer)[:size], at, model):
                return
            at, size = at + size, 0

    def _send(self, near: socket.socket, data: memoryview, at: int, model: bool) -> bool:
        end = at + len(data)
        if model and not self.damaged and at <= self._bad_at < end:
            data[self._bad_at - at] ^= 0x40
            self.damaged += 1
        cut = next((place for place in self._cuts if at <= place < end), None) if model else None
        try:
            near.sendall(data if cut is None else data[: cut - at])
        except OSError:
            return False  # the agent has hung up: it knows that the chunk is damaged
        self.sent += len(data) if model else 0
        if cut is not None:
            self._cuts.remove(cut)
            self.broken.append(cut)
        return cut is None


def make_hub(home: Path) -> ModelRef:
    """A hub whose release lists a model of a gigabyte, in which no two chunks are the same."""
    config = HubConfig(home=home)
    init(config, name="City", starter="permits", user="clara", password="correct horse battery", random=os.urandom)
    block = os.urandom(CHUNK - 16)
    with Staging(home, SIZE).receiving() as receiver:
        receiver.write(b"GGUF")
        for at in range(4, SIZE, CHUNK):
            receiver.write((at.to_bytes(16, "big") + block)[: SIZE - at])
        staged = receiver.done()
    operator = Operator(config)
    operator.model("add", staged=msgspec.to_builtins(staged), about={"name": "large-1"})
    ref = msgspec.convert(operator.model("use", name="large-1"), ModelRef)
    operator.publish()
    return ref


@contextmanager
def running(home: Path) -> Iterator[str]:
    words = [sys.executable, "-m", "server", "run", "--home", str(home), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1]
        finally:
            process.kill()


def test_a_gigabyte_with_five_cuts_and_a_damaged_chunk(tmp_path: Path) -> None:
    home, agent = tmp_path / "hub", tmp_path / "agent"
    large = make_hub(home)
    metadata = "".join(path.read_text() for path in (home / "repository" / "metadata").glob("*.model.json"))
    assert '"models/large-1.chunks"' in metadata
    with running(home) as address:
        host, port = address.removeprefix("http://").split(":")
        line = Line((host, int(port)), CUTS, BAD_AT)
        line.start()
        row = obtain(agent, large, None, hub=line.url)
        line.close()
    assert (row.size, row.sha256) == (SIZE, large.sha256)
    assert ModelStore(agent).path_for(large.sha256).stat().st_size == SIZE
    assert (line.broken, line.damaged) == (CUTS, 1)
    # Each break cost nothing that had come; the damage cost its chunk, and what was on its way behind it.
    start = BAD_AT // CHUNK * CHUNK
    again = [start, start + CHUNK]
    assert line.ranges == ["", *(f"Range: bytes={at}-" for at in sorted([*CUTS, *again]))]
    assert SIZE < line.sent < SIZE + 64 * CHUNK
    assert sorted(path.name for path in (agent / "models").iterdir()) == [f"{large.sha256}.gguf", "lock", "models.json"]
