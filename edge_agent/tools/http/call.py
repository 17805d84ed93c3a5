"""One call of a service as a tool.

A request is built before anything is sent, so arguments that do not fit are refused with nothing done. The receipt
holds what ``keep`` names and no more (of a ``read`` without ``keep`` the whole answer): what a service sends back may
be more than belongs in a log. Secrets that were shown are struck out of everything that is kept or told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

import msgspec

from edge_agent.tools import Argument, Effect, Kind, Manual, Rate, Receipt, Risk, Tool, check_arguments
from edge_agent.tools.build import Place
from edge_agent.tools.http.answers import ANSWER_BYTES, KEPT_BYTES, fits, parsed, struck, trouble
from edge_agent.tools.http.service import Service, Target
from edge_agent.tools.http.table import CallSetting, ReadBack
from edge_agent.tools.http.templates import MISSING, Node, Template, filled, pointed, templates_in, written
from edge_agent.tools.http.transport import Answer, Call
from shared.actions import Action
from shared.errors import BadInput, Refused, Unavailable

SLACK_S = 5.0  # the engine waits this much longer than the transport, whose error says more


@dataclass(frozen=True)
class Plan:
    """A call with its templates read. ``asks`` and ``reads`` are where its ask and read_back go."""

    setting: CallSetting
    effect: Effect
    risk: Risk
    rate: Rate | None
    timeout_s: float
    arguments: dict[str, Argument]
    headers: dict[str, str]
    target: Target
    body: Node
    asks: Target | None
    reads: Target | None
    expect: dict[str, Node]
    undo: dict[str, Node]
    undo_kinds: dict[str, Kind]


class HttpCall(Tool):
    """``TABLE.CALL``: one request of a service, whose outcome can be looked at."""

    def __init__(self, place: Place, name: str, plan: Plan, service: Service) -> None:
        setting = plan.setting
        self.name = f"{place.name}.{name}"
        self.about = setting.about or f"{setting.method} {setting.path} at {plan.target.origin.host}."
        self.effect = plan.effect
        self.risk = plan.risk
        self.idempotent = setting.idempotent or plan.effect == "read"
        self.askable = setting.ask is not None
        self.arguments = plan.arguments
        self.rate = plan.rate
        self.timeout_s = plan.timeout_s + SLACK_S
        self._table = place.name
        self._plan = plan
        self._service = service

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        call = self._request(action, key)
        return await self._service.run(lambda deadline: self._send(call, deadline), self._plan.timeout_s)

    async def ask(self, key: str, action: Action) -> Receipt | None:
        asks, setting = self._plan.asks, self._plan.setting.ask
        if asks is None or setting is None:
            return await super().ask(key, action)
        keep = self._plan.setting.keep if setting.keep is None else setting.keep
        call, answer = await self._look(asks, _values(action, key))
        found = MISSING if answer.status == 404 else pointed(self._parsed(answer), setting.at)
        if found is MISSING or found is None:
            return None
        return Receipt({"asked": _what(call), **_kept(found, keep)})

    async def observe(self, action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        reads, setting = self._plan.reads, self._plan.setting.read_back
        if reads is None or setting is None:
            return True, {}
        values = _values(action, key, receipt)
        missing = [name for name in reads.path.names if name not in values]
        if missing:
            return False, {"missing": missing}
        _, answer = await self._look(reads, values)
        return self._compared(answer, setting, values)

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual | None:
        setting = self._plan.setting.undo
        if setting is None:
            return super().undo(action, receipt)
        values = _values(action, action.key, receipt)
        missing = {n for node in self._plan.undo.values() for n in _names(node) if "." in n and n not in values}
        given = {name: filled(node, values) for name, node in self._plan.undo.items()}
        fitting = {n: _as_kind(value, self._plan.undo_kinds[n]) for n, value in given.items() if value is not MISSING}
        missing |= {name for name, value in fitting.items() if value is MISSING}
        if missing:
            said = f"its answer gave no fitting {', '.join(sorted(missing))}"
            return Manual([f"Undo by hand what {self.name} did, as {setting.call} would: {said}"])
        return Action(f"{self._table}.{setting.call}", fitting, action.subject)

    async def close(self) -> None:
        self._service.close()

    def _request(self, action: Action, key: str) -> Call:
        plan, setting = self._plan, self._plan.setting
        values = _values(action, key)
        headers = dict(plan.headers)
        if self.effect != "read" and setting.key_header:
            headers[setting.key_header] = f'"{key}"' if setting.key_quoted else key
        body: bytes | None = None
        if setting.body is not None:
            kind = "application/x-www-form-urlencoded" if setting.form else "application/json"
            headers = {"Content-Type": kind} | headers
            try:
                body = _form(plan.body, values) if setting.form else msgspec.json.encode(filled(plan.body, values))
            except (UnicodeError, TypeError, ValueError, RecursionError) as error:
                raise BadInput(
                    "tool.arguments", "the arguments have no bytes", advice="give plain text", where=self.name
                ) from error
        return Call(setting.method, plan.target.url(values), headers, body)

    def _send(self, call: Call, deadline: float) -> Receipt:
        """In a thread."""
        read = self.effect == "read"
        setting = self._plan.setting
        exchange = self._service.get if read and call.method == "GET" else self._service.exchange
        answer = exchange(call, deadline)
        if not 200 <= answer.status < 300:
            unsure = ([409] if setting.idempotent else []) if setting.unsure is None else setting.unsure
            raise trouble(_what(call), answer, read=read, unsure=unsure, strike=self._service.auth.strike)
        found = self._parsed(answer)
        whole = read and not setting.keep
        if read and (not answer.whole or (whole and not fits(found, ANSWER_BYTES))):
            raise Refused(
                "web.too-large", f"{_what(call)}: the answer is too large", advice="ask for less, or name parts in keep"
            )
        return Receipt({"request": _what(call), **({"answer": found} if whole else _kept(found, setting.keep))})

    async def _look(self, target: Target, values: dict[str, Any]) -> tuple[Call, Answer]:
        """An answer that may be 404. What cannot be looked at is ``Unavailable``, whatever the reason."""
        try:
            call = Call("GET", target.url(values), dict(self._plan.headers))
            answer = await self._service.run(lambda until: self._service.get(call, until), self._plan.timeout_s)
            if answer.status != 404 and not 200 <= answer.status < 300:
                raise trouble(_what(call), answer, read=True, unsure=[], strike=self._service.auth.strike)
        except (BadInput, Refused) as error:
            raise Unavailable(error.code, error.message, advice=error.advice, where=error.where) from error
        return call, answer

    def _parsed(self, answer: Answer) -> Any:
        return struck(parsed(answer), self._service.auth.strike)

    def _compared(self, answer: Answer, setting: ReadBack, values: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        if setting.gone or answer.status == 404:
            return setting.gone == (answer.status == 404), {"status": answer.status}
        said = self._parsed(answer)
        found = {pointer: pointed(said, pointer) for pointer in setting.expect}
        wanted = {pointer: filled(node, values) for pointer, node in self._plan.expect.items()}
        matches = all(_same(found[pointer], wanted[pointer]) for pointer in found)
        shown = {pointer: value for pointer, value in found.items() if value is not MISSING and fits(value, KEPT_BYTES)}
        return matches, {"status": answer.status, "found": shown}


class UnseenCall(HttpCall):
    """A call whose outcome nobody looks at."""

    reads_back: ClassVar[bool] = False


def _values(action: Action, key: str, receipt: dict[str, Any] | None = None) -> dict[str, Any]:
    """What templates may name; what is not there is not in it."""
    given = {name: value for name, value in action.arguments.items() if value is not None}
    kept = (receipt or {}).get("kept") or {}
    return given | {"key": key, "subject": action.subject} | {f"kept.{name}": value for name, value in kept.items()}


def _kept(found: Any, keep: dict[str, str]) -> dict[str, Any]:
    """The kept values of an answer, and the names of those that are not there or larger than what is kept."""
    if not keep:
        return {}
    values = {name: pointed(found, pointer) for name, pointer in keep.items()}
    kept = {name: value for name, value in values.items() if value is not MISSING and fits(value, KEPT_BYTES)}
    missing = sorted(set(keep) - set(kept))
    return {"kept": kept} | ({"missing": missing} if missing else {})


def _as_kind(value: Any, kind: Kind) -> Any:
    """A value of an answer as an argument, or ``MISSING``: a number where text is wanted, or the other way round."""
    if kind in ("text", "decimal"):
        return written(value)
    if kind == "integer" and isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    wanted: dict[str, type] = {"integer": int, "boolean": bool, "list": list, "object": dict}
    fitting = isinstance(value, wanted[kind]) and not (kind == "integer" and isinstance(value, bool))
    return value if fitting else MISSING


def _same(found: Any, wanted: Any) -> bool:
    """Equal as JSON, or as a number written otherwise: services answer 3 for "3", and 12.5 (text here) for 12.50."""
    if found is MISSING or wanted is MISSING or isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return bool(found == wanted) or _number(found) == _number(wanted)


def _number(value: Any) -> str:
    text = str(value)
    if not re.fullmatch(r"-?[0-9]+\.[0-9]+", text):
        return text
    return text.rstrip("0").rstrip(".")


def _names(node: Node) -> list[str]:
    return [name for template in templates_in(node) for name in template.names]


def _form(body: Node, values: dict[str, Any]) -> bytes:
    """A table of scalars as a web form."""
    fields = body.items() if isinstance(body, dict) else ()
    made = {name: node.text(values) if isinstance(node, Template) else written(node) for name, node in fields}
    return urlencode({name: text for name, text in made.items() if isinstance(text, str)}).encode()


def _what(call: Call) -> str:
    return f"{call.method} {call.url}"
