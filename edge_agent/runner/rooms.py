"""What the work on one run is done with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edge_agent.act import Hands
from edge_agent.guard import Guard
from edge_agent.journal import Journal
from edge_agent.runner.mail import Mail
from edge_agent.runner.starts import Starts
from edge_agent.runner.times import Times
from edge_agent.runner.undoing import Undoing
from shared.actions import Action
from shared.policy import Asking
from shared.release import Release
from shared.runs import Device, Run, Step

Learn = Callable[[Run, Step, Action, dict[str, Any]], None]


@dataclass
class Rooms:
    """``asking`` tells how people are asked where these rules hold an action back;
    ``learn`` is told what a person confirmed; ``asked_at`` is when a tool was last asked about a doubt, by key."""

    journal: Journal
    device: Device
    guard: Guard
    hands: Hands
    starts: Starts
    undoing: Undoing
    mail: Mail
    times: Times
    release: Callable[[int], Release]
    asking: Callable[[list[str]], Asking]
    learn: Learn
    asked_at: dict[str, float] = field(default_factory=dict)
