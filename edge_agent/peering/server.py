"""The listener: one kind of request, judged before anything is read from the disk, and answered in blocks.

It is open only while the release in force lets devices hand models to each other. Whoever connects has a few seconds
to say what is wanted, in a few kilobytes; connections, downloads and the time to take a block are all bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from edge_agent.identity import Identity
from edge_agent.models.pace import Pace
from edge_agent.models.store import ModelStore
from edge_agent.peering import requests
from edge_agent.peering.requests import Asked
from shared import limits
from shared.errors import BadInput, OutriderError, Refused, Unavailable
from shared.keys import SigningKey
from shared.peering import PROOF_HEADER, Address, answering_bytes, read_address, write_address
from shared.release import Release

_LOOK_S = 1.0  # between two looks at the release in force
_AGAIN_S = 30.0  # before an address that cannot be listened on is tried again
_ASK_S = 10.0  # for a request to come, and for a short answer to go
_GAP_S = 5.0  # beside what a block takes at the least speed
_BLOCK = 256 * 1024
_NONCES = 4096  # remembered; one for each request that was rightly asked for, until its ticket ends
_STATUS = {
    "peer.range": "416 Range Not Satisfiable",
    "model.missing": "404 Not Found",
    "peer.busy": "503 Service Unavailable",
}
_OF_KIND: dict[type[OutriderError], str] = {BadInput: "400 Bad Request", Unavailable: "404 Not Found"}


class PeerServer:
    """Hands out models at ``listen``, ``ADDRESS:PORT`` (``shared.peering.read_address``) or empty for nowhere, while
    ``release``, the one in force, lets it and the hub has not let this device go (``trusted``). ``changed`` is told
    when ``address`` changes: where it can be reached now, empty for nowhere. ``rate`` bounds all downloads together,
    in bytes a second; 0 does not. Raises ``BadInput('peer.address')``."""

    def __init__(
        self,
        identity: Identity,
        key: SigningKey,
        store: ModelStore,
        listen: str,
        *,
        release: Callable[[], Release | None],
        trusted: Callable[[], bool],
        rate: int,
        now: Callable[[], int],
        changed: Callable[[], None],
        trouble: Callable[[OutriderError], None],
    ) -> None:
        self._identity = identity
        self._key = key
        self._store = store
        self._where = read_address(listen) if listen else None
        self._release = release
        self._trusted = trusted
        self._pace = Pace(rate)
        self._now = now
        self._changed = changed
        self._trouble = trouble
        self._connections: set[asyncio.Task[None]] = set()
        self._nonces: dict[str, int] = {}
        self._downloads = 0
        self.address = ""
        self._sent_bytes = 0

    def status(self) -> dict[str, Any]:
        """Whether it is to listen, where it does now, and how many bytes went out since the start; JSON-plain."""
        return {"on": self._where is not None, "address": self.address, "sent_bytes": self._sent_bytes}

    async def run(self) -> None:
        """Until cancelled."""
        while self._where is not None:
            if self._open():
                await self._listen(*self._where)
            await asyncio.sleep(_LOOK_S)

    def _open(self) -> Release | None:
        """The release in force, if it lets devices hand models to each other."""
        try:
            release = self._release() if self._trusted() else None
        except OutriderError:
            return None  # whoever puts releases into force tells of it
        return release if release is not None and release.manifest.peers else None

    async def _listen(self, host: Address, port: int) -> None:
        try:
            server = await asyncio.start_server(self._attend, str(host), port, limit=limits.PEER_HEAD_BYTES)
        except OSError as error:
            said = f"cannot listen on {write_address(host, port)}: {error.strerror or error}"
            advice = "correct OUTRIDER_PEER_LISTEN: an address of this computer, and a free port"
            self._trouble(Unavailable("peer.port", said, advice=advice))
            await asyncio.sleep(_AGAIN_S)
            return
        self._say(write_address(host, server.sockets[0].getsockname()[1]))
        try:
            while self._open():  # noqa: ASYNC110 - a release has no event for it
                await asyncio.sleep(_LOOK_S)
        finally:
            server.close()
            self._say("")
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _say(self, address: str) -> None:
        self.address = address
        self._changed()

    # --- one connection -------------------------------------------------------------------------------------------

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request and its answer."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if len(self._connections) <= limits.PEER_CONNECTIONS:
                with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                    await self._serve(reader, writer)
        finally:
            self._connections.discard(task)
            writer.transport.abort()  # whoever does not read what is left may not hold it here

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_ASK_S):
                head = await self._head(reader)
            await self._hand_out(requests.read(head), writer)
        except OutriderError as error:
            writer.write(_refusal(error))
        async with asyncio.timeout(_ASK_S):
            writer.close()
            await writer.wait_closed()

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise BadInput("peer.request", "the request is too long", advice="see the page on the link") from error

    async def _hand_out(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        ticket = requests.judge(asked, self._identity.hub_public, self._identity.device, self._now())
        self._use_once(asked.nonce, ticket.expires_at)
        path, size = await asyncio.to_thread(self._find, asked.sha256)
        if not asked.start < asked.end <= size:
            raise BadInput("peer.range", f"the model has {size} bytes", advice="ask for bytes that it has")
        if self._downloads >= limits.PEER_DOWNLOADS:
            raise Unavailable("peer.busy", "as many as may are fetching from here", advice="ask another, or the hub")
        self._downloads += 1
        try:
            with await asyncio.to_thread(path.open, "rb") as file:
                writer.write(self._heading(asked, size))
                await self._send(file, asked, writer)
        finally:
            self._downloads -= 1

    def _use_once(self, nonce: str, until: int) -> None:
        """Whoever listened in cannot ask again with what was asked."""
        now = self._now()
        self._nonces = {one: end for one, end in self._nonces.items() if end >= now}
        if nonce in self._nonces:
            raise Refused("peer.replayed", "this was asked before", advice="sign a new request")
        if len(self._nonces) >= _NONCES:
            raise Unavailable("peer.busy", "too much was asked lately", advice="ask another, or the hub")
        self._nonces[nonce] = until

    def _find(self, sha256: str) -> tuple[Path, int]:
        """In a thread. The bytes are not hashed here: whoever gets them does that."""
        release = self._open()
        if release is None or release.permitted(sha256) is None:
            raise Refused("peer.policy", "the release here does not let it", advice="ask the hub")
        row = self._store.by_hash(sha256)
        return self._store.folder / row.file, row.size

    def _heading(self, asked: Asked, size: int) -> bytes:
        signed = answering_bytes(asked.ticket, asked.nonce, asked.start, asked.end)
        return _head(
            "206 Partial Content",
            asked.end - asked.start,
            f"Content-Range: bytes {asked.start}-{asked.end - 1}/{size}",
            f"{PROOF_HEADER}: {self._key.sign(signed).hex()}",
        )

    async def _send(self, file: BinaryIO, asked: Asked, writer: asyncio.StreamWriter) -> None:
        """The bytes, as fast as they are taken; an end without them all where the file is shorter than it was."""
        left = asked.end - asked.start
        file.seek(asked.start)
        while left and (block := await asyncio.to_thread(file.read, min(left, _BLOCK, self._pace.block))):
            writer.write(block)
            async with asyncio.timeout(_GAP_S + len(block) / limits.PEER_LEAST_BYTES_S):
                await writer.drain()
            left -= len(block)
            self._sent_bytes += len(block)
            await asyncio.sleep(self._pace.owed(len(block)))


def _head(status: str, length: int, *more: str) -> bytes:
    fields = [f"HTTP/1.1 {status}", f"Content-Length: {length}", "Connection: close", *more]
    return ("\r\n".join(fields) + "\r\n\r\n").encode()


def _refusal(error: OutriderError) -> bytes:
    status = _STATUS.get(error.code) or _OF_KIND.get(type(error), "403 Forbidden")
    body = msgspec.json.encode({"code": error.code, "message": error.message, "advice": error.advice})
    return _head(status, len(body), "Content-Type: application/json") + body
