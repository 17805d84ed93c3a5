"""Metrics as a fold over entries.

Labels come from the release (playbooks, tools, models) and from closed lists, never from data: no ids, no personal
text. Because a hub must not believe its devices, each label still has at most ``_VALUES`` values and each metric at
most ``_SERIES`` series; what comes beyond them is counted under ``other``.

The numbers begin at zero when the process starts, as Prometheus expects of counters. What the log holds from before is
folded for state, not counted again; only of troubles that are still open it is known since when (``resume``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shared import entries as e
from shared.runs import UNDO, Run, Step, fold
from shared.telemetry.metrics import GAUGE, METRICS
from shared.telemetry.troubles import Troubles

PROVIDER, COMPLETION = "outrider", "text_completion"  # the model runs within the agent

_VALUES = 64
_SERIES = 1024
_CHARS = 64  # of a label's value
_OTHER = "other"
_US = 1_000_000
_FIXED = ("playbook", "undo", "assistant")  # planners that recommend nothing: no latency or confidence to speak of


@dataclass(frozen=True)
class Series:
    """One series at one moment. ``labels`` are values in the order of the metric's; ``counts`` are those of a
    histogram's buckets, the last beyond all bounds, and then ``value`` is the sum of what was observed."""

    name: str
    labels: tuple[str, ...]
    value: float
    counts: tuple[int, ...] = ()


@dataclass
class _Kept:
    values: dict[tuple[str, ...], float] = field(default_factory=dict)
    counts: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    seen: tuple[set[str], ...] = ()


