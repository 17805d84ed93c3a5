"""One document as its changes, and what one client is to be told of it: this side of Automerge's sync protocol.

Life of an exchange. Each side says its heads, and sends a Bloom filter of the changes it has beyond those that both are
known to have (``have``). Each then sends what the other's filter lacks, and all that builds on that. A filter may claim
too much, so whoever is left with a change whose parents are missing asks for these by hash (``need``). Once both have
the same heads, silence. The peers are known to be in order and without loss: a WebSocket, or nothing.

A ``History`` knows hashes, parents and bytes, never what a change says; nobody calls the native library here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shared import limits
from shared.errors import Refused
from shared.memory.repo.bloom import Bloom
from shared.memory.repo.sync import Have, Message


@dataclass(frozen=True)
class Node:
    """A change as the protocol sees it. Hashes are hex, ``deps`` are those of its parents, ``chunk`` its bytes."""

    hash: str
    deps: tuple[str, ...]
    chunk: bytes


class Waiting:
    """Changes whose parents are not here yet, bounded in number and bytes."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, hash_: str) -> Node | None:
        return self._nodes.get(hash_)

    def add(self, node: Node) -> None:
        """Raises ``Refused('repo.pending')`` where too much waits already."""
        if node.hash in self._nodes:
            return
        if len(self._nodes) >= limits.REPO_PENDING or self._bytes + len(node.chunk) > limits.REPO_PENDING_BYTES:
            raise Refused(
                "repo.pending",
                "too many changes build on others that were never sent",
                advice="open the document anew",
            )
        self._nodes[node.hash] = node
        self._bytes += len(node.chunk)

    def ready(self, known: History) -> list[Node]:
        """Take out what can follow on ``known``, parents before children."""
        found: list[Node] = []
        names: set[str] = set()
        grown = True
        while grown:
            grown = False
            for node in list(self._nodes.values()):
                if all(dep in known or dep in names for dep in node.deps):
                    del self._nodes[node.hash]
                    self._bytes -= len(node.chunk)
                    names.add(node.hash)
                    found.append(node)
                    grown = True
        return found


class History:
    """The changes of one document whose parents are all here, parents before children."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self._nodes: dict[str, Node] = {}
        self._heads: set[str] = set()
        self._orphans: dict[str, Node] = {}
        for node in nodes:
            self.add(node)

    def __contains__(self, hash_: str) -> bool:
        return hash_ in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, hash_: str) -> Node:
        return self._nodes[hash_]

    @property
    def heads(self) -> tuple[str, ...]:
        """The changes that nothing builds on, in the order of their hashes."""
        return tuple(sorted(self._heads))

    def add(self, node: Node) -> None:
        """Take a change in, now or once its parents are; a change that is here already makes no difference."""
        if node.hash in self._nodes:
            return
        self._orphans[node.hash] = node
        grown = all(dep in self._nodes for dep in node.deps)
        while grown:
            grown = False
            for waiting in list(self._orphans.values()):
                if all(dep in self._nodes for dep in waiting.deps):
                    del self._orphans[waiting.hash]
                    self._nodes[waiting.hash] = waiting
                    self._heads -= set(waiting.deps)
                    self._heads.add(waiting.hash)
                    grown = True

    def since(self, heads: Iterable[str]) -> list[str]:
        """The changes that are neither among ``heads`` nor what these build on, parents first. Unknown heads count
        for nothing."""
        asked = set(heads)
        if self._heads <= asked:  # the usual case, and a long history need not be walked for it
            return []
        known = self.ancestors(asked)
        return [hash_ for hash_ in self._nodes if hash_ not in known]

    def ancestors(self, heads: Iterable[str]) -> set[str]:
        """The known ones of ``heads``, and all that they build on."""
        found: set[str] = set()
        stack = [head for head in heads if head in self._nodes]
        while stack:
            hash_ = stack.pop()
            if hash_ not in found:
                found.add(hash_)
                stack.extend(self._nodes[hash_].deps)
        return found


class Peer:
    """What one client has of one document, as far as is known, and what it is to be told next."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.waiting = Waiting()
        self._shared: tuple[str, ...] = ()  # heads that both sides have
        self._theirs: Message | None = None  # the last that it said
        self._sent: set[str] = set()
        self._said: tuple[str, ...] | None = None  # our heads as it last heard them
        self._in_flight = False

    def fresh(self, nodes: Iterable[Node]) -> list[Node]:
        """Those of a message's changes that can be taken now, parents first, with what waited for them. The rest waits.

        Raises ``Refused('repo.pending')``. Whoever calls adds to the history what the hub has kept.
        """
        for node in nodes:
            if node.hash not in self._history:
                self.waiting.add(node)
        return self.waiting.ready(self._history)

    def received(self, message: Message) -> None:
        """Note what a message says, once its changes are in the history."""
        self._in_flight = False
        self._theirs = message
        if message.reset:
            self._sent.clear()
        known = tuple(head for head in message.heads if head in self._history)
        if self._sent:
            self._sent -= self._history.ancestors(known)
        if len(known) == len(message.heads):
            self._shared = message.heads
            if not message.heads:  # it has lost everything, or never had anything
                self._said = None if self._said is None else ()
                self._sent.clear()
        else:
            self._shared = tuple(sorted({*self._shared, *known}))

    def next(self) -> Message | None:
        """What to tell the client now; ``None`` where there is nothing new, or it has not answered yet."""
        heads, theirs = self._history.heads, self._theirs
        need = self._missing(theirs.heads) if theirs else ()
        if theirs and theirs.have and any(head not in self._history for head in theirs.have[0].last_sync):
            return Message(heads=heads, have=(Have(),))  # it remembers another hub: begin again
        send = [hash_ for hash_ in self._to_send(theirs) if hash_ not in self._sent] if theirs else []
        if heads == self._said and (self._in_flight or (not send and theirs is not None and theirs.heads == heads)):
            return None
        have: tuple[Have, ...] = ()
        if theirs is None or set(need) <= set(theirs.heads):
            have = (Have(self._shared, Bloom.of(self._history.since(self._shared))),)
        self._said = heads
        self._sent.update(send)
        self._in_flight = True
        return Message(heads, need, have, tuple(self._history[hash_].chunk for hash_ in send))

    def _missing(self, heads: Iterable[str]) -> tuple[str, ...]:
        """What is not here of these, and of what waits: the hashes to ask for."""
        missing: set[str] = set()
        seen: set[str] = set()
        stack = list(heads)
        while stack:
            hash_ = stack.pop()
            if hash_ in seen or hash_ in self._history:
                continue
            seen.add(hash_)
            waiting = self.waiting.get(hash_)
            if waiting is None:
                missing.add(hash_)
            else:
                stack.extend(waiting.deps)
        return tuple(sorted(missing))

    def _to_send(self, theirs: Message) -> Iterator[str]:
        if theirs.read_only:
            return
        asked = [hash_ for hash_ in dict.fromkeys(theirs.need) if hash_ in self._history]
        if not theirs.have:
            yield from asked
            return
        lacking: set[str] = set()
        for hash_ in self._history.since(head for have in theirs.have for head in have.last_sync):
            # parents come first, so one look at them finds all that builds on what the client lacks
            if not any(have.bloom.has(hash_) for have in theirs.have) or any(
                dep in lacking for dep in self._history[hash_].deps
            ):
                lacking.add(hash_)
        lacking.update(asked)
        if not lacking:
            return
        yield from (hash_ for hash_ in self._history.since(()) if hash_ in lacking)
