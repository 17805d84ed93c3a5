"""A run told in plain sentences, one chapter per entry of its log.

Pure: entries and wording in, chapters out; templates only lay them out. Facts are checked by the fold, but bodies are
what a device chose to send: every value is read warily, and text is escaped by the templates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from server.console import formats
from server.console.catalogue import Wording
from server.console.rendering import OUTCOMES, by_planner
from shared.codec import parse
from shared.errors import OutriderError
from shared.keys import Envelope
from shared.release import Answer

if TYPE_CHECKING:
    from server.ingest import Story, StoryEntry

JSON = dict[str, Any]


@dataclass(frozen=True)
class Fact:
    """A name and its value. ``kind``: text, code (shown short, whole on hover), time (``at``), private, absent."""

    name: str
    text: str = ""
    kind: str = "text"
    at: int = 0


@dataclass(frozen=True)
class Source:
    """What a recommendation leans on: a memory item or a rule of the playbook."""

    kind: str
    id: str
    sha256: str
    text: str


@dataclass(frozen=True)
class Told:
    """The words of one entry. ``tone`` names a colour, ``icon`` a picture; ``quote`` is what someone wrote.
    ``main`` chapters carry the story; the rest stand back."""

    icon: str
    tone: str
    title: str
    lead: str = ""
    headline: str = ""
    confidence: int = -1
    quote: str = ""
    until: int = 0
    facts: list[Fact] = field(default_factory=list)
    rules: list[tuple[str, str]] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    context: list[Fact] = field(default_factory=list)
    main: bool = False


@dataclass(frozen=True)
class Chapter:
    """An entry with its words, its place and its proof. ``since`` is the time from the entry before, in µs."""

    told: Told
    entry: StoryEntry
    since: int
    raw: str


def tell(story: Story, words: Wording) -> list[Chapter]:
    """The chapters of a run, in the order of its log."""
    chapters: list[Chapter] = []
    before = 0
    for entry in story.entries:
        write = _TELLERS.get(entry.type, _unknown)
        told = write(entry.facts, entry.body or {}, words)
        chapters.append(Chapter(told, entry, entry.at - before if before else 0, _raw(entry)))
        before = entry.at
    return chapters


def _raw(entry: StoryEntry) -> str:
    shown: JSON = {"seq": entry.seq, "at": entry.at, "type": entry.type, "facts": entry.facts}
    if entry.body is not None:
        shown["body"] = entry.body
    return msgspec.json.format(msgspec.json.encode(shown), indent=2).decode()


# --- reading bodies warily ----------------------------------------------------------------------------------------


def _text(body: JSON, name: str) -> str:
    found = body.get(name)
    return found if isinstance(found, str) else ""


def _mapping(body: JSON, name: str) -> JSON:
    found = body.get(name)
    return found if isinstance(found, dict) else {}


def named_values(values: JSON, words: Wording) -> list[Fact]:
    """A mapping as facts, in the playbook's order; an absent value says so, a lane is named by its label."""
    facts = []
    for name, raw in words.ordered(values):
        if name == "lane" and isinstance(raw, str):
            text = words.lane(raw)
        elif name.endswith("_at") and isinstance(raw, int):
            text = formats.exact(raw)
        else:
            text = formats.value(raw, words.kind(name))
        facts.append(Fact(formats.words(name), text, "absent" if raw in (None, "") else "text"))
    return facts


def sources(found: Any) -> list[Source]:
    """The sources of a plan's body."""
    kept = [source for source in found if isinstance(source, dict)] if isinstance(found, list) else []
    return [Source(_text(s, "kind"), _text(s, "id"), _text(s, "sha256"), _text(s, "text")) for s in kept]


def _filled(facts: list[Fact | None]) -> list[Fact]:
    return [fact for fact in facts if fact is not None]


def _code(name: str, text: str) -> Fact | None:
    return Fact(name, text, "code") if text else None


# --- one teller per entry type ------------------------------------------------------------------------------------


def _opened(facts: JSON, body: JSON, words: Wording) -> Told:
    book = f"{facts['playbook']}, version {facts['playbook_version']}, under release {facts['release']}"
    source, subject = _text(body, "source"), _text(body, "subject")
    inputs = named_values({k: v for k, v in _mapping(body, "inputs").items() if v != subject}, words)
    if facts["private_fields"]:
        names = ", ".join(formats.words(name) for name in words.private) or "Private fields"
        inputs.append(Fact(names, "only on the device", "private"))
    lead = f"{source} opened a run of {book}." if source else f"A run of {book} was opened."
    return Told("inbox", "info", "A case arrived", lead, headline=subject, facts=inputs, main=True)


