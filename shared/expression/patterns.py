"""Texts that a function takes only when they are written out: the pattern of ``matches``, the span of ``duration``.

The engine of ``matches`` (Rust's ``regex``) is linear in the text, so no pattern backtracks for ever. But it compiles
the pattern at every call, and Unicode classes and counted repetitions make that dear: ``(\\w{10}){10}`` costs 60 ms. So
a pattern is a literal, bounded, and priced before it is used. ``duration`` takes any number and goes astray in silence
beyond 292 years; so its literal is held to what is meant.
"""

from __future__ import annotations

import re

from shared import limits

_DURATION = re.compile(r"-?(?=[0-9])([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?")
_REPEAT = re.compile(r"\{ *([0-9]+) *(?:, *([0-9]*) *)?\}")
# Each of these is a table of some hundred Unicode ranges once compiled.
_UNICODE = re.compile(r"\\[wWdDsSbBpP]|\[\[?:|\(\?[a-zA-Z]*i")
_WIDE = re.compile(r"\.|\[\^")


def refuse(function: str, text: str) -> str:
    """Why ``text`` cannot be given to ``matches`` or ``duration``; nothing where it can."""
    if function == "duration":
        return "" if _DURATION.fullmatch(text) else 'write hours, minutes and seconds: "36h", "1h30m", "-90s"'
    if len(text) > limits.EXPRESSION_PATTERN_CHARS:
        return f"a pattern has at most {limits.EXPRESSION_PATTERN_CHARS} characters"
    if _repeated(text) > limits.EXPRESSION_PATTERN_REPEATS:
        return f"counted repetitions multiply to more than {limits.EXPRESSION_PATTERN_REPEATS}"
    return ""


def price(pattern: str, chars: int) -> int:
    """What one call costs, in the units of ``price``: compiling the pattern, and reading ``chars`` characters."""
    repeated = _repeated(pattern)
    classes = len(_UNICODE.findall(pattern))
    wide = len(_WIDE.findall(pattern))
    compiling = repeated * (4 * len(pattern) + 100 * wide + 5_000 * classes)
    return 100 + compiling + repeated * (2 * len(pattern) + 40 * classes) * chars // 1_500


def _repeated(pattern: str) -> int:
    """The product of all counted repetitions: at least what a nest of them multiplies to."""
    product = 1
    for least, most in _REPEAT.findall(pattern):
        product *= max(int(most or least), 1) if len(most or least) < 6 else 10**6
    return product
