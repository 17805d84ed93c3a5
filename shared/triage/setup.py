"""A triage step, checked as a whole: its rules, its fields and its prompt. Done when a release is made and when it is
installed, so that what cannot be planned is never published, and never strands a run."""

from __future__ import annotations

import msgspec

from shared.errors import BadInput
from shared.playbook import Confidence, Playbook
from shared.triage import extract, prompt, rules


class Setup(msgspec.Struct, frozen=True):
    """A triage step of one playbook, checked once and used for every case."""

    rules: list[rules.Rule]
    fields: list[extract.Field]
    labels: dict[str, str]
    confidence: Confidence
    text: str
    template: prompt.Template | None


def prepare(playbook: Playbook, step_id: str, template: str | None) -> Setup:
    """Check rules, fields and template of a step. ``template`` is the text of the prompt the step names, None without.

    The text that is read is the first required, not private text input that is no business key. Raises ``BadInput``.
    """
    step = playbook.step(step_id)
    readable = [
        name
        for name, entry in playbook.inputs.items()
        if entry.type == "text" and entry.required and not entry.private and name not in playbook.business_key
    ]
    if not readable:
        raise BadInput(
            "plan.text", "no required text input to read", advice="add one that is neither private nor a business key"
        )
    asked = prompt.read_template(step.prompt, template) if step.prompt and template is not None else None
    labels = {lane.id: lane.label for lane in playbook.lanes}
    return Setup(rules.read(playbook), extract.read(playbook), labels, step.confidence, readable[0], asked)
