"""CEL itself: the one place that touches the library ``common-expression-language`` (module ``cel``, Rust inside).

Only its native part is loaded, on the first expression: the package's ``__init__`` also brings its command line along
(typer, rich, prompt_toolkit), which costs 0.3 s and 27 MB where the native part costs 7 ms and 5 MB.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from functools import cache
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from shared.errors import BadInput, Unavailable
from shared.expression import functions

_NATIVE = "cel.cel"


@cache
def _native() -> ModuleType:
    if _NATIVE in sys.modules:
        return sys.modules[_NATIVE]
    package = importlib.util.find_spec("cel")  # finds, and does not run, the package
    spec = PathFinder.find_spec(_NATIVE, package.submodule_search_locations) if package else None
    if spec is None or spec.loader is None:
        raise Unavailable(
            "expression.missing",
            "the library that evaluates expressions is not installed",
            advice="install the package common-expression-language",
        )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[_NATIVE] = module
    # It warns of each error that it also raises, and quotes expressions and values, which may be private.
    logging.getLogger("cel").disabled = True
    return module


def compiled(source: str, where: str) -> Any:
    """The program of an expression that ``syntax.parse`` took. Raises ``BadInput('expression.syntax')``."""
    native = _native()
    try:
        return native.compile(source)
    # BaseException: native code, and a panic in it does not derive from Exception.
    except BaseException as error:
        _let_through(error)
        said = re.split(r"\n|ERROR: <input>:", str(error))
        raise BadInput(
            "expression.syntax",
            f"CEL does not take it: {said[1] if len(said) > 1 else type(error).__name__}",
            advice="see the expression reference",
            where=where,
        ) from error


def run(program: Any, names: dict[str, Any], used: frozenset[str], where: str) -> Any:
    """Evaluate. ``used`` are the functions of ours that the program calls. Raises ``BadInput('expression.failed')``."""
    given = {**names, **{name: functions.OWN[name] for name in used}}
    try:
        return program.execute(given)
    # BaseException: native code, and a panic in it does not derive from Exception.
    except BaseException as error:  # noqa: BLE001 - for that reason; raised anew as ours
        _let_through(error)
        said, advice = _said(error, program.source)
        raise BadInput("expression.failed", said, advice=advice, where=where) from None


def _let_through(error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
        raise error


_NEEDS_NULL = "where a value may be null, ask first: x != null && ..."


def _said(error: BaseException, source: str) -> tuple[str, str]:
    """What went wrong, without the values: they may be private, and errors are logged."""
    words = str(error)
    if isinstance(error, ZeroDivisionError):
        return "division by zero", "ask first: x != 0 ? ... : ..."
    if isinstance(error, OverflowError):
        return "a number or time beyond its range", "use smaller numbers"
    if isinstance(error, KeyError):
        key = words.strip("'")
        named = f"key {key!r}" if key in source else "such key"  # a key that the source does not hold is a value
        return f"a mapping has no {named}", 'ask first: has(x.key), or "key" in x'
    if isinstance(error, IndexError):
        return "a list has no such element", "ask first: size(x) > n"
    if isinstance(error, TypeError):
        return words.split(". ")[0], _NEEDS_NULL
    undefined = re.match(r"Undefined variable or function: '([A-Za-z_]+)'", words)
    if undefined:
        return f"{undefined[1]} is not defined for a value of that type", _NEEDS_NULL
    function = re.match(r"Function '([A-Za-z]+)' error: (?:Python function call failed: ValueError: ([^.]*))?", words)
    if function:
        return f"{function[1]}: {function[2] or 'the value cannot be read so'}", "see the expression reference"
    return type(error).__name__, "see the expression reference"
