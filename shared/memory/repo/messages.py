"""What two repositories of automerge-repo say to each other, protocol version "1": one CBOR mapping to a message.

    client  {type: "join", senderId, peerMetadata, supportedProtocolVersions: ["1"]}
    hub     {type: "peer", senderId, targetId, peerMetadata, selectedProtocolVersion: "1"}
    either  {type: "sync", senderId, targetId, documentId, data}       data: a message of the sync protocol (``sync``)
    client  {type: "request", ...}                                     as sync, where it does not have the document yet
    either  {type: "doc-unavailable", senderId, targetId, documentId}
    hub     {type: "error", senderId, targetId, message}
    client  {type: "leave", senderId}

Whatever else a client sends (``ephemeral`` for presence, ``remote-heads-changed`` and their like) is read and passed
over: it concerns other clients, and this hub passes nothing between clients that is not in its record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared import limits
from shared.errors import BadInput, Refused
from shared.memory.repo import cbor

VERSION = "1"


@dataclass(frozen=True)
class Join:
    """``sender`` is the name that the client gives itself; it proves nothing."""

    sender: str


@dataclass(frozen=True)
class Sync:
    sender: str
    document: str
    data: bytes


@dataclass(frozen=True)
class Unavailable:
    sender: str
    document: str


@dataclass(frozen=True)
class Leave:
    pass


@dataclass(frozen=True)
class Passed:
    """A message of a kind that is passed over."""


FromClient = Join | Sync | Unavailable | Leave | Passed


def decode(data: bytes) -> FromClient:
    """Read what a client sent. Raises ``BadInput('repo.cbor' | 'repo.message')``, and ``Refused('repo.version')`` where
    it does not speak version 1."""
    said = cbor.decode(data)
    if not isinstance(said, dict):
        raise _bad("it is no mapping")
    match said.get("type"):
        case "join":
            versions = said.get("supportedProtocolVersions")
            if versions is not None and not (isinstance(versions, list) and VERSION in versions):
                raise Refused("repo.version", "the client does not speak version 1", advice="use automerge-repo 1 or 2")
            return Join(_name(said, "senderId"))
        case "sync" | "request":
            inner = said.get("data")
            if not isinstance(inner, bytes):
                raise _bad("its data are no bytes")
            return Sync(_name(said, "senderId"), _name(said, "documentId"), inner)
        case "doc-unavailable":
            return Unavailable(_name(said, "senderId"), _name(said, "documentId"))
        case "leave":
            return Leave()
        case str():
            return Passed()
    raise _bad("it has no type")


def peer(sender: str, target: str) -> bytes:
    """The answer to a join. ``isEphemeral`` keeps clients from storing what they believe this hub has."""
    return cbor.encode(
        {
            "type": "peer",
            "senderId": sender,
            "targetId": target,
            "peerMetadata": {"isEphemeral": True},
            "selectedProtocolVersion": VERSION,
        }
    )


def sync(sender: str, target: str, document: str, data: bytes) -> bytes:
    return cbor.encode({"type": "sync", "senderId": sender, "targetId": target, "documentId": document, "data": data})


def unavailable(sender: str, target: str, document: str) -> bytes:
    return cbor.encode({"type": "doc-unavailable", "senderId": sender, "targetId": target, "documentId": document})


def error(sender: str, target: str, message: str) -> bytes:
    return cbor.encode({"type": "error", "senderId": sender, "targetId": target, "message": message})


def _name(said: dict[str, Any], field: str) -> str:
    name = said.get(field)
    if not isinstance(name, str) or not 0 < len(name) <= limits.REPO_NAME_CHARS:
        raise _bad(f"{field} is no name")
    return name


def _bad(said: str) -> BadInput:
    return BadInput("repo.message", f"a message does not read: {said}", advice="speak the automerge-repo protocol")
