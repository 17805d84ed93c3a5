"""Models that the hub itself hands out: the file of a release whose source is ``hub:``.

The bytes lie among the repository's targets, under their own hash, with a chunk list beside them (``shared.chunks``).
Each chunk is judged when it is whole: a damaged one is asked for again, and not the file. A connection that breaks is
taken up again where it broke, in the same minute or after a restart, by asking for the rest. Nothing is believed but
the hashes that the release lists; a model whose release names no chunk list is one chunk.

Other devices may have the bytes too (``edge_agent.models.peers``). They are asked first, and for whole chunks only;
what is wrong with one of them costs time and nothing else, because the hub is asked for all that is then missing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Protocol

import urllib3

from edge_agent.models.fetch import Progress, Report, _silent
from edge_agent.models.fit import form
from edge_agent.models.pace import Pace
from edge_agent.models.store import BLOCK, Installed, ModelStore, disk_error, file_sha256
from shared import chunks, limits
from shared.errors import Tampered, Unavailable
from shared.release import ModelRef

SOURCE = "hub:"
_log = logging.getLogger("outrider.models")
_CONNECT_S, _GAP_S = 10.0, 20.0
_LEAST_BYTES_S = 16 * 1024  # a hub slower than that over a whole chunk is given up on
_TRIES = 3  # for one chunk
_AGAIN = "it goes on where it stopped when the agent tries again"
_TELL = "tell the administrator; nothing damaged was kept"


class Broken(Exception):
    """A source brings no more, and why."""


class Source(Protocol):
    """Who sends a model's file. Whoever sends less than ``least`` bytes a second is given up on."""

    name: str
    pace: Pace
    least: int

    def ask(self, start: int, end: int) -> urllib3.BaseHTTPResponse:
        """An answer with these bytes of the file (206), or with the whole file (200). Raises ``Broken``."""
        ...


Peers = Callable[[ModelRef], Sequence[Source]]


def nobody(_: ModelRef) -> Sequence[Source]:
    """Who else has a model, where nobody is asked."""
    return ()


def add_from_hub(
    store: ModelStore, hub: str, model: ModelRef, *, rate_kb: int = 0, report: Report = _silent, peers: Peers = nobody
) -> Installed:
    """Fetch the model from the hub at the base URL ``hub`` and register it. ``rate_kb`` bounds it, in KiB a second; 0
    does not. Whatever ``report`` raises breaks it off; what has come is kept. ``peers`` says who else has it.

    Raises ``Unavailable('model.fetch' | 'model.disk')``, ``Tampered('model.hash' | 'model.chunk' | 'chunks.hash')``,
    ``Conflict('model.locked')``.
    """
    with store.installing():  # one fetch at a time, so that no two write the same part
        part = store.folder / f".part-{model.sha256}"
        pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=_CONNECT_S, read=_GAP_S))
        try:
            _Download(_Hub(pool, hub, model, Pace(rate_kb * 1024)), model, part, report).run(peers)
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


