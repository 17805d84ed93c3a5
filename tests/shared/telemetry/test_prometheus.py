"""The text, read by Prometheus' own parser."""

from __future__ import annotations

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from shared.telemetry import METRICS, Meter, gauges, text
from shared.telemetry.metrics import HISTOGRAM
from tests.shared import one_step as one
from tests.shared.stories import opened
from tests.shared.telemetry.lives import Life, metered, parsed, stories


def test_the_official_parser_reads_what_was_counted() -> None:
    for story in stories(30):
        meter = metered(story)
        series = meter.series(gauges(story.device.runs.values(), failed=1, size=len(story.entries), synced=2))
        found = parsed(series)
        for one_series in series:
            metric = METRICS[one_series.name]
            labels = tuple(sorted(zip(metric.labels, one_series.labels, strict=True)))
            if metric.kind != HISTOGRAM:
                assert found[one_series.name][labels] == one_series.value
                continue
            assert found[f"{one_series.name}_count"][labels] == sum(one_series.counts)
            assert found[f"{one_series.name}_sum"][labels] == one_series.value
            buckets = {
                float(dict(key)["le"]): count
                for key, count in found[f"{one_series.name}_bucket"].items()
                if set(labels) < set(key)
            }
            assert sorted(buckets) == [*metric.bounds, float("inf")]
            counts = [buckets[bound] for bound in sorted(buckets)]
            assert counts == sorted(counts) and counts[-1] == sum(one_series.counts)


def test_types_and_help_are_told_once() -> None:
    families = list(text_string_to_metric_families(text(metered(next(stories(1))).series())))
    names = [family.name for family in families]
    assert len(names) == len(set(names)) > 5
    for family in families:
        metric = METRICS.get(family.name) or METRICS[f"{family.name}_total"]
        assert (family.type, family.documentation) == (metric.kind, metric.about)


def test_a_bucket_holds_what_equals_its_bound() -> None:
    life = Life()
    life.tell(opened(), msgspec.structs.replace(one.PLAN, latency_us=500_000))
    buckets = parsed(life.meter.series())["outrider_plan_duration_seconds_bucket"]
    by_bound = {dict(key)["le"]: count for key, count in buckets.items()}
    assert (by_bound["0.25"], by_bound["0.5"], by_bound["+Inf"]) == (0, 1, 1)


def test_whatever_a_device_calls_its_playbook_is_escaped() -> None:
    name = 'a "quoted" \\ back\nslash \N{PILE OF POO}'
    life = Life()
    life.tell(msgspec.structs.replace(opened(), playbook=name))
    assert parsed(life.meter.series())["outrider_runs_opened_total"] == {(("playbook", name),): 1}
    life.tell(msgspec.structs.replace(opened(), playbook="half \ud83d"), run="r2")
    assert text(life.meter.series()).encode()
    assert (("playbook", "half ?"),) in parsed(life.meter.series())["outrider_runs_opened_total"]


def test_nothing_counted_is_no_text() -> None:
    assert text(Meter().series()) == ""
