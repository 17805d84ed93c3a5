"""Expressions: what they read and give, what is refused, and that nothing gets out of them."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BadInput, OutriderError
from shared.expression import Expression

NAMES = frozenset(("inputs", "steps", "today"))


def value(source: str, **inputs: Any) -> Any:
    return Expression.parse(source, names=NAMES).evaluate({"inputs": inputs, "steps": {}, "today": "2026-03-02"})


def refused(code: str, act: Callable[[], Any]) -> BadInput:
    with pytest.raises(BadInput) as caught:
        act()
    assert caught.value.code == code
    return caught.value


# --- what it reads


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("inputs.a.b > 1", {("inputs", "a", "b")}),
        ('steps["read-file"].result.x', {("steps", "read-file", "result", "x")}),
        ("inputs.a + inputs.a", {("inputs", "a")}),
        ("has(inputs.a)", {("inputs", "a")}),
        ('"a" in inputs', {("inputs",)}),
        ("inputs[today]", {("inputs",), ("today",)}),
        ("inputs.rows[0].n", {("inputs", "rows")}),
        ("inputs.rows.map(r, r.n + steps.s.k)", {("inputs", "rows"), ("steps", "s", "k")}),
        ("size(inputs.a) + inputs.b.size()", {("inputs", "a"), ("inputs", "b")}),
        ("{inputs.a: [inputs.b]}", {("inputs", "a"), ("inputs", "b")}),
        ("1 + 1", set()),
    ],
)
def test_reads(source: str, reads: set[tuple[str, ...]]) -> None:
    expression = Expression.parse(source, names=NAMES)
    assert expression.reads == reads
    assert expression.names == {path[0] for path in reads}


def test_only_what_is_read_is_taken_in() -> None:
    """What stands beside it may be of any size and type."""
    beside = {"a": 1, "b": object(), "c": [0.5] * 1_000_000}
    assert value("inputs.a + 1", **beside) == 2
    assert value('inputs["a"]', **beside) == 1
    assert value("has(inputs.d)", **beside) is False
    refused("expression.type", lambda: value("inputs.b == 1", **beside))
    refused("expression.type", lambda: value('"a" in inputs', **beside))


def test_a_whole_and_a_part_of_it() -> None:
    assert value("inputs.a.b == 1 && inputs.a.size() == 2", a={"b": 1, "c": 2}) is True
    assert value('inputs.a.b == 1 && "c" in inputs.a', a={"b": 1, "c": 2}) is True


def test_a_name_without_a_value_here() -> None:
    expression = Expression.parse("steps.a == 1", names=NAMES, where="p.yaml:3")
    error = refused("expression.failed", lambda: expression.evaluate({"inputs": {}}))
    assert "steps has no value here" in error.message
    assert error.where == "p.yaml:3"


def test_evaluated_many_times_with_other_values() -> None:
    expression = Expression.parse("inputs.n * 2", names=NAMES)
    assert [expression.evaluate({"inputs": {"n": n}}) for n in range(5)] == [0, 2, 4, 6, 8]


# --- what it gives


def test_text_of_all_alphabets_and_lengths() -> None:
    text = "Zoë \U0001f600 \x00\n" * 1000
    assert value("inputs.t", t=text) == text
    assert value("inputs.t + inputs.t == inputs.u", t=text, u=text * 2) is True


@pytest.mark.parametrize("number", [0, -1, 2**63 - 1, -(2**63 - 1)])
def test_whole_numbers_to_their_ends(number: int) -> None:
    assert value("inputs.n", n=number) == number
    assert type(value("inputs.n", n=number)) is int


@pytest.mark.parametrize("number", [2**63, -(2**63), 2**64, 10**40])
def test_larger_numbers_are_refused(number: int) -> None:
    refused("expression.type", lambda: value("inputs.n == 0", n=number))
    refused("expression.type", lambda: value("inputs.l.size()", l=[{"a": number}]))


def test_the_smallest_number_cannot_be_made() -> None:
    """CEL lets its negative be itself."""
    refused("expression.type", lambda: value("-9223372036854775807 - 1"))
    refused("expression.type", lambda: value("-(-9223372036854775807 - 1)"))
    refused("expression.syntax", lambda: value("9223372036854775808"))
    refused("expression.failed", lambda: value("9223372036854775807 + 1"))


@pytest.mark.parametrize(
    ("source", "gives"),
    [
        ('timestamp("2026-03-02T10:00:00+02:00")', "2026-03-02T08:00:00Z"),
        ('timestamp("2026-03-02T10:00:00.25Z")', "2026-03-02T10:00:00.250000Z"),
        ('[{"at": timestamp("2026-03-02T10:00:00Z")}]', [{"at": "2026-03-02T10:00:00Z"}]),
    ],
)
def test_a_time_becomes_text(source: str, gives: Any) -> None:
    assert value(source) == gives


def test_mappings_come_in_one_order() -> None:
    """CEL's own have none; a value is hashed, so it must be the same each time."""
    keys = [f"k{n}" for n in range(50)]
    made = value("{" + ", ".join(f'"{key}": 1' for key in keys) + "}")
    assert list(made) == sorted(keys)
    assert list(value("inputs.m", m={"b": {"d": 1, "c": 2}, "a": 0})["b"]) == ["c", "d"]


