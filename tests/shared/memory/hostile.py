"""Hostile changes: one made well is taken apart, spoilt in one place, and put together again with a right checksum.

``CRAFTED`` are the inputs known to hurt the native library, and others of their kind: a name, the bytes, and the code
the screen must give. None of them may ever be handed to the native library in a test's own process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import zlib

from automerge import core

from shared import limits
from shared.memory import chunks

ACTOR = bytes(range(16))
OTHER = b"\xee" * 16


def leb(number: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def sleb(number: int) -> bytes:
    """Signed LEB128."""
    out = bytearray()
    while not -64 <= number < 64:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number & 0x7F])


def sized(data: bytes) -> bytes:
    """A length and the bytes."""
    return leb(len(data)) + data


@dataclasses.dataclass
class Draft:
    """The parts of a change, each open to be spoilt. ``built`` puts them together; ``tail`` follows the columns."""

    deps: list[bytes]
    actor: bytes
    seq: bytes
    start_op: bytes
    time: bytes
    message: bytes
    others: list[bytes]
    columns: list[tuple[int, bytes]]
    tail: bytes = b""

    @classmethod
    def of(cls, chunk: bytes) -> Draft:
        """Take a good change apart."""
        change = chunks.read_change(chunk)
        return cls(
            deps=[bytes.fromhex(dep) for dep in change.deps],
            actor=bytes.fromhex(change.actor),
            seq=leb(change.seq),
            start_op=leb(change.start_op),
            time=sleb(change.time),
            message=change.message.encode(),
            others=[bytes.fromhex(other) for other in change.other_actors],
            columns=list(change.columns.items()),
        )

    def with_column(self, number: int, data: bytes) -> Draft:
        """The same with another column in its place."""
        rest = [column for column in self.columns if column[0] != number]
        return dataclasses.replace(self, columns=sorted([*rest, (number, data)]))

    def without(self, *numbers: int) -> Draft:
        """The same with columns left out."""
        return dataclasses.replace(self, columns=[column for column in self.columns if column[0] not in numbers])

    def body(self) -> bytes:
        """What stands in a chunk after its length."""
        head = leb(len(self.deps)) + b"".join(self.deps) + sized(self.actor) + self.seq + self.start_op + self.time
        head += sized(self.message) + leb(len(self.others)) + b"".join(map(sized, self.others))
        table = leb(len(self.columns)) + b"".join(leb(number) + leb(len(data)) for number, data in self.columns)
        return head + table + b"".join(data for _, data in self.columns) + self.tail

    def built(self) -> bytes:
        """The change, with the checksum that fits."""
        return framed(self.body())


def framed(body: bytes, kind: int = chunks.CHANGE, length: bytes | None = None) -> bytes:
    """A chunk around a body. The checksum fits whatever the rest is."""
    rest = bytes([kind]) + (leb(len(body)) if length is None else length) + body
    return chunks.MAGIC + hashlib.sha256(rest).digest()[:4] + rest


def deflated(chunk: bytes, tail: bytes = b"") -> bytes:
    """The same change as it travels when it is large: deflated, under the checksum of the whole."""
    return deflated_body(chunk[4:8], Draft.of(chunk).body(), tail)


def deflated_body(checksum: bytes, body: bytes, tail: bytes = b"") -> bytes:
    """A deflated chunk of any body, under any checksum."""
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    small = press.compress(body) + press.flush() + tail
    return chunks.MAGIC + checksum + bytes([chunks.DEFLATED]) + leb(len(small)) + small


def document() -> core.Document:
    """A document like an item: a first change, an edit, a conflict by another actor, and what settled it."""
    mine = core.Document(ACTOR)
    with mine.transaction() as tx:
        tx.put(core.ROOT, "kind", core.ScalarType.Str, "fact")
        tx.put(core.ROOT, "confidence", core.ScalarType.Int, 900)
        text = tx.put_object(core.ROOT, "text", core.ObjType.Text)
        for place, letter in enumerate("Grüße from the desk"):
            tx.insert(text, place, core.ScalarType.Str, letter)
        tags = tx.put_object(core.ROOT, "tags", core.ObjType.Map)
        tx.put(tags, "roof", core.ScalarType.Boolean, True)
        tx.put(tags, "other", core.ScalarType.Boolean, True)
    other = mine.fork()
    other.set_actor(OTHER)
    for writer, kind in ((mine, "decision"), (other, "contact")):
        with writer.transaction() as tx:
            tx.put(core.ROOT, "kind", core.ScalarType.Str, kind)
            tx.delete(text, 2)
            tx.insert(text, 0, core.ScalarType.Str, "A")
            tx.delete(tags, "roof")
    mine.merge(other)
    with mine.transaction() as tx:
        tx.put(core.ROOT, "kind", core.ScalarType.Str, "summary")
        tx.put(tags, "new", core.ScalarType.Boolean, True)
    return mine


def good() -> list[bytes]:
    """The changes of ``document``, oldest first."""
    return [bytes(change.raw_bytes) for change in document().get_changes([])]


def draft(which: int = 0) -> Draft:
    """One of them, open to be spoilt."""
    return Draft.of(good()[which])


def rows(count: int, *, action: int = 1, meta: int = chunks.TRUE, name: bytes = b"a") -> bytes:
    """A change of ``count`` equal operations on one field, in some sixty bytes."""
    columns = [
        (chunks.KEY_STR, run(count) + sized(name)),
        (chunks.INSERT, leb(count)),
        (chunks.ACTION, run(count) + leb(action)),
        (chunks.VALUE_META, run(count) + leb(meta)),
        (chunks.PRED_COUNT, run(count) + b"\0"),
    ]
    return dataclasses.replace(draft(), columns=columns).built()


def run(count: int) -> bytes:
    """The head of a run of so many."""
    return b"\x7f" if count == 1 else sleb(count)


def value(kind: int, data: bytes, action: int = 1) -> bytes:
    """A change that sets one field to a value of some kind."""
    columns = [
        (chunks.KEY_STR, b"\x7f\1a"),
        (chunks.INSERT, b"\1"),
        (chunks.ACTION, b"\x7f" + leb(action)),
        (chunks.VALUE_META, b"\x7f" + leb(len(data) << 4 | kind)),
        *([(chunks.VALUE, data)] if data else []),
        (chunks.PRED_COUNT, b"\x7f\0"),
    ]
    return dataclasses.replace(draft(), columns=columns).built()


def taken_again(times: int) -> bytes:
    """A change that takes one letter away many times: the native library needs the square of that."""
    first = draft(0).built()
    columns = [
        (chunks.OBJ_ACTOR, run(times) + b"\0"),
        (chunks.OBJ_CTR, run(times) + b"\3"),
        (chunks.KEY_ACTOR, run(times) + b"\0"),
        (chunks.KEY_CTR, b"\x7f\4" + run(times - 1) + b"\0"),
        (chunks.INSERT, leb(times)),
        (chunks.ACTION, run(times) + b"\3"),
        (chunks.VALUE_META, run(times) + b"\0"),
        (chunks.PRED_COUNT, run(times) + b"\1"),
        (chunks.PRED_ACTOR, run(times) + b"\0"),
        (chunks.PRED_CTR, b"\x7f\4" + run(times - 1) + b"\0"),
    ]
    deps = [bytes.fromhex(chunks.read_change(first).hash)]
    return dataclasses.replace(draft(1), deps=deps, columns=columns).built()


def _overlong(number: bytes) -> bytes:
    return number[:-1] + bytes([number[-1] | 0x80, 0])


def _with(number: int, data: bytes, which: int = 0) -> bytes:
    return draft(which).with_column(number, data).built()


def crafted() -> dict[str, tuple[bytes, str]]:
    """Hostile changes by name, with the code that the screen must give. Each has a checksum that fits."""
    first, edit, settled = draft(0), draft(1), draft(3)
    column = dict(first.columns)
    replace = dataclasses.replace
    bomb = bytes(limits.MEMORY_CHANGE_INFLATED + 1)
    return {
        # known to hurt the native library
        "run length, of all columns": (rows(2**30), "run-length"),
        "run length, of one column": (_with(chunks.ACTION, sleb(2**40) + b"\1"), "run-length"),
        "run length, absent values": (_with(chunks.OBJ_CTR, b"\0" + leb(2**50) + b"\x7f\1"), "run-length"),
        "run length, booleans": (_with(chunks.INSERT, leb(2**40)), "run-length"),
        "run length, overwritten": (_with(chunks.PRED_COUNT, b"\x7f" + leb(2**40) + run(24) + b"\0"), "run-length"),
        "run length, values": (_with(chunks.VALUE_META, run(200_000) + leb(2**40 << 4 | 6)), "columns"),
        "one field, many times": (rows(100_000), "operation"),
        "one letter, taken away many times": (taken_again(100_000), "reference"),
        "first operation at the end": (replace(first, start_op=leb(2**32 - 1)).built(), "order"),
        "first operation past the end": (replace(edit, start_op=leb(2**40)).built(), "order"),
        "first operation 0": (replace(first, start_op=b"\0").built(), "order"),
        "inflates to more than it may": (deflated_body(b"\0" * 4, bomb), "inflated"),
        "inflates after its end": (deflated(first.built(), b"\0"), "inflated"),
        "does not inflate": (framed(b"\xff" * 9, chunks.DEFLATED), "inflated"),
        "deflated under a wrong checksum": (deflated_body(b"\0" * 4, first.body()), "checksum"),
        # spelt otherwise
        "a run of one": (_with(chunks.PRED_COUNT, b"\1\0" + run(24) + b"\0"), "encoding"),
        "a run in pieces": (_with(chunks.PRED_COUNT, run(20) + b"\0" + run(5) + b"\0"), "encoding"),
        "a list in pieces": (
            _with(chunks.KEY_STR, b"\x7f\4kind\x7e" + column[chunks.KEY_STR].removeprefix(b"\x7d\4kind")),
            "encoding",
        ),
        "a list of equal values": (_with(chunks.ACTION, b"\x7e\1\1" + column[chunks.ACTION][1:]), "encoding"),
        "an empty run of absent values": (_with(chunks.OBJ_CTR, b"\0\0" + column[chunks.OBJ_CTR]), "encoding"),
        "nothing but absent values": (_with(chunks.PRED_CTR, b"\0\x19"), "encoding"),
        "an empty run of booleans": (_with(chunks.INSERT, b"\3\0\0\x13\3"), "encoding"),
        "an overlong run length": (_with(chunks.PRED_COUNT, b"\x99\x00\0"), "encoding"),
        "an overlong number": (replace(first, seq=_overlong(first.seq)).built(), "encoding"),
        "an overlong time": (replace(first, time=b"\x80\x00").built(), "encoding"),
        "an overlong length": (framed(first.body(), length=_overlong(leb(len(first.body())))), "encoding"),
        "a number of more than 64 bits": (replace(first, seq=b"\xff" * 10 + b"\1").built(), "encoding"),
        "an integer longer than it need be": (value(chunks.INT, b"\x85\0"), "encoding"),
        "an integer in a wider place": (value(chunks.INT, b"\5\5"), "encoding"),
        "an actor that is not used": (replace(first, others=[OTHER]).built(), "encoding"),
        "its own actor among the others": (replace(settled, others=[ACTOR]).built(), "encoding"),
        "actors out of order": (replace(settled, others=[OTHER, b"\xdd" * 16]).built(), "encoding"),
        # values and operations that an item does not have
        "a counter": (value(chunks.COUNTER, b"\1"), "value"),
        "an increment": (value(chunks.INT, b"\1", action=5), "action"),
        "a table": (value(chunks.NULL, b"", action=6), "action"),
        "a list": (value(chunks.NULL, b"", action=2), "action"),
        "a mark": (value(chunks.TRUE, b"", action=7), "action"),
        "an unknown action": (value(chunks.TRUE, b"", action=99), "action"),
        "a null": (value(chunks.NULL, b""), "operation"),
        "an unsigned integer": (value(chunks.UINT, b"\1"), "value"),
        "a fraction": (value(chunks.FLOAT, b"\0\0\0\0\0\0\xf0\x3f"), "value"),
        "not a number": (value(chunks.FLOAT, b"\0\0\0\0\0\0\xf8\x7f"), "value"),
        "a fraction cut short": (value(chunks.FLOAT, b"\0\0\0\0"), "value"),
        "bytes": (value(chunks.BYTES, b"abc"), "value"),
        "an unknown kind of value": (value(15, b"abc"), "value"),
        "true with bytes": (value(chunks.TRUE, b"a"), "value"),
        "a value for what makes a map": (value(chunks.TRUE, b"", action=0), "operation"),
        "a delete of nothing": (value(chunks.NULL, b"", action=3), "operation"),
        "a surrogate": (value(chunks.STRING, b"\xed\xa0\x80"), "text"),
        "NUL": (value(chunks.STRING, b"a\0"), "text"),
        "text that is not UTF-8": (value(chunks.STRING, b"\xff\xfe"), "text"),
        "overlong UTF-8": (value(chunks.STRING, b"\xc0\xaf"), "text"),
        "a name that is not UTF-8": (_with(chunks.KEY_STR, b"\x7f\1\xff\0\x18"), "text"),
        "a name that is nothing": (rows(1, name=b""), "text"),
        "a name with NUL": (rows(1, name=b"a\0"), "text"),
        "a name that is too long": (rows(1, name=b"a" * 1001), "text"),
        # the frame
        "nothing": (b"", "chunk"),
        "a document": (framed(first.body(), 0), "chunk"),
        "an unknown kind of chunk": (framed(first.body(), 7), "chunk"),
        "another magic": (b"\0" + first.built()[1:], "chunk"),
        "a wrong checksum": (first.built()[:4] + b"\0\0\0\0" + first.built()[8:], "checksum"),
        "cut off": (first.built()[:-1], "chunk"),
        "one byte more": (first.built() + b"\0", "chunk"),
        "two changes": (first.built() + edit.built(), "chunk"),
        "bytes after the columns": (replace(first, tail=b"extra").built(), "chunk"),
        "too large": (bytes(limits.MEMORY_CHANGE_BYTES + 1), "size"),
        "an unknown column": (_with(0x94, b"\x19"), "columns"),
        "a deflated column": (_with(0x1A, b"\x19"), "columns"),
        "columns out of order": (replace(first, columns=first.columns[::-1]).built(), "columns"),
        "a column twice": (replace(first, columns=[*first.columns[:1], *first.columns]).built(), "columns"),
        "an empty column": (_with(chunks.KEY_ACTOR, b""), "columns"),
        "a column too short": (_with(chunks.INSERT, b"\3\x13\2"), "columns"),
        "a column too long": (_with(chunks.INSERT, b"\3\x13\4"), "columns"),
        "no operations": (replace(first, columns=[]).built(), "ops"),
        "absent actors of what is overwritten": (
            _with(chunks.PRED_ACTOR, dict(edit.columns)[chunks.PRED_ACTOR] + b"\0\5", 1),
            "columns",
        ),
        "absent counters of what is overwritten": (
            _with(chunks.PRED_CTR, dict(edit.columns)[chunks.PRED_CTR] + b"\0\5", 1),
            "columns",
        ),
        "bytes that are no value": (_with(chunks.VALUE, column[chunks.VALUE] + b"x"), "columns"),
        "values cut off": (_with(chunks.VALUE, column[chunks.VALUE][:-1]), "columns"),
        # the header
        "a short actor": (replace(first, actor=b"me").built(), "actor"),
        "a long actor": (replace(first, actor=b"m" * 10_000).built(), "actor"),
        "no actor": (replace(first, actor=b"").built(), "actor"),
        "sequence number 0": (replace(first, seq=b"\0").built(), "order"),
        "a sequence number ahead": (replace(first, seq=leb(2**40)).built(), "order"),
        "a first change with a later number": (replace(first, start_op=leb(5)).built(), "order"),
        "dependencies twice": (replace(edit, deps=edit.deps * 2).built(), "order"),
        "too many dependencies": (
            replace(edit, deps=[leb(n).ljust(32, b"\0") for n in range(300)]).built(),
            "order",
        ),
        "before 1970": (replace(first, time=sleb(-1)).built(), "time"),
        "after the end of time": (replace(first, time=sleb(2**60)).built(), "time"),
        "a long message": (replace(first, message=b"m" * 1001).built(), "message"),
        "a message with NUL": (replace(first, message=b"a\0b").built(), "message"),
        "a message that is not UTF-8": (replace(first, message=b"\xff").built(), "text"),
        # references
        "an actor that is not there": (_with(chunks.OBJ_ACTOR, b"\0\3\x13\7\0\1\2\7"), "reference"),
        "an object from the future": (_with(chunks.OBJ_CTR, b"\0\3\x13\x63\0\1\2\x17"), "reference"),
        "a letter from the future": (_with(chunks.KEY_CTR, b"\0\3\x7e\0\5\x11\1\0\3"), "reference"),
        "a letter before all": (_with(chunks.KEY_CTR, b"\0\3\x7e\0\x7c\x11\1\0\3"), "reference"),
        "an object without an actor": (first.without(chunks.OBJ_ACTOR).built(), "reference"),
        "a letter without an actor": (first.without(chunks.KEY_ACTOR).built(), "reference"),
        "neither name nor letter": (first.without(chunks.KEY_STR).built(), "operation"),
        "both name and letter": (_with(chunks.KEY_STR, run(25) + b"\1a"), "operation"),
        "an overwritten one from the future": (_with(chunks.PRED_CTR, b"\x7d\x7f\5\x12", 1), "reference"),
    }
