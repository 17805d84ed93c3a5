"""The Prometheus text format, version 0.0.4."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from shared.telemetry.meter import Series
from shared.telemetry.metrics import METRICS, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(series: Iterable[Series]) -> str:
    """One sample a line, each metric's together with its help and type before them. Series of one metric must follow
    each other, as ``Meter.series`` gives them."""
    lines: list[str] = []
    newest = ""
    for one in series:
        metric = METRICS[one.name]
        if one.name != newest:
            newest = one.name
            lines += [f"# HELP {one.name} {metric.about}", f"# TYPE {one.name} {metric.kind}"]
        lines.extend(_samples(metric, one))
    return "".join(f"{line}\n" for line in lines)


def _samples(metric: Metric, one: Series) -> Iterator[str]:
    if not metric.bounds:
        yield f"{one.name}{_labels(metric.labels, one.labels)} {_number(one.value)}"
        return
    count = 0
    for bound, more in zip((*metric.bounds, math.inf), one.counts, strict=True):
        count += more
        edge = "+Inf" if bound == math.inf else _number(bound)
        yield f"{one.name}_bucket{_labels((*metric.labels, 'le'), (*one.labels, edge))} {count}"
    yield f"{one.name}_sum{_labels(metric.labels, one.labels)} {_number(one.value)}"
    yield f"{one.name}_count{_labels(metric.labels, one.labels)} {count}"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    """As the format wants it; half a character, which a device may write but no text can hold, becomes ``?``."""
    clean = value.encode("utf-8", "replace").decode()
    return clean.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
