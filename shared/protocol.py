"""The messages of the link, and their one version. Spec page: ``shared/spec/link.md``.

Each message is one WebSocket text frame of JSON with its type in ``t``. Unknown types and fields are refused. Bytes
that were signed or hashed travel as the strings they were, never as structures that would have to be written again.

History of PROTOCOL_VERSION
    1   2026-11-22   first version
    2   2026-11-22   orders about runs; an answer may cover actions like the one asked about, and be one of several
    3   2026-11-22   memory: feeds of scopes, pushed and pulled; tombstones and holds
    4   2026-11-22   stops, told at once and not only when asked; replay of a candidate on a device's own runs
    5   2026-11-22   where a device hands models to those near it
"""

from __future__ import annotations

import msgspec

from shared import limits
from shared.codec import parse
from shared.entries import Body
from shared.errors import KINDS, BadInput, OutriderError, Tampered
from shared.keys import Envelope
from shared.memory.feed import Change, Record, Rejected

PROTOCOL_VERSION = 5


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="t"):
    """Base of every message."""


# --- handshake ----------------------------------------------------------------------------------------------------


class Challenge(_Message, frozen=True, tag="challenge"):
    """Hub, first: sign this. ``nonce`` is 32 random bytes in hex, ``now`` the hub's clock in microseconds."""

    versions: list[int]
    hub: str
    nonce: str
    now: int


class Hello(_Message, frozen=True, tag="hello"):
    """Agent: who it is and where its log stands. ``signature`` is by the link key over ``hello_bytes``."""

    version: int
    device: str
    nonce: str
    size: int
    root: str
    release: int
    software: str
    signature: str


class Welcome(_Message, frozen=True, tag="welcome"):
    """Hub: you are known. ``held`` entries are countersigned already; send from there. ``signature`` is by the hub's
    key over ``welcome_bytes``, so that the agent knows its hub too."""

    held: int
    cursor: int
    signature: str


# --- up -----------------------------------------------------------------------------------------------------------


class Sent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry's exact bytes as text, and its ``shared`` body, absent once erased."""

    data: str
    body: Body | None = None


class Batch(_Message, frozen=True, tag="batch"):
    """Entries from ``start`` on, under one checkpoint (a signed note)."""

    start: int
    entries: list[Sent]
    checkpoint: str


class Pull(_Message, frozen=True, tag="pull"):
    """Agent asks for what lies beyond ``cursor``: answers to its approvals, its assignment and lease, the hub's log.
    ``pinned`` is how many entries of the hub's log it has pinned: the proof in the answer starts there."""

    cursor: int
    pinned: int = 0


class Status(_Message, frozen=True, tag="status", omit_defaults=True):
    """Heartbeat: what the agent runs and how it is. ``waiting`` counts runs that wait for a person, ``stops`` is the
    version of the stops that it obeys, 0 where none ever came, ``peer`` the ``ADDRESS:PORT`` at which it hands models
    to other devices, empty while it does not."""

    release: int
    size: int
    open_runs: int
    waiting: int
    lease_expires_at: int
    stops: int = 0
    peer: str = ""


class Remember(_Message, frozen=True, tag="remember"):
    """Changes of one scope, oldest first, as they were made. One in flight."""

    scope: str
    changes: list[Change]


class Recall(_Message, frozen=True, tag="recall"):
    """Agent asks for what lies beyond its cursors, by scope. With none it asks which scopes there are."""

    cursors: dict[str, int]


class Forget(_Message, frozen=True, tag="forget"):
    """Agent asks for a tombstone; its fields are those of ``Tombstone``. Asking twice with one ``id`` makes one."""

    id: str
    kind: str
    scope: str
    item: str
    subject: str
    salt: str
    run: str
    reason: str


# --- down ---------------------------------------------------------------------------------------------------------


class Accepted(_Message, frozen=True, tag="accepted"):
    """The batch holds; the checkpoint with the hub's cosignature."""

    size: int
    checkpoint: str


class Notice(_Message, frozen=True, tag="notice", omit_defaults=True):
    """Something is new: pull. Notices carry nothing that could be trusted or missed. Where the whole fleet is told at
    once, each device pulls at a moment of its own within ``spread_ms``."""

    topics: list[str]
    spread_ms: int = 0


class Urgent(_Message, frozen=True, tag="urgent"):
    """A signed message that does not wait to be pulled. It comes with every pull as well."""

    message: Envelope


class Pulled(_Message, frozen=True, tag="pulled"):
    """Signed messages in order, the cursor after them, and the hub's own checkpoint with a proof that it extends the
    one of ``since`` entries that the agent pinned."""

    cursor: int
    more: bool
    messages: list[Envelope]
    checkpoint: str
    since: int
    proof: list[str]


