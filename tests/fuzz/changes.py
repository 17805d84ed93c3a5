"""Makes hostile changes of good ones: in their parts, in their columns' bytes, and in their rows, spelt well again."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from shared.memory import chunks, columns
from tests.shared.memory.hostile import Draft, deflated_body, framed, leb, run, sized, sleb

_NUMBERS = (0, 1, 2, 3, 5, 63, 64, 127, 128, 255, 2**14, 2**16, 200_000, 2**24, 2**31, 2**32 - 1, 2**40, 2**62, 2**63)
_DIFFERENCES = {chunks.KEY_CTR, chunks.PRED_CTR}
_BOOLEANS = {chunks.INSERT}
_TEXTS = (
    b"",
    b"a",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    "ß".encode(),
    "😀".encode(),
    b"kind",
    b"text",
    b"tags",
    b"x" * 2000,
)


class Mutator:
    """Spoils changes at random, the same way for the same seed. ``seeds`` are good changes."""

    def __init__(self, seeds: list[bytes], seed: int) -> None:
        self._random = random.Random(seed)
        self._drafts = [Draft.of(chunk) for chunk in seeds]

    def next(self) -> tuple[int, bytes]:
        """Which seed it was made of, and the bytes."""
        chance = self._random
        which = chance.randrange(len(self._drafts))
        draft = dataclasses.replace(self._drafts[which], columns=list(self._drafts[which].columns))
        ways: list[Callable[[Draft], Draft]] = [self._rows] * 6 + [self._bytes] * 3 + [self._header] * 2 + [self._table]
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            draft = chance.choice(ways)(draft)
        return which, self._built(draft)

    def _built(self, draft: Draft) -> bytes:
        way = self._random.random()
        if way < 0.9:
            return draft.built()
        if way < 0.93:
            return deflated_body(draft.built()[4:8], draft.body(), self._random.choice((b"", b"\0")))
        if way < 0.931:
            return deflated_body(draft.built()[4:8], draft.body() + bytes(self._random.choice((1_000, 5_000_000))))
        if way < 0.97:
            return framed(self._scratched(draft.body()), self._random.choice((1, 1, 1, 0, 2, 3)))
        return self._scratched(draft.built())

    def _header(self, draft: Draft) -> Draft:
        chance = self._random
        number = self._number()
        match chance.randrange(8):
            case 0:
                return dataclasses.replace(draft, seq=leb(number))
            case 1:
                return dataclasses.replace(draft, start_op=leb(chance.choice((number, 2**32 - chance.randrange(40)))))
            case 2:
                start = chunks.read_change(self._drafts[0].built()).start_op
                return dataclasses.replace(draft, start_op=leb(start + chance.randrange(60)))
            case 3:
                return dataclasses.replace(draft, time=sleb(chance.choice((number, -number))))
            case 4:
                return dataclasses.replace(draft, deps=draft.deps[1:] or [chance.randbytes(32)])
            case 5:
                other = chance.choice(self._drafts)
                return dataclasses.replace(draft, actor=other.actor, others=other.others)
            case 6:
                return dataclasses.replace(draft, others=sorted({*draft.others, chance.randbytes(16)}))
            case _:
                return dataclasses.replace(draft, message=chance.choice(_TEXTS))

    def _table(self, draft: Draft) -> Draft:
        """Columns left out, taken from elsewhere, named otherwise, or in another order."""
        chance = self._random
        table = list(draft.columns)
        place = chance.randrange(len(table)) if table else 0
        match chance.randrange(4) if table else 1:
            case 0:
                del table[place]
            case 1:
                table = sorted({**dict(table), **dict([chance.choice(chance.choice(self._drafts).columns)])}.items())
            case 2:
                table[place] = (chance.choice((*chunks.KNOWN, 0x94, 0xA5, 0x1A, 0x57)), table[place][1])
            case _:
                chance.shuffle(table)
        return dataclasses.replace(draft, columns=table)

    def _bytes(self, draft: Draft) -> Draft:
        """One column's bytes scratched, or a number put into them."""
        if not draft.columns:
            return draft
        number, data = self._random.choice(draft.columns)
        return draft.with_column(number, self._scratched(data))

    def _scratched(self, data: bytes) -> bytes:
        chance = self._random
        at = chance.randrange(len(data) + 1)
        put = chance.choice((leb, sleb))(self._number())
        match chance.randrange(5):
            case 0:
                return data[:at] + put + data[at + 1 :]
            case 1:
                return data[:at] + put + data[at:]
            case 2:
                return data[:at] + data[at + chance.randrange(1, 4) :]
            case 3:
                return data[:at] + chance.choice(_TEXTS) + data[at:]
            case _:
                return data[:at] + bytes(byte ^ 1 << chance.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]

    def _rows(self, draft: Draft) -> Draft:
        """Some rows of one column are given other values, and the column is spelt as Automerge would."""
        number, data = self._random.choice(draft.columns) if draft.columns else (0, b"")
        if number in (chunks.VALUE, 0):
            return draft
        try:
            rows = _read(number, data)
        except Exception:  # noqa: BLE001 -- spoilt before: nothing to read
            return draft
        chance = self._random
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(len(rows) + 1)
            match chance.randrange(5):
                case 0 if rows:
                    rows[at - 1] = self._value(number, rows)
                case 1:
                    rows[at:at] = [self._value(number, rows)] * chance.choice(
                        (1, 2, 3, 30) if chance.random() < 0.98 else (5_000, 60_000)
                    )
                case 2:
                    del rows[at : at + chance.choice((1, 1, 3))]
                case 3 if rows:
                    rows[at - 1], rows[0] = rows[0], rows[at - 1]
                case _:
                    rows[at : at + 1] = [chance.choice(rows)] if rows else []
        return draft.with_column(number, _spelt(number, rows)) if rows else draft.without(number)

    def _value(self, number: int, rows: list[object]) -> object:
        chance = self._random
        if number in _BOOLEANS:
            return chance.random() < 0.5
        if number == chunks.KEY_STR:
            return chance.choice((*_TEXTS, None))
        if chance.random() < 0.7:
            return chance.choice((*range(30), None) if number != chunks.VALUE_META else (*range(16), 22, 38, 54, 70))
        return self._number()

    def _number(self) -> int:
        return self._random.choice(_NUMBERS)


