"""Faults to plant in the code under test, so that it is known that the harness finds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import msgspec
from sqlalchemy import update

from edge_agent.memory import actor
from edge_agent.memory.replica import Replica
from edge_agent.memory.store import Memory
from server.memory import erasure, feeds
from server.memory.access import lock_scope
from server.memory.feeds import Feeds
from server.memory.holds import Holds
from server.store.memory_tables import MEMORY_SCOPES
from shared.memory.feed import change_hash, chunk_of
from shared.protocol import Message, Remember

# What the hub's other threads do while a push is between two transactions; a world says.
BETWEEN: list[Callable[[], None]] = []


def _cursor_first() -> Any:
    """The cursor moves in a transaction of its own, before the records are there."""
    whole = Memory.take

    def take(self: Memory, scope: str, changes: Iterable[Any], stones: Iterable[Any], cursor: int, *, now: int) -> Any:
        whole(self, scope, [], [], cursor, now=now)
        return whole(self, scope, changes, stones, cursor, now=now)

    return patch.object(Memory, "take", take)


def _late_changes() -> Any:
    """The hub takes changes of what was forgotten."""
    whole = Feeds._known

    def known(self: Feeds, *arguments: Any) -> Any:
        found = whole(self, *arguments)
        return {item: dataclasses.replace(one, erased=False) for item, one in found.items()}

    nothing = patch.multiple(feeds, _check_unmoved=lambda *_: None, _stones=lambda *_: [])
    return _both(patch.object(Feeds, "_known", known), nothing)


def _number_outside() -> Any:
    """A push is numbered in one transaction and stored in the next."""
    whole = Feeds._commit

    def commit(self: Feeds, scope: str, outcome: Any, by: str, barred: Any) -> None:
        with self._store.write() as conn:
            seq, _ = lock_scope(conn, scope)
            at = MEMORY_SCOPES.c.scope == scope
            end = seq + sum(len(draft.records) for draft in outcome.drafts)
            conn.execute(update(MEMORY_SCOPES).where(at).values(seq=end))
        for work in BETWEEN:
            work()
        with patch.object(feeds, "lock_scope", lambda conn, of: (seq, lock_scope(conn, of)[1])):
            whole(self, scope, outcome, by, barred)

    return patch.object(Feeds, "_commit", commit)


def _sent_is_kept() -> Any:
    """A change leaves the outbox when it is sent, not when the hub has it."""
    whole = Replica.next

    def after(self: Replica) -> Message | None:
        message = whole(self)
        if isinstance(message, Remember):
            self._memory.mark_sent([change_hash(chunk_of(change)) for change in message.changes])
        return message

    return patch.object(Replica, "next", after)


def _no_truncate() -> Any:
    """The write-ahead log keeps what was erased."""
    return patch.object(Memory, "truncate", lambda self: None)


def _same_actor() -> Any:
    """A restored database goes on under the name it had."""
    return _both(patch.object(Memory, "new_actor", lambda self: None), patch.object(actor, "stale", _nameless))


def _nameless(inside: tuple[bytes, int], _beside: tuple[bytes, int]) -> bool:
    return not inside[0]


def _keeps_the_scope() -> Any:
    """A scope that was taken away stays where it is."""
    return patch.object(Memory, "drop_scope", lambda self, scope: (0, 0))


def _ignores_holds() -> Any:
    """What is held is forgotten all the same."""
    return patch.object(erasure, "held", lambda *_: "")


def _tells_nobody() -> Any:
    """Holds stay at the hub."""
    return patch.object(Holds, "_post", lambda *_: None)


def _shares_its_own() -> Any:
    """A device keeps what is its own alone as its person's."""
    whole = Memory.write

    def write(self: Memory, item: Any, **given: Any) -> str:
        return whole(self, msgspec.structs.replace(item, scope=item.scope.replace("device", "person")), **given)

    return patch.object(Memory, "write", write)


@contextmanager
def _both(*parts: Any) -> Iterator[None]:
    with parts[0], parts[1]:
        yield


BUGS: dict[str, Callable[[], Any]] = {
    "cursor-first": _cursor_first,
    "late-changes": _late_changes,
    "number-outside": _number_outside,
    "sent-is-kept": _sent_is_kept,
    "no-truncate": _no_truncate,
    "same-actor": _same_actor,
    "keeps-the-scope": _keeps_the_scope,
    "ignores-holds": _ignores_holds,
    "tells-nobody": _tells_nobody,
    "shares-its-own": _shares_its_own,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """With the fault in; none where the name is empty."""
    if not name:
        yield
        return
    with BUGS[name]():
        yield
