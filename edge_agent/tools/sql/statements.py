"""Statements as ``tools.toml`` declares them, judged when they are read: a plan fills in values, and never writes SQL.

    [crm.statements.add-note]
    sql = "INSERT INTO notes (customer, text) VALUES (:customer, :text) RETURNING id"
    arguments = {customer = {kind = "integer"}, text = {about = "one paragraph"}}
    effect = "reversible"
    returns = {id = "integer"}
    undo = "remove-note"
    check = "SELECT count(*) FROM notes WHERE id = :id AND text = :text"

A value stands as ``:name`` and is always bound, never pasted. ``returns`` names what of the returned row goes into the
receipt, and from there into the undo: nothing else of the database is written into the log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

import msgspec

from edge_agent.tools import Argument, Effect, Kind, Risk
from shared.errors import BadInput

UNDOES = "undoes"  # the argument that tells one undo from another, and from a plain call with the same values

_NAME = re.compile(r"[a-z][a-z0-9-]{0,59}")
_COLUMN = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_READS = {"SELECT", "WITH", "VALUES", "TABLE"}
_CHANGES = {"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "WITH", "SELECT"}
# What is no place for a value: comments, texts, quoted names, casts. Then the values, and what ends a statement.
_TOKENS = re.compile(
    r"--[^\n]*|/\*.*?\*/|[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$([A-Za-z_0-9]*)\$.*?\$\1\$|::"
    r"|(?P<name>:[A-Za-z_][A-Za-z0-9_]*)|(?P<end>;)|(?P<open>['\"]|/\*)|(?P<sign>\?|\$[0-9]|@[A-Za-z])",
    re.DOTALL,
)


class GivenArgument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One argument, as ``edge_agent.tools.Argument`` has it."""

    kind: Kind = "text"
    required: bool = True
    about: str = ""


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One statement. ``rows``: refuse, and change nothing, unless so many rows are changed. ``before``: a query of one
    row that is read first, in the same transaction, for what an undo needs to know of the former state."""

    sql: str
    effect: Effect
    arguments: dict[str, GivenArgument] = {}
    about: str = ""
    risk: Risk = "medium"
    rows: int | None = None
    returns: dict[str, Kind] = {}
    before: str = ""
    check: str = ""
    undo: str = ""


@dataclass(frozen=True)
class Query:
    """One statement of SQL in pieces: text, and between each two the name of a value."""

    texts: tuple[str, ...]
    names: tuple[str, ...]

    def write(self, mark: str = "") -> str:
        """With ``:name`` for each value, or with ``mark`` and its number, the same name the same number."""
        order = list(dict.fromkeys(self.names))
        marks = [f"{mark}{order.index(name) + 1}" if mark else f":{name}" for name in self.names]
        return "".join(text + place for text, place in zip(self.texts, [*marks, ""], strict=True))

    def values(self, given: Mapping[str, object]) -> list[object]:
        """In the order of the numbers."""
        return [given.get(name) for name in dict.fromkeys(self.names)]


@dataclass(frozen=True)
class Statement:
    """A statement that was judged good."""

    name: str
    given: Given
    query: Query
    before: Query | None
    check: Query | None
    arguments: dict[str, Argument]
    undo: tuple[str, ...] = ()  # the arguments of the statement that takes it back


def judge(table: str, statements: Mapping[str, Given]) -> dict[str, Statement]:
    """All statements of a table. Raises ``BadInput('sql.statement')``."""
    places = {name: f"tools.toml [{table}.statements.{name}]" for name in statements}
    judged = {name: _statement(places[name], name, given) for name, given in statements.items()}
    return {
        name: replace(statement, undo=_undo(places[name], statement.given, judged))
        for name, statement in judged.items()
    }


def parse(where: str, sql: str, first: set[str]) -> Query:
    """One statement that begins with one of these words. Raises ``BadInput('sql.statement')``."""
    sql = sql.strip().removesuffix(";").rstrip()
    texts, names, at = [], [], 0
    for token in _TOKENS.finditer(sql):
        if token["end"] or token["open"]:
            _bad(where, "it is more than one statement" if token["end"] else "a quote or comment is not closed")
        if token["sign"]:
            _bad(where, f"a value is written :name, not {token['sign']}")
        if token["name"]:
            texts.append(sql[at : token.start()])
            names.append(token["name"][1:])
            at = token.end()
    plain = _TOKENS.sub(lambda found: "" if found[0].startswith(("--", "/*")) else found[0], sql).split()
    if not plain or plain[0].upper().rstrip("(") not in first:
        _bad(where, f"it begins with none of {', '.join(sorted(first))}")
    return Query((*texts, sql[at:]), tuple(names))


def _statement(where: str, name: str, given: Given) -> Statement:
    if not _NAME.fullmatch(name):
        _bad(where, "a statement's name is lower-case letters, digits and -")
    arguments = {key: Argument(one.kind, one.required, one.about) for key, one in given.arguments.items()}
    for column in (*arguments, *given.returns):
        if not _COLUMN.fullmatch(column) or column == UNDOES:
            _bad(where, f"{column!r} is no name for a value")
    if set(arguments) & set(given.returns):
        _bad(where, f"{', '.join(set(arguments) & set(given.returns))}: given and returned under one name")
    reads = given.effect == "read"
    if reads and (given.returns or given.before or given.check or given.undo or given.rows is not None):
        _bad(where, "a read has no rows, returns, before, check or undo")
    query = parse(where, given.sql, _READS if reads else _CHANGES)
    before = parse(where, given.before, _READS) if given.before else None
    check = parse(where, given.check, _READS) if given.check else None
    _known(where, query, set(arguments))
    _known(where, before, set(arguments))
    _known(where, check, {*arguments, *given.returns})
    used = {name for one in (query, before, check) if one for name in one.names}
    if set(arguments) - used:
        _bad(where, f"{', '.join(sorted(set(arguments) - used))} is declared and stands nowhere")
    if not reads:
        arguments[UNDOES] = Argument(required=False, about="the key of what this takes back; set by the agent")
    return Statement(name, given, query, before, check, arguments)


def _known(where: str, query: Query | None, names: set[str]) -> None:
    unknown = sorted(set(query.names) - names) if query else []
    if unknown:
        _bad(where, f":{', :'.join(unknown)} is not declared")


def _undo(where: str, given: Given, statements: Mapping[str, Statement]) -> tuple[str, ...]:
    """The arguments of the statement that takes this one back, each of which is given or returned here."""
    takes_back = given.effect in ("reversible", "compensatable")
    if takes_back != bool(given.undo):
        _bad(where, f"{given.effect}: undo must {'name a statement' if takes_back else 'not be given'}")
    if not given.undo:
        return ()
    undo = statements.get(given.undo)
    if undo is None or undo.given.effect == "read":
        _bad(where, f"undo: there is no statement {given.undo!r} that changes anything")
    kinds = {**{name: one.kind for name, one in given.arguments.items()}, **given.returns}
    for name, argument in undo.arguments.items():
        if name != UNDOES and argument.required and kinds.get(name) != argument.kind:
            _bad(where, f"undo: {given.undo} needs {name} ({argument.kind}), which is neither given nor returned")
    return tuple(undo.arguments)


def _bad(where: str, said: str) -> NoReturn:
    raise BadInput("sql.statement", said, advice="see docs/reference/tools.md", where=where)
