"""Values as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from server.console import formats

NOW = 1_790_000_000_000_000
SECOND = 1_000_000


@pytest.mark.parametrize(
    ("cents", "text"),
    [(0, "$0"), (5, "$0.05"), (1_250_000, "$12,500"), (1_250_050, "$12,500.50"), (-1, "-$0.01"), ("x", "x")],
)
def test_cents(cents: Any, text: str) -> None:
    assert formats.cents(cents) == text


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "never"), (NOW, "just now"), (NOW - 4 * SECOND, "just now"), (NOW - 59 * SECOND, "59 s ago"),
        (NOW - 60 * SECOND, "1 min ago"), (NOW - 7_199 * SECOND, "1 h ago"), (NOW + 86_400 * SECOND, "in 1 d"),
        (NOW + 13 * 86_400 * SECOND, "in 13 d"), (NOW + 59 * 86_400 * SECOND, "in 59 d"),
        (NOW + 60 * 86_400 * SECOND, "in 2 months"), (NOW + 1_094 * 86_400 * SECOND, "in 2 years"),
    ],
)  # fmt: skip
def test_relative(at: int, text: str) -> None:
    assert formats.relative(at, NOW) == text


def test_when_is_exact_for_machines_and_on_hover() -> None:
    assert str(formats.when(NOW, NOW)) == (
        '<time datetime="2026-09-21T14:13:20.000Z" title="21 Sep 2026, 14:13:20 UTC">just now</time>'
    )
    assert formats.when(0, NOW) == "never"


@pytest.mark.parametrize("at", [-5, 10**30])
def test_a_wild_clock_takes_no_page_down(at: int) -> None:
    assert formats.exact(at).endswith("UTC") and formats.iso(at).endswith("Z")


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0 µs"),
        (640, "640 µs"),
        (2_900, "2 ms"),
        (1_234_567, "1.23 s"),
        (12 * SECOND, "12 s"),
        (3600 * SECOND, "1 h"),
    ],
)
def test_took(us: int, text: str) -> None:
    assert formats.took(us) == text


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("value_cents", 640_000, "$6,400"), ("confidence", 873, "87.3%"), ("lease_age_s", 1260, "21 min"),
        ("offline", False, "no"), ("actions_since_sync", 3, "3"), ("label", "sign", "sign"),
        ("latency_us", 900, "900 µs"),
    ],
)  # fmt: skip
def test_context(name: str, raw: Any, said: str) -> None:
    assert formats.context_value(name, raw) == said


def test_small_words() -> None:
    assert formats.words("reported_cost") == "Reported cost" and formats.words("") == ""
    assert formats.context_name("value_since_sync_cents") == "Value since sync"
    assert formats.count(1, "run") == "1 run" and formats.count(1_204, "entry", "entries") == "1,204 entries"
    assert formats.count(12_000) == "12,000"
    assert [formats.sentence(text) for text in ("keep it", "Done!", " ")] == ["Keep it.", "Done!", ""]
    assert formats.value(None) == formats.value("") == "not given" and formats.value(["a", True]) == "a, yes"
    assert formats.short("abcdef", 3) == "abc…" and formats.short("abc", 3) == "abc"
    assert formats.share(1000) == "100%" and formats.share(5) == "0.5%"


def test_commands_in_advice_stand_as_code_and_nothing_else_does() -> None:
    assert formats.prose("run `outrider hub init`") == "Run <code>outrider hub init</code>."
    assert formats.prose("write `<b>`, or <i>") == "Write <code>&lt;b&gt;</code>, or &lt;i&gt;."
    assert formats.prose("a ` alone") == "A ` alone." and formats.prose("") == ""


def test_days() -> None:
    assert formats.day(NOW) == "Mon 21"
