"""Every metric there is: its kind, its labels, its bounds. ``docs/reference/metrics.md`` is checked against this list.

Names follow OpenTelemetry's mapping to Prometheus (base units, ``_total`` for counters); where the semantic conventions
for generative AI have a name it is used.
"""

from __future__ import annotations

from dataclasses import dataclass

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LONG = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0, 604800.0)
_RATIO = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
_TOKENS = tuple(float(4**power) for power in range(14))  # the bounds that the convention names
_TOKEN_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_token_type", "gen_ai_request_model")

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


@dataclass(frozen=True)
class Metric:
    """A histogram has upper bounds. ``unit`` is the OpenTelemetry unit."""

    kind: str
    about: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    unit: str = "1"


def _counter(about: str, *labels: str) -> Metric:
    return Metric(COUNTER, about, labels)


def _gauge(about: str, *labels: str) -> Metric:
    return Metric(GAUGE, about, labels)


def _seconds(about: str, bounds: tuple[float, ...], *labels: str) -> Metric:
    return Metric(HISTOGRAM, about, labels, bounds, "s")


METRICS: dict[str, Metric] = {
    "outrider_runs_opened_total": _counter("Runs opened.", "playbook"),
    "outrider_runs_closed_total": _counter("Runs that ended, by outcome.", "playbook", "outcome"),
    "outrider_run_duration_seconds": _seconds("From opening, or the last retry, to the end.", _LONG, "playbook"),
    "outrider_plans_total": _counter("Plans made.", "playbook", "planner"),
    "outrider_plan_duration_seconds": _seconds("Time to make a plan.", _SECONDS, "playbook", "planner"),
    "outrider_plan_confidence_ratio": Metric(HISTOGRAM, "Confidence of recommendations.", ("playbook",), _RATIO),
    "outrider_plans_abstained_total": _counter("Plans that named no action.", "playbook"),
    "gen_ai_client_token_usage": Metric(
        HISTOGRAM, "Tokens of the on-device model, by plan.", _TOKEN_LABELS, _TOKENS, "{token}"
    ),
    "outrider_cost_cents_total": _counter("What planning cost.", "playbook"),
    "outrider_verdicts_total": _counter("Verdicts of the guard.", "playbook", "tool", "verdict"),
    "outrider_approvals_asked_total": _counter("Questions to people.", "playbook"),
    "outrider_approvals_escalated_total": _counter("Questions that more people were asked.", "playbook"),
    "outrider_approvals_answered_total": _counter("What each person said.", "playbook", "answer"),
    "outrider_approvals_covered_total": _counter("Actions that an earlier answer covered.", "playbook"),
    "outrider_approvals_voided_total": _counter("Approvals that could not be used, by why.", "playbook", "code"),
    "outrider_approval_duration_seconds": _seconds("From question to the answer that settled it.", _LONG, "playbook"),
    "outrider_effects_total": _counter("Intents that came to a result.", "tool", "outcome", "how"),
    "outrider_effect_attempts_total": _counter("Calls of tools, with those tried again.", "tool"),
    "outrider_effect_duration_seconds": _seconds("Time a call took, with retries.", _SECONDS, "tool"),
    "outrider_effects_doubted_total": _counter("Intents of which nobody knew what became.", "tool"),
    "outrider_effects_mismatched_total": _counter("Outcomes that were not what the action said.", "tool"),
    "outrider_undone_total": _counter("Effects taken back, or left to a person.", "tool", "how"),
    "outrider_troubles_total": _counter("Troubles that began.", "trouble"),
    "outrider_recovery_duration_seconds": _seconds("From a trouble's beginning to its end.", _LONG, "trouble", "end"),
    "outrider_runs_open": _gauge("Open runs, by what they wait for.", "status"),
    "outrider_runs_failed": _gauge("Failed runs that wait for a retry or a dismissal."),
    "outrider_log_entries": _gauge("Entries in the log; on the hub, in the logs it holds."),
    "outrider_log_unsynced_entries": _gauge("Entries that the hub has not countersigned."),
    "outrider_devices": _gauge("Devices that ever joined; only on the hub.", "state"),
}
