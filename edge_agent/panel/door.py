"""Who may see the panel: codes that open it once, and the sessions of those that are open.

A code is given to who shows the token of HOME/api.json, and opens one session within a minute. Used a second time it
closes the session that it opened: two have seen it, and one of them should not have. What a browser holds (room and
cookie) is kept here as one hash, in memory only, so every panel ends with the agent.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from shared.errors import Refused

VISIT = "outrider visit"  # where the pages find the visit in their scope
CODE_S = 60
REST_S = 2 * 3600  # a panel that nobody has used for so long is closed
_MOST = 16  # codes, and sessions, at a time

T = TypeVar("T")


@dataclass
class Visit:
    """An open panel: whose it is, where it is, the token that its forms carry, and what it is told next."""

    by: str
    room: str
    csrf: str
    said: list[str] = field(default_factory=list)

    def say(self, words: str) -> None:
        self.said.append(words)

    def hear(self) -> list[str]:
        """What was said, once."""
        said = list(self.said)
        self.said.clear()  # the session's own list
        return said


@dataclass
class _Code:
    by: str
    until: float
    opened: str = ""  # the session, once it was used


@dataclass
class _Open:
    by: str
    used: float
    said: list[str] = field(default_factory=list)


class Door:
    """``clock`` gives seconds that never go back."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, random: Callable[[int], str] = secrets.token_urlsafe
    ) -> None:
        self._clock = clock
        self._random = random
        self._codes: dict[str, _Code] = {}
        self._open: dict[str, _Open] = {}

    def invite(self, by: str) -> str:
        """A code that opens one panel for ``by`` within a minute."""
        self._sweep()
        code = self._random(24)
        _put(self._codes, _hash(code), _Code(by, self._clock() + CODE_S))
        return code

    def enter(self, code: str) -> tuple[str, str]:
        """Open a panel: its room and its cookie. Raises ``Refused('panel.code')``."""
        self._sweep()
        found = self._codes.get(_hash(code))
        if found is None:
            raise Refused("panel.code", "this link is not valid, or not any more", advice="run: outrider panel")
        if found.opened:
            self._open.pop(found.opened, None)
            said = "this link was used already; the panel that it opened is closed now"
            raise Refused("panel.code", said, advice="run: outrider panel")
        room, cookie = self._random(16), self._random(32)
        found.opened = _hash(f"{room}/{cookie}")
        _put(self._open, found.opened, _Open(found.by, self._clock()))
        return room, cookie

    def visit(self, room: str, cookie: str) -> Visit:
        """The open panel that a browser shows. Raises ``Refused('panel.closed')``."""
        self._sweep()
        found = self._open.get(_hash(f"{room}/{cookie}"))
        if found is None:
            raise Refused("panel.closed", "this panel is closed", advice="run: outrider panel")
        found.used = self._clock()
        return Visit(found.by, room, _hash(f"csrf/{room}/{cookie}"), found.said)

    def close(self, room: str, cookie: str) -> None:
        self._open.pop(_hash(f"{room}/{cookie}"), None)

    def close_all(self) -> int:
        """Close every panel, and void every code; how many panels were open."""
        count = len(self._open)
        self._codes.clear()
        self._open.clear()
        return count

    def _sweep(self) -> None:
        now = self._clock()
        self._codes = {name: code for name, code in self._codes.items() if now < code.until}
        self._open = {name: one for name, one in self._open.items() if now - one.used < REST_S}


def _put(kept: dict[str, T], name: str, one: T) -> None:
    kept[name] = one
    while len(kept) > _MOST:
        del kept[next(iter(kept))]


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
