"""Memory's housekeeping: what is over goes, sessions that rest become items, and whoever forgets an item forgets what
was said of it.

The rules are the installed release's. Here only what never leaves this device ends by them: what is shared ends at the
hub, for everybody, and comes back from there as a tombstone. What a legal hold covers stays. Each part may be cut off
anywhere and is made up for by the next turn: what goes is taken out of sessions first, and the item, by which it is
found again, last.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import msgspec

from edge_agent.config import now_us
from edge_agent.memory import Memory, Query
from edge_agent.memory.asking import Asked, Asker
from edge_agent.memory.forgetting import covers
from edge_agent.sessions import Sessions, rested
from shared.codec import hex_sha256
from shared.errors import BadInput, OutriderError, Refused
from shared.memory import item_id
from shared.memory.feed import DEVICE, Tombstone, subject_digest
from shared.memory.rules import MemoryRules

FIRST_S = 60.0  # an agent that has just started has better things to do
EVERY_S = 3600.0
_AT_ONCE = 500


def tokens(text: str) -> int:
    """How many tokens a text is counted as: a third of its bytes. No model's own count, which differ, but more than
    they come to for usual prose, and the same everywhere."""
    return (len(text.encode(errors="replace")) + 2) // 3


def forget_in_sessions(sessions: Sessions, memory: Memory, stone: Tombstone) -> None:
    """Let sessions obey a tombstone that memory has obeyed: what was said about it, and what quotes the items that went
    with it, also in summaries. The receipt may be written once this has returned. Doing it again does nothing. Raises
    ``Unavailable('session.busy')``, ``Unavailable('session.storage')``."""
    gone = memory.gone_by(stone.id)
    sessions.erase_items(gone)
    sessions.obey(stone, lambda scope: covers(stone, scope))
    forget_summaries(memory, gone, cause=stone.id, at=stone.at)


def forget_summaries(memory: Memory, gone: Iterable[str], *, cause: str, at: int) -> list[str]:
    """Forget the items that sessions have become in whose turns one of these items stood, since they may quote it; and
    return their ids. Where they are shared the hub is asked, by every device that has them under one name, which is
    made from ``cause``. Where this device may not ask for that, a steward has to."""
    if not memory.items(kinds=["summary"], limit=1):
        return []
    forgotten = []
    for id in gone:
        query = Query(id.removeprefix("mem_"), kinds=["summary"], limit=1_000, include_expired=True)
        for one in memory.find(query, now=0):
            name = one.kept.id
            if id not in memory.get(name).fields.get("items", "").split(","):
                continue
            asker = Asker(memory, "quoted", at, partial(_made, f"{cause} {name}"))
            with contextlib.suppress(Refused):
                asker.items([name])
                forgotten.append(name)
    return forgotten


def _made(seed: str, size: int) -> bytes:
    return bytes.fromhex(hex_sha256(seed.encode()))[:size]


def forget(
    memory: Memory,
    sessions: Sessions,
    *,
    reason: str,
    items: Sequence[str] = (),
    about: str = "",
    scope: str = "",
    run: str = "",
) -> Asked:
    """What a person at this computer asks to forget: items, all about a person, a scope, or what a run read and wrote;
    one of them at a time. What was said of it in sessions goes before it does. Raises ``BadInput('memory.forget')``
    and what ``Asker`` raises."""
    if sum(map(bool, (items, about, scope, run))) != 1:
        said = "say what: items, a person, a scope or a run"
        raise BadInput("memory.forget", said, advice="one of them at a time")
    gone: list[str] = []

    def quoted(ids: list[str]) -> None:
        sessions.erase_items(ids)
        gone.extend(ids)

    now = now_us()
    asker = Asker(memory, reason, now, secrets.token_bytes, quoted)
    if items:
        asked = asker.items(items)
    elif about:
        asked = asker.subject(about)
    else:
        asked = asker.scope(scope) if scope else asker.run(run)
    forget_summaries(memory, gone, cause=secrets.token_hex(), at=now)
    if not memory.holds():  # else the hub decides, and its tombstone takes what was said along
        sessions.erase_of(scope=scope, run=run)
        if about:
            salt = "00" * 32  # compared here and now, and kept nowhere
            meant = subject_digest(about, salt)
            sessions.erase_subject(lambda name: subject_digest(name, salt) == meant)
    return asked


def forget_sessions(memory: Memory, sessions: Sessions, ids: Sequence[str]) -> int:
    """Erase what was said in sessions, all or none of them; how many there were. Items that they have become stay.
    Raises ``BadInput('session.unknown')``, ``Refused('session.held')``."""
    held = {hold.item or hold.scope for hold in memory.holds()}
    for id in ids:
        if sessions.session(id).scope in held or any(made.place in held for _, made in sessions.artefacts(id)):
            said = f"a legal hold covers what {id} holds"
            raise Refused("session.held", said, advice="it can be forgotten once the hub's operator lifts the hold")
    return sessions.erase(*ids)


def drop_in_sessions(sessions: Sessions, memory: Memory, scope: str) -> None:
    """A scope was taken away: its sessions go, and what elsewhere refers to its items, which memory still has. Doing it
    again does nothing. Raises as above."""
    query = Query("", [scope], limit=2**31, include_expired=True)
    sessions.erase_items(one.kept.id for one in memory.find(query, now=0))
    sessions.erase_of(scope=scope)


class Done(msgspec.Struct, frozen=True):
    """What one turn did: items that were over, sessions that became items, sessions that went."""

    expired: int = 0
    summarised: int = 0
    ended: int = 0


class Upkeep:
    """``rules`` gives those in force, and may raise; then nothing ends. ``trouble`` hears what a person should know."""

    def __init__(
        self,
        memory: Memory,
        sessions: Sessions,
        rules: Callable[[], MemoryRules],
        *,
        now: Callable[[], int],
        trouble: Callable[[OutriderError], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._memory = memory
        self._sessions = sessions
        self._rules = rules
        self._now = now
        self._trouble = trouble
        self._sleep = sleep

    async def run(self) -> None:
        """Until cancelled: a while after the start, and then every hour."""
        await self._sleep(FIRST_S)
        while True:
            try:
                await asyncio.to_thread(self.once)
            except OutriderError as error:
                self._trouble(error)
            await self._sleep(EVERY_S)

    def once(self) -> Done:
        """One turn of everything. Blocking. Raises what the stores and ``rules`` raise."""
        rules, now = self._rules(), self._now()
        expired = self._expire(rules, now)
        summarised = self._summarise(rules, now)
        holds = self._memory.holds()
        held = {hold.item or hold.scope for hold in holds}
        return Done(expired, summarised, self._sessions.expire(rules, now, held=held))

    def _expire(self, rules: MemoryRules, now: int) -> int:
        gone = 0
        while over := self._memory.expired(now, _AT_ONCE, scope=DEVICE, rules=rules):
            self._sessions.erase_items(over)
            went = self._memory.erase(over)
            gone += went
            if not went:  # a hold came in between
                break
        return gone

    def _summarise(self, rules: MemoryRules, now: int) -> int:
        """A session in a scope that may not be written to keeps its turns, and waits; it keeps no other from theirs."""
        done = 0
        for rest in rested(self._sessions, rules, now, count=tokens):
            try:
                self._memory.add(rest.items)
            except Refused as error:
                self._trouble(error)
                continue
            quoted = {item_id(item): [int(n) for n in item.fields["turns"].split(",")] for item in rest.items}
            self._sessions.summarised(rest.session, rest.until, quoted)
            done += 1
        return done
