"""The question put to the language model: a template of the release around an applicant's text.

The model is asked for one thing only: which of a few options fits best. It generates nothing. The options are
compared by log-probability, after what a text without content gives them is taken off, so there is no output that
text could take over; the options themselves are limited to those whose phrases stand in the text. On real wording
this settles more than letting the model write under a grammar of the same options (0.75 against 0.58 right with the
135M model).

    You sort permit applications. …                       prefix: the model's state after it is kept
    Application: <<< [[text]] >>>                         [[text]]: data, quoted and bounded
    [[field]]:                                            [[field]]: what the playbook calls the choice
"""

from __future__ import annotations

import msgspec

from shared.errors import BadInput
from shared.triage.text import clean, excerpt

PROMPT_CHARS = 1_200  # of the applicant's text that a prompt holds
TEXT, FIELD = "[[text]]", "[[field]]"
OPEN, CLOSE = "<<< ", " >>>"


class Template(msgspec.Struct, frozen=True):
    """A prompt template, parted at its slots. ``prefix`` and ``closing`` are the release's own words."""

    id: str
    prefix: str
    closing: str


def read_template(prompt_id: str, text: str) -> Template:
    """Check a template. Raises ``BadInput('prompt.form')`` unless it holds ``<<<[[text]]>>>`` and then
    ``[[field]]:``, once each, and nothing after."""
    prefix, found, closing = text.rstrip().partition(TEXT)
    fits = found and prefix.endswith(OPEN) and closing.startswith(CLOSE) and closing.endswith(f"{FIELD}:")
    if not fits or TEXT in closing or text.count(FIELD) != 1:
        raise BadInput(
            "prompt.form",
            "a prompt holds each slot once, the text before the field",
            advice=f"write {OPEN}{TEXT}{CLOSE} once and end with {FIELD}:",
            where=prompt_id,
        )
    return Template(prompt_id, prefix, closing)


def quoted(text: str) -> str:
    """An applicant's text as data: one line, bounded, unable to close its delimiters or to spell a control token."""
    return excerpt(clean(text).translate({ord("<"): "‹", ord(">"): "›"}), PROMPT_CHARS)
