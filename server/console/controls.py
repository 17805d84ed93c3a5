"""The orders that a run's page offers, each with what it does, told before it is given."""

from __future__ import annotations

from dataclasses import dataclass

from server.orders import unfit
from shared.playbook import Playbook
from shared.runs import Run

CONTROLS = ("pause", "resume", "cancel", "undo")


UNDOING = (
    "What the run did is taken back, the newest first; each of that is judged like any action. What no tool can take"
    " back is left to a person. The run then counts as cancelled."
)


@dataclass(frozen=True)
class Control:
    """An order that fits a whole run as it is: its button's words, and what it does."""

    order: str
    icon: str
    words: str
    sure: str
    consequences: str


def controls(run: Run, book: Playbook | None) -> list[Control]:
    """The orders about a whole run; those about a failed one that go forward stand with its failure."""
    back = "What it did stays as it is."
    if run.effects and (book is None or book.on_failure == "undo"):
        back = (
            "What it did is taken back, the newest first; each of that is judged like any action. What no tool can take"
            " back is left to a person."
        )
    known = [
        Control(
            "pause",
            "player-pause",
            "Pause it",
            "Pause",
            "It begins nothing new until somebody resumes it. What is under way is brought to its end.",
        ),
        Control("resume", "player-play", "Resume it", "Resume", "It goes on from where it stands."),
        Control(
            "cancel",
            "square-x",
            "Cancel it",
            "Cancel the run",
            f"It stops once what is under way has ended, and cannot be resumed. {back}",
        ),
        Control("undo", "arrow-back-up", "Take it back", "Take it back", UNDOING),
    ]
    return [control for control in known if not unfit(run, control.order)]