class Meter:
    """Adds up entries as they come. Not thread-safe: one caller at a time."""

    def __init__(self) -> None:
        self._kept = {name: _Kept(seen=tuple(set() for _ in metric.labels)) for name, metric in METRICS.items()}
        self._troubles = Troubles()

    def take(self, entry: e.Entry, run: Run | None, device: str = "") -> None:
        """One entry further. ``run`` is the run after it, ``None`` for entries of no run; ``device`` tells apart runs
        of the same name where several logs are taken in."""
        if run is None:
            return
        self._count(entry, run)
        for turn in self._troubles.take(device, entry, run):
            if turn.end:
                self._observe("outrider_recovery_duration_seconds", turn.lasted / _US, turn.trouble, turn.end)
            else:
                self._add("outrider_troubles_total", 1, turn.trouble)

    def resume(self, entries: Iterable[e.Entry], device: str = "") -> None:
        """All entries of a run that is in trouble, from before this process began: nothing is counted, but it is known
        since when. Raises ``Tampered('run.order')``."""
        run: Run | None = None
        for entry in entries:
            run = fold(run, entry)
            self._troubles.take(device, entry, run)

    def resume_failure(self, run: str, at: int, device: str = "") -> None:
        """The same for a run that failed at ``at`` and waits: its entries need not be read."""
        self._troubles.failed(device, run, at)

    def series(self, now: Mapping[tuple[str, ...], float] | None = None) -> list[Series]:
        """Everything, in the order of ``METRICS``. ``now`` are the gauges, by name and label values."""
        found = []
        for name, metric in METRICS.items():
            if metric.kind == GAUGE:
                found += [Series(key[0], key[1:], value) for key, value in (now or {}).items() if key[0] == name]
                continue
            kept = self._kept[name]
            found += [Series(name, key, value, tuple(kept.counts.get(key, ()))) for key, value in kept.values.items()]
        return found

    # --- what entries say ---------------------------------------------------------------------------------------------

    def _count(self, entry: e.Entry, run: Run) -> None:
        book = run.opened.playbook
        match entry.facts:
            case e.RunOpenedV1():
                self._add("outrider_runs_opened_total", 1, book)
            case e.PlanMade() as plan:
                self._planned(book, plan)
            case e.VerdictGiven() as given:
                self._add("outrider_verdicts_total", 1, book, given.tool, given.verdict)
            case e.IntentDoubted() as doubted:
                self._add("outrider_effects_doubted_total", 1, _tool(run, doubted.step))
            case e.ResultRecorded() as result:
                self._resulted(_tool(run, result.step), result)
            case e.EffectObserved(matches=False) as seen:
                self._add("outrider_effects_mismatched_total", 1, _tool(run, seen.step))
            case e.UndoLeft() as left:
                self._add("outrider_undone_total", 1, _tool(run, left.step), "left")
            case e.RunClosed() as closed:
                self._add("outrider_runs_closed_total", 1, book, closed.outcome)
                self._observe("outrider_run_duration_seconds", (entry.at - run.began_at) / _US, book)
            case _:
                self._asked(book, entry, run)

    def _planned(self, book: str, plan: e.PlanMade) -> None:
        self._add("outrider_plans_total", 1, book, plan.planner)
        if plan.cost_cents > 0:
            self._add("outrider_cost_cents_total", plan.cost_cents, book)
        for kind, tokens in (("input", plan.prompt_tokens), ("output", plan.generated_tokens)):
            if tokens > 0:
                # Twelve digits of a model's hash tell one from another.
                self._observe("gen_ai_client_token_usage", tokens, COMPLETION, PROVIDER, kind, plan.model[:12])
        if plan.planner in _FIXED:
            return
        self._observe("outrider_plan_duration_seconds", plan.latency_us / _US, book, plan.planner)
        if plan.abstained:
            self._add("outrider_plans_abstained_total", 1, book)
        else:
            self._observe("outrider_plan_confidence_ratio", plan.confidence / 1000, book)

    def _asked(self, book: str, entry: e.Entry, run: Run) -> None:
        match entry.facts:
            case e.ApprovalAskedV1():
                self._add("outrider_approvals_asked_total", 1, book)
            case e.ApprovalEscalated():
                self._add("outrider_approvals_escalated_total", 1, book)
            case e.ApprovalAnsweredV1() as said:
                self._add("outrider_approvals_answered_total", 1, book, said.answer)
                step = run.steps.get(said.step)
                if step is not None and step.status != "waiting":  # nobody else has to say yes
                    self._observe("outrider_approval_duration_seconds", (entry.at - step.asked_at) / _US, book)
            case e.ApprovalCovered():
                self._add("outrider_approvals_covered_total", 1, book)
            case e.ApprovalVoided() as voided:
                self._add("outrider_approvals_voided_total", 1, book, voided.code)

    def _resulted(self, tool: str, result: e.ResultRecorded) -> None:
        self._add("outrider_effects_total", 1, tool, result.outcome, result.how)
        self._add("outrider_effect_attempts_total", max(0, result.attempts), tool)
        if result.how == "sent":
            self._observe("outrider_effect_duration_seconds", result.latency_us / _US, tool)
        if result.step.startswith(UNDO):
            self._add("outrider_undone_total", 1, tool, result.outcome)

    # --- numbers ----------------------------------------------------------------------------------------------------

    def _add(self, name: str, amount: float, *labels: str) -> tuple[str, ...]:
        kept = self._kept[name]
        key = _bounded(kept, labels)
        kept.values[key] = kept.values.get(key, 0) + amount
        return key

    def _observe(self, name: str, value: float, *labels: str) -> None:
        value = max(0.0, value)
        key = self._add(name, value, *labels)
        bounds = METRICS[name].bounds
        counts = self._kept[name].counts.setdefault(key, [0] * (len(bounds) + 1))
        counts[bisect_left(bounds, value)] += 1


def _bounded(kept: _Kept, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The labels as they are counted."""
    if labels in kept.values:
        return labels
    key = tuple(_value(seen, label) for seen, label in zip(kept.seen, labels, strict=True))
    return key if key in kept.values or len(kept.values) < _SERIES else (_OTHER,) * len(labels)


def _value(seen: set[str], label: str) -> str:
    label = label[:_CHARS]
    if label not in seen:
        if len(seen) >= _VALUES:
            return _OTHER
        seen.add(label)
    return label


def _tool(run: Run, name: str) -> str:
    """The tool whose effect a step is, as the guard judged it."""
    step: Step | None = run.steps.get(name)
    if step is None:
        return ""
    return step.intent.tool if step.intent is not None else step.plan.tool if step.plan is not None else ""


def gauges(runs: Iterable[Run], *, failed: int, size: int, synced: int) -> dict[tuple[str, ...], float]:
    """What is so now on one device: its open runs, how many failed ones wait, its entries, how many are countersigned.
    The form that ``Meter.series`` takes."""
    found: dict[tuple[str, ...], float] = {
        ("outrider_runs_failed",): failed,
        ("outrider_log_entries",): size,
        ("outrider_log_unsynced_entries",): max(0, size - synced),
    }
    for run in runs:
        key = ("outrider_runs_open", run.status)
        found[key] = found.get(key, 0) + 1
    return found
