"""From a table's settings to its tools: every template is read and every name in it checked before anything is sent.

What is wrong with a table is found when it is read, and named: a reference to an argument that is not declared, a path
with an optional argument, an undo that a call of that name would refuse.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from edge_agent.tools import Argument, Effect, Kind, Rate, Tool
from edge_agent.tools.build import Place
from edge_agent.tools.http.addresses import Egress, Resolve, Url, parse_url
from edge_agent.tools.http.auth import make_auth
from edge_agent.tools.http.call import HttpCall, Plan, UnseenCall
from edge_agent.tools.http.service import Service, Target
from edge_agent.tools.http.table import (
    ArgumentSetting,
    CallSetting,
    ClientCredentials,
    Header,
    RateSetting,
    Settings,
    Undo,
)
from edge_agent.tools.http.templates import Node, Template, compiled, templates_in
from edge_agent.tools.http.transport import Transport
from shared.errors import BadInput, Refused

_OURS = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "cookie"}
_ALWAYS = {"key", "subject"}
_SCALARS = {"text", "integer", "boolean", "decimal"}


def make_calls(place: Place, given: Settings, resolve: Resolve) -> list[Tool]:
    where = f"tools.toml [{place.name}]"
    base = parse_url(given.base)
    if "?" in base.target:
        _wrong(where, "base has a query")
    egress = Egress(base.origin, allow=given.allow, private=given.private)
    _check_reach(egress, base, given, where)
    ca = Path(given.ca).expanduser() if given.ca else None
    transport = Transport(egress, ca=ca, connect_s=given.connect_s, most=given.most_bytes, resolve=resolve)
    service = Service(transport, make_auth(place, given.auth), at_once=given.at_once, redirects=given.redirects)
    tools: list[Tool] = []
    for name, setting in given.calls.items():
        plan = _plan(given, base, setting, f"{where} calls.{name}")
        kind = UnseenCall if plan.reads is None else HttpCall
        tools.append(kind(place, name, plan, service))
    _check_undos(given, dict(zip(given.calls, tools, strict=True)), where)
    return tools


def _check_reach(egress: Egress, base: Url, given: Settings, where: str) -> None:
    """What the settings themselves name must be on the list, so that the list tells everything that is reached."""
    named = [base]
    if isinstance(given.auth, ClientCredentials):
        named.append(parse_url(given.auth.token_url))
    for url in named:
        try:
            egress.check_origin(url.origin)
        except Refused as error:
            raise BadInput(error.code, error.message, advice=error.advice, where=where) from error


def _plan(given: Settings, base: Url, setting: CallSetting, where: str) -> Plan:
    effect = setting.effect or ("read" if setting.method == "GET" else None)
    if effect is None:
        _wrong(where, f"{setting.method} needs an effect: read, reversible, compensatable or irreversible")
    arguments = {name: _argument(value) for name, value in setting.arguments.items()}
    if _ALWAYS & set(arguments):
        _wrong(where, "key and subject are given to every call and cannot be arguments")
    _check_effect(setting, effect, where)
    body = compiled(setting.body, f"{where} body")
    _check_body(setting, body, arguments, where)
    kept = {f"kept.{name}": Argument() for name in setting.keep}
    ask, back = setting.ask, setting.read_back
    expect = {p: compiled(v, f"{where} read_back") for p, v in (back.expect if back else {}).items()}
    _check_names((t for node in expect.values() for t in templates_in(node)), arguments | kept)
    undo = {n: compiled(v, f"{where} undo") for n, v in (setting.undo.arguments if setting.undo else {}).items()}
    _check_names((t for node in undo.values() for t in templates_in(node)), arguments | kept)
    return Plan(
        setting=setting,
        effect=effect,
        risk=setting.risk or ("low" if effect == "read" else "medium"),
        rate=_rate(setting.rate or given.rate),
        timeout_s=setting.timeout_s or given.timeout_s,
        arguments=arguments,
        headers=_headers(given, setting, where),
        target=_target(base, setting.path, setting.query, arguments, where),
        body=body,
        asks=_target(base, ask.path, ask.query, arguments, f"{where} ask") if ask else None,
        reads=_target(base, back.path, back.query, arguments | kept, f"{where} read_back") if back else None,
        expect=expect,
        undo=undo,
        undo_kinds=_kinds_of(given, setting.undo),
    )


def _headers(given: Settings, setting: CallSetting, where: str) -> dict[str, str]:
    """By name whatever its case; a call's own win."""
    merged = {"accept": ("Accept", "application/json")}
    for name, text in (*given.headers.items(), *setting.headers.items()):
        merged[name.lower()] = (name, text)
    shown = given.auth.header.lower() if isinstance(given.auth, Header) else "authorization"
    if (_OURS | {shown}) & {*merged, setting.key_header.lower()} or shown in _OURS:
        _wrong(where, f"the headers {', '.join(sorted(_OURS | {shown}))} are not for settings")
    return dict(merged.values())


