"""A recommendation for one case: rules, then past decisions, then extractors, then the language model, else a person.

    1. The playbook's rules. If they agree on a lane, that is the recommendation and no model runs.
    2. The nearest past decisions name a lane with a calibrated confidence.
    3. Extractors read the typed fields out of the text.
    4. For a choice that words left open, the language model gives a second opinion on the option mentioned first. If it
       agrees, the field is filled; if not, the field stays open and a person sees the options.
    5. A one-line reason is composed from the rule or the nearest past decisions, never generated. It quotes only words
       that stand in the application itself.

The language model never names a lane: below 1.5 billion parameters it is worse at that than the nearest neighbours.
On 52 open choices of our own samples (on which the prompt was chosen too), the 135M model alone was right on 0.75 and
the first mention on 0.87; where the two agreed, on 0.62 of them, both were right. That is what it is asked for, and
all it can do.

Models and memory are handed in. A model that is missing or late costs the recommendation its part, never the case:
without vectors words are compared, without a language model the field stays open, without memory a person decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from edge_agent.models.messages import BACKGROUND, BATCH, Choice, ChoiceResult, EmbedResult
from edge_agent.plan import question
from edge_agent.plan.lanes import LaneModel, Prediction
from edge_agent.vector import Embedding
from shared import limits
from shared.errors import BadInput, OutriderError
from shared.triage import extract, rules
from shared.triage.prompt import Template
from shared.triage.rules import Case
from shared.triage.setup import Setup
from shared.triage.text import clean, excerpt, words

LABEL = "recommendation"
RULES_CONFLICT_MOST = 500  # permille; what memory may still claim where rules contradict each other
EMBED_DEADLINE_S = 10.0
MODEL_DEADLINE_S = 30.0
BATCH_PATIENCE = 10  # a batch run has time: what it waits for others must not cost its recommendation a part

# Why a recommendation abstains; an empty string means that it does not.
NO_TEXT = "plan.no-text"
PERSON_RULE = "plan.person-rule"
NO_MEMORY = "plan.no-memory"
UNLIKE_MEMORY = "plan.unlike-memory"
LOW_CONFIDENCE = "plan.low-confidence"


class Models(Protocol):
    """What planning asks of the models room; ``edge_agent.models.engine.Models`` is one."""

    async def embed(
        self, texts: Sequence[str], *, deadline_s: float | None = None, urgency: int = BACKGROUND
    ) -> EmbedResult: ...

    async def choose(self, request: Choice) -> ChoiceResult: ...


class Source(msgspec.Struct, frozen=True):
    """What a recommendation leans on: ``kind`` is ``rule`` (id in the pinned playbook) or ``item`` (memory, with
    hash)."""

    kind: str
    id: str
    sha256: str = ""


class Timings(msgspec.Struct, frozen=True):
    """Microseconds spent in each part, waiting included."""

    rules_us: int = 0
    embed_us: int = 0
    memory_us: int = 0
    extract_us: int = 0
    model_us: int = 0
    total_us: int = 0


class Recommendation(msgspec.Struct, frozen=True):
    """What the agent would do. ``lane`` may be empty, and where ``abstained`` names a code it is only what the evidence
    leans to, with confidence 0. ``planner`` is ``rules`` or ``memory``; ``lanes`` are vote shares in permille. ``open``
    holds the options of choices that nothing settled. ``prompt``, ``model`` and the token counts are of the language
    model, and empty and 0 where it did not run. ``notes`` are codes of what was missing.
    """

    lane: str
    confidence: int
    reason: str
    planner: str
    sources: list[Source]
    fields: dict[str, extract.Found]
    open: dict[str, list[str]] = msgspec.field(default_factory=dict)
    lanes: list[tuple[str, int]] = msgspec.field(default_factory=list)
    abstained: str = ""
    notes: list[str] = msgspec.field(default_factory=list)
    label: str = LABEL
    prompt: str = ""
    model: str = ""
    embedder: str = ""
    model_calls: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    timings: Timings = Timings()

    @property
    def values(self) -> dict[str, str | int]:
        """The fields as plain values."""
        return {name: found.value for name, found in self.fields.items()}


@dataclass(frozen=True)
class _Desk:
    """The models for one run, in the order its urgency gives it."""

    models: Models
    urgency: int

    def _within(self, seconds: float) -> float:
        return seconds * (BATCH_PATIENCE if self.urgency == BATCH else 1)

    async def embed(self, text: str) -> EmbedResult:
        return await self.models.embed([text], deadline_s=self._within(EMBED_DEADLINE_S), urgency=self.urgency)

    async def ask(self, template: Template, text: str, ask: str, options: list[str]) -> ChoiceResult:
        deadline_s = self._within(MODEL_DEADLINE_S)
        return await self.models.choose(question.question(template, text, ask, options, deadline_s, self.urgency))


async def recommend(
    case: Case,
    setup: Setup,
    *,
    memory: LaneModel | None,
    models: Models | None,
    clock: Callable[[], int],
    urgency: int = BACKGROUND,
    held_out: bool = False,
) -> Recommendation:
    """Plan one case. ``clock`` is monotonic microseconds; ``urgency`` is the run's, and orders it among those who want
    the models. ``held_out`` leaves what memory has of the very same words out. Raises nothing of ours: what fails is
    noted, and weighs less."""
    watch = _Watch(clock)
    desk = None if models is None else _Desk(models, urgency)
    outcome = rules.judge(setup.rules, case)
    watch.lap("rules_us")
    text = clean(str(case.get(setup.text) or ""))
    if outcome.lane and not outcome.person:
        plan = _by_rules(outcome)
    else:
        plan = await _by_memory(text, outcome, setup, memory, desk, watch, held_out=held_out)
    read = extract.extract(setup.fields, text)
    plan.fields = dict(read.found)
    watch.lap("extract_us")
    plan.open = {name: list(options) for name, options in read.left.items()}
    if plan.planner != "rules" and desk is not None and setup.template is not None:
        for field in setup.fields:
            if field.name in read.left:
                await _second_opinion(text, field, read.left[field.name], setup.template, desk, plan)
    watch.lap("model_us")
    return plan.finish(watch.timings())


class _Watch:
    """Laps in microseconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._begun = self._last = clock()
        self._laps: dict[str, int] = {}

    def lap(self, name: str) -> None:
        now = self._clock()
        self._laps[name] = now - self._last
        self._last = now

    def timings(self) -> Timings:
        return Timings(**self._laps, total_us=self._clock() - self._begun)