@pytest.mark.parametrize("source", ['{1: "a"}', "{true: 1}", '[{2: "a"}]', 'duration("1h")', '[duration("1h")]'])
def test_what_is_not_plain_is_refused(source: str) -> None:
    refused("expression.type", lambda: value(source))


@pytest.mark.parametrize(
    "given",
    [
        1.5,
        b"a",
        (1, 2),
        {1, 2},
        {1: 2},
        {None: 1},
        object(),
        dt.date(2026, 1, 1),
        "\ud800",
        {"\ud800": 1},
        len,
        [{"a": 1.0}],
    ],
)
def test_only_plain_values_enter(given: Any) -> None:
    refused("expression.type", lambda: value("inputs.x == 1", x=given))


class Sneaky(dict[str, Any]):
    """A mapping with code of its own."""

    def keys(self) -> Any:
        raise AssertionError("it was called")

    __iter__ = items = values = __getitem__ = keys  # type: ignore[assignment]  # each must never be called


class Odd(str):
    __slots__ = ()


class Number(int):
    pass


class Row(msgspec.Struct):
    a: int = 1


@pytest.mark.parametrize("given", [Sneaky(a=1), Odd("a"), Number(1), Row()])
def test_no_code_of_a_value_is_run(given: Any) -> None:
    refused("expression.type", lambda: value("inputs.x.a == 1", x=given))
    refused("expression.type", lambda: value("inputs.x == 1", x=given))


@pytest.mark.parametrize(
    "source",
    ["inputs.__class__", "inputs.t.__class__", "today.format", 'inputs["__class__"]', "inputs.t.join.__globals__"],
)
def test_attributes_of_python_objects_are_out_of_reach(source: str) -> None:
    refused("expression.failed", lambda: value(source, t="a"))


@pytest.mark.parametrize("source", ["open('/etc/passwd')", "__import__('os')", "inputs.t.__len__()", "today.format(1)"])
def test_functions_of_python_are_out_of_reach(source: str) -> None:
    refused("expression.function", lambda: value(source, t="a"))


# --- conditions


def test_holds() -> None:
    condition = Expression.parse("inputs.n > 1", names=NAMES)
    assert condition.holds({"inputs": {"n": 2}}) is True
    assert condition.holds({"inputs": {"n": 1}}) is False


@pytest.mark.parametrize("source", ["1", "0", '"true"', "null", "[]", "{}", "[true]", "inputs.n"])
def test_a_condition_is_true_or_false(source: str) -> None:
    condition = Expression.parse(source, names=NAMES)
    refused("expression.not-boolean", lambda: condition.holds({"inputs": {"n": 1}}))


# --- errors tell no values


