"""Numbers and traces from the log's own entries. Reference: ``docs/reference/metrics.md``.

Nothing is measured twice: what the entries say of plans, verdicts, approvals and effects is added up here, on the agent
as it writes them and on the hub as it takes them in. ``meter`` makes the numbers, ``spans`` the traces, ``prometheus``
and ``otel`` put them into the forms that others read. All of it is pure: who sends or serves them is not decided here.
"""

from shared.telemetry.meter import Meter, Series, gauges
from shared.telemetry.metrics import METRICS, Metric
from shared.telemetry.outbox import Outbox, Parcel
from shared.telemetry.prometheus import CONTENT_TYPE, text
from shared.telemetry.sending import Sender
from shared.telemetry.spans import ATTRIBUTES, Span, ended_spans, spans, trace_root

__all__ = [
    "ATTRIBUTES", "CONTENT_TYPE", "METRICS", "Meter", "Metric", "Outbox", "Parcel", "Sender", "Series", "Span",
    "ended_spans", "gauges", "spans", "text", "trace_root",
]  # fmt: skip