def _recalled(facts: JSON, body: JSON, words: Wording) -> Told:
    items = facts["items"]
    if not items:
        return Told("books", "plain", "Memory was searched", "Nothing in memory resembles this case.")
    lead = f"{formats.count(len(items), 'memory item')} came up, in {formats.took(facts['latency_us'])}."
    shown = [Fact(item["id"], item["sha256"], "code") for item in items]
    return Told("books", "plain", "Memory was searched", lead, context=shown)


def _planned(facts: JSON, body: JSON, words: Wording) -> Told:
    details = _filled(
        [
            Fact("Planned", by_planner(facts["planner"])),
            Fact("Abstained", facts["abstained"]) if facts["abstained"] else None,
            Fact("Took", formats.took(facts["latency_us"])),
            Fact("Tokens", _tokens(facts)) if facts["prompt_tokens"] or facts["generated_tokens"] else None,
            _code("Model asked about open fields", facts["model"]),
            Fact("Prompt", facts["prompt"]) if facts["prompt"] else None,
            Fact("Cost", formats.cents(facts["cost_cents"])) if facts["cost_cents"] else None,
        ]
    )
    if not facts["action"]:
        lead = "The planner was not sure enough to recommend anything, so the case is left to a person."
        return Told("help-circle", "warn", "No recommendation", lead, facts=details, main=True)
    action = _mapping(body, "action")
    arguments = named_values(_mapping(action, "arguments"), words)
    leans_on = sources(body.get("sources"))
    extracted = named_values({k: v for k, v in _mapping(body, "fields").items() if v is not None}, words)
    return Told(
        "bulb",
        "accent",
        "Recommendation",
        lead="The planner was not sure, so this is only where it leans." if facts["abstained"] else "",
        headline=_text(body, "label") or words.lane(facts["label"]),
        confidence=facts["confidence"],
        quote=_text(body, "reason"),
        facts=[*details, *extracted],
        rules=[(rule, words.rule(rule)) for rule in facts["rules"] if rule not in {source.id for source in leans_on}],
        sources=leans_on,
        context=[Fact("Tool", facts["tool"]), *arguments],
        main=True,
    )


def _tokens(facts: JSON) -> str:
    reused = f", {facts['reused_tokens']:,} of them reused" if facts["reused_tokens"] else ""
    return f"{facts['prompt_tokens']:,} read{reused}; {facts['generated_tokens']:,} written"


def _judged(facts: JSON, body: JSON, words: Wording) -> Told:
    rules = facts["rules"]
    held = any(rule.startswith("host:") for rule in rules)
    again = facts["context"].get("approved") is True
    icon, tone, title, lead = {
        "allow": ("scale", "ok", "The policy allows it", "No person is needed."),
        "ask": ("scale", "ask", "The policy asks for a person", "It may be done, but not unattended."),
    }.get(facts["verdict"], ("ban", "bad", "The policy denies it", "Nothing was done."))
    if again and facts["verdict"] in ("allow", "ask"):
        title, tone, lead = "Judged again, with the approval", "ok", "The policy still lets it be done."
    elif held:
        icon, tone, title, lead = "player-pause", "warn", "Held", "The device had no authority for it just then."
    return Told(
        icon,
        tone,
        title,
        lead,
        rules=[(rule, words.rule(rule)) for rule in rules],
        context=[
            Fact("Release", str(facts["release"])),
            *(
                Fact(formats.context_name(name), formats.context_value(name, raw))
                for name, raw in facts["context"].items()
            ),
        ],
        main=not again,
    )


def _asked(facts: JSON, body: JSON, words: Wording) -> Told:
    roles = " or ".join(facts["roles"])
    return Told(
        "user-question",
        "ask",
        "A person is asked",
        f"Anyone with the role {roles} may answer.",
        until=facts["expires_at"],
    )


