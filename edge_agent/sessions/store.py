"""Sessions in SQLite: ``sessions.sqlite3`` in the agent's home. Everything said in them can be erased."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_agent.sessions.base import Base
from edge_agent.sessions.extract import Candidate, candidates_of
from shared.context import Part
from shared.errors import BadInput, Tampered
from shared.memory.feed import ITEM, SCOPE, SUBJECT, Tombstone, subject_digest
from shared.memory.item import TEXT_CHARS
from shared.memory.rules import MemoryRules, microseconds

_OF_TURN = ("sentence", "artefact")


class Budget(msgspec.Struct, frozen=True):
    """Tokens: what recent turns may take before the oldest are folded, and what the summary may take."""

    turns: int = 800
    summary: int = 300


class Artefact(msgspec.Struct, frozen=True):
    """What a turn refers to: a ``file`` by path, an ``item`` or ``entry`` by id, and its hash; or, as ``summary``, the
    item that quotes it. Never a copy."""

    kind: Literal["file", "item", "entry", "summary"]
    place: str
    sha256: str


class Turn(msgspec.Struct, frozen=True):
    """One thing said. Numbers count from 1 and are never given twice; the text of an erased turn is empty."""

    n: int
    role: str
    text: str
    subject: str
    at: int
    tokens: int
    erased: bool


class Sentence(msgspec.Struct, frozen=True):
    """A sentence of the summary: characters ``start`` to ``end`` of turn ``turn``, word for word."""

    turn: int
    start: int
    end: int
    text: str


class Session(msgspec.Struct, frozen=True):
    """``folded`` is the last turn that is in the prompt only through the summary. ``run`` may be empty. ``told`` is the
    record of the newest context that was made for it, JSON, or empty."""

    id: str
    scope: str
    run: str
    opened_at: int
    touched_at: int
    folded: int
    summarised: bool
    told: str = ""


class Folding(msgspec.Struct, frozen=True):
    """Turns up to ``until`` are to be folded: choose from ``candidates`` (the summary so far and their sentences)
    within ``budget`` tokens."""

    until: int
    candidates: list[Candidate]
    budget: int


class Sessions(Base):
    """The sessions of one device. ``count`` counts tokens. Its methods may be called from any thread."""

    def __init__(self, path: Path, *, count: Callable[[str], int], budget: Budget = Budget()) -> None:  # noqa: B008 - frozen
        """Raises ``Unavailable('session.storage')``."""
        super().__init__(path)
        self._count, self._budget = count, budget

    # --- what is said ---

    def open(self, id: str, *, scope: str, at: int, run: str = "") -> Session:
        """The session of this id, made where there is none. ``scope`` is where its summaries will belong."""
        with self._change() as db:
            db.execute("INSERT OR IGNORE INTO session VALUES (?, ?, ?, ?, ?, 0, 0, '')", (id, scope, run, at, at))
        return self.session(id)

    def session(self, id: str) -> Session:
        """Raises ``BadInput('session.unknown')``."""
        rows = self._all("SELECT * FROM session WHERE id = ?", id)
        if not rows:
            raise BadInput("session.unknown", f"there is no session {id}", advice="it may have expired: begin another")
        return _session(rows[0])

    def newest(self, limit: int = 1_000) -> list[Session]:
        """Sessions, the one that was used last first."""
        rows = self._all("SELECT * FROM session ORDER BY touched_at DESC, id LIMIT ?", limit)
        return [_session(row) for row in rows]

    def tell(self, session: str, told: str) -> None:
        """Keep the record of a context: ids and reasons, and no text that would have to be forgotten."""
        with self._change() as db:
            db.execute("UPDATE session SET told = ? WHERE id = ?", (told, session))

    def add(
        self, session: str, role: str, text: str, *, at: int, subject: str = "", artefacts: Iterable[Artefact] = ()
    ) -> int:
        """Keep one turn; return its number. ``subject`` is whom it is about. Raises ``BadInput('session.unknown' |
        'session.turn')``."""
        if not text.strip() or len(text) > TEXT_CHARS or "\x00" in text or not _sound(text):
            raise BadInput(
                "session.turn", f"a turn of {len(text)} characters", advice=f"1 to {TEXT_CHARS} characters of text"
            )
        tokens = self._count(text + "\n")
        with self._change() as db:
            self.session(session)
            n = int(db.execute("SELECT COALESCE(MAX(n), 0) + 1 FROM turn WHERE session = ?", (session,)).fetchone()[0])
            db.execute(
                "INSERT INTO turn VALUES (?, ?, ?, ?, ?, ?, ?, 0)", (session, n, role, text, subject, at, tokens)
            )
            db.executemany(
                "INSERT OR REPLACE INTO artefact VALUES (?, ?, ?, ?, ?)",
                [(session, n, made.kind, made.place, made.sha256) for made in artefacts],
            )
            db.execute("UPDATE session SET touched_at = MAX(touched_at, ?), summarised = 0 WHERE id = ?", (at, session))
        return n

    def turns(self, session: str, *, after: int = 0) -> list[Turn]:
        """Turns with a higher number than ``after``, oldest first."""
        sql = "SELECT n, role, text, subject, at, tokens, erased FROM turn WHERE session = ? AND n > ? ORDER BY n"
        rows = self._all(sql, session, after)
        return [
            Turn(n, role, text, subject, at, tokens, bool(erased))
            for n, role, text, subject, at, tokens, erased in rows
        ]

    def artefacts(self, session: str) -> list[tuple[int, Artefact]]:
        """What each turn refers to, with the turn's number."""
        sql = "SELECT turn, kind, place, sha256 FROM artefact WHERE session = ? ORDER BY turn, kind, place"
        return [(row[0], Artefact(*row[1:])) for row in self._all(sql, session)]

    def summary(self, session: str) -> list[Sentence]:
        """The rolling summary, in the order it was said. It is read out of the turns each time: it has no text of its
        own that could outlive them."""
        sql = (
            "SELECT s.turn, s.start, s.stop, substr(t.text, s.start + 1, s.stop - s.start) FROM sentence s"
            " JOIN turn t ON t.session = s.session AND t.n = s.turn WHERE s.session = ? AND NOT t.erased"
            " ORDER BY s.turn, s.start"
        )
        return [Sentence(*row) for row in self._all(sql, session)]

    def parts(self, session: str) -> tuple[list[Part], list[Part]]:
        """(turns, summary) for ``shared.context``: the turns that are not folded, and the sentences for those that are.
        Their ids are the numbers of the turns."""
        folded = self.session(session).folded
        said = self.turns(session, after=folded)
        turns = [Part(str(turn.n), f"{turn.role}: {turn.text}") for turn in said if not turn.erased]
        return turns, [Part(f"{one.turn}:{one.start}", one.text) for one in self.summary(session)]

    # --- the rolling summary ---

    def folding(self, session: str) -> Folding | None:
        """What is to be folded, or None. Folding leaves half of the turns' share free, so that it is seldom done."""
        found = self.session(session)
        said = self.turns(session, after=found.folded)
        total = sum(turn.tokens for turn in said)
        if total <= self._budget.turns:
            return None
        until, candidates = found.folded, []
        for one in self.summary(session):
            tokens = self._count(one.text + "\n")
            candidates.append(Candidate(one.turn, one.start, one.end, one.text, tokens))
        for turn in said[:-1]:  # the newest is what is being answered
            if total <= self._budget.turns // 2:
                break
            total -= turn.tokens
            until = turn.n
            candidates += candidates_of(turn.n, turn.text, self._count)
        return Folding(until, candidates, self._budget.summary) if until > found.folded else None

    def keep(self, session: str, until: int, summary: Sequence[Sentence]) -> None:
        """Replace the summary; turns up to ``until`` are in it. Each sentence is held against its turn: raises
        ``Tampered('session.not-verbatim')`` for one that does not stand there."""
        with self._change() as db:
            sql = "SELECT text FROM turn WHERE session = ? AND n = ? AND n <= ? AND NOT erased"
            for one in summary:
                said = db.execute(sql, (session, one.turn, until)).fetchone()
                if not one.text or not said or said[0][one.start : one.end] != one.text:
                    raise Tampered(
                        "session.not-verbatim",
                        f"turn {one.turn} does not say what its summary says",
                        advice="nothing was changed; choose sentences, write none",
                    )
            db.execute("DELETE FROM sentence WHERE session = ?", (session,))
            db.executemany(
                "INSERT INTO sentence VALUES (?, ?, ?, ?)", [(session, one.turn, one.start, one.end) for one in summary]
            )
            db.execute("UPDATE session SET folded = MAX(folded, ?) WHERE id = ?", (until, session))

    # --- when a session rests ---

    def rested(self, rules: MemoryRules, now: int, limit: int = 20) -> list[tuple[str, int]]:
        """Sessions to be summarised, with the number of their last turn: they have rested long enough."""
        before = now - microseconds(rules.sessions.summarise)
        sql = (
            "SELECT s.id, MAX(t.n) FROM session s JOIN turn t ON t.session = s.id"
            " WHERE NOT s.summarised AND s.touched_at <= ? GROUP BY s.id ORDER BY s.touched_at, s.id LIMIT ?"
        )
        return [(row[0], row[1]) for row in self._all(sql, before, limit)]

    def summarised(self, session: str, until: int, items: Mapping[str, Iterable[int]] | None = None) -> None:
        """Its items are in memory; what is said after ``until`` makes it unsummarised again. ``items`` names the turns
        that each quotes: who forgets the item forgets them too."""
        rows = [(session, turn, item) for item, turns in (items or {}).items() for turn in turns]
        with self._change() as db:
            db.executemany("INSERT OR IGNORE INTO artefact VALUES (?, ?, 'summary', ?, '')", rows)
            db.execute(
                "UPDATE session SET summarised = 1 WHERE id = ?"
                " AND NOT EXISTS (SELECT 1 FROM turn WHERE session = id AND n > ?)",
                (session, until),
            )

    def expire(self, rules: MemoryRules, now: int, *, held: Collection[str] = ()) -> int:
        """Erase sessions that were summarised and have rested for the whole of their time; return how many. ``held``
        are scopes and items on legal hold: sessions of such a scope, or that refer to such an item, stay."""
        before = now - microseconds(rules.sessions.expire)
        sql = (
            "SELECT id, scope FROM session WHERE touched_at <= ?"
            " AND (summarised OR NOT EXISTS (SELECT 1 FROM turn WHERE session = id))"
        )
        over = [id for id, scope in self._all(sql, before) if scope not in held]
        if held:
            over = [id for id in over if not any(made.place in held for _, made in self.artefacts(id))]
        return self.erase(*over)

    # --- forgetting ---

    def erase(self, *sessions: str) -> int:
        """Erase whole sessions; return how many there were."""
        gone = 0
        with self._change() as db:
            for session in sessions:
                for table in ("turn", *_OF_TURN):
                    db.execute(f"DELETE FROM {table} WHERE session = ?", (session,))  # noqa: S608 - our own tables
                gone += db.execute("DELETE FROM session WHERE id = ?", (session,)).rowcount
            self._soil(db, gone)
        self._wipe()
        return gone

    def erase_items(self, items: Iterable[str]) -> int:
        """Erase every turn that refers to one of these items, which it may quote, or that one of them quotes. Return
        how many turns."""
        with self._change() as db:
            turns: set[tuple[str, int]] = set()
            for item in items:
                turns.update(
                    db.execute(
                        "SELECT session, turn FROM artefact WHERE kind IN ('item', 'summary') AND place = ?", (item,)
                    )
                )
            gone = self._blank(db, turns)
        self._wipe()
        return gone

    def erase_subject(self, matches: Callable[[str], bool], reaches: Callable[[str], bool] = lambda scope: True) -> int:
        """Erase every turn about somebody; ``matches`` says whether a subject is meant, ``reaches`` whether a session's
        scope is. Return how many turns."""
        with self._change() as db:
            joined = "FROM turn t JOIN session s ON s.id = t.session WHERE"
            sql = f"SELECT DISTINCT subject, scope {joined} subject <> ''"
            named = [(subject, scope) for subject, scope in db.execute(sql) if reaches(scope)]
            meant = {subject: matches(subject) for subject in {subject for subject, _ in named}}
            turns: set[tuple[str, int]] = set()
            for subject, scope in named:
                sql = f"SELECT t.session, t.n {joined} subject = ? AND scope = ?"
                turns.update(db.execute(sql, (subject, scope)) if meant[subject] else ())
            gone = self._blank(db, turns)
        self._wipe()
        return gone

    def erase_of(self, *, scope: str = "", run: str = "") -> int:
        """Erase the sessions of a scope, or of a run; return how many."""
        column, value = ("scope", scope) if scope else ("run", run)
        if not value:
            return 0
        sql = f"SELECT id FROM session WHERE {column} = ?"  # noqa: S608 - one of two columns of ours
        return self.erase(*(row[0] for row in self._all(sql, value)))

    def obey(self, stone: Tombstone, reaches: Callable[[str], bool] = lambda scope: True) -> int:
        """Erase what a tombstone names: turns that refer to an item, or are about a subject in the scopes that it
        ``reaches``; the sessions of a scope or a run. Doing it again does nothing. Return how many turns or sessions
        went."""
        if stone.kind == ITEM:
            return self.erase_items([stone.item])
        if stone.kind == SUBJECT:
            return self.erase_subject(lambda name: subject_digest(name, stone.salt) == stone.subject, reaches)
        return self.erase_of(scope=stone.scope) if stone.kind == SCOPE else self.erase_of(run=stone.run)

    def _blank(self, db: sqlite3.Connection, turns: set[tuple[str, int]]) -> int:
        """Take the text out of turns; their numbers stay, so that nothing else takes their place."""
        gone = 0
        for session, n in sorted(turns):
            for table in _OF_TURN:
                db.execute(f"DELETE FROM {table} WHERE session = ? AND turn = ?", (session, n))  # noqa: S608 - our own tables
            gone += db.execute(
                "UPDATE turn SET text = '', subject = '', tokens = 0, erased = 1"
                " WHERE session = ? AND n = ? AND NOT erased",
                (session, n),
            ).rowcount
        self._soil(db, gone)
        return gone


def _session(row: Sequence[Any]) -> Session:
    name, scope, run, opened_at, touched_at, folded, summarised, told = row
    return Session(name, scope, run, opened_at, touched_at, folded, bool(summarised), told)


def _sound(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)
