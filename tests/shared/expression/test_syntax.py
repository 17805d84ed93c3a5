"""The parser in front of CEL's: it takes a part of CEL, and means by it what CEL means."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BadInput
from shared.expression import engine
from shared.expression.syntax import Node, parse, unquote

NAMES = frozenset(("a", "b"))


def tree(source: str) -> Node:
    return parse(source, NAMES, "")


def refused(source: str) -> BadInput:
    with pytest.raises(BadInput) as caught:
        parse(source, NAMES, "p.yaml:9")
    return caught.value


# the mark stands before the character that is named
_MARKED = r"""
^
a +^
a ^b
(a^
a^)
a^}
^}
a ^# b
a == ^'x
[a, ^, b]
[^,]
{a^}
{a: b^: c}
a ? b^
1.^5
1^e3
2^u
b^'x'
^9223372036854775808
^'\q'
^'\ud800'
^.a
a.^.b
a.^1
a.^in
a ^= b
a ==^= b
a ^& b
a^; b
^`a`
a.map(^x)
a.map(^1, x)
^has(a)
trim(a,^)
"""


@pytest.mark.parametrize("marked", _MARKED.strip().splitlines())
def test_syntax_errors_name_the_character(marked: str) -> None:
    error = refused(marked.replace("^", ""))
    assert error.code == "expression.syntax"
    assert f"at character {marked.index('^') + 1}:" in error.message
    assert error.where == "p.yaml:9"


@pytest.mark.parametrize("source", ["c", "c.a", "A", "for", "package", "b.map(x, y)", "b.map(x, 1) + x", "x", "this"])
def test_unknown_names(source: str) -> None:
    assert refused(source).code == "expression.name"


@pytest.mark.parametrize("source", ["b.map(a, 1)", "b.map(x, b.map(x, 1))"])
def test_a_variable_must_be_new(source: str) -> None:
    assert refused(source).code == "expression.name"


_NO_FUNCTIONS = """
eval('1')
a.eval()
type(a)
dyn(a)
double(a)
a.string()
a.getMilliseconds()
a.existsOne(b)
size()
size(a, b)
a.size(b)
trim(a)
a.trim(b)
a.map(x, 1, 2, 3)
a.all(x, true, true)
a.matches(b)
a.matches('a' + 'b')
a.matches('a{9999999}')
a.matches('(((a{20}){20}){20})')
duration(a)
duration('')
duration('-')
duration('1d')
duration('9999999h')
"""


@pytest.mark.parametrize("source", _NO_FUNCTIONS.strip().splitlines())
def test_unknown_functions_and_wrong_numbers_of_values(source: str) -> None:
    assert refused(source).code == "expression.function"


def test_a_pattern_is_short() -> None:
    assert refused(f"a.matches('{'a' * 201}')").code == "expression.function"
    assert tree(f"a.matches('{'a' * 200}')").kind == "call"


def test_an_advice_for_names_with_a_dash() -> None:
    assert '["a-name"]' in refused("a.read-file").advice


@pytest.mark.parametrize("text", ["1.5", "a.in", "has(a)"])
def test_advice_where_a_guess_was_near(text: str) -> None:
    assert {"1.5": "fractions", "a.in": '["in"]', "has(a)": "has(inputs.name)"}[text] in refused(text).message


@given(st.text(max_size=30))
def test_texts_in_quotes_mean_what_cel_means(text: str) -> None:
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r") + '"'
    assert tree(quoted).text == text == engine.run(engine.compiled(quoted, ""), {}, frozenset(), "")


@given(st.text(alphabet="\\abfnrtvxuU0123'\"`?q", max_size=12).map(lambda text: f'"{text}"'))
def test_escapes_mean_what_cel_means(quoted: str) -> None:
    try:
        node = tree(quoted)
    except BadInput:
        return
    assert node.kind == "text"
    assert node.text == unquote(quoted)
    assert node.text == engine.run(engine.compiled(quoted, ""), {}, frozenset(), "")


# --- the tree has the shape that CEL gives it: a small evaluator over it must come to the same value


class _Err(Exception):
    pass


def _int(value: Any) -> int:
    if type(value) is not int:
        raise _Err
    return value


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise _Err
    return value


def _meant(node: Node) -> Any:
    if node.kind == "int":
        return int(node.text)
    if node.kind == "const":
        return {"true": True, "false": False}[node.text]
    if node.kind == "unary":
        value = _meant(node.parts[0])
        return not _bool(value) if node.text == "!" else -_int(value)
    if node.kind == "choice":
        return _meant(node.parts[1]) if _bool(_meant(node.parts[0])) else _meant(node.parts[2])
    left, right = (_meant(part) for part in node.parts)
    sign = node.text
    if sign in ("&&", "||"):
        return _bool(left) and _bool(right) if sign == "&&" else _bool(left) or _bool(right)
    if sign in ("==", "!="):
        return (type(left) is type(right) and left == right) is (sign == "==")
    one, two = _int(left), _int(right)
    if sign in ("/", "%"):
        quotient = abs(one) // abs(two) * (1 if (one < 0) == (two < 0) else -1) if two else 0
        if not two:
            raise _Err
        return quotient if sign == "/" else one - two * quotient
    return {"+": one + two, "-": one - two, "*": one * two, "<": one < two, "<=": one <= two, ">": one > two}.get(
        sign, one >= two
    )


_INT = st.integers(0, 9).map(str)
_SIGNS = st.sampled_from(["+", "-", "*", "/", "%", "<", "<=", ">", ">=", "==", "!=", "&&", "||"])
# without brackets for the most part: it is precedence that is tried
_SOURCE = st.recursive(
    _INT | st.sampled_from(["true", "false", "-1", "!true"]),
    lambda inner: (
        st.tuples(inner, _SIGNS, inner).map(" ".join)
        | st.tuples(inner, _SIGNS, inner).map(" ".join)
        | inner.map("({})".format)
        | st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]}) ? ({parts[1]}) : {parts[2]}")
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(_SOURCE)
def test_precedence_is_that_of_cel(source: str) -> None:
    node = tree(source)
    program = engine.compiled(source, "")
    try:
        meant = _meant(node)
    except _Err:
        return  # CEL may find its value all the same: a false && anything
    value = engine.run(program, {}, frozenset(), "")
    assert value == meant
    assert type(value) is type(meant)


@settings(max_examples=300)
@given(st.text(alphabet="ab01()[]{}.,?:!&|+-*/%<>= '\"", max_size=25))
def test_what_it_takes_cel_takes_too(source: str) -> None:
    try:
        tree(source)
    except BadInput:
        return
    assert engine.compiled(source, "") is not None
