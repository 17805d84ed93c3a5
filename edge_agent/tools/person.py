"""``person.confirm``: a question to a person as a step of its own. It changes nothing; its answer is all there is.

The host asks whatever the policy would let be done alone, so an approval is its only way to an effect.
"""

from __future__ import annotations

from edge_agent.tools import Argument, Effect, Receipt, Risk, Tool, check_arguments
from shared.actions import Action

CONFIRM = "person.confirm"


_ARGUMENTS = {"question": Argument(about="what is asked")}


class Confirm(Tool):
    """Its own step in a playbook is ``confirm: TEXT``."""

    name = CONFIRM
    about = "Ask a person, and go on when they say yes."
    effect: Effect = "read"
    risk: Risk = "low"
    idempotent = True
    askable = False
    reads_back = False
    arguments = _ARGUMENTS

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        return Receipt({"confirmed": True})
