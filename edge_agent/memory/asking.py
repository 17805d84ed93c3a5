"""What a person asks this device's memory to forget.

What is only here goes at once. What is shared is asked of the hub, whose tombstone then reaches everybody, this device
included; where this device may ask for that by its role, its own copy goes at once too. The wish is kept first: after a
kill in between, the hub's tombstone does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge_agent.memory.feeds import Wish
from edge_agent.memory.search import Query
from edge_agent.memory.store import Memory
from shared.errors import BadInput, Refused
from shared.memory.feed import (
    DEVICE,
    ITEM,
    PERSON,
    RUN,
    SCOPE,
    STEWARD,
    SUBJECT,
    WRITER,
    may,
    new_tombstone_id,
    subject_digest,
)

_ALL = 2**31


@dataclass(frozen=True)
class Asked:
    """How many items went here and now, and the tombstones that the hub is asked for, by id."""

    erased: int
    tombstones: list[str]


@dataclass(frozen=True)
class Asker:
    """Who asks: at ``now`` (µs), for a reason (a code of small letters, digits, ``.`` and ``-``). ``said`` is given the
    items that go here and now, before they do, to forget what was said of them."""

    memory: Memory
    reason: str
    now: int
    random: Callable[[int], bytes]
    said: Callable[[list[str]], object] = list

    def items(self, ids: Iterable[str]) -> Asked:
        """Forget items. Raises ``BadInput('memory.unknown')``, ``Refused('memory.role')``; then nothing was asked."""
        found = [self.memory.kept(id) for id in ids]
        for kept in found:
            self._need(kept.scope, WRITER)
        wishes = [self._wish(ITEM, kept.scope, item=kept.id) for kept in found if kept.scope != DEVICE]
        return self._ask(wishes, [kept.id for kept in found])

    def subject(self, name: str) -> Asked:
        """Forget all that is about one person, wherever this device may. The name itself goes nowhere."""
        if not name.strip():
            raise BadInput("memory.subject", "no name was given", advice="say whose data is to be forgotten")
        salt = self.random(32).hex()
        digest = subject_digest(name, salt)
        feeds = self.memory.feeds()
        scopes = [PERSON, *(scope for scope, feed in feeds.items() if scope != PERSON and may(feed.role, STEWARD))]
        here = self.memory.find(Query("", limit=_ALL, include_expired=True), now=self.now)
        mine = [
            one.kept.id
            for one in here
            if one.kept.subject
            and one.kept.scope in (DEVICE, *scopes)
            and subject_digest(one.kept.subject, salt) == digest
        ]
        return self._ask([self._wish(SUBJECT, scope, subject=digest, salt=salt) for scope in scopes], mine)

    def scope(self, scope: str) -> Asked:
        """Forget a whole scope: of ``device`` here and now, of ``person`` and a team's everywhere."""
        self._need(scope, STEWARD)
        here = self.memory.find(Query("", scopes=[scope], limit=_ALL, include_expired=True), now=self.now)
        if not here and scope not in (DEVICE, PERSON, *self.memory.feeds()):
            raise BadInput("memory.scope", f"there is no scope {scope!r} here", advice="see `outrider memory status`")
        wishes = [self._wish(SCOPE, scope)] if scope != DEVICE else []
        return self._ask(wishes, [one.kept.id for one in here])

    def run(self, run: str) -> Asked:
        """Forget what a run read, planned and wrote: the bodies of its entries, here and at the hub, and the items that
        came from it. The entries stay, and the log still verifies."""
        return self._ask([self._wish(RUN, PERSON, run=run)], [])

    def _need(self, scope: str, role: str) -> None:
        feed = self.memory.feeds().get(scope)
        if scope not in (DEVICE, PERSON) and feed is not None and feed.role and not may(feed.role, role):
            said = f"in {scope} this device is a {feed.role}; forgetting that needs a {role}"
            raise Refused("memory.role", said, advice="ask one of its stewards")

    def _wish(self, kind: str, scope: str, *, item: str = "", subject: str = "", salt: str = "", run: str = "") -> Wish:
        return Wish(new_tombstone_id(self.random), kind, scope, item, subject, salt, run, self.reason, self.now)

    def _ask(self, wishes: list[Wish], ids: list[str]) -> Asked:
        for wish in wishes:
            self.memory.wish(wish)
        held = {hold.item or hold.scope for hold in self.memory.holds()}
        self.said([id for id in ids if id not in held and not (held and self.memory.kept(id).scope in held)])
        return Asked(self.memory.erase(ids), [wish.id for wish in wishes])
