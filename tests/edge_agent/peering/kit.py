"""Devices of one hub on this computer, each with a store of its own; a real ``PeerServer`` in a thread; requests."""

from __future__ import annotations

import asyncio
import http.client
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec

from edge_agent.config import now_us
from edge_agent.identity import Identity
from edge_agent.models.store import Installed, ModelStore
from edge_agent.peering import PeerServer
from shared import limits
from shared.codec import b64, hex_sha256
from shared.errors import OutriderError
from shared.keys import Envelope, SigningKey
from shared.peering import PROOF_HEADER, TICKET_HEADER, asking_bytes
from shared.release import ModelRef, Release, Ticket, sign
from tests.edge_agent.rig import make_release

HUB = SigningKey(b"h" * 32)
CHUNK = limits.MODEL_CHUNK_BYTES
DATA = random.Random(7).randbytes(4 * CHUNK + 4321)
LIST = b"".join(sha256(DATA[place : place + CHUNK]).digest() for place in range(0, len(DATA), CHUNK))
MODEL = ModelRef("team", "embedder", hex_sha256(DATA), len(DATA), "hub:", chunks=hex_sha256(LIST))
PATIENCE_S = 30.0


def release(*, peers: bool = True, models: tuple[ModelRef, ...] = (MODEL,)) -> Release:
    made = make_release()
    made.manifest = msgspec.structs.replace(made.manifest, models=list(models), peers=peers)
    return made


class Member:
    """A device of the hub; ``hub_url`` is where it would ask."""

    def __init__(self, folder: Path, name: str, hub_url: str = "http://127.0.0.1:9") -> None:
        self.key = SigningKey(secrets.token_bytes(32))
        self.identity = Identity(name, name, f"city/{name}", "city", HUB.public.text, hub_url)
        self.home = folder / name
        self.store = ModelStore(self.home)

    def has(self, data: bytes = DATA, model: ModelRef = MODEL) -> None:
        """Put a file into its store, whatever its bytes."""
        with self.store.installing() as incoming:
            (incoming / "model").write_bytes(data)
            row = Installed(model.name, model.kind, "onnx", model.sha256, model.size, model.source)
            self.store.register(row, incoming / "model")


class Listening:
    """A member's ``PeerServer``, running in a thread until ``stop``."""

    def __init__(self, member: Member, listen: str = "127.0.0.1:0", rate: int = 0) -> None:
        self.member = member
        self.release: Release | None = release()
        self.trusted = True
        self.troubles: list[OutriderError] = []
        self.said: list[str] = []
        self.server = PeerServer(
            member.identity,
            member.key,
            member.store,
            listen,
            release=lambda: self.release,
            trusted=lambda: self.trusted,
            rate=rate,
            now=now_us,
            changed=lambda: self.said.append(self.server.address),
            trouble=self.troubles.append,
        )
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self.server.run())
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    @property
    def address(self) -> str:
        until(lambda: bool(self.server.address))
        return self.server.address

    def connect(self) -> socket.socket:
        host, port = self.address.split(":")
        return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ticket(
    peer: Member, asker: Member, address: str, *, sha256: str = MODEL.sha256, seconds: int = 600, hub: SigningKey = HUB
) -> Envelope:
    """As the hub makes it."""
    return sign(
        Ticket(
            device=peer.identity.device,
            key=peer.key.public.text,
            address=address,
            asker=asker.identity.device,
            asker_key=asker.key.public.text,
            sha256=sha256,
            expires_at=now_us() + seconds * 1_000_000,
        ),
        hub,
    )


def asking(
    sealed: Envelope, key: SigningKey, start: int = 0, end: int = 1000, *, sha256: str = MODEL.sha256, nonce: str = ""
) -> bytes:
    """A request as a device sends it."""
    nonce = nonce or secrets.token_hex(16)
    proof = f"{nonce} {key.sign(asking_bytes(sealed, nonce, start, end)).hex()}"
    return (
        f"GET /models/{sha256} HTTP/1.1\r\nHost: x\r\nRange: bytes={start}-{end - 1}\r\n"
        f"{TICKET_HEADER}: {b64(msgspec.json.encode(sealed))}\r\n{PROOF_HEADER}: {proof}\r\n\r\n"
    ).encode()


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(msgspec.json.decode(self.body)["code"])


def ask(listening: Listening, request: bytes) -> Answer:
    """The whole answer to a request. Status 0 where it was hung up on without one."""
    with listening.connect() as line:
        line.sendall(request)
        return answered(line)


def answered(line: socket.socket) -> Answer:
    response = http.client.HTTPResponse(line)
    try:
        response.begin()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    except (http.client.HTTPException, ConnectionError):
        return Answer(0, {}, b"")
    finally:
        response.close()
