"""A small desk for planning tests: a playbook, past decisions of the starter kit, and models that answer as told."""

from __future__ import annotations

import csv
import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_agent.models.messages import BACKGROUND, Choice, ChoiceResult, EmbedResult
from edge_agent.plan.lanes import LaneModel, PastCase
from edge_agent.vector import Embedding
from shared.errors import OutriderError
from shared.playbook import Playbook, load
from shared.triage.setup import Setup, prepare
from shared.triage.text import words

KIT = Path(__file__).parents[3] / "server" / "starter" / "permits"
TEMPLATE = (KIT / "prompts" / "extract-fields@1.txt").read_text()

_HEAD = """
playbook: small
version: 1
owner: desk@example.org
trigger: {folder: inbox}
inputs:
  number: {type: text, required: true}
  description: {type: text, required: true}
  value: {type: cents}
business_key: [number]
lanes: [{id: express, label: Express}, {id: sign, label: Signs}, {id: review, label: Review}]
fallback: review
steps: [{id: triage, planner: triage, tools: [register.decide], prompt: extract-fields@1}]
approvals: {roles: [clerk]}
"""


def playbook(*parts: str) -> Playbook:
    """A minimal playbook with more YAML (rules, fields) appended."""
    return load(_HEAD + "\n".join(parts), "small.yaml")


def starter() -> Setup:
    text = (KIT / "playbooks" / "permit-triage.yaml").read_text()
    return prepare(load(text, "permit-triage.yaml"), "triage", TEMPLATE)


def past(*, vectors: bool = False) -> list[PastCase]:
    """The starter kit's past decisions, with item ids in file order."""
    with (KIT / "samples" / "past-decisions.csv").open(newline="") as file:
        return [
            PastCase(
                f"item-{number:03}",
                hashlib.sha256(row["description"].encode()).hexdigest(),
                row["description"],
                row["lane"],
                vector(row["description"]) if vectors else None,
            )
            for number, row in enumerate(csv.DictReader(file))
        ]


def memory(*, vectors: bool = False) -> LaneModel:
    return LaneModel.fit(past(vectors=vectors))


def vector(text: str) -> Embedding:
    """Hashed words as a unit vector: no meaning in it, but the form and the arithmetic of a real one."""
    counts = [0] * 64
    for word in words(text):
        counts[hashlib.sha256(word.encode()).digest()[0] % 64] += 1
    length = sum(count * count for count in counts) ** 0.5 or 1.0
    peak = max(counts) / length or 1.0
    return Embedding(bytes(round(count / length / peak * 127) for count in counts), round(peak / 127 * 1e9))


class Told:
    """Models that answer as told: embeddings by ``vector``, choices by ``best``; or fail with ``error``."""

    def __init__(self, *, best: int = 0, error: OutriderError | None = None) -> None:
        self.best, self.error = best, error
        self.asked: list[Choice] = []
        self.embedded: list[str] = []
        self.wanted: list[tuple[int, float | None]] = []  # urgency and deadline of each embedding

    async def embed(
        self, texts: Sequence[str], *, deadline_s: float | None = None, urgency: int = BACKGROUND
    ) -> EmbedResult:
        if self.error is not None:
            raise self.error
        self.embedded += texts
        self.wanted.append((urgency, deadline_s))
        return EmbedResult(tuple(vector(text) for text in texts), "e" * 64)

    async def choose(self, request: Choice) -> ChoiceResult:
        if self.error is not None:
            raise self.error
        self.asked.append(request)
        return ChoiceResult(self.best, (0,) * len(request.options), 300, 280, "a" * 64)


def ticks() -> Callable[[], int]:
    """A clock that moves a millisecond per look."""
    looks = itertools.count(0, 1000)
    return lambda: next(looks)
