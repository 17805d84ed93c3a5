"""What a run's state is called on pages, and the tone it is shown in."""

from __future__ import annotations

from shared.formats import words

# How a run's state looks and reads. Tones are colours of the pages' style sheets.
STATUSES = {
    "opened": ("Opened", "plain"),
    "planned": ("Planned", "plain"),
    "judged": ("Judged", "plain"),
    "held": ("Held", "warn"),
    "waiting": ("Waiting for a person", "ask"),
    "approved": ("Approved", "ok"),
    "intended": ("Acting", "info"),
    "doubted": ("In doubt", "bad"),
    "resulted": ("Acted", "info"),
    "observed": ("Checked", "info"),
    "entered": ("Under way", "info"),
    "left": ("To be taken back by hand", "bad"),
    "paused": ("Paused", "warn"),
    "closed": ("Closed", "plain"),
}
# What a run is called between two of its steps.
_BETWEEN = frozenset(("ended", "skipped", "rehearsed", "failed", "handled"))
OUTCOMES = {
    "done": ("Done", "ok"),
    "denied": ("Denied by policy", "bad"),
    "declined": ("Declined by a person", "warn"),
    "failed": ("Failed", "bad"),
    "referred": ("Left to a person", "plain"),
    "cancelled": ("Cancelled", "plain"),
    "rehearsed": ("Rehearsed", "info"),
}


def status_of(status: str, outcome: str) -> tuple[str, str]:
    """The words and the tone of a run: its outcome once closed, else where it stands."""
    if status == "closed":
        return OUTCOMES.get(outcome, (words(outcome or "closed"), "plain"))
    if status in _BETWEEN:
        status = "entered"
    return STATUSES.get(status, (words(status), "plain"))
