"""The library is loaded late, alone, and its failures become ours."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from shared.errors import BadInput, Unavailable
from shared.expression import engine


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_nothing_is_loaded_before_the_first_expression() -> None:
    assert python("import sys, shared.expression; print([m for m in sys.modules if m.split('.')[0] == 'cel'])") == "[]"


def test_only_the_native_part_is_loaded() -> None:
    """Its command line would bring 25 MB along, a third of what the agent may use."""
    code = """
import sys
from shared.expression import Expression
assert Expression.parse("1 + 1", names=frozenset()).evaluate({}) == 2
heavy = {"cel.cli", "cel.stdlib", "typer", "rich", "prompt_toolkit", "pygments", "asyncio"}
print(sorted(heavy & set(sys.modules)), "cel.cel" in sys.modules)
import cel
print(cel.evaluate("1 + 1"), cel.compile is sys.modules["cel.cel"].compile)
"""
    assert python(code) == "[] True\n2 True"


def test_it_costs_little_memory() -> None:
    code = """
import msgspec
from pathlib import Path
def resident(): return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
before = resident()
from shared.expression import Expression
Expression.parse("inputs.a > 1", names=frozenset({"inputs"})).evaluate({"inputs": {"a": 1}})
print((resident() - before) // 1_000_000)
"""
    assert int(python(code)) < 15


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    engine._native.cache_clear()
    monkeypatch.delitem(sys.modules, "cel.cel", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    try:
        with pytest.raises(Unavailable) as caught:
            engine.compiled("1", "")
    finally:
        engine._native.cache_clear()
    assert caught.value.code == "expression.missing"


class Panic(BaseException):
    """What a panic in native code looks like from here."""


@pytest.mark.parametrize("raised", [Panic("it panicked on 'Quux'"), RuntimeError("Quux"), ValueError("Quux")])
def test_whatever_the_library_raises_becomes_ours(raised: BaseException) -> None:
    class Program:
        source = "1"

        def execute(self, names: dict[str, Any]) -> Any:
            raise raised

    with pytest.raises(BadInput) as caught:
        engine.run(Program(), {}, frozenset(), "p.yaml:1")
    assert caught.value.code == "expression.failed"
    assert "Quux" not in str(caught.value)


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(1)])
def test_the_end_of_the_process_is_let_through(raised: BaseException) -> None:
    class Program:
        source = "1"

        def execute(self, names: dict[str, Any]) -> Any:
            raise raised

    with pytest.raises(type(raised)):
        engine.run(Program(), {}, frozenset(), "")


def test_what_only_cel_refuses_is_syntax() -> None:
    with pytest.raises(BadInput) as caught:
        engine.compiled("1 +", "p.yaml:1")
    assert caught.value.code == "expression.syntax"
    assert caught.value.message.startswith("CEL does not take it:")
