"""Models that the hub itself hands out: the file of a release whose source is ``hub:``.

The bytes lie among the repository's targets, under their own hash, with a chunk list beside them (``shared.chunks``).
Each chunk is judged when it is whole: a damaged one is asked for again, and not the file. A connection that breaks is
taken up again where it broke, in the same minute or after a restart, by asking for the rest. Nothing is believed but
the hashes that the release lists; a model whose release names no chunk list is one chunk.
"""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import urllib3

from edge_agent.models.fetch import Progress, Report, _silent
from edge_agent.models.fit import form
from edge_agent.models.store import BLOCK, Installed, ModelStore, disk_error, file_sha256
from shared import chunks, limits
from shared.errors import Tampered, Unavailable
from shared.release import ModelRef

SOURCE = "hub:"
_CONNECT_S, _GAP_S = 10.0, 20.0
_LEAST_BYTES_S = 16 * 1024  # a sender slower than that over the whole file is given up on
_TRIES = 3  # for one chunk
_AGAIN = "it goes on where it stopped when the agent tries again"
_TELL = "tell the administrator; nothing damaged was kept"


def add_from_hub(
    store: ModelStore, hub: str, model: ModelRef, *, rate_kb: int = 0, report: Report = _silent
) -> Installed:
    """Fetch the model from the hub at the base URL ``hub`` and register it. ``rate_kb`` bounds it, in KiB a second; 0
    does not. Whatever ``report`` raises breaks it off; what has come is kept.

    Raises ``Unavailable('model.fetch' | 'model.disk')``, ``Tampered('model.hash' | 'model.chunk' | 'chunks.hash')``,
    ``Conflict('model.locked')``.
    """
    with store.installing():  # one fetch at a time, so that no two write the same part
        part = store.folder / f".part-{model.sha256}"
        pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=_CONNECT_S, read=_GAP_S))
        try:
            _Download(pool, f"{hub.rstrip('/')}/tuf/targets/models", model, part, rate_kb * 1024, report).run()
        except OSError as error:
            raise disk_error(error, store.folder) from error
        finally:
            pool.clear()
        row = Installed(
            name=model.name,
            kind=model.kind,
            format=form(model),
            sha256=model.sha256,
            size=model.size,
            source=SOURCE,
            licence=model.licence,
            context=model.context,
        )
        return store.register(row, part)


