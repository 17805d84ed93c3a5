"""How well findings match the marked sentences: precision and recall by kind, whole spans only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from shared.redaction import Span

_MARK = re.compile(r"\{\{([A-Z-]+)\|(.*?)\}\}")


class Marked(NamedTuple):
    text: str
    truth: frozenset[tuple[int, int, str]]


class Score(NamedTuple):
    """Counts over all sentences; ``wrong`` holds (kind, what was found or missed, its sentence)."""

    right: Counter[str]
    found: Counter[str]
    true: Counter[str]
    wrong: list[tuple[str, str, str]]

    def precision(self, kinds: Iterable[str]) -> float:
        kinds = list(kinds)
        return sum(self.right[k] for k in kinds) / max(1, sum(self.found[k] for k in kinds))

    def recall(self, kinds: Iterable[str]) -> float:
        kinds = list(kinds)
        return sum(self.right[k] for k in kinds) / max(1, sum(self.true[k] for k in kinds))


def sentences(name: str = "sentences.txt") -> list[Marked]:
    lines = (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()
    return [_read(line) for line in lines if line and not line.startswith("#")]


def _read(line: str) -> Marked:
    text, truth, at = "", set(), 0
    for match in _MARK.finditer(line):
        text += line[at : match.start()]
        truth.add((len(text), len(text) + len(match[2]), match[1]))
        text += match[2]
        at = match.end()
    return Marked(text + line[at:], frozenset(truth))


def score(marked: list[Marked], find: Callable[[str], list[Span]]) -> Score:
    right: Counter[str] = Counter()
    found: Counter[str] = Counter()
    true: Counter[str] = Counter()
    wrong = []
    for text, truth in marked:
        spans = {(span.start, span.end, span.kind) for span in find(text)}
        right.update(kind for _, _, kind in spans & truth)
        found.update(kind for _, _, kind in spans)
        true.update(kind for _, _, kind in truth)
        wrong += [("+" + kind, text[start:end], text) for start, end, kind in sorted(spans - truth)]
        wrong += [("-" + kind, text[start:end], text) for start, end, kind in sorted(truth - spans)]
    return Score(right, found, true, wrong)
