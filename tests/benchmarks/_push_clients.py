"""Thousands of clients in one process, for ``push.py``; those of ``kill_switch.py`` are made of them. As little of a
WebSocket as will do, so that what is measured is the server. Masks are zeros, which the protocol allows and which
cost nothing.

Started with the server's address, how many, and what they speak: ``hub`` (the link's handshake, by keys made from their
numbers), ``bare`` (nothing: they listen) or ``opal`` (a subscription). Then it is told by lines: ``ROUND N`` waits
until N messages have come and answers with the nanoseconds of each, by the clock that all processes share.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import struct
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from shared.keys import SigningKey
from shared.protocol import PROTOCOL_VERSION, Challenge, Hello, decode, encode, hello_bytes
from shared.tlog import Frontier

AT_ONCE = 64
PATIENCE_S = 120.0
ROOT = Frontier().root().hex()
SUBSCRIBE = {"request": {"method": "subscribe", "arguments": {"topics": ["policy_data"]}, "call_id": "1"}}
PATHS = {"hub": "/link", "bare": "/", "opal": "/ws"}
WANTED = {"hub": b'"notice"', "bare": b'"notice"', "opal": b'"notify"'}


def device(number: int) -> str:
    return f"d-bench{number:05}"


def link_key(number: int) -> SigningKey:
    return SigningKey(hashlib.sha256(f"bench {number}".encode()).digest())


def frame(payload: bytes, opcode: int = 1) -> bytes:
    size = len(payload)
    head = bytes((0x80 | opcode, 0x80 | size)) if size < 126 else struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    return head + bytes(4) + payload


class Client(asyncio.Protocol):
    def __init__(self, number: int, kind: str, host: str, times: list[int], arrived: asyncio.Event) -> None:
        self._number, self._kind, self._host = number, kind, host
        self._times, self._arrived = times, arrived
        self._buffer = b""
        self._open = False
        self.ready = asyncio.get_running_loop().create_future()
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(
            f"GET {PATHS[self._kind]} HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"{self._number}: {self._buffer[:200]!r}"))

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter_ns()
        self._buffer += data
        if not self._open:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self._transport.close()
                return
            self._open, self._buffer = True, rest
            self._greet()
        while (taken := self._take()) is not None:
            self._hear(*taken, now)

    def _take(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 127, 2
        if size == 126:
            if len(buffer) < 4:
                return None
            size, start = int.from_bytes(buffer[2:4], "big"), 4
        elif size == 127:
            if len(buffer) < 10:
                return None
            size, start = int.from_bytes(buffer[2:10], "big"), 10
        if len(buffer) < start + size:
            return None
        self._buffer = buffer[start + size :]
        return buffer[0] & 15, buffer[start : start + size]

    def _greet(self) -> None:
        if self._kind == "opal":
            self._transport.write(frame(json.dumps(SUBSCRIBE).encode()))
        elif self._kind == "bare":
            self.ready.set_result(None)

    def _hear(self, opcode: int, payload: bytes, now: int) -> None:
        if opcode == 9:
            self._transport.write(frame(payload, 10))
        elif opcode == 1 and self._kind == "opal" and b'"call_id"' in payload and b'"method"' in payload:
            self._answer(payload, now)
        elif opcode == 1 and self.ready.done():
            self.told(payload, now)
        elif opcode == 1 and self._kind == "hub" and b'"challenge"' in payload:
            self._transport.write(frame(self._hello(payload)))
        elif opcode == 1 and b'"refusal"' in payload:
            self.ready.set_exception(ConnectionError(payload.decode()))
        elif opcode == 1:
            self.ready.set_result(None)

    def _answer(self, payload: bytes, now: int) -> None:
        """OPAL's server calls its clients, and each says that it has heard."""
        asked = json.loads(payload)["request"]
        if asked["method"] == "notify":
            self.told(payload, now)
        said = {"response": {"call_id": asked["call_id"], "result": f"bench-{self._number}", "result_type": "str"}}
        self._transport.write(frame(json.dumps(said).encode()))

    def told(self, payload: bytes, now: int) -> None:
        """A message that comes once it is ready."""
        if WANTED[self._kind] in payload:
            self._times.append(now)
            self._arrived.set()

    def _hello(self, payload: bytes) -> bytes:
        asked = decode(payload.decode())
        assert isinstance(asked, Challenge)
        hello = Hello(PROTOCOL_VERSION, device(self._number), "00" * 32, 0, ROOT, 0, "bench", "")
        signature = link_key(self._number).sign(hello_bytes(asked.hub, asked.nonce, hello)).hex()
        fields = {name: getattr(hello, name) for name in hello.__struct_fields__} | {"signature": signature}
        return encode(Hello(**fields)).encode()


async def main(address: str, count: int, kind: str) -> None:
    host, _, port = address.partition(":")
    times: list[int] = []
    arrived, gate, loop = asyncio.Event(), asyncio.Semaphore(AT_ONCE), asyncio.get_running_loop()

    async def one(number: int) -> Client:
        async with gate, asyncio.timeout(PATIENCE_S):
            _, client = await loop.create_connection(
                lambda: Client(number, kind, address, times, arrived), host, int(port)
            )
            await client.ready
            return client

    began = time.perf_counter()
    clients = await asyncio.gather(*(one(number) for number in range(count)))
    print(json.dumps({"connected": len(clients), "s": time.perf_counter() - began}), flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().split():
        wanted = int(line[1])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while len(times) < wanted:
                    arrived.clear()
                    await arrived.wait()
        print(json.dumps({"times": times, "lost": sum(client.lost for client in clients)}), flush=True)
        times.clear()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
