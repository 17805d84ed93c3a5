"""What the calls of one table share: where the service is, how to sign in, and the threads in which calls block."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode, urljoin

from edge_agent.tools.http.addresses import Origin, Url, parse_url
from edge_agent.tools.http.auth import Auth
from edge_agent.tools.http.templates import Template
from edge_agent.tools.http.transport import Answer, Call, Transport
from shared.errors import BadInput, Refused

T = TypeVar("T")
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Target:
    """Where a request goes: path and query as templates, below the base's path."""

    origin: Origin
    prefix: str
    path: Template
    query: dict[str, Template]

    def url(self, values: dict[str, Any]) -> Url:
        """Raises ``BadInput('tool.arguments')``. A parameter whose value is missing is left out."""
        try:
            given = {name: template.text(values) for name, template in self.query.items()}
            query = urlencode({name: text for name, text in given.items() if isinstance(text, str)})
            return Url(self.origin, f"{self.prefix}{self.path.path(values)}{'?' if query else ''}{query}")
        except UnicodeError as error:  # half a character (a lone surrogate) has no bytes
            raise BadInput(
                "tool.arguments", "an argument is no whole text", advice="give plain text", where=self.path.where
            ) from error


class Service:
    """The threads are its own: a service that answers slowly must not take those that the rest of the agent needs."""

    def __init__(self, transport: Transport, auth: Auth, *, at_once: int, redirects: int) -> None:
        self.auth = auth
        self._transport = transport
        self._at_once = at_once
        self._redirects = redirects
        self._threads: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[[float], T], timeout_s: float) -> T:
        """Do blocking ``work`` in a thread; it is given its deadline on the monotonic clock."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._at_once, thread_name_prefix="http-tool")
        deadline = time.monotonic() + timeout_s  # waiting for a thread counts
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, deadline)

    def exchange(self, call: Call, deadline: float) -> Answer:
        """One request, signed in; once more with a new token where the service refuses the one it was shown."""
        answer = self._signed(call, deadline)
        if answer.status == 401 and self.auth.renew():
            answer = self._signed(call, deadline)
        return answer

    def get(self, call: Call, deadline: float) -> Answer:
        """The same, following as many redirects as the settings allow. Each is judged as a request of its own; to
        another origin it carries no credentials and no headers of ours."""
        answer = self.exchange(call, deadline)
        away = False
        for _ in range(self._redirects):
            if answer.status not in _REDIRECTS or "location" not in answer.headers:
                break
            there = _redirected(call.url, answer.headers["location"])
            away = away or there.origin != call.url.origin  # once away, nothing is shown again
            call = Call("GET", there, {} if away else call.headers)
            answer = self._transport.exchange(call, deadline) if away else self.exchange(call, deadline)
        return answer

    def _signed(self, call: Call, deadline: float) -> Answer:
        shown = self.auth.headers(self._transport.exchange, deadline)
        return self._transport.exchange(Call(call.method, call.url, call.headers | shown, call.body), deadline)

    def close(self) -> None:
        """Cut off what is under way, so that the agent's end need not wait for it. A later call makes new threads."""
        self._transport.cut()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None


def _redirected(url: Url, location: str) -> Url:
    try:
        return parse_url(urljoin(f"{url.origin}{url.target}", location))
    except (BadInput, ValueError) as error:
        raise Refused(
            "web.redirect", f"{url} leads to what is no address", advice="correct base and path in tools.toml"
        ) from error