def get(pool: urllib3.PoolManager, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
    """An answer whose body is still to be read, as it was sent. Raises ``Broken`` for one without."""
    # Identity: an answer must not be able to grow after it was counted.
    headers = {"Accept-Encoding": "identity", **headers}
    try:
        answer = pool.request("GET", url, preload_content=False, redirect=False, headers=headers)
    except urllib3.exceptions.HTTPError as error:
        raise Broken(str(error)) from error
    if answer.status not in (200, 206):
        answer.close()
        raise Broken(f"it answered with status {answer.status}")
    return answer


class _Hub:
    """The hub as a source, and the only one of the chunk list."""

    name, least = "the hub", _LEAST_BYTES_S

    def __init__(self, pool: urllib3.PoolManager, hub: str, model: ModelRef, pace: Pace) -> None:
        self._pool, self._base, self._model, self.pace = pool, f"{hub.rstrip('/')}/tuf/targets/models", model, pace

    def ask(self, start: int, end: int) -> urllib3.BaseHTTPResponse:
        whole = (start, end) == (0, self._model.size)
        url = f"{self._base}/{self._model.sha256}.{self._model.name}"
        return get(self._pool, url, {} if whole else {"Range": f"bytes={start}-{end - 1}"})

    def chunk_list(self) -> list[bytes]:
        size = chunks.list_bytes(self._model.size)
        answer = get(self._pool, f"{self._base}/{self._model.chunks}.{self._model.name}.chunks", {})
        try:
            data = answer.read(size + 1, decode_content=False)
        except urllib3.exceptions.HTTPError as error:
            raise Broken(str(error)) from error
        finally:
            answer.close()
        return chunks.read_list(data, self._model.size, self._model.chunks)


class _Damaged(Exception):
    """The chunk of this number has other bytes than it must have; they are no longer in the file."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Download:
    """One file on its way into ``part``, whose length says how far it has come."""

    def __init__(self, hub: _Hub, model: ModelRef, part: Path, report: Report) -> None:
        self._hub, self._model, self._part, self._report = hub, model, part, report
        self._step = limits.MODEL_CHUNK_BYTES if model.chunks else model.size
        self._hashes = [bytes.fromhex(model.sha256)]

    def run(self, peers: Peers) -> None:
        try:
            if self._model.chunks:
                self._hashes = self._hub.chunk_list()
            self._part.touch(mode=0o600)
            if self._have() > self._model.size:
                os.truncate(self._part, 0)
            if self._model.chunks and self._have() < self._model.size:
                self._from(peers(self._model))
            while self._have() < self._model.size:
                self._further()
            if file_sha256(self._part) != self._model.sha256:
                self._mend()
        except Broken as broken:
            said = f"{self._model.name} could not be fetched from the hub: {str(broken)[:200]}"
            raise Unavailable("model.fetch", said, advice=_AGAIN) from broken

    def _have(self) -> int:
        return self._part.stat().st_size

    def _from(self, peers: Sequence[Source]) -> None:
        """What peers bring, in turn. What one leaves of a chunk is thrown away: the next must not answer for it."""
        for peer in peers:
            have = self._cut()
            if have == self._model.size:
                return
            try:
                self._bring(peer, have, self._model.size)
            except (Broken, _Damaged) as error:
                why = str(error) if isinstance(error, Broken) else f"chunk {error.number} is damaged"
                _log.info("%s brings no more of %s: %s", peer.name, self._model.name, why)
            finally:
                self._cut()

    def _cut(self) -> int:
        """Keep whole chunks only; how many bytes they are."""
        have = self._have()
        if have < self._model.size:
            have -= have % self._step
            os.truncate(self._part, have)
        return have

    def _further(self) -> None:
        """The rest of the file, or as much of it as one connection brings: at least a chunk, or it is given up."""
        have = self._have()
        try:
            self._bring(self._hub, have, self._model.size)
        except Broken:
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
                self._bring(self._hub, start, min(start + self._step, self._model.size))
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

    def _bring(self, source: Source, start: int, end: int) -> None:
        """The bytes from ``start`` up to ``end`` into the part, each chunk judged when it is whole."""
        answer = source.ask(start, end)
        skip = start if answer.status == 200 else 0  # a server without ranges sends everything
        try:
            with self._part.open("r+b") as file:
                self._take(source, answer, _Sink(file, start, end, self._step, self._hashes), skip)
                file.flush()
                os.fsync(file.fileno())
        except urllib3.exceptions.HTTPError as error:
            raise Broken(str(error)) from error
        finally:
            answer.close()

    def _take(self, source: Source, answer: urllib3.BaseHTTPResponse, sink: _Sink, skip: int) -> None:
        patience = _GAP_S + limits.MODEL_CHUNK_BYTES / min(source.least, source.pace.rate // 2 or source.least)
        since, came = time.monotonic(), 0  # of this chunk's worth of bytes
        while sink.at < sink.end:
            # read1 returns what has come; read would wait for a full block and could be dripped on past the deadline.
            block = answer.read1(source.pace.block, decode_content=False)
            if not block:
                raise Broken(f"it broke off after {sink.at} of {self._model.size} bytes")
            skipped = min(skip, len(block))
            skip -= skipped
            sink.write(memoryview(block)[skipped:])
            self._report(Progress("download", sink.at, self._model.size))
            time.sleep(source.pace.owed(len(block)))
            came += len(block)
            if time.monotonic() - since > patience:
                raise Broken("it sent too slowly")
            if came >= limits.MODEL_CHUNK_BYTES:
                since, came = time.monotonic(), 0


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
