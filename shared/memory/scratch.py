"""The second stage of screening: apply changes to a scratch copy, save it, load it again, and read it as an item.

Spec page: ``shared/spec/memory.md``, section Screening. Runs in the worker process of ``bench``, which may die of it;
never call it elsewhere with what a peer sent. Here the whole document is known, so what ``screen`` cannot see is
judged too: that all a change builds on is there, that it counts on from it, and is about operations that exist.

A document is its saved form, followed or not by changes that were judged before; new changes come in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from automerge import core

from shared.errors import BadInput, OutriderError, Tampered
from shared.memory.chunks import KEY_STR, ParsedChange
from shared.memory.columns import hostile
from shared.memory.document import Document
from shared.memory.document import _read as read_item
from shared.memory.history import Known, check_history, incomplete
from shared.memory.item import PARTS, TEXT_CHARS, Item, check
from shared.memory.screen import screen
from shared.memory.verdict import Probe, Refusal, Task, Verdict


def probe(base: bytes, chunks: Iterable[bytes]) -> Probe:
    """Screen and apply all of them. Raises ``Tampered('memory.hostile.*')`` or ``Conflict('memory.early')``."""
    return _probed(base, [screen(chunk) for chunk in chunks])


def judge(task: Task) -> Verdict:
    """Take as many of the changes as can be taken, and say why of the others."""
    refused: dict[int, Refusal] = {}
    good: dict[int, ParsedChange] = {}
    for place, chunk in enumerate(task.chunks):
        try:
            good[place] = screen(chunk)
        except OutriderError as error:
            refused[place] = Refusal(place, "", error.code, error.message)
    found: Probe | None = None
    if good:
        try:
            found, taken = _probed(task.base, list(good.values())), good
        except OutriderError as error:
            found, taken = _one_by_one(task.base, good, refused, error)
    hashes = tuple(change.hash for change in taken.values()) if found else ()
    return Verdict(task.item, found, hashes, tuple(refused[place] for place in sorted(refused)))


def _one_by_one(
    base: bytes, waiting: dict[int, ParsedChange], refused: dict[int, Refusal], error: OutriderError
) -> tuple[Probe | None, dict[int, ParsedChange]]:
    """Which of several it is, when they cannot be taken together: each alone, none before what it was made upon."""
    if len(waiting) == 1:
        ((place, change),) = waiting.items()
        refused[place] = Refusal(place, change.hash, error.code, error.message)
        return None, {}
    found: Probe | None = None
    taken: dict[int, ParsedChange] = {}
    for place, change in sorted(waiting.items(), key=lambda waits: waits[1].start_op):
        try:
            found = _probed(found.saved if found else base, [change])
            taken[place] = change
        except OutriderError as why:
            refused[place] = Refusal(place, change.hash, why.code, why.message)
    return found, dict(sorted(taken.items()))


def _probed(base: bytes, changes: list[ParsedChange]) -> Probe:
    document = _loaded(base + b"".join(change.raw for change in changes))
    check_history(_graph(document), changes)
    saved, heads = _saved(document), _heads(document)
    again = Document([saved])
    try:
        whole = again.heads() == heads
    except OutriderError as error:
        raise _unsound() from error
    if not whole:
        raise _unsound()
    item = _opened(again.item)
    for change in changes:
        if KEY_STR in change.columns:  # typing letters makes no item of what is none, nor the reverse
            _check_item(item if heads == (change.hash,) else _seen(document, change))
    return Probe(saved, heads, item)


def _seen(document: Any, change: ParsedChange) -> Item:
    """The item as the change's writer saw it then. Were it judged as it is now, it would depend on what came along with
    a change whether it is taken, and hub and devices would not agree."""
    return _opened(lambda: read_item(document, [bytes.fromhex(change.hash)]))


def _loaded(data: bytes) -> Any:
    try:
        return core.Document.load(data)
    # BaseException: the codec is native, and its panics do not derive from Exception.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        if "deps should already be in the document" in str(error):
            raise incomplete() from error
        raise _unsound() from error


def _saved(document: Any) -> bytes:
    try:
        return bytes(document.save())
    except BaseException as error:  # see _loaded
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise _unsound() from error


def _heads(document: Any) -> tuple[str, ...]:
    return tuple(sorted(head.hex() for head in document.get_heads()))


def _graph(document: Any) -> dict[bytes, Known]:
    return {
        change.hash: Known(
            actor=change.actor_id,
            seq=change.seq,
            start_op=change.start_op,
            last_op=change.max_op,
            deps=tuple(change.deps),
        )
        for change in document.get_changes([])
    }


def _opened(read: Callable[[], Item]) -> Item:
    try:
        return read()
    except Tampered as error:
        raise hostile(
            "memory.hostile.item", f"a change makes of its document what is no item: {error.message}"
        ) from error


def _check_item(item: Item) -> None:
    """The bounds of an item, so that it can be edited; with room for edits that were each within them and merged: twice
    the text, or one that is just being typed anew, and four times as many fields and tags."""
    fields = list(item.fields.items())
    try:
        for part in range(0, max(len(fields), len(item.tags), 1), PARTS):
            some = {"fields": dict(fields[part : part + PARTS]), "tags": item.tags[part : part + PARTS]}
            check(msgspec.structs.replace(item, text="-", **some))
    except BadInput as error:
        raise hostile("memory.hostile.item", f"a change puts its item out of bounds: {error.message}") from error
    if len(item.text) > 2 * TEXT_CHARS or max(len(fields), len(item.tags)) > 4 * PARTS:
        raise hostile("memory.hostile.item", "a change puts its item out of bounds: it is too large")


def _unsound() -> Tampered:
    return hostile("memory.hostile.document", "a document with the change in it cannot be saved and loaded again")
