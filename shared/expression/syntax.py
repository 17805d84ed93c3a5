"""From the text of an expression to a tree: the part of CEL that playbooks may use, and nothing else.

The library that evaluates CEL has its own parser; this one stands before it, because what an expression reads, how
deeply its loops stand in each other and what it will cost must be known before it is evaluated, and the library does
not tell. Whatever this parser takes, CEL's takes with the same meaning; what it does not know is refused, so a word
that CEL learns later changes nothing here.

    expr    = or ["?" or ":" expr]
    or      = and {"||" and}            and = relation {"&&" relation}
    relation= sum {("<" | "<=" | ">=" | ">" | "==" | "!=" | "in") sum}
    sum     = product {("+" | "-") product}
    product = unary {("*" | "/" | "%") unary}
    unary   = "!" {"!"} member | "-" {"-"} member | member
    member  = primary {"." NAME ["(" [args] ")"] | "[" expr "]"}
    primary = NAME ["(" [args] ")"] | "(" expr ")" | "[" [args [","]] "]" | "{" [pairs [","]] "}" | literal
    literal = INT | TEXT | "true" | "false" | "null"
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from shared import limits
from shared.errors import BadInput
from shared.expression import functions, patterns

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
    |(?P<text>[rR](?:"[^"\r\n]*"|'[^'\r\n]*')|"(?:\\.|[^"\\\r\n])*"|'(?:\\.|[^'\\\r\n])*')
    |(?P<int>0x[0-9a-fA-F]+|[0-9]+)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>&&|\|\||[=!<>]=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE,
)
_RESERVED = frozenset(
    re.findall(
        r"\w+",
        "as break const continue else false for function if import in let loop null package namespace return true var"
        " void while",
    )
)
_UNSELECTABLE = frozenset(("in", "true", "false", "null"))
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|([abfnrtv\\?\"'`])|(.))", re.DOTALL
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Token(NamedTuple):
    """``kind`` is ``text``, ``int``, ``name``, ``sign`` or ``end``; ``at`` is where it begins in the source."""

    kind: str
    text: str
    at: int


class Node(msgspec.Struct, frozen=True):
    """One part of an expression.

    ``kind``: ``int``, ``text``, ``const`` (true, false, null), ``name``, ``select`` (``text`` is the field), ``index``,
    ``call`` (a function by ``text``; the first part is the receiver of a method), ``loop`` (a macro by ``text``; parts:
    range and bodies; ``name`` is the variable), ``has``, ``list``, ``map`` (keys and values in turn), ``unary``,
    ``binary`` (``text`` is the operator) and ``choice``. ``depth`` counts nodes within each other.
    """

    kind: str
    text: str = ""
    parts: tuple[Node, ...] = ()
    name: str = ""
    depth: int = 1


def tokens(source: str, fail: Callable[[int, str], BadInput], *, within: int = 0) -> list[Token]:
    """All tokens; or, from ``within`` a ``${...}`` on, those up to the ``}`` that ends it."""
    found: list[Token] = []
    at, open_braces = within, 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise fail(at, _unreadable(source[at]))
        kind, text = str(match.lastgroup), match.group()
        if text == "{":
            open_braces += 1
        elif text == "}":
            open_braces -= 1
            if open_braces < 0 and within:
                break
        if kind != "space":
            found.append(Token(kind, text, at))
        at = match.end()
    found.append(Token("end", "", at))
    return found


def _unreadable(char: str) -> str:
    return "a text is not closed: its quote has no partner" if char in "\"'" else f"{char!r} means nothing here"


def parse(source: str, names: frozenset[str], where: str) -> Node:
    """The tree of an expression that may read ``names``. Raises ``BadInput``: ``expression.syntax``, ``.name``,
    ``.function``, ``.too-large``."""
    if len(source) > limits.EXPRESSION_CHARS:
        raise BadInput(
            "expression.too-large",
            f"it has {len(source)} characters; {limits.EXPRESSION_CHARS} are allowed",
            advice="split it over several steps",
            where=where,
        )
    return _Parser(source, names, where).whole()


def unquote(token: str) -> str | None:
    """The text that a literal stands for; ``None`` where an escape means nothing."""
    if token[0] in "rR":
        return token[2:-1]
    bad = False

    def meant(match: re.Match[str]) -> str:
        nonlocal bad
        hexadecimal = match[1] or match[2] or match[3]
        code = int(hexadecimal, 16) if hexadecimal else int(match[4], 8) if match[4] else -1
        if match[6] or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            bad = True
            return ""
        return chr(code) if code >= 0 else _PLAIN.get(match[5], match[5])

    text = _ESCAPE.sub(meant, token[1:-1])
    return None if bad else text


class _Parser:
    def __init__(self, source: str, names: frozenset[str], where: str) -> None:
        self._where = where
        self._names = names
        self._bound: list[str] = []  # the variables of the loops around
        self._brackets = 0
        self._tokens = tokens(source, self._fail)
        self._next = 0

    # --- tokens

    def _fail(self, at: int, said: str) -> BadInput:
        return self._bad("expression.syntax", at, said)

    def _bad(self, code: str, at: int, said: str, advice: str = "see the expression reference") -> BadInput:
        return BadInput(code, f"at character {at + 1}: {said}", advice=advice, where=self._where)

    @property
    def _seen(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._seen
        self._next += token.kind != "end"
        return token

    def _sees(self, *texts: str) -> bool:
        return self._seen.kind in ("sign", "name") and self._seen.text in texts

    def _need(self, text: str) -> None:
        token = self._take()
        if token.kind != "sign" or token.text != text:
            raise self._fail(token.at, f"{text!r} is missing before {token.text or 'the end'!r}")

    def _node(self, kind: str, text: str = "", *parts: Node, name: str = "") -> Node:
        depth = 1 + max((part.depth for part in parts), default=0)
        if depth > limits.EXPRESSION_DEPTH:
            raise self._too_deep(f"more than {limits.EXPRESSION_DEPTH} operations stand within each other")
        return Node(kind, text, parts, name, depth)

    def _too_deep(self, said: str) -> BadInput:
        return self._bad("expression.too-large", self._seen.at, said, "split it over several steps")

    # --- the grammar

    def whole(self) -> Node:
        node = self._expr()
        left = self._seen
        if left.kind != "end":
            raise self._fail(left.at, f"{left.text!r} is not expected here")
        return node

    def _expr(self) -> Node:
        self._brackets += 1
        if self._brackets > limits.EXPRESSION_BRACKETS:
            raise self._too_deep(f"more than {limits.EXPRESSION_BRACKETS} brackets stand within each other")
        node = self._binary(0)
        if self._sees("?"):
            self._take()
            first = self._binary(0)
            self._need(":")
            node = self._node("choice", "", node, first, self._expr())
        self._brackets -= 1
        return node

    _LEVELS = (("||",), ("&&",), ("<", "<=", ">=", ">", "==", "!=", "in"), ("+", "-"), ("*", "/", "%"))

    def _binary(self, level: int) -> Node:
        if level == len(self._LEVELS):
            return self._unary()
        node = self._binary(level + 1)
        while self._sees(*self._LEVELS[level]):
            sign = self._take().text
            node = self._node("binary", sign, node, self._binary(level + 1))
        return node

    def _unary(self) -> Node:
        sign, count = self._seen.text, 0
        if self._sees("!", "-"):
            while self._sees(sign):
                self._take()
                count += 1
        node = self._member()
        for _ in range(count):
            node = self._node("unary", sign, node)
        return node

    def _member(self) -> Node:
        node = self._primary()
        while self._sees(".", "["):
            if self._take().text == "[":
                node = self._node("index", "", node, self._expr())
                self._need("]")
                continue
            token = self._take()
            if token.kind == "int":
                raise self._fail(token.at, "there are no fractions: count cents, permille or seconds")
            if token.kind != "name":
                raise self._fail(token.at, "a name is missing after '.'")
            if self._sees("("):
                node = self._method(node, token)
            elif token.text in _UNSELECTABLE:
                raise self._fail(token.at, f'{token.text!r} cannot follow a dot: write ["{token.text}"]')
            else:
                node = self._node("select", token.text, node)
        return node

    def _primary(self) -> Node:
        token = self._take()
        if token.kind == "int":
            if int(token.text, 0 if token.text.startswith("0x") else 10) > limits.EXPRESSION_INT:
                raise self._fail(token.at, "a number beyond 64 bits")
            return self._node("int", token.text)
        if token.kind == "text":
            text = unquote(token.text)
            if text is None:
                raise self._fail(token.at, "a backslash means nothing before that character")
            return self._node("text", text)
        if token.kind == "name":
            return self._named(token)
        if token.text == "(":
            node = self._expr()
            self._need(")")
            return node
        if token.text == "[":
            return self._node("list", "", *self._several("]"))
        if token.text == "{":
            return self._node("map", "", *self._several("}", pairs=True))
        raise self._fail(token.at, f"a value is missing before {token.text or 'the end'!r}")

    def _named(self, token: Token) -> Node:
        name = token.text
        if name in ("true", "false", "null"):
            return self._node("const", name)
        if self._sees("("):
            return self._function(token)
        if name in self._bound or (name in self._names and name not in _RESERVED):
            return self._node("name", name)
        known = ", ".join(sorted({*self._names, *self._bound}))
        raise self._bad(
            "expression.name",
            token.at,
            f"there is no name {name!r} here",
            f'use {known}; a name with a dash is written ["a-name"]',
        )

    def _several(self, closing: str, *, pairs: bool = False) -> list[Node]:
        """The elements of a list or, with ``pairs``, keys and values; a comma may follow the last."""
        found: list[Node] = []
        while not self._sees(closing):
            found.append(self._expr())
            if pairs:
                self._need(":")
                found.append(self._expr())
            if not self._sees(","):
                break
            self._take()
        self._need(closing)
        return found

    def _arguments(self) -> list[Node]:
        self._need("(")
        found: list[Node] = []
        while not self._sees(")"):
            if found:
                self._need(",")
            found.append(self._expr())
        self._need(")")
        return found

    # --- functions

    def _function(self, token: Token) -> Node:
        given = self._arguments()
        if token.text == "has":
            if len(given) != 1 or given[0].kind != "select":
                raise self._fail(token.at, "has() takes one field: has(inputs.name)")
            return self._node("has", "", *given)
        return self._call(token, given, functions.GLOBAL)

    def _method(self, receiver: Node, token: Token) -> Node:
        if token.text in functions.LOOPS:
            return self._loop(receiver, token)
        return self._call(token, [receiver, *self._arguments()], functions.METHOD)

    def _call(self, token: Token, given: list[Node], table: dict[str, tuple[int, int]]) -> Node:
        name = token.text
        if name not in table:
            raise self._bad("expression.function", token.at, f"there is no function {name!r} that is called so")
        least, most = table[name]
        if not least <= len(given) <= most:
            raise self._bad("expression.function", token.at, f"{name} is given the wrong number of values")
        said = ""
        if name in functions.LITERAL:
            last = given[-1]
            said = patterns.refuse(name, last.text) if last.kind == "text" else "it must be a text in quotes"
        if said:
            raise self._bad("expression.function", token.at, f"what {name} is given: {said}")
        return self._node("call", name, *given)

    def _loop(self, receiver: Node, token: Token) -> Node:
        """``list.filter(x, body)`` and the like: ``x`` is known in the body alone."""
        if len(self._bound) == limits.EXPRESSION_LOOPS:
            raise self._too_deep(
                f"more than {limits.EXPRESSION_LOOPS} of {', '.join(functions.LOOPS)} within each other"
            )
        self._need("(")
        variable = self._take()
        name = variable.text
        if variable.kind != "name" or name in _RESERVED or not self._sees(","):
            raise self._fail(variable.at, f"{token.text} takes a name for each element first: .{token.text}(x, ...)")
        if name in self._names or name in self._bound:
            raise self._bad("expression.name", variable.at, f"{name!r} means something already", "rename it")
        self._bound.append(name)
        bodies: list[Node] = []
        while self._sees(","):
            self._take()
            bodies.append(self._expr())
        self._need(")")
        self._bound.pop()
        if len(bodies) > functions.LOOPS[token.text]:
            raise self._bad("expression.function", token.at, f"{token.text} is given too many values")
        return self._node("loop", token.text, receiver, *bodies, name=name)
