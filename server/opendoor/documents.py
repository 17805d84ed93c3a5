"""The documents that are open: one history each, whoever has it open, fed from the team's feed.

A history is a cache of the feed, made when the first client opens a document and dropped with the last. What a client
writes goes into the feed first, and comes into the history from there, so that nobody is told of what is not kept.
All of this blocks and is called in threads; ``lock`` keeps one document to one thread at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from shared import limits
from shared.errors import BadInput, OutriderError, Refused
from shared.memory import feed
from shared.memory.chunks import operations, read_change
from shared.memory.feed import Change, Rejected
from shared.memory.repo.editing import check_edit
from shared.memory.repo.peer import History, Node, Peer
from shared.memory.repo.sync import Message
from shared.memory.screen import screen


class Outcome(Protocol):
    """What became of a push: ``shared.protocol.Remembered``."""

    @property
    def refused(self) -> list[Rejected]: ...


class Keeper(Protocol):
    """What is asked of the hub's memory. ``chunks`` gives an item's changes as the feed has them, without the first
    ``skip``, none where it has none or they were erased; ``push`` screens and keeps changes of ``by``."""

    def chunks(self, scope: str, item: str, skip: int = 0) -> list[bytes]: ...

    def push(self, scope: str, changes: Sequence[Change], *, by: str) -> Outcome: ...


class Document:
    """One open document. ``clients`` is how many have it open."""

    def __init__(self, keeper: Keeper, scope: str, item: str) -> None:
        self._keeper = keeper
        self.scope = scope
        self.item = item
        self.clients = 0
        self.lock = threading.Lock()
        self.history = History()
        self._read = 0  # changes of the feed that are in the history

    def refresh(self) -> None:
        """Take in what is new in the feed. Hold ``lock``. Raises ``Refused('door.gone')`` where it was erased."""
        known = min(self._read, 1)  # the newest that is known is asked for again: it is gone where all is
        chunks = self._keeper.chunks(self.scope, self.item, self._read - known)
        if not chunks:
            raise Refused("door.gone", "the document is not there any more", advice="ask the team what became of it")
        for chunk in chunks[known:]:
            self.history.add(_node(chunk))
            self._read += 1

    def take(self, peer: Peer, message: Message, by: str) -> None:
        """Keep what a client's message brings, and note what it says. Hold ``lock``.

        Raises the first error that a change meets; what came before it is kept, and nothing after it.
        """
        nodes = []
        for chunk in message.changes:
            parsed = screen(chunk)
            check_edit(operations(parsed.raw))
            nodes.append(Node(parsed.hash, parsed.deps, parsed.raw))
        fresh = peer.fresh(nodes)
        for part in _parts(fresh):
            self._push(part, by)
        if fresh:
            self.refresh()
        peer.received(message)

    def _push(self, nodes: list[Node], by: str) -> None:
        told = self._keeper.push(self.scope, [feed.change(self.item, node.chunk) for node in nodes], by=by)
        for rejected in told.refused:
            raise _refused(rejected.code)


def _refused(code: str) -> OutriderError:
    return Refused(code, "the hub does not take the change", advice="open the document anew; the code says why")


def _node(chunk: bytes) -> Node:
    parsed = read_change(chunk)
    return Node(parsed.hash, parsed.deps, parsed.raw)


def _parts(nodes: list[Node]) -> list[list[Node]]:
    """Pieces that a push may have."""
    parts: list[list[Node]] = []
    size = 0
    for node in nodes:
        length = 4 * len(node.chunk) // 3 + 4
        if not parts or len(parts[-1]) >= limits.MEMORY_BATCH or size + length > limits.MEMORY_BATCH_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(node)
        size += length
    return parts


class Documents:
    """The open ones, by scope and item. At most ``clients`` have one document open at a time."""

    def __init__(self, keeper: Keeper, *, clients: int) -> None:
        self._keeper = keeper
        self._most = clients
        self._open: dict[tuple[str, str], Document] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, scope: str, item: str) -> Document:
        """Join those who have it open, or open it. ``close`` it in the end. Raises ``Refused('door.full' |
        'door.gone')``."""
        with self._lock:
            document = self._open.setdefault((scope, item), Document(self._keeper, scope, item))
            if document.clients >= self._most:
                raise Refused("door.full", "too many have the document open", advice="try again later")
            document.clients += 1
        try:
            with document.lock:
                document.refresh()
        except BaseException:
            self.close(document)
            raise
        return document

    def close(self, document: Document) -> None:
        with self._lock:
            document.clients -= 1
            if document.clients == 0 and self._open.get((document.scope, document.item)) is document:
                del self._open[document.scope, document.item]


def expect_bytes(frame: bytes | None) -> bytes:
    """A client's frame. Raises ``BadInput('repo.message')`` where it is text or nothing."""
    if not frame:
        raise BadInput("repo.message", "a frame is text or empty", advice="speak the automerge-repo protocol")
    return frame
