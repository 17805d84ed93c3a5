"""Personal data: found, replaced, and kept from leaving.

Two barriers, in this order. First a list of the fields that may leave at all: what is not listed stays, whatever is in
it. Then, in what may leave, our own rules replace what looks like a person's: numbers by their check digits, forms and
the words before them, names by the company they keep, and the owner's own dictionary. Pure, linear in the text, without
a model.
"""

from __future__ import annotations

from shared.redaction.finding import Span
from shared.redaction.redact import (
    KINDS,
    Placeholders,
    Preview,
    Recogniser,
    Redaction,
    Replaced,
    Withheld,
    allows,
    find,
    leaving,
    redact,
)

__all__ = [
    "KINDS",
    "Placeholders",
    "Preview",
    "Recogniser",
    "Redaction",
    "Replaced",
    "Span",
    "Withheld",
    "allows",
    "find",
    "leaving",
    "redact",
]
