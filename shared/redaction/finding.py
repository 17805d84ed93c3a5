"""What a rule found, how overlaps are settled, and the form of a text that rules read.

Rules read a *shadow* of the text: invisible characters left out, full-width and other compatibility forms as plain
ones, so that ``ｊａｎｅ@example.org`` or a zero-width space inside a number hides nothing. Places are given back in the
text as it was written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

import msgspec

from shared.errors import BadInput

TEXT_CHARS = 500_000  # of one text; every rule is linear, and this bounds how long the worst text takes
_DASHES = dict.fromkeys(map(ord, "‐‑‒–—−"), "-") | dict.fromkeys(map(ord, "‘’ʼ′"), "'")


class Span(msgspec.Struct, frozen=True):
    """Characters ``start`` to ``end`` (half-open) are of ``kind`` (``EMAIL``, ``NAME``, ...) by ``rule``.
    ``confidence`` is permille: what the rule is worth, not a probability measured for this text."""

    start: int
    end: int
    kind: str
    rule: str
    confidence: int


class Shadow(msgspec.Struct, frozen=True):
    """``text`` as rules read it; ``places`` gives each of its characters its place in the original, or is empty where
    they are the same."""

    text: str
    places: Sequence[int] = ()

    def original(self, span: Span) -> Span:
        if not self.places:
            return span
        return msgspec.structs.replace(span, start=self.places[span.start], end=self.places[span.end - 1] + 1)


def shadow(text: str) -> Shadow:
    """Raises ``BadInput('redaction.too-long')``: what cannot be read whole must not leave."""
    if len(text) > TEXT_CHARS:
        raise BadInput(
            "redaction.too-long",
            f"a text of {len(text)} characters cannot be searched for personal data",
            advice=f"keep it to {TEXT_CHARS} characters, or split it",
        )
    if text.isascii():
        return Shadow(text)
    letters: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text):
        if unicodedata.category(char) == "Cf":
            continue
        # A form that stands for several characters stays as it is, so that places can be told.
        plain = unicodedata.normalize("NFKC", char)
        letters.append(plain if len(plain) == 1 else char)
        places.append(place)
    return Shadow("".join(letters).translate(_DASHES), places)


_SAYS = re.compile(r"\w")


def settle(spans: Iterable[Span], text: str) -> list[Span]:
    """Spans that do not overlap, in order. What lies within another goes. Where two cross, the surer keeps its
    characters, at a tie the earlier, and the other keeps what is left of it if that says anything."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end, -s.confidence, s.kind, s.rule)):
        last = kept[-1] if kept else None
        if last is None or span.start >= last.end:
            kept.append(span)
        elif span.end > last.end:
            if span.confidence > last.confidence and _SAYS.search(text, last.start, span.start):
                kept[-1] = _trimmed(last, text, last.start, span.start)
            elif span.confidence > last.confidence:
                kept.pop()
            else:
                if not _SAYS.search(text, last.end, span.end):
                    continue
                span = _trimmed(span, text, last.end, span.end)
            kept.append(span)
    return kept


def _trimmed(span: Span, text: str, start: int, end: int) -> Span:
    while start < end and not _SAYS.match(text, start):
        start += 1
    while end > start and not _SAYS.match(text, end - 1):
        end -= 1
    return msgspec.structs.replace(span, start=start, end=end)
