"""``docs/reference/metrics.md`` names every metric, label, bound and attribute, and nothing else; the how-to fits."""

from __future__ import annotations

import re
from pathlib import Path

from shared.telemetry import ATTRIBUTES, METRICS
from shared.telemetry.otel import metric_name

_DOCS = Path(__file__).parents[3] / "docs"
_SUFFIX = re.compile(r"_(bucket|sum|count)$")


def page() -> str:
    return (_DOCS / "reference" / "metrics.md").read_text("utf-8")


def rows(heading: str) -> list[list[str]]:
    """The rows of the tables under a heading."""
    part = page().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_each_metric_stands_with_its_kind_labels_meaning_and_otlp_name() -> None:
    found = {names(row[0])[0]: row[1:] for row in rows("Metrics") if len(row) == 5}
    assert list(found) == list(METRICS)
    for name, metric in METRICS.items():
        kind, labels, about, otlp = found[name]
        assert (kind, tuple(names(labels)), about) == (metric.kind, metric.labels, metric.about), name
        assert names(otlp) == [metric_name(name)]


def test_each_histogram_stands_with_its_bounds() -> None:
    found = {name: row[1] for row in rows("Metrics") if len(row) == 2 for name in names(row[0])}
    bounds = {name: tuple(float(bound) for bound in text.split(", ")) for name, text in found.items()}
    assert bounds == {name: metric.bounds for name, metric in METRICS.items() if metric.bounds}


def test_each_label_is_described() -> None:
    assert {names(row[0])[0] for row in rows("Labels")} == {x for metric in METRICS.values() for x in metric.labels}


def test_each_attribute_is_described() -> None:
    found = {names(row[0])[0]: row[1] for row in rows("Traces") if len(row) == 2}
    assert found == ATTRIBUTES


def test_the_how_to_names_only_metrics_and_labels_that_exist() -> None:
    text = (_DOCS / "how-to" / "monitor.md").read_text("utf-8")
    named = {_SUFFIX.sub("", name) for name in re.findall(r"\boutrider_[a-z_]+", text)}
    assert named and named <= set(METRICS)
    for name, inner in re.findall(r"\b(outrider_[a-z_]+)\{([^}]*)\}", text):
        labels = set(re.findall(r"([a-z_]+)=", inner))
        assert labels <= set(METRICS[_SUFFIX.sub("", name)].labels), name
