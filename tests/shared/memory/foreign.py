"""Changes as programs other than ours might write them, made with the codec itself."""

from __future__ import annotations

from typing import Any

from automerge import core

from shared.memory.document import Document

Write = tuple[Any, ...]  # what to do, where ("kind" or "fields/lane"), and with what
_KINDS = {str: core.ScalarType.Str, int: core.ScalarType.Int, bool: core.ScalarType.Boolean, float: core.ScalarType.F64}


def change(document: Document, actor: bytes, writes: list[Write]) -> bytes:
    """A change of ``document`` by ``actor`` that the document itself would not make."""
    native = core.Document.load(document.save())
    native.set_actor(actor)
    before = native.get_heads()
    with native.transaction() as tx:
        for write in writes:
            _write(tx, *write)
    (made,) = native.get_changes(before)
    return bytes(made.raw_bytes)


def _write(tx: core.Transaction, what: str, where: str, value: Any = None) -> None:
    within, _, name = where.rpartition("/")
    found: Any = tx.get(core.ROOT, within) if within else (None, core.ROOT)
    at = found[1]
    if what == "put":
        tx.put(at, name, _KINDS[type(value)], value)
    elif what == "delete":
        tx.delete(at, name)
    elif what == "map":
        tx.put_object(at, name, core.ObjType.Map)
    elif what == "text":
        text = tx.put_object(at, name, core.ObjType.Text)
        for place, letter in enumerate(value):
            tx.insert(text, place, core.ScalarType.Str, letter)
    else:
        assert what == "letters"
        into: Any = tx.get(at, name)
        tx.insert(into[1], 0, core.ScalarType.Str, value)
