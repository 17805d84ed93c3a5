"""Values as people read them, wherever there are pages: times, money, shares, numbers, names. Pure functions; no HTML
is made here except by ``when`` and ``prose``.

Times are microseconds since 1970 UTC, money is cents, shares are permille.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

SECOND = 1_000_000
_DAY = 86_400
# From so many seconds on, in units of so many, called so: nobody reads a thousand days.
_STEPS = (
    (730 * _DAY, 365 * _DAY, "years"), (60 * _DAY, 30 * _DAY, "months"),
    (_DAY, _DAY, "d"), (3_600, 3_600, "h"), (60, 60, "min"), (1, 1, "s"),
)  # fmt: skip
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def moment(at: int) -> datetime:
    """The nearest that datetime can hold: a wrong clock must not take a page down."""
    return datetime.fromtimestamp(min(max(at, 0), 253_402_300_799 * SECOND) // SECOND, UTC)


def exact(at: int) -> str:
    """``22 Nov 2026, 08:12:05 UTC``."""
    told = moment(at)
    return f"{told.day} {_MONTHS[told.month - 1]} {told.year}, {told:%H:%M:%S} UTC"


def iso(at: int) -> str:
    """For ``datetime`` attributes: UTC, to the millisecond."""
    return f"{moment(at):%Y-%m-%dT%H:%M:%S}.{max(at, 0) % SECOND // 1000:03d}Z"


def span(us: int) -> str:
    """A length of time in its largest unit: ``3 min``, ``2 d``; below a second in ms."""
    us = abs(us)
    if us < SECOND:
        return f"{us // 1000} ms" if us >= 1000 else f"{us} µs"
    whole = us // SECOND
    for least, size, unit in _STEPS:
        if whole >= least:
            return f"{whole // size} {unit}"
    return "0 s"


def relative(at: int, now: int) -> str:
    """``3 min ago``, ``in 2 d``, ``just now``."""
    if not at:
        return "never"
    if abs(now - at) < 5 * SECOND:
        return "just now"
    return f"{span(now - at)} ago" if at < now else f"in {span(at - now)}"


def when(at: int, now: int) -> Markup | str:
    """A ``<time>`` element: relative words, exact on hover, machine-readable for the script that keeps it current."""
    if not at:
        return "never"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(iso(at), exact(at), relative(at, now))


def cents(value: Any) -> str:
    """``$12,500`` for whole dollars, ``$12,500.50`` otherwise."""
    if not isinstance(value, int) or isinstance(value, bool):
        return str(value)
    sign, whole, rest = ("-" if value < 0 else ""), abs(value) // 100, abs(value) % 100
    return f"{sign}${whole:,}.{rest:02d}" if rest else f"{sign}${whole:,}"


def share(permille: int) -> str:
    """Permille as a percentage, without claiming more digits than it has: ``93%``, ``99.5%``."""
    return f"{permille // 10}%" if permille % 10 == 0 else f"{permille / 10:.1f}%"


def count(number: int, one: str = "", many: str = "") -> str:
    """``1,204`` or, with a noun, ``1 run`` / ``1,204 runs``."""
    if not one:
        return f"{number:,}"
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def short(text: str, length: int = 10) -> str:
    """The beginning of an identifier or hash, for the eye; the whole stands in its title."""
    return text if len(text) <= length else text[:length] + "…"


def words(name: str) -> str:
    """A field's name as words: ``reported_cost`` becomes ``Reported cost``."""
    text = name.replace("_", " ").replace("-", " ").strip()
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Text from an error as a sentence of its own."""
    text = text.strip()
    if not text:
        return ""
    first = text[:1] if "://" in text.partition(" ")[0] else text[:1].upper()
    return first + text[1:] + ("" if text[-1] in ".!?…" else ".")


def prose(text: str) -> Markup:
    """Text from an error as a sentence of its own, with what stands between backticks as code."""
    parts = sentence(text).split("`")
    if len(parts) % 2 == 0:  # one stands alone
        return escape("`".join(parts))
    return Markup("").join(Markup("<code>{}</code>").format(x) if n % 2 else escape(x) for n, x in enumerate(parts))


def value(raw: Any, kind: str = "text") -> str:
    """One value of an input, argument or context. ``kind`` is the playbook's: text, cents, date."""
    if raw is None or raw == "":
        return "not given"
    if isinstance(raw, bool):
        return "yes" if raw else "no"
    if kind == "cents":
        return cents(raw)
    if isinstance(raw, int):
        return f"{raw:,}"
    if isinstance(raw, list):
        return ", ".join(value(item) for item in raw)
    return str(raw)
