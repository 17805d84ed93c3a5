"""Runs told entry by entry, with the time of each, for tests of numbers and traces."""

from __future__ import annotations

import random
from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families

from shared import entries as e
from shared.runs import Device, Run
from shared.telemetry import METRICS, Meter, Series, text
from tests.shared.stories import START, Story, make, random_playbook

SECOND = 1_000_000
ORIGIN = "city/dev"
Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


class Life:
    """A device's log and the meter that takes it in; ``at`` is seconds since the start."""

    def __init__(self) -> None:
        self.device = Device(closed={})
        self.meter = Meter()
        self.entries: list[e.Entry] = []

    def tell(self, *facts: e.Facts, at: float = 0, run: str = "run_1") -> Run | None:
        found = None
        for one in facts:
            entry = make(one, len(self.entries), START + int(at * SECOND), run)
            found = self.device.fold(entry)
            self.meter.take(entry, found)
            self.entries.append(entry)
        return found

    def of(self, run: str = "run_1") -> list[e.Entry]:
        return [entry for entry in self.entries if entry.run == run]

    def value(self, name: str, **labels: str) -> float:
        return value(self.meter.series(), name, **labels)


def value(series: list[Series], name: str, **labels: str) -> float:
    """The sum, over the series of a metric that have these labels, of a counter, a gauge or what was observed."""
    return sum(one.value for one in _fitting(series, name, labels))


def observed(series: list[Series], name: str, **labels: str) -> int:
    """How many values a histogram has seen."""
    return sum(sum(one.counts) for one in _fitting(series, name, labels))


def _fitting(series: list[Series], name: str, labels: dict[str, str]) -> Iterator[Series]:
    for one in series:
        given = dict(zip(METRICS[name].labels, one.labels, strict=True)) if one.name == name else {}
        if one.name == name and labels.items() <= given.items():
            yield one


def stories(number: int, seed: int = 0) -> Iterator[Story]:
    """Random runs, all that can happen among them; some end while things are open."""
    for n in range(number):
        chance = random.Random(seed + n)
        story = Story(random_playbook(chance), chance.choice, dry_run=chance.random() < 0.1)
        story.tell(120)
        if chance.random() < 0.7:
            story.finish()
        yield story


def metered(story: Story) -> Meter:
    device, meter = Device(closed={}), Meter()
    for entry in story.entries:
        meter.take(entry, device.fold(entry))
    return meter


def parsed(series: list[Series]) -> Samples:
    """What the official parser reads out of the text."""
    found: Samples = {}
    for family in text_string_to_metric_families(text(series)):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found
