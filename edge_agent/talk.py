"""Conversations that programs at this computer hold, and the context that is put before whoever answers next.

A turn is kept, old turns are folded into the rolling summary when they outgrow their share, and ``context`` puts
together pinned items, summary, what memory recalls and the newest turns, within a budget (``shared.context``). The
planner of playbooks does not read it: its model compares given options about one text, and has no room for more.

What is recalled never flows into a wider scope: a session of a team sees only that team's items, a person's sees
theirs and their teams', and only a session of this device sees what never leaves it. What an answer was given is noted
with the next turn of the assistant, which may quote it, so that whoever forgets the item forgets the turn.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from edge_agent.memory import Found, Memory, Query
from edge_agent.sessions import Artefact, Meaning, Sessions, fold
from edge_agent.vector import Embedding
from shared.context import Context, Part, Parts, assemble
from shared.errors import BadInput, OutriderError
from shared.memory.feed import DEVICE, PERSON

ASSISTANT = "assistant"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_ROLE = re.compile(r"[a-z][a-z0-9-]{0,39}")
_QUESTION_CHARS = 2_000
_PINNED, _RECALLED = 100, 12
_MOST = 16_000  # tokens of one context
_DEADLINE_S = 10.0


class Embeds(Protocol):
    """What is asked of the models room; ``edge_agent.models.engine.Models`` is one."""

    async def embed(self, texts: Sequence[str], *, deadline_s: float | None = None) -> Any: ...


class Talk:
    """``embedder`` is the hash of the model in use, empty where there is none: then words alone decide what is recalled
    and what a summary keeps. ``count`` counts tokens."""

    def __init__(
        self,
        sessions: Sessions,
        memory: Memory,
        models: Embeds,
        *,
        embedder: Callable[[], str],
        now: Callable[[], int],
        count: Callable[[str], int],
    ) -> None:
        self._sessions = sessions
        self._memory = memory
        self._models = models
        self._embedder = embedder
        self._now = now
        self._count = count

    async def say(
        self, session: str, role: str, text: str, *, scope: str, subject: str, run: str, artefacts: Sequence[Artefact]
    ) -> dict[str, Any]:
        """Keep a turn; the session is made where there is none. Its number, and whether turns were folded. Raises
        ``BadInput('session.name' | 'session.role' | 'session.scope' | 'session.turn')``, ``Unavailable``."""
        if not _NAME.fullmatch(session):
            raise BadInput("session.name", f"{session[:80]!r} is no name", advice="letters, digits, . _ and -")
        if not _ROLE.fullmatch(role):
            raise BadInput("session.role", f"{role[:80]!r} is no role", advice="user or assistant, for example")
        n = await asyncio.to_thread(self._kept, session, role, text, scope, subject, run, list(artefacts))
        chooser = Meaning(self._embedded) if self._embedder() else None
        return {"turn": n, "folded": await fold(self._sessions, session, chooser) is not None}

    async def context(self, session: str, question: str, budget: int) -> dict[str, Any]:
        """What to put before whoever answers ``question``, or else the newest turn: ``text``, its ``tokens``, what it
        is made of, and what was left out and why; the session keeps the record. Raises ``BadInput('session.unknown' |
        'session.budget')``."""
        if not 0 <= budget <= _MOST:
            raise BadInput("session.budget", f"a budget of {budget} tokens", advice=f"0 to {_MOST}")
        asked = question or await asyncio.to_thread(self._newest, session)
        model, vector = await self.meaning(asked)
        return await asyncio.to_thread(self._assembled, session, asked, budget, model, vector)

    async def meaning(self, question: str) -> tuple[str, Embedding | None]:
        """The embedder of the release and the vector that it makes of a question; none where it cannot now, and words
        alone have to do."""
        model = self._embedder()
        if not model or not question.strip():
            return model, None
        try:
            return model, (await self._embedded([question[:_QUESTION_CHARS]]))[0]
        except OutriderError:
            return "", None

    def show(self, session: str) -> dict[str, Any]:
        return shown(self._sessions, session)

    # --- in a thread ----------------------------------------------------------------------------------------------

    def _kept(
        self, session: str, role: str, text: str, scope: str, subject: str, run: str, artefacts: list[Artefact]
    ) -> int:
        at = self._now()
        known = self._sessions.open(session, scope=_scope(scope), at=at, run=run)
        if known.scope != scope:
            said = f"{session} is a session of {known.scope}"
            raise BadInput("session.scope", said, advice="take another name for another scope")
        if role == ASSISTANT and known.told:
            given = msgspec.json.decode(known.told)["blocks"]
            artefacts += [Artefact("item", one["id"], "") for one in given if one["kind"] in ("item", "pinned")]
        return self._sessions.add(session, role, text, at=at, subject=subject, artefacts=artefacts)

    def _newest(self, session: str) -> str:
        folded = self._sessions.session(session).folded
        said = [turn.text for turn in self._sessions.turns(session, after=folded) if not turn.erased]
        return said[-1] if said else ""

    def _assembled(
        self, session: str, question: str, budget: int, model: str, vector: Embedding | None
    ) -> dict[str, Any]:
        scopes = self._seen_from(self._sessions.session(session).scope)
        now = self._now()
        turns, summary = self._sessions.parts(session)
        pinned = [one for one in self._memory.find(Query("", scopes, limit=_PINNED), now=now) if one.kept.pinned]
        found: list[Found] = []
        if question.strip():
            query = Query(question[:_QUESTION_CHARS], scopes, limit=_RECALLED)
            found = self._memory.find(query, now=now, vector=vector, model=model)
        recalled = [one for one in found if not one.kept.pinned]
        parts = Parts(_parts(pinned), turns, _parts(recalled), summary)
        context = assemble(parts, budget, self._count, most=budget // 2)
        record = _record(context, budget, now)
        self._sessions.tell(session, msgspec.json.encode(record).decode())
        return {"text": context.text, "lacks_pinned": context.lacks_pinned, **record}

    def _seen_from(self, scope: str) -> list[str]:
        """The scopes whose items a session may be given; none named are all."""
        if scope == DEVICE:
            return []
        if scope == PERSON:
            return [PERSON, *(name for name in self._memory.feeds() if name.startswith("team/"))]
        return [scope]

    async def _embedded(self, texts: Sequence[str]) -> Sequence[Embedding]:
        found = await self._models.embed(texts, deadline_s=_DEADLINE_S)
        vectors: Sequence[Embedding] = found.embeddings
        return vectors


def shown(sessions: Sessions, session: str) -> dict[str, Any]:
    """A session, JSON-plain: its turns, its summary, what they refer to, and the record of its newest context. Raises
    ``BadInput('session.unknown')``."""
    known = sessions.session(session)
    refers: dict[int, list[Any]] = {}
    for n, artefact in sessions.artefacts(session):
        refers.setdefault(n, []).append(msgspec.to_builtins(artefact))
    return {
        **msgspec.to_builtins(known),
        "told": msgspec.json.decode(known.told) if known.told else None,
        "summary": msgspec.to_builtins(sessions.summary(session)),
        "turns": [msgspec.to_builtins(turn) | {"refers": refers.get(turn.n, [])} for turn in sessions.turns(session)],
    }


def _scope(scope: str) -> str:
    if scope not in (DEVICE, PERSON) and not re.fullmatch(r"team/[^\x00-\x1f]{1,995}", scope):
        raise BadInput("session.scope", f"{scope[:80]!r} is no scope", advice="use device, person or team/NAME")
    return scope


def _parts(found: Sequence[Found]) -> list[Part]:
    return [Part(one.kept.id, one.kept.text) for one in found]


def _record(context: Context, budget: int, now: int) -> dict[str, Any]:
    """What was given and what was left out, by id: no text, which would have to be forgotten here too."""
    return {
        "at": now,
        "budget": budget,
        "tokens": context.used,
        "blocks": [{"kind": block.kind, "id": block.id, "tokens": block.tokens} for block in context.blocks],
        "left_out": msgspec.to_builtins(context.left_out),
    }
