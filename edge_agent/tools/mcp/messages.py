"""What the agent and the worker that holds an MCP session say to each other: one JSON object a line, over pipes.

The library that speaks MCP takes 57 MB and a second to load, so the agent never loads it: a worker process does, from
the first use of a tool set until it has been idle for a while. What a server answers is parsed there too, and the agent
sees only these messages, each bounded in size.
"""

from __future__ import annotations

from typing import Any

import msgspec

LINE_BYTES = 8 * 1024 * 1024  # one message; a server whose descriptions or answers need more is refused
DESCRIPTION_BYTES = 64 * 1024  # one tool's description, canonical
DESCRIPTIONS_BYTES = 2 * 1024 * 1024  # all of one server's
TOOLS = 500  # of one server
PARTS = 20  # of one answer that are no text


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="say"):
    """Base of all of them; ``number`` ties an answer to its question."""


# --- agent to worker ----------------------------------------------------------------------------------------------


class Open(Message, frozen=True, tag="open"):
    """First, and once. A program with its whole environment, or an address with its headers; secrets are in them.
    Descriptions older than ``recheck_s`` are fetched again before a call, whatever the server announces."""

    start_s: float
    recheck_s: float
    result_bytes: int
    command: list[str] = []
    env: dict[str, str] = {}
    cwd: str = ""
    url: str = ""
    headers: dict[str, str] = {}


class List(Message, frozen=True, tag="list"):
    number: int


class Call(Message, frozen=True, tag="call"):
    """``sha256`` is that of the accepted description; ``arguments`` hold decimals as text."""

    number: int
    tool: str
    sha256: str
    arguments: dict[str, Any]
    timeout_s: float


class Cancel(Message, frozen=True, tag="cancel"):
    number: int


# --- worker to agent ----------------------------------------------------------------------------------------------


class Listed(Message, frozen=True, tag="listed"):
    """``descriptions`` are canonical texts, see ``pins``; ``unfit`` names tools that cannot be used, and why."""

    number: int
    descriptions: list[str]
    unfit: dict[str, str]
    server: str
    protocol: str


class Sent(Message, frozen=True, tag="sent"):
    """The call's request is being written now: from here on it may have happened."""

    number: int


class Done(Message, frozen=True, tag="done"):
    """``details`` are JSON-plain, without floats and bounded: they become the receipt."""

    number: int
    details: dict[str, Any]


class Changed(Message, frozen=True, tag="changed"):
    """The call was not sent: the live description is another one than was accepted, or is there no more (empty)."""

    number: int
    description: str


class Failed(Message, frozen=True, tag="failed"):
    """``kind`` is ``BadInput``, ``Refused``, ``NotSent`` or ``Unavailable``. ``over``: the session ended with it."""

    number: int
    kind: str
    code: str
    message: str
    advice: str
    over: bool = False


Down = Open | List | Call | Cancel
Up = Listed | Sent | Done | Changed | Failed

_DOWN: msgspec.json.Decoder[Down] = msgspec.json.Decoder(Down)
_UP: msgspec.json.Decoder[Up] = msgspec.json.Decoder(Up)


def line(message: Message) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def read_down(data: bytes) -> Down:
    return _DOWN.decode(data)


def read_up(data: bytes) -> Up:
    """Raises ``msgspec.DecodeError``."""
    return _UP.decode(data)
