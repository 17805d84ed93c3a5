"""Plots as plain SVG, readable on light and dark pages alike: no library, and the same bytes for the same figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from shared.rollout import Outcomes, Tally, default_plan, readings

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 150, 30, 46, 52
COLOURS = ("a", "b", "c")
STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #333 } .title { font-weight: 600; font-size: 15px }
.end { text-anchor: end } .mid { text-anchor: middle } path { fill: none; stroke-width: 2 }
.grid { stroke: #8884; stroke-width: 1 } .limit { stroke: #888; stroke-dasharray: 5 4; stroke-width: 1 }
.a { stroke: #1f6feb } .b { stroke: #c2410c } .c { stroke: #15803d }
circle.a { fill: #1f6feb } circle.b { fill: #c2410c } circle.c { fill: #15803d }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .a { stroke: #6cb0ff } .b { stroke: #ff9a5c } .c { stroke: #5cd68a }
circle.a { fill: #6cb0ff } circle.b { fill: #ff9a5c } circle.c { fill: #5cd68a } }
</style>"""


class Chart:
    """Axes from data to the page; ``log`` axes need values above 0."""

    def __init__(
        self, title: str, x: tuple[float, float], y: tuple[float, float], *, log_x: bool = False, height: int = HEIGHT
    ) -> None:
        self._x, self._y, self._log_x, self.height = x, y, log_x, height
        self.parts = [f'<text class="title" x="16" y="24">{escape(title)}</text>']

    def x(self, value: float) -> float:
        low, high = self._x
        if self._log_x:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        return self.height - BOTTOM - (value - low) / (high - low) * (self.height - TOP - BOTTOM)

    def across(self, ticks: Sequence[tuple[float, str]], label: str) -> None:
        for value, said in ticks:
            at = self.x(value)
            self.parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{self.height - BOTTOM}"/>')
            self.parts.append(f'<text class="mid" x="{at:.1f}" y="{self.height - BOTTOM + 18}">{escape(said)}</text>')
        self.parts.append(f'<text class="mid" x="{(LEFT + WIDTH) / 2}" y="{self.height - 12}">{escape(label)}</text>')

    def up(self, ticks: Sequence[tuple[float, str]]) -> None:
        for value, said in ticks:
            at = self.y(value)
            self.parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
            self.parts.append(f'<text class="end" x="{LEFT - 8}" y="{at + 4:.1f}">{escape(said)}</text>')

    def line(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        path = " L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)
        self.parts.append(f'<path class="{colour}" d="M{path}"/>')

    def legend(self, x: float, y: float, rows: Sequence[tuple[str, str]]) -> None:
        for number, (colour, said) in enumerate(rows):
            left, top = self.x(x), self.y(y) + 20 * number
            self.parts.append(f'<path class="{colour}" d="M{left:.1f} {top:.1f}h24"/>')
            self.parts.append(f'<text x="{left + 32:.1f}" y="{top + 4:.1f}">{escape(said)}</text>')

    def spread(self, row: float, said: str, low: float, middle: float, high: float, colour: str = "a") -> None:
        y = self.y(row)
        self.parts.append(f'<path class="{colour}" d="M{self.x(low):.1f} {y:.1f}H{self.x(high):.1f}"/>')
        self.parts.append(f'<circle class="{colour}" cx="{self.x(middle):.1f}" cy="{y:.1f}" r="4.5"/>')
        self.parts.append(f'<text class="end" x="{LEFT - 8}" y="{y + 4:.1f}">{escape(said)}</text>')

    def limit(self, y: float, said: str) -> None:
        self.parts.append(f'<path class="limit" d="M{LEFT} {self.y(y):.1f}H{WIDTH - RIGHT}"/>')
        self.parts.append(f'<text x="{LEFT + 6}" y="{self.y(y) - 6:.1f}">{escape(said)}</text>')

    def svg(self) -> str:
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" role="img">'
        return "\n".join([head, STYLE, *self.parts, "</svg>"]) + "\n"


def draw(found: dict[str, Any], folder: Path) -> None:
    for name, chart in (
        ("evidence", evidence()),
        ("caught", caught(found["trials"])),
        ("reached", reached(found["trials"])),
        ("kill-switch", stopped(found["stops"])),
    ):
        (folder / f"rollout-{name}.svg").write_text(chart.svg(), "utf-8")


def evidence() -> Chart:
    """One stage as its gate sees it: a good candidate and two bad ones, a few runs at a time."""
    chart = Chart("Evidence that the candidate fails more often (control: 2 %)", (0, 150), (0, 1150))
    chart.across([(n, str(n)) for n in range(0, 151, 30)], "runs with the candidate")
    chart.up([(n, str(n)) for n in range(0, 1001, 250)])
    chart.limit(1000, "permille of what is needed: halted from here on")
    shares = ((0.30, "b", "30 % fail"), (0.17, "c", "17 % fail"), (0.02, "a", "2 % fail"))
    for share, colour, _ in shares:
        chart.line(_path(share), colour)
    chart.legend(112, 620, [(colour, said) for _, colour, said in shares])
    return chart


def _path(share: float) -> list[tuple[float, float]]:
    plan = default_plan("rol_1", 2, 1, "salt", devices=1_000)
    chance, outcomes = np.random.default_rng(5), Outcomes()
    points = [(0.0, 0.0)]
    while outcomes.runs < 150:
        failed, control = int(chance.binomial(2, share)), int(chance.binomial(60, 0.02))
        outcomes = outcomes.taken(Tally(runs=2, failures=failed), Tally(runs=60, failures=control))
        (gate, *_) = readings(plan, outcomes)
        points.append((outcomes.runs, min(1100, gate.path[-1]) if gate.path else 0))
        if points[-1][1] >= 1000:
            break
    return points


def caught(trials: list[dict[str, Any]]) -> Chart:
    rows = [one for one in trials if one["size"] == 1_000 and one["hours_to_halt"] and one["halted"] > 0.5]
    rows.sort(key=lambda one: -one["hours_to_halt"]["p50"])
    height = TOP + BOTTOM + 30 * len(rows)
    title = "Hours until a bad release is halted: 1,000 devices; median, 5 to 95 %"
    chart = Chart(title, (0.5, 400), (-0.5, len(rows) - 0.5), log_x=True, height=height)
    chart.across([(1, "1"), (4, "4"), (24, "24"), (72, "72"), (168, "a week")], "hours since the rollout began")
    for number, one in enumerate(rows):
        hours = one["hours_to_halt"]
        chart.spread(number, one["candidate"], hours["p5"], hours["p50"], hours["p95"], "b")
    return chart


def reached(trials: list[dict[str, Any]]) -> Chart:
    rows = [one for one in trials if one["candidate"] == "failures +15" and one["reached"]]
    rows.sort(key=lambda one: one["size"])
    height = TOP + BOTTOM + 30 * len(rows)
    title = "Devices that a release reached with which 17 % fail instead of 2 %"
    chart = Chart(title, (0.05, 100), (-0.5, len(rows) - 0.5), log_x=True, height=height)
    chart.across(
        [(0.1, "0.1 %"), (1, "1 %"), (10, "10 %"), (50, "50 %"), (100, "")],
        "of all devices: median, 5 to 95 % of trials",
    )
    for number, one in enumerate(rows):
        part = {name: 100 * value / one["size"] for name, value in one["reached"].items()}
        chart.spread(number, f"{one['size']:,} devices", part["p5"], part["p50"], part["p95"])
    return chart


def stopped(stops: list[dict[str, Any]]) -> Chart:
    chart = Chart("Devices that act no more after a kill switch for the fleet", (0, 24), (40, 101))
    chart.across([(n, str(n)) for n in range(0, 25, 4)], "hours since it was pressed")
    chart.up([(n, f"{n} %") for n in range(40, 101, 10)])
    for one, colour in zip(stops, COLOURS, strict=True):
        points = [(hours, 100 * share) for hours, share in one["stopped"]]
        chart.line(points, colour)
    chart.legend(
        16, 70, [(colour, f"leases of {one['lease_h']} h") for one, colour in zip(stops, COLOURS, strict=True)]
    )
    return chart