class _Draft:
    """A recommendation while its parts come in."""

    def __init__(self, planner: str, sources: list[Source]) -> None:
        self.planner, self.sources = planner, sources
        self.lane, self.confidence, self.reason, self.abstained = "", 0, "", ""
        self.lanes: list[tuple[str, int]] = []
        self.fields: dict[str, extract.Found] = {}
        self.notes: list[str] = []
        self.open: dict[str, list[str]] = {}
        self.prompt = self.embedder = ""
        self.answers: list[ChoiceResult] = []

    def finish(self, timings: Timings) -> Recommendation:
        return Recommendation(
            lane=self.lane,
            confidence=0 if self.abstained else self.confidence,
            reason=excerpt(self.reason, limits.REASON_CHARS),
            planner=self.planner,
            sources=self.sources[: limits.SOURCES],
            fields=self.fields,
            open=self.open,
            lanes=self.lanes,
            abstained=self.abstained,
            notes=self.notes,
            prompt=self.prompt,
            model=self.answers[0].model if self.answers else "",
            embedder=self.embedder,
            model_calls=len(self.answers),
            prompt_tokens=sum(answer.prompt_tokens for answer in self.answers),
            reused_tokens=sum(answer.reused_tokens for answer in self.answers),
            timings=timings,
        )


def _rule_sources(outcome: rules.Outcome) -> list[Source]:
    return [Source("rule", fired.rule.id) for fired in outcome.fired]


def _by_rules(outcome: rules.Outcome) -> _Draft:
    plan = _Draft("rules", _rule_sources(outcome))
    plan.lane, plan.confidence = outcome.lane, outcome.confidence
    plan.lanes = [(outcome.lane, outcome.confidence)]
    plan.reason = _said(max(outcome.fired, key=lambda fired: fired.rule.then.confidence))
    return plan