class _Damaged(Exception):
    """The chunk of this number has other bytes than it must have; they are no longer in the file."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Download:
    """One file on its way into ``part``, whose length says how far it has come."""

    def __init__(
        self, pool: urllib3.PoolManager, base: str, model: ModelRef, part: Path, rate: int, report: Report
    ) -> None:
        self._pool, self._base, self._model, self._part, self._report = pool, base, model, part, report
        self._pace = _Pace(rate)
        self._step = limits.MODEL_CHUNK_BYTES if model.chunks else model.size
        self._hashes = [bytes.fromhex(model.sha256)]

    def run(self) -> None:
        if self._model.chunks:
            self._hashes = self._chunk_list()
        self._part.touch(mode=0o600)
        if self._have() > self._model.size:
            os.truncate(self._part, 0)
        while self._have() < self._model.size:
            self._further()
        if file_sha256(self._part) != self._model.sha256:
            self._mend()

    def _have(self) -> int:
        return self._part.stat().st_size

    def _further(self) -> None:
        """The rest of the file, or as much of it as one connection brings: at least a chunk, or it is given up."""
        have = self._have()
        try:
            self._bring(have, self._model.size)
        except Unavailable:
            if self._have() - have < limits.MODEL_CHUNK_BYTES:
                raise
        except _Damaged as damaged:
            self._again(damaged.number)

    def _again(self, number: int) -> None:
        """One chunk, alone."""
        if not self._model.chunks:  # it is the whole file
            self._part.unlink()
            raise Tampered("model.hash", f"the hub's file of {self._model.name} is another", advice=_TELL)
        start = number * self._step
        for _ in range(_TRIES - 1):
            try:
                self._bring(start, min(start + self._step, self._model.size))
            except _Damaged:
                continue
            return
        said = f"chunk {number} of {self._model.name} came damaged {_TRIES} times"
        raise Tampered("model.chunk", said, advice=_TELL)

    def _mend(self) -> None:
        """What lies on the disk is not what came: chunks that were written in an earlier life of this machine."""
        for number in self._wrong():
            self._again(number)
        found = file_sha256(self._part)
        if found != self._model.sha256:
            self._part.unlink()
            said = f"the hub's file of {self._model.name} has the hash {found[:16]}…, not {self._model.sha256[:16]}…"
            raise Tampered("model.hash", said, advice=_TELL)

    def _wrong(self) -> list[int]:
        if not self._model.chunks:
            return [0]
        with self._part.open("rb") as file:
            return [n for n, wanted in enumerate(self._hashes) if sha256(file.read(self._step)).digest() != wanted]

    # --- from the hub ---

    def _chunk_list(self) -> list[bytes]:
        size = chunks.list_bytes(self._model.size)
        answer = self._ask(f"{self._base}/{self._model.chunks}.{self._model.name}.chunks", {})
        try:
            data = answer.read(size + 1, decode_content=False)
        except urllib3.exceptions.HTTPError as error:
            raise self._failed(str(error)) from error
        finally:
            answer.close()
        return chunks.read_list(data, self._model.size, self._model.chunks)

    def _bring(self, start: int, end: int) -> None:
        """The bytes from ``start`` up to ``end`` into the part, each chunk judged when it is whole."""
        whole = (start, end) == (0, self._model.size)
        url = f"{self._base}/{self._model.sha256}.{self._model.name}"
        answer = self._ask(url, {} if whole else {"Range": f"bytes={start}-{end - 1}"})
        skip = start if answer.status == 200 else 0  # a server without ranges sends everything
        try:
            with self._part.open("r+b") as file:
                self._take(answer, _Sink(file, start, end, self._step, self._hashes), skip)
                file.flush()
                os.fsync(file.fileno())
        except urllib3.exceptions.HTTPError as error:
            raise self._failed(str(error)) from error
        finally:
            answer.close()

    def _take(self, answer: urllib3.BaseHTTPResponse, sink: _Sink, skip: int) -> None:
        least = min(_LEAST_BYTES_S, self._pace.rate // 2 or _LEAST_BYTES_S)
        deadline = time.monotonic() + _GAP_S + (skip + sink.end - sink.at) / least
        while sink.at < sink.end:
            # read1 returns what has come; read would wait for a full block and could be dripped on past the deadline.
            block = answer.read1(self._pace.block, decode_content=False)
            if not block:
                raise self._failed(f"it broke off after {sink.at} of {self._model.size} bytes")
            skipped = min(skip, len(block))
            skip -= skipped
            sink.write(memoryview(block)[skipped:])
            self._report(Progress("download", sink.at, self._model.size))
            self._pace.wait(len(block))
            if time.monotonic() > deadline:
                raise self._failed("it sent too slowly")

    def _ask(self, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        # Identity: an answer must not be able to grow after it was counted.
        headers = {"Accept-Encoding": "identity", **headers}
        try:
            answer = self._pool.request("GET", url, preload_content=False, redirect=False, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise self._failed(str(error)) from error
        if answer.status not in (200, 206):
            answer.close()
            raise self._failed(f"it answered with status {answer.status}")
        return answer

    def _failed(self, said: str) -> Unavailable:
        return Unavailable(
            "model.fetch", f"{self._model.name} could not be fetched from the hub: {said[:200]}", advice=_AGAIN
        )


class _Sink:
    """Writes from ``at`` up to ``end`` and judges each chunk at its end. It may begin within a chunk that was cut."""

    def __init__(self, file: BinaryIO, start: int, end: int, step: int, hashes: list[bytes]) -> None:
        self.at, self.end = start, end
        self._file, self._step, self._hashes = file, step, hashes
        self._seen = sha256()
        left = start % step
        self._grows = file.seek(0, os.SEEK_END) == start
        file.seek(start - left)
        while left and (block := file.read(min(left, BLOCK))):
            self._seen.update(block)
            left -= len(block)

    def write(self, data: memoryview) -> None:
        while data and self.at < self.end:
            chunk_end = min((self.at // self._step + 1) * self._step, self.end)
            part, data = data[: chunk_end - self.at], data[chunk_end - self.at :]
            self._seen.update(part)
            self._file.write(part)
            self.at += len(part)
            if self.at == chunk_end:
                self._judge((self.at - 1) // self._step)

    def _judge(self, number: int) -> None:
        if self._seen.digest() != self._hashes[number]:
            if self._grows:  # else it lies among others, which stay
                self._file.truncate(number * self._step)
            raise _Damaged(number)
        self._seen = sha256()


class _Pace:
    """Holds a reader to ``rate`` bytes a second; 0 does not."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.block = min(BLOCK, max(4096, rate // 4)) if rate else BLOCK
        self._free_at = 0.0

    def wait(self, size: int) -> None:
        if self.rate:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + size / self.rate
            time.sleep(max(0.0, self._free_at - now))
