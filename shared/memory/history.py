"""The graph of a document's changes, and whether a new one fits into it.

Automerge counts: a change is the next of its actor, its operations are numbered on from the highest that its writer had
seen, and it is about operations that its writer had seen. Whoever counts otherwise can make a document that nobody can
write to any more, or that breaks when an honest change arrives later. So that is checked here for every new change.
Spec page: ``shared/spec/memory.md``, section Screening.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping

import msgspec

from shared.errors import Conflict, Tampered
from shared.memory.chunks import ParsedChange, references
from shared.memory.columns import hostile


class Known(msgspec.Struct, frozen=True):
    """One change of a document. Hashes are bytes, ``deps`` those it was made upon; operations are START to LAST."""

    actor: bytes
    seq: int
    start_op: int
    last_op: int
    deps: tuple[bytes, ...]


Graph = Mapping[bytes, Known]


def check_history(graph: Graph, new: Iterable[ParsedChange]) -> None:
    """Judge new changes against the graph that has them applied: by hash, every change after those it was made upon.

    Raises ``Conflict('memory.early')`` for a change that builds on missing ones, else ``Tampered``.
    """
    by_actor = _operations(graph)
    clocks: dict[bytes, dict[bytes, int]] = {}
    for name, change in graph.items():
        clock = _seen(clocks, change)
        clock[change.actor] = max(change.seq, clock.get(change.actor, 0))
        clocks[name] = clock
    for parsed in new:
        _check_place(graph, clocks, parsed)
        _check_references(by_actor, clocks[bytes.fromhex(parsed.hash)], parsed)


def _operations(graph: Graph) -> dict[bytes, list[Known]]:
    """The changes of each actor, first to last: operation numbers rise with them."""
    by_actor: dict[bytes, list[Known]] = {}
    for change in graph.values():
        by_actor.setdefault(change.actor, []).append(change)
    for actor, changes in by_actor.items():
        if [change.seq for change in changes] != list(range(1, len(changes) + 1)):
            raise _odd(f"the changes of {actor.hex()} do not count from one on")
    return by_actor


def _seen(clocks: Mapping[bytes, dict[bytes, int]], change: Known) -> dict[bytes, int]:
    """How many changes of each actor a change was made upon."""
    if not change.deps:
        return {}
    try:
        clock = dict(clocks[change.deps[0]])
        for dep in change.deps[1:]:
            for actor, seq in clocks[dep].items():
                clock[actor] = max(seq, clock.get(actor, 0))
    except KeyError as error:
        raise _odd("a change stands before one that it was made upon") from error
    return clock


def _check_place(graph: Graph, clocks: Mapping[bytes, dict[bytes, int]], parsed: ParsedChange) -> None:
    deps = [bytes.fromhex(dep) for dep in parsed.deps]
    if any(dep not in graph for dep in deps):
        raise incomplete()
    if bytes.fromhex(parsed.hash) not in graph:
        raise _odd("a change does not go into its document")
    if parsed.start_op != 1 + max((graph[dep].last_op for dep in deps), default=0):
        raise _odd("a change does not number its operations on from those it was made upon")
    actor = bytes.fromhex(parsed.actor)
    if parsed.seq != 1 + max((clocks[dep].get(actor, 0) for dep in deps), default=0):
        raise _odd("a change is not the next of its actor")


def _check_references(by_actor: Mapping[bytes, list[Known]], clock: Mapping[bytes, int], parsed: ParsedChange) -> None:
    """Every operation that the change is about was there for its writer to see. Those it made itself are older than
    what is about them: the screen saw to that."""
    if not parsed.deps and not parsed.other_actors:
        return  # nothing was there before it
    actors = [bytes.fromhex(actor) for actor in (parsed.actor, *parsed.other_actors)]
    for counter, which in references(parsed):
        changes = by_actor.get(actors[which], [])[: clock.get(actors[which], 0)]
        place = bisect_right(changes, counter, key=lambda change: change.start_op) - 1
        if place < 0 or counter > changes[place].last_op:
            raise _odd("a change is about an operation that its writer cannot have seen")


def incomplete() -> Conflict:
    """The error for a change that builds on missing ones."""
    said = "changes that this one was made upon are missing"
    return Conflict("memory.early", said, advice="give it again after them")


def _odd(said: str) -> Tampered:
    return hostile("memory.hostile.history", said)