@pytest.mark.parametrize(
    "source",
    [
        "inputs.s + 1",
        "int(inputs.s)",
        "inputs.m[inputs.s]",
        "inputs.n + 9223372036854775807",
        "inputs.l[inputs.n]",
        "timestamp(inputs.s)",
        "addDays(inputs.s, 1)",
        "addDays(today, inputs.n)",
        "daysBetween(today, inputs.s)",
        "decimal(inputs.s, 2)",
        "decimal(1, inputs.n)",
        "inputs.s.substring(inputs.n)",
        "[inputs.s, 1].join()",
        "inputs.s < inputs.n",
        "size(inputs.n)",
        "string(inputs.m)",
    ],
)
def test_errors_do_not_quote_values(source: str, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    given: dict[str, Any] = {"s": "Quux Secretson", "n": 777_123_456, "m": {"Quux Key": 1}, "l": [1]}
    error = refused("expression.failed", lambda: value(source, **given))
    told = " ".join((str(error), repr(error.__cause__), caplog.text, *capfd.readouterr()))
    for secret in ("Quux", "777", "Key"):
        assert secret not in told


def test_a_key_that_the_playbook_names_is_told() -> None:
    assert "'colour'" in refused("expression.failed", lambda: value("inputs.colour")).message


# --- bounds

BOUNDED = [
    "1" + "+1" * 1000,
    "(" * 25 + "1" + ")" * 25,
    "[" * 30 + "]" * 30,
    "{1:" * 30 + "1" + "}" * 30,
    "-" * 1500 + "1",
    "!" * 1500 + "true",
    "inputs" + ".a" * 200,
    "inputs" + "[0]" * 200,
    "true" + "&&true" * 150,
    "true ? 1 : " * 60 + "1",
    "size(" * 30 + "1" + ")" * 30,
    "[1].map(x, [x].map(y, [y].map(z, [z])))",
    "[1]" + ".map(x, [x])" * 101,
    "a" * 2001,
    '"' + "a" * 2000 + '"',
]


@pytest.mark.parametrize("source", BOUNDED, ids=range(len(BOUNDED)))
def test_long_and_deep_sources_are_refused(source: str) -> None:
    refused("expression.too-large", lambda: value(source))


@pytest.mark.parametrize(
    "source",
    [
        "1" + "+1" * 98,
        "(" * 23 + "1" + ")" * 23,
        "inputs" + ".a" * 99,
        "true ? 1 : " * 23 + "1",
        "[1]" + ".map(x, [x])" * 30,
        '"' + "a" * 1998 + '"',
    ],
)
def test_what_the_bounds_let_through_is_taken_by_cel(source: str) -> None:
    assert Expression.parse(source, names=NAMES).source == source


GROWING = {
    "text doubled": '["0123456789"]' + ".map(x, x + x)" * 40,
    "list doubled": "[[1]]" + ".map(x, x + x)" * 40,
    "shared twice": "[[1]]" + ".map(x, [x, x])" * 40,
    "replaced by itself": 'inputs.t.replace("a", inputs.t).replace("a", inputs.t).replace("a", inputs.t)',
    "joined by itself": 'inputs.t.split("").join(inputs.t).split("").join(inputs.t)',
    "between all": 'inputs.t.replace("", inputs.t).replace("", inputs.t)',
    "pairs of many": "inputs.l.map(x, inputs.l.map(y, x + y))",
    "all pairs": "inputs.l.all(x, inputs.l.all(y, x + y >= 0))",
    "long in each": "inputs.l.map(x, inputs.t)",
    "many mapped": "inputs.l.map(x, x)",
    "dear pattern": 'inputs.l.exists(x, "a".matches("[0-9a-zé]{900}"))',
    "unicode pattern": r'inputs.l.exists(x, "a".matches("\\w{9}"))',
    "calls of ours": 'inputs.l.exists(x, inputs.t.trim() == "")',
}


@pytest.mark.parametrize("source", GROWING.values(), ids=GROWING)
def test_what_grows_is_refused_before_it_runs(source: str) -> None:
    began = time.process_time()
    refused("expression.too-large", lambda: value(source, t="a" * 3000, l=list(range(3000))))
    assert time.process_time() - began < 1


def test_large_values_are_refused_without_being_walked_whole() -> None:
    began = time.process_time()
    refused("expression.too-large", lambda: value("size(inputs.l)", l=[{"a": n} for n in range(300_000)]))
    refused("expression.too-large", lambda: value("size(inputs.t)", t="a" * 50_000_000))
    assert time.process_time() - began < 2


def test_deep_values_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    refused("expression.type", lambda: value("size(inputs.l)", l=deep))


def test_patterns_are_linear() -> None:
    """The ones that never end elsewhere."""
    for pattern in ("(a+)+$", "(a|aa)+$", "(.*a){9}$", "(a?){30}a{30}$"):
        began = time.process_time()
        assert value(f'inputs.t.matches("{pattern}")', t="a" * 3000 + "!") is False
        assert time.process_time() - began < 0.5


# --- by chance

_SCALAR = (
    st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.sampled_from(["", "a", "a,b", "Zoë", "2026-03-02", "x" * 3000])
    | st.sampled_from([2**63 - 1, 1.5, b"", 2**70])
)
_ANY = st.recursive(_SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner))
_LEAVES = """
1 0 -3 "a" "," null true [] {} inputs inputs.a inputs.b inputs.c today x y steps.a 1.5 ' } foo "2026-03-02" inputs.a.b
9223372036854775807
"""
_LEAF = st.sampled_from(_LEAVES.split())


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def form(text: str, count: int) -> st.SearchStrategy[str]:
        return st.tuples(*[inner] * count).map(lambda parts: text.format(*parts))

    signs = st.sampled_from(["+", "+", "+", "-", "*", "/", "%", "==", "!=", "<", ">=", "in", "&&", "||"])
    methods = st.sampled_from(["contains", "startsWith", "split", "join", "substring", "matches", "replace"])
    loops = st.sampled_from(["all", "exists", "exists_one", "filter", "map", "map"])
    return st.one_of(
        st.tuples(inner, signs, inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        st.tuples(inner, methods, inner).map(lambda p: f"({p[0]}).{p[1]}({p[2]})"),
        st.tuples(inner, loops, st.sampled_from("xy"), inner).map(lambda p: f"({p[0]}).{p[1]}({p[2]}, {p[3]})"),
        *(
            form(*f)
            for f in (("({} ? {} : {})", 3), ("[{}, {}]", 2), ("({})[{}]", 2), ("({}).a", 1), ("has(({}).a)", 1))
        ),
        *(form(*f) for f in (("string({})", 1), ("int({})", 1), ("timestamp({})", 1), ("size({})", 1), ("!({})", 1))),
        *(form(*f) for f in (("addDays({}, {})", 2), ("decimal({}, {})", 2), ("({}).trim()", 1))),
        form("{{{}: {}}}", 2),
    )


@settings(max_examples=200)
@given(st.recursive(_LEAF, _grown, max_leaves=12), st.fixed_dictionaries({"a": _ANY, "b": _ANY, "c": _ANY}))
def test_any_source_with_any_values_ends_in_a_plain_value_or_our_error(source: str, inputs: dict[str, Any]) -> None:
    try:
        made = value(source, **inputs)
    except OutriderError as error:
        assert error.code.startswith("expression.")
        assert isinstance(error, BadInput)
    else:
        assert msgspec.json.decode(msgspec.json.encode(made)) == made


@settings(max_examples=300)
@given(st.text(max_size=60) | st.text(alphabet="()[]{}.,?:!&|+-\"'\\ra1 n", max_size=60))
def test_any_text_is_read_or_refused(source: str) -> None:
    try:
        Expression.parse(source, names=NAMES)
    except BadInput as error:
        assert error.code in {f"expression.{code}" for code in ("syntax", "name", "function", "too-large")}