def _answered(facts: JSON, body: JSON, words: Wording) -> Told:
    signed = _answer(body)
    did = {"approve": ("approved it", "ok"), "deny": ("denied it", "bad"), "correct": ("corrected it", "warn")}
    said, tone = did.get(facts["answer"], (facts["answer"], "plain"))
    corrected: list[Fact] = []
    headline = ""
    if signed is not None and signed.arguments is not None:
        corrected = named_values(dict(signed.arguments), words)
        lane = str(signed.arguments.get("lane", ""))
        headline = words.lane(lane)
    lead = f"The answer is signed by the hub; {facts['by']} gave it as {signed.role}." if signed else ""
    quote = signed.reason if signed else ""
    return Told(
        "user-check",
        tone,
        f"{facts['by']} {said}",
        lead,
        headline=headline,
        quote=quote,
        context=corrected,
        main=True,
    )


def _answer(body: JSON) -> Answer | None:
    """The answer in the envelope, for its words: whether it holds was verified when the device and the hub took it."""
    try:
        envelope = msgspec.convert(_mapping(body, "envelope"), Envelope)
        return parse(envelope.payload, Answer, code="signed.form", what="the answer")
    except (msgspec.ValidationError, OutriderError):
        return None


def _voided(facts: JSON, body: JSON, words: Wording) -> Told:
    lead = "The question cannot be answered any more; the action is judged anew."
    return Told("clock-exclamation", "warn", "The question lapsed", lead, facts=[Fact("Code", facts["code"])])


def _intended(facts: JSON, body: JSON, words: Wording) -> Told:
    lead = "Written to disk before anything is done, so that not even a crash can do it twice."
    shown = _filled([Fact("Tool", facts["tool"]), _code("Idempotency key", facts["key"])])
    return Told("bolt", "info", "About to act", lead, facts=shown)


def _doubted(facts: JSON, body: JSON, words: Wording) -> Told:
    lead = (
        "The agent was stopped while acting, and the tool cannot say whether it happened. It is not tried again: "
        "a person has to look."
    )
    return Told("help-circle", "bad", "In doubt", lead, facts=_filled([_code("Idempotency key", facts["key"])]))


def _resulted(facts: JSON, body: JSON, words: Wording) -> Told:
    receipt = named_values(_mapping(body, "receipt"), words)
    attempts, spent = facts["attempts"], formats.took(facts["latency_us"])
    if facts["outcome"] != "done":
        lead = f"It refused after {formats.count(attempts, 'attempt')} and {spent}."
        return Told("x", "bad", "The tool failed", lead, facts=[Fact("Code", facts["code"]), *receipt])
    if facts["how"] == "asked":
        lead = "After an interruption the tool was asked by key, and had already done it. It was not sent twice."
    else:
        lead = f"The tool answered in {spent}" + (f", at attempt {attempts}." if attempts > 1 else ".")
    return Told("receipt", "ok", "Done, with a receipt", lead, facts=receipt)


def _observed(facts: JSON, body: JSON, words: Wording) -> Told:
    found = named_values(_mapping(body, "found"), words)
    if facts["matches"]:
        lead = "The tool was read back, and what stands there is what the action said."
        return Told("eye", "ok", "Checked", lead, facts=found)
    lead = "The tool was read back, and what stands there differs from what the action said."
    return Told("alert-triangle", "bad", "Not as intended", lead, facts=found)


def _closed(facts: JSON, body: JSON, words: Wording) -> Told:
    said, tone = OUTCOMES.get(facts["outcome"], (formats.words(facts["outcome"]), "plain"))
    shown = [Fact("Code", facts["code"])] if facts["code"] else []
    return Told("flag", tone, f"Closed: {said[:1].lower()}{said[1:]}", facts=shown)


def _unknown(facts: JSON, body: JSON, words: Wording) -> Told:
    lead = "This console has no words for this type of entry; its raw form is below."
    return Told("info-circle", "plain", "An entry", lead)


_TELLERS: dict[str, Callable[[JSON, JSON, Wording], Told]] = {
    "run.opened": _opened,
    "context.recalled": _recalled,
    "plan.made": _planned,
    "verdict.given": _judged,
    "approval.asked": _asked,
    "approval.answered": _answered,
    "approval.voided": _voided,
    "intent.recorded": _intended,
    "intent.doubted": _doubted,
    "result.recorded": _resulted,
    "effect.observed": _observed,
    "run.closed": _closed,
}