class Remembered(_Message, frozen=True, tag="remembered"):
    """What became of a push. ``stored`` are the hashes that are durable here, also those that were before."""

    scope: str
    stored: list[str]
    refused: list[Rejected]


class Recalled(_Message, frozen=True, tag="recalled"):
    """Records of one ``scope`` in order, empty where there is no news, and the cursor after them. ``scopes`` is whole:
    the device's role in each; what is not in it was taken away. ``more`` says to ask again at once."""

    scopes: dict[str, str]
    scope: str
    records: list[Record]
    cursor: int
    more: bool


class Forgotten(_Message, frozen=True, tag="forgotten"):
    """The tombstone stands, and the hub has erased what it had. It comes to every device by its feed."""

    id: str


class Refusal(_Message, frozen=True, tag="refusal"):
    """An error, with its code and advice. ``fatal`` closes the link; ``held`` says where to send from again."""

    kind: str
    code: str
    message: str
    advice: str
    fatal: bool = False
    held: int = -1


Message = (
    Challenge
    | Hello
    | Welcome
    | Batch
    | Pull
    | Status
    | Accepted
    | Notice
    | Urgent
    | Pulled
    | Refusal
    | Remember
    | Remembered
    | Recall
    | Recalled
    | Forget
    | Forgotten
)

_ENCODER = msgspec.json.Encoder()


def encode(message: Message) -> str:
    data = _ENCODER.encode(message)
    if len(data) > limits.MESSAGE_BYTES:
        raise BadInput("link.too-large", f"the message has {len(data)} bytes", advice="send fewer entries at once")
    return data.decode()


def decode(frame: str | bytes) -> Message:
    """Raises ``BadInput('link.message')`` on anything but exactly one known message."""
    if isinstance(frame, bytes) or len(frame) > limits.MESSAGE_BYTES:
        raise BadInput("link.message", "not a text frame within bounds", advice="speak the link protocol")
    return parse(frame, Message, code="link.message", what="the message")  # type: ignore[arg-type]  # a union is a type to msgspec


def hello_bytes(hub: str, challenge_nonce: str, hello: Hello) -> bytes:
    """What a device's link key signs: the hub's name and nonce first, so that no other hub can replay it."""
    parts = [hub, challenge_nonce, str(hello.version), hello.device, hello.nonce, str(hello.size), hello.root]
    return lines("outrider/hello/v1", *parts, str(hello.release), hello.software)


def welcome_bytes(device: str, hello_nonce: str, held: int, cursor: int) -> bytes:
    """What the hub's key signs over the agent's nonce."""
    return lines("outrider/welcome/v1", device, hello_nonce, str(held), str(cursor))


def lines(*parts: str) -> bytes:
    """One part a line. A part with a line break in it could be read as two, so it is never signed nor verified."""
    if any("\n" in part for part in parts):
        raise Tampered(
            "link.line-break", "a signed field holds a line break", advice="do not use it; update the sender"
        )
    return "\n".join(parts).encode()


def refusal(error: OutriderError, *, fatal: bool = False, held: int = -1) -> Refusal:
    return Refusal(type(error).__name__, error.code, error.message, error.advice, fatal, held)


def error_of(message: Refusal) -> OutriderError:
    """The error a peer reported, as ours."""
    kind = KINDS.get(message.kind, BadInput)
    return kind(message.code, message.message, advice=message.advice, where="hub")


# --- enrolment (HTTP) ---------------------------------------------------------------------------------------------


class Join(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/join``: a one-time token's secret and the public keys the device made. The token a person carries is
    ``SECRET.FINGERPRINT``; the fingerprint (``PublicKey.fingerprint``) is the hub's and stays with the device, which
    accepts only an answer signed by that key. Both proofs are signatures over ``join_bytes``, by the key they stand
    for: nobody can enrol a key that is not theirs."""

    version: int
    token: str
    name: str
    log_key: str
    link_key: str
    software: str
    log_proof: str
    link_proof: str


def join_bytes(fingerprint: str, join: Join) -> bytes:
    """What both device keys sign: the fingerprint of the hub that is joined, and everything in the request but the
    proofs themselves."""
    parts = [fingerprint, str(join.version), join.token, join.name, join.log_key, join.link_key, join.software]
    return lines("outrider/join/v1", *parts)


class Joined(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The hub's answer, sealed in an ``Envelope`` for the purpose ``joined``: its name and key, the TUF root to trust
    (text of root.json) and the oldest metadata versions to accept (``timestamp``, ``snapshot``, ``targets``), so that
    an old repository cannot be passed off on a new device. ``origin`` names the device's log."""

    device: str
    hub: str
    hub_key: str
    origin: str
    root: str
    minimum: dict[str, int]
