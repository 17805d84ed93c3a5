"""The kind ``webhook``: ``TABLE.send`` posts a signed event to one receiver.

    [notify]
    kind = "webhook"
    url = "https://hooks.partner.example/outrider"
    secret = "partner-webhook"
    events = ["case.decided", "case.withdrawn"]
    idempotent = true
    undo_event = "case.withdrawn"

Signed as the Standard Webhooks specification says (``edge_agent.webhooks``). The idempotency key is the ``webhook-id``,
by which such a receiver drops what it had already; ``idempotent`` says that this one does. An event cannot be taken
back: with ``undo_event`` another is sent after it, with the same data, and without it a person tells the receiver.

Addresses of webhooks often are secrets themselves: receipts and errors name the receiver's origin and not the path.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from edge_agent.tools import Argument, Effect, Manual, NotSent, Receipt, Risk, Tool, check_arguments
from edge_agent.tools.build import Place, settings
from edge_agent.tools.http.addresses import Egress, Resolve, Url, parse_url, system_resolve
from edge_agent.tools.http.answers import trouble
from edge_agent.tools.http.auth import Auth
from edge_agent.tools.http.call import SLACK_S
from edge_agent.tools.http.service import Service
from edge_agent.tools.http.table import Seconds
from edge_agent.tools.http.transport import Call, Transport
from edge_agent.webhooks import sign, signing_keys
from shared.actions import Action
from shared.errors import BadInput, Refused, Unavailable

_ANSWER_BYTES = 16 * 1024
_US = 1_000_000
_ARGUMENTS = {
    "type": Argument(about="the event's type, as case.decided"),
    "data": Argument("object", about="what the receiver is told"),
    "timestamp": Argument(required=False, about="when it happened, as 2026-01-31T09:00:00Z"),
}
_NAME = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"
Event = Annotated[str, Meta(pattern=rf"^{_NAME}\Z", max_length=128)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``private``, ``ca`` and the times are as in the kind ``http``."""

    url: str
    secret: str
    about: str = "Send a signed event to {host}."
    events: list[Event] = []  # the types that may be sent; none named: any
    idempotent: bool = False
    undo_event: Annotated[str, Meta(pattern=rf"^({_NAME})?\Z", max_length=128)] = ""
    risk: Risk = "medium"
    private: list[str] = []
    ca: str = ""
    timeout_s: Seconds = 30.0
    connect_s: Seconds = 10.0
    at_once: Annotated[int, Meta(ge=1, le=16)] = 2


class Webhook(Tool):
    """``TABLE.send``."""

    askable = False
    reads_back: ClassVar[bool] = False
    arguments = _ARGUMENTS

    def __init__(self, place: Place, given: Settings, url: Url, service: Service) -> None:
        self.name = f"{place.name}.send"
        self.about = given.about.replace("{host}", url.origin.host)
        self.effect: Effect = "compensatable" if given.undo_event else "irreversible"
        self.risk = given.risk
        self.idempotent = given.idempotent
        self.timeout_s = given.timeout_s + SLACK_S
        self._place = place
        self._given = given
        self._url = url
        self._service = service

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        body = self._body(action)
        return await self._service.run(lambda deadline: self._send(body, key, deadline), self._given.timeout_s)

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual | None:
        undo_event = self._given.undo_event
        if not undo_event or action.arguments.get("type") == undo_event:
            kind = action.arguments.get("type")
            return Manual(
                [f"Tell {self._url.origin.host} that the event {kind} {receipt.get('id', '')} does not hold."]
            )
        return Action(self.name, {"type": undo_event, "data": action.arguments.get("data")}, action.subject)

    async def close(self) -> None:
        self._service.close()

    def _body(self, action: Action) -> bytes:
        kind = str(action.arguments["type"])
        allowed = self._given.events
        if (
            not re.fullmatch(_NAME, kind)
            or len(kind) > 128
            or (allowed and kind not in (*allowed, self._given.undo_event))
        ):
            raise BadInput(
                "tool.arguments",
                f"{kind[:80]!r} is no event that may be sent",
                advice=f"use one of {', '.join(allowed)}" if allowed else "write it as case.decided",
                where=self.name,
            )
        event = {name: action.arguments[name] for name in self.arguments if action.arguments.get(name) is not None}
        try:
            return msgspec.json.encode(event)
        except (UnicodeError, TypeError, ValueError, RecursionError) as error:
            raise BadInput(
                "tool.arguments", "the data has no bytes", advice="give plain JSON values", where=self.name
            ) from error

    def _send(self, body: bytes, key: str, deadline: float) -> Receipt:
        """In a thread. The timestamp is this attempt's; id and body are the same in each."""
        headers = {"Content-Type": "application/json"}
        headers |= sign(signing_keys(self._secret()), key, self._place.now() // _US, body)
        answer = self._service.exchange(Call("POST", self._url, headers, body), deadline)
        what = f"POST {self._url.origin}"
        if answer.status == 410:
            raise Refused("webhook.gone", f"{what}: the receiver wants no more events", advice="remove the table")
        if not 200 <= answer.status < 300:
            raise trouble(what, answer, read=False, unsure=[], strike=self._service.auth.strike)
        return Receipt({"request": what, "id": key})

    def _secret(self) -> str:
        try:
            return self._place.secret(self._given.secret)
        except Unavailable as error:  # to the engine that would mean "nobody knows", and nothing was sent
            raise NotSent(error.code, error.message, advice=error.advice, where=error.where) from error


def make(place: Place, given: dict[str, Any], *, resolve: Resolve = system_resolve) -> list[Tool]:
    """The one tool of a table. Raises ``BadInput``: ``tools.setting``, ``web.url``, ``web.ca``, and ``web.plain`` for
    http to a host that is not listed in ``private``."""
    parsed = settings(Settings, place, given)
    url = parse_url(parsed.url)
    egress = Egress(url.origin, private=parsed.private)
    try:
        egress.check_origin(url.origin)
    except Refused as error:
        where = f"tools.toml [{place.name}]"
        raise BadInput(error.code, error.message, advice=error.advice, where=where) from error
    transport = Transport(
        egress,
        ca=Path(parsed.ca).expanduser() if parsed.ca else None,
        connect_s=parsed.connect_s,
        most=_ANSWER_BYTES,
        resolve=resolve,
    )
    return [Webhook(place, parsed, url, Service(transport, Auth(place), at_once=parsed.at_once, redirects=0))]
