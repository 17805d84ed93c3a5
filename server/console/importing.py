"""``/memory/import``: a file of items is chosen, what it would do is shown, and a person says whether it shall.

Between the two, the file waits here in memory for the one who sent it, a few minutes and never on the disk: what is
erased must not be found in a file that somebody left.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from server.console.desk import Desk, Person
from server.console.failures import describe
from server.console.uploads import receive
from shared import limits
from shared.errors import Conflict, OutriderError

if TYPE_CHECKING:
    from server.memory import Memory
    from server.memory.bringing import Row

SHOWN = 200  # rows on a page, those that are not taken first
_FILES = 8  # that wait at once
_WAITS_S = 15 * 60


@dataclass(frozen=True)
class Chosen:
    """A file as it was sent. ``at`` is in seconds of a clock that only goes forward."""

    person: str
    name: str
    data: bytes
    at: float


class Waiting:
    """Files between the two steps, by a name that nobody guesses. The oldest goes where there are too many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._files: dict[str, Chosen] = {}

    def put(self, person: str, name: str, data: bytes) -> str:
        """One file for each person: a newer one takes the place of what they sent before."""
        ticket = secrets.token_urlsafe(16)
        with self._lock:
            kept = [(key, one) for key, one in self._fresh().items() if one.person != person]
            self._files = dict(kept[-_FILES + 1 :]) | {ticket: Chosen(person, name, data, self._clock())}
        return ticket

    def take(self, ticket: str, person: str) -> Chosen:
        """Raises ``Conflict('memory.import-gone')``."""
        with self._lock:
            self._files = self._fresh()
            if ticket in self._files and self._files[ticket].person == person:
                return self._files.pop(ticket)
        said = "This file is not waiting here any more, so nothing was brought in."
        raise Conflict("memory.import-gone", said, advice="Choose it again.")

    def _fresh(self) -> dict[str, Chosen]:
        since = self._clock() - _WAITS_S
        return {ticket: one for ticket, one in self._files.items() if one.at > since}


class ImportPages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._memory: Memory = desk.services.memory
        self._waiting = Waiting()

    def add_to(self, router: APIRouter) -> None:
        add = router.add_api_route
        add("/memory/import", self.ask, methods=["GET"], response_model=None)
        add("/memory/import", self.look, methods=["POST"], response_model=None)
        add("/memory/import/now", self.bring, methods=["POST"], response_model=None)

    async def ask(self, request: Request) -> Response:
        return self._page(request, await self._desk.person(request))

    def _page(
        self,
        request: Request,
        person: Person,
        failure: BaseException | None = None,
        rows: list[Row] | None = None,
        *,
        name: str = "",
        ticket: str = "",
        done: bool = False,
    ) -> Response:
        told = describe(failure) if failure is not None else None
        given = rows or []
        fates = Counter("refused" if row.code else row.does for row in given)
        return self._desk.page(
            request, "memory_import.html", person, told.status if told else 200, failure=told, fates=fates,
            rows=sorted(given, key=lambda row: not row.code)[:SHOWN], count=len(given),
            mb=limits.MEMORY_IMPORT_BYTES // 1024**2, most=limits.MEMORY_IMPORT_ITEMS,
            name=name, ticket=ticket, done=done,
        )  # fmt: skip

    async def look(self, request: Request) -> Response:
        """Take a file, and show what it would do. Nothing is kept yet."""
        from server.memory.bringing import too_large

        person = await self._desk.person(request)
        data = bytearray()

        def write(block: bytes) -> None:
            if len(data) + len(block) > limits.MEMORY_IMPORT_BYTES:
                raise too_large()
            data.extend(block)

        try:
            name = (await receive(request, person.csrf, write)).get("file")[:100] or "a file"
            whole = bytes(data)
            rows = await run_in_threadpool(self._memory.bringing.weigh, whole, name, person.name)
        except OutriderError as error:
            return self._page(request, person, error)
        ticket = self._waiting.put(person.name, name, whole) if any(row.does in ("new", "more") for row in rows) else ""
        return self._page(request, person, rows=rows, name=name, ticket=ticket)

    async def bring(self, request: Request) -> Response:
        person = await self._desk.person(request)
        form = await self._desk.form(request, person.csrf)
        try:
            chosen = self._waiting.take(form.get("ticket"), person.name)
            rows = await run_in_threadpool(self._memory.bringing.bring, chosen.data, chosen.name, person.name)
        except OutriderError as error:
            return self._page(request, person, error)
        return self._page(request, person, rows=rows, name=chosen.name, done=True)
