"""A change is read to the byte as Automerge wrote it."""

from __future__ import annotations

import hashlib

from automerge import core

from shared.memory import chunks

ACTOR = bytes(range(16))


def _document() -> tuple[core.Document, bytes]:
    document = core.Document(ACTOR)
    with document.transaction() as tx:
        tx.put(core.ROOT, "kind", core.ScalarType.Str, "fact")
        tx.put(core.ROOT, "confidence", core.ScalarType.Int, -1000)
        text = tx.put_object(core.ROOT, "text", core.ObjType.Text)
        for place, letter in enumerate("Höher " * 30):
            tx.insert(text, place, core.ScalarType.Str, letter)
        tags = tx.put_object(core.ROOT, "tags", core.ObjType.Map)
        tx.put(tags, "roof", core.ScalarType.Boolean, True)
    with document.transaction() as tx:
        tx.delete(text, 3)
        tx.delete(tags, "roof")
        tx.put(core.ROOT, "kind", core.ScalarType.Str, "note")
    return document, text


def test_the_header_is_what_automerge_says() -> None:
    for theirs in _document()[0].get_changes([]):
        ours = chunks.read_change(theirs.bytes)
        assert ours == chunks.read_change(theirs.raw_bytes)
        assert bytes.fromhex(ours.hash) == theirs.hash == hashlib.sha256(theirs.raw_bytes[8:]).digest()
        assert bytes.fromhex(ours.actor) == theirs.actor_id
        assert (ours.seq, ours.start_op, ours.ops) == (theirs.seq, theirs.start_op, len(theirs))
        assert [bytes.fromhex(hash) for hash in ours.deps] == theirs.deps
        assert ours.raw == theirs.raw_bytes and ours.inflated == len(theirs.raw_bytes)
        assert (ours.time, ours.message, ours.other_actors) == (0, "", ())


def test_operations_are_named_as_automerge_names_them() -> None:
    document, _ = _document()
    first, second = (chunks.operations(change.bytes) for change in document.get_changes([]))
    me = ACTOR.hex()
    assert first[0] == chunks.Op(f"1@{me}", "_root", "kind", "", False, "set", "fact", ())
    assert first[1].value == -1000
    assert first[2] == chunks.Op(f"3@{me}", "_root", "text", "", False, "make-text", None, ())
    assert first[3] == chunks.Op(f"4@{me}", f"3@{me}", "", "_head", True, "set", "H", ())
    assert first[4] == chunks.Op(f"5@{me}", f"3@{me}", "", f"4@{me}", True, "set", "ö", ())
    assert "".join(str(op.value) for op in first if op.insert) == "Höher " * 30
    assert first[-1] == chunks.Op(f"185@{me}", f"184@{me}", "roof", "", False, "set", True, ())
    assert second == [
        chunks.Op(f"186@{me}", f"3@{me}", "", f"7@{me}", False, "delete", None, (f"7@{me}",)),
        chunks.Op(f"187@{me}", f"184@{me}", "roof", "", False, "delete", None, (f"185@{me}",)),
        chunks.Op(f"188@{me}", "_root", "kind", "", False, "set", "note", (f"1@{me}",)),
    ]


def test_a_conflict_is_seen_in_what_is_overwritten() -> None:
    document, _ = _document()
    other = document.fork()
    other.set_actor(b"\xff" * 16)
    for writer, kind in ((document, "decision"), (other, "contact")):
        with writer.transaction() as tx:
            tx.put(core.ROOT, "kind", core.ScalarType.Str, kind)
    document.merge(other)
    with document.transaction() as tx:
        tx.put(core.ROOT, "kind", core.ScalarType.Str, "summary")
    last = document.get_changes([])[-1].bytes
    assert chunks.read_change(last).other_actors == ("ff" * 16,)
    assert chunks.operations(last)[0].pred == (f"189@{ACTOR.hex()}", f"189@{'ff' * 16}")
