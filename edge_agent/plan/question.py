"""A template of the release filled in for one case, as the language model is asked. See ``shared.triage.prompt``."""

from __future__ import annotations

from edge_agent.models.messages import BACKGROUND, Choice
from shared.triage.prompt import FIELD, Template, quoted

NOTHING = "N/A"  # the text without content


def question(
    template: Template, text: str, ask: str, options: list[str], deadline_s: float, urgency: int = BACKGROUND
) -> Choice:
    """Which of ``options`` is the ``ask`` (main work) of ``text``? The answer is an index into ``options``."""
    return Choice(
        options=tuple(" " + option.replace("-", " ").replace("_", " ") for option in options),
        prompt=quoted(text),
        prefix=template.prefix,
        suffix=template.closing.replace(FIELD, ask),
        neutral=NOTHING,
        deadline_s=deadline_s,
        urgency=urgency,
    )