def _said(fired: rules.Fired) -> str:
    """A rule's reason, with the applicant's words that fulfilled it."""
    quoted = ", ".join(f"“{part}”" for part in fired.matched[:3])
    return f"{fired.rule.then.reason} The application says {quoted}." if quoted else fired.rule.then.reason


async def _by_memory(
    text: str,
    outcome: rules.Outcome,
    setup: Setup,
    memory: LaneModel | None,
    desk: _Desk | None,
    watch: _Watch,
    *,
    held_out: bool,
) -> _Draft:
    plan = _Draft("memory", _rule_sources(outcome))
    if not words(text):
        plan.abstained, plan.reason = NO_TEXT, "The description holds no words to judge by."
    elif memory is None or not memory.usable:
        plan.abstained, plan.reason = NO_MEMORY, "There are too few past decisions to compare with."
    else:
        vector = await _embed(text, desk, plan)
        watch.lap("embed_us")
        _weigh(_predict(memory, text, vector, plan, held_out), outcome, setup, plan)
        watch.lap("memory_us")
    wanted = next((fired for fired in outcome.fired if fired.rule.then.person), None)
    if wanted is not None:
        plan.abstained, plan.reason = PERSON_RULE, _said(wanted)
    return plan


async def _embed(text: str, desk: _Desk | None, plan: _Draft) -> Embedding | None:
    if desk is None:
        return None
    try:
        result = await desk.embed(text)
    except OutriderError as error:  # words alone are compared, under their own calibration
        plan.notes.append(error.code)
        return None
    plan.embedder = result.model
    return result.embeddings[0]


def _predict(memory: LaneModel, text: str, vector: Embedding | None, plan: _Draft, held_out: bool) -> Prediction:
    try:
        return memory.predict(text, vector, held_out=held_out)
    except BadInput as error:  # memory was embedded by another model: words still compare
        plan.notes.append(error.code)
        return memory.predict(text, held_out=held_out)


def _weigh(seen: Prediction, outcome: rules.Outcome, setup: Setup, plan: _Draft) -> None:
    """Turn what memory says into lane, confidence, reason and sources."""
    plan.lane, plan.lanes, plan.confidence = seen.lane, seen.lanes, seen.confidence
    plan.sources += [Source("item", near.item_id, near.item_sha256) for near in seen.neighbours]
    siding = [near for near in seen.neighbours if near.lane == seen.lane]
    label = setup.labels.get(seen.lane, seen.lane)
    plan.reason = f"{len(siding)} of the {len(seen.neighbours)} nearest past decisions went to {label}"
    # Only words that the applicant wrote too: a past decision's text may not leave its scope in a reason.
    if siding and siding[0].shared:
        plan.reason += "; the nearest shares " + ", ".join(f"“{word}”" for word in siding[0].shared)
    plan.reason += "."
    if outcome.conflict:
        plan.confidence = min(plan.confidence, RULES_CONFLICT_MOST)
        names = " and ".join(fired.rule.id for fired in outcome.fired if fired.rule.then.lane)
        plan.reason = f"The rules {names} disagree. {plan.reason}"
    if seen.unlike:
        plan.abstained = UNLIKE_MEMORY
        plan.reason = f"No past decision is much like this one. {plan.reason}"
    elif plan.confidence < setup.confidence.floor:
        plan.abstained = LOW_CONFIDENCE
        plan.reason = f"Past decisions do not settle this. {plan.reason}"


async def _second_opinion(
    text: str,
    field: extract.Field,
    options: dict[str, tuple[int, int]],
    template: Template,
    desk: _Desk,
    plan: _Draft,
) -> None:
    """Fill a choice if the language model picks the option mentioned first. A failure leaves it open, and a note."""
    named = list(options)
    try:
        answer = await desk.ask(template, text, field.ask, named)
    except OutriderError as error:
        plan.notes.append(error.code)
        return
    plan.answers.append(answer)
    plan.prompt = template.id
    if answer.best == 0:
        plan.fields[field.name] = extract.Found(named[0], *options[named[0]], "model")
        del plan.open[field.name]