def _read(number: int, data: bytes) -> list[object]:
    if number in _BOOLEANS:
        return list(columns.expanded(columns.booleans(data), 0))
    if number == chunks.KEY_STR:
        return [None if text is None else text.encode() for text in columns.expanded(columns.strings(data), 0)]
    if number in _DIFFERENCES:
        return list(columns.summed(columns.differences(data), 0))
    return list(columns.expanded(columns.numbers(data), 0))


def _spelt(number: int, rows: list[object]) -> bytes:
    """Rows as the one encoding that Automerge would give them."""
    if number in _BOOLEANS:
        return _booleans([bool(row) for row in rows])
    if number in _DIFFERENCES:
        rows = _differences(rows)
    write = _WRITERS.get(number, lambda row: leb(int(row)))
    groups: list[tuple[object, int]] = []
    for row in rows:
        if groups and groups[-1][0] == row:
            groups[-1] = (row, groups[-1][1] + 1)
        else:
            groups.append((row, 1))
    if [row for row, _ in groups] == [None]:
        return b""
    out, listed = b"", []
    for row, times in [*groups, (None, 0)]:
        if times == 1 and row is not None:
            listed.append(write(row))
            continue
        if listed:
            out, listed = out + sleb(-len(listed)) + b"".join(listed), []
        if times:
            out += b"\0" + leb(times) if row is None else run(times) + write(row)
    return out


def _text(row: object) -> bytes:
    assert isinstance(row, bytes)
    return sized(row)


def _step(row: object) -> bytes:
    assert isinstance(row, int)
    return sleb(row)


_WRITERS: dict[int, Callable[..., bytes]] = {chunks.KEY_STR: _text, chunks.KEY_CTR: _step, chunks.PRED_CTR: _step}


def _booleans(rows: list[bool]) -> bytes:
    out, value, times = b"", False, 0
    for row in rows:
        if row != value:
            out, value, times = out + leb(times), row, 0
        times += 1
    return out + leb(times)


def _differences(rows: list[object]) -> list[object]:
    at = 0
    steps: list[object] = []
    for row in rows:
        if row is None:
            steps.append(None)
        else:
            assert isinstance(row, int)
            steps.append(row - at)
            at = row
    return steps