def _kinds_of(given: Settings, undo: Undo | None) -> dict[str, Kind]:
    """The kinds of the arguments that the undo's call takes."""
    taken = given.calls.get(undo.call) if undo else None
    return {name: _argument(value).kind for name, value in taken.arguments.items()} if taken else {}


def _argument(given: str | ArgumentSetting) -> Argument:
    if isinstance(given, ArgumentSetting):
        return Argument(given.kind, given.required, given.about)
    return Argument(given)  # type: ignore[arg-type]  # msgspec has checked that it is one of the kinds


def _rate(given: RateSetting | None) -> Rate | None:
    return Rate(given.calls, given.per_s) if given else None


def _target(base: Url, path: str, query: dict[str, Any], known: dict[str, Argument], where: str) -> Target:
    made = Template(path, f"{where} path")
    _check_names([made], known)
    for name in made.names:
        if name in known and not (known[name].required and known[name].kind in _SCALARS):
            _wrong(where, f"{name} stands in the path: it must be required, and no list or object")
    if {".", ".."} & set(path.split("/")):
        _wrong(where, "the path climbs")
    fixed = {name: value if isinstance(value, str) else str(value).lower() for name, value in query.items()}
    parts = {name: Template(text, f"{where} query.{name}") for name, text in fixed.items()}
    _check_names(parts.values(), known)
    for template in parts.values():
        if any(name in known and known[name].kind not in _SCALARS for name in template.names):
            _wrong(where, "a list or object cannot stand in a query")
    return Target(base.origin, base.target.rstrip("/"), made, parts)


def _check_names(templates: Iterable[Template], known: dict[str, Argument]) -> None:
    for template in templates:
        for name in template.names:
            if name not in known and name not in _ALWAYS:
                _wrong(template.where, f"{{{name}}} is no argument here")
        if template.alone and template.alone.number and known[template.alone.name].kind not in ("decimal", "integer"):
            _wrong(template.where, f"{template.alone.name} is no number")
        mixed = [name for name in template.names if not template.alone and name in known]
        if any(known[name].kind not in _SCALARS for name in mixed):
            _wrong(template.where, "a list or object cannot stand within a text")


def _check_body(setting: CallSetting, body: Node, arguments: dict[str, Argument], where: str) -> None:
    _check_names(templates_in(body), arguments)
    if body is not None and setting.method == "GET":
        _wrong(where, "GET has no body")
    if not setting.form:
        return
    if not isinstance(body, dict) or not all(isinstance(node, Template | int) for node in body.values()):
        _wrong(where, "a form is a table of texts, integers and booleans")
    if any(name in arguments and arguments[name].kind not in _SCALARS for t in templates_in(body) for name in t.names):
        _wrong(where, "a list or object cannot stand in a form")


def _check_effect(setting: CallSetting, effect: Effect, where: str) -> None:
    if effect in ("reversible", "compensatable") and setting.undo is None:
        _wrong(where, f"{effect} needs an undo")
    if effect in ("read", "irreversible") and setting.undo is not None:
        _wrong(where, f"{effect} has no undo")
    if effect == "read" and (setting.ask or setting.read_back):
        _wrong(where, "a read is not asked after")


def _check_undos(given: Settings, tools: dict[str, Tool], where: str) -> None:
    for name, setting in given.calls.items():
        if setting.undo is not None:
            _check_undo(setting.undo, tools[name], tools.get(setting.undo.call), f"{where} calls.{name}.undo")


def _check_undo(undo: Undo, tool: Tool, by: Tool | None, where: str) -> None:
    if by is None or by.effect == "read":
        _wrong(where, f"{undo.call!r} is no call that changes anything")
    needed = {name for name, argument in by.arguments.items() if argument.required}
    if not needed <= set(undo.arguments) <= set(by.arguments):
        _wrong(where, f"{undo.call} takes {', '.join(by.arguments) or 'no arguments'}")
    for name in needed:
        for template in templates_in(compiled(undo.arguments[name], where)):
            if any(part in tool.arguments and not tool.arguments[part].required for part in template.names):
                _wrong(where, f"{name} is required, and made of an optional argument")


def _wrong(where: str, said: str) -> NoReturn:
    raise BadInput("tools.setting", said, advice="see docs/reference/tools.md", where=where)
