"""Names that no context gives away, found by a spaCy model: an optional helper of ``shared.redaction``.

The extra ``pii-ner`` brings spaCy; the model is the owner's to choose, by the folder it lies in or the name it is
installed by (``en_core_web_md`` is the one that was measured). Both are loaded at first use and take some 300 MB, so
this is for a hub or a strong machine. It reads texts and says where a person's name stands; it writes nothing and opens
no connection.
"""

from __future__ import annotations

import importlib
import re
import threading
from typing import Any

from shared.errors import Unavailable
from shared.redaction import Span
from shared.redaction.names import checked, is_given

_PIECE = 20_000  # characters read at once: bounds the memory a long text takes
_LABELS = frozenset(("PERSON", "PER"))  # as models of English and of other languages call it
_CONFIDENCE = 770
_TITLE = re.compile(r"(?:mrs?|ms|mx|dr|prof|herr|frau|sir|madame?|miss)\b\.?\s*", re.I)
_NOT_NEEDED = ("parser", "lemmatizer", "attribute_ruler", "tagger", "senter", "morphologizer")


class People:
    """A recogniser for ``shared.redaction.find(text, also=[...])``. May be called from any thread.

    Raises ``Unavailable('redaction.ner')`` where spaCy or the model is missing: then nothing leaves, for less would be
    found than was asked for."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._loaded: Any = None

    def __call__(self, text: str) -> list[Span]:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            found = []
            for start, piece in _pieces(text):
                for entity in self._loaded(piece).ents:
                    if entity.label_ in _LABELS:
                        found.append(_span(text, start + entity.start_char, start + entity.end_char))
        return [span for span in found if span is not None]

    def _load(self) -> Any:
        try:
            spacy = importlib.import_module("spacy")
        except ImportError as error:
            raise _missing("spaCy is not installed", "install outrider[pii-ner], or turn this off") from error
        try:
            return spacy.load(self._model, exclude=list(_NOT_NEEDED))
        except (OSError, ValueError) as error:
            raise _missing(f"spaCy cannot load {self._model}", "name the folder of a model, or install it") from error


def _missing(said: str, advice: str) -> Unavailable:
    return Unavailable("redaction.ner", said, advice=advice)


def _pieces(text: str) -> list[tuple[int, str]]:
    """The text in pieces that end at a line or a space where there is one, each with where it begins."""
    pieces = []
    at = 0
    while at < len(text):
        end = min(len(text), at + _PIECE)
        if end < len(text):
            cut = max(text.rfind("\n", at + _PIECE // 2, end), text.rfind(" ", at + _PIECE // 2, end))
            end = cut + 1 if cut > 0 else end
        pieces.append((at, text[at:end]))
        at = end
    return pieces


def _span(text: str, start: int, end: int) -> Span | None:
    """Without what models take along (a title, a possessive, a line's end), and held against the rules for names. A
    model that reads a few words without a sentence around them takes many a single noun for a person, so one word alone
    has to be a common given name."""
    if title := _TITLE.match(text, start, end):
        start = title.end()
    said = text[start:end].partition("\n")[0].removesuffix("'s").rstrip(" .,:;-(")
    if not said or any(char.isdigit() or char == "@" for char in said):
        return None
    return checked(text, start, start + len(said), "ner.person", _CONFIDENCE, 1 if is_given(said) else 2)
