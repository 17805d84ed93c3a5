"""A run told in plain sentences, one chapter per entry of its log.

Pure: entries and wording in, chapters out; templates only lay them out. What belongs to plans, questions and effects is
told here; steps of other kinds, orders and the way back in ``story_steps``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from server.console import formats, story_steps
from server.console.catalogue import Wording
from server.console.rendering import by_planner
from server.console.telling import JSON, Fact, Told, code, filled, mapping, named_values, signed, sources, text
from shared.release import Answer
from shared.runs.words import OUTCOMES

CONFIRM = "person.confirm"

if TYPE_CHECKING:
    from server.ingest import Story, StoryEntry


@dataclass(frozen=True)
class Chapter:
    """An entry with its words, its place and its proof. ``since`` is the time from the entry before, in µs; ``step`` is
    the name of the step it belongs to, empty where the run has but one."""

    told: Told
    entry: StoryEntry
    since: int
    raw: str
    step: str = ""


def tell(story: Story, words: Wording) -> list[Chapter]:
    """The chapters of a run, in the order of its log."""
    chapters: list[Chapter] = []
    before = 0
    many = len({name for entry in story.entries if (name := entry.facts.get("step"))}) > 1
    for entry in story.entries:
        write = _TELLERS.get(entry.type, _unknown)
        told = write(entry.facts, entry.body or {}, words)
        step = words.step(entry.facts["step"]) if many and entry.facts.get("step") else ""
        chapters.append(Chapter(told, entry, entry.at - before if before else 0, _raw(entry), step))
        before = entry.at
    return chapters


def _raw(entry: StoryEntry) -> str:
    shown: JSON = {"seq": entry.seq, "at": entry.at, "type": entry.type, "facts": entry.facts}
    if entry.body is not None:
        shown["body"] = entry.body
    return msgspec.json.format(msgspec.json.encode(shown), indent=2).decode()


# --- one teller per entry type ------------------------------------------------------------------------------------


def _opened(facts: JSON, body: JSON, words: Wording) -> Told:
    book = f"{facts['playbook']}, version {facts['playbook_version']}, under release {facts['release']}"
    source, subject = text(body, "source"), text(body, "subject")
    inputs = named_values({k: v for k, v in mapping(body, "inputs").items() if v != subject}, words)
    if facts["private_fields"]:
        names = ", ".join(formats.words(name) for name in words.private) or "Private fields"
        inputs.append(Fact(names, "only on the device", "private"))
    lead = f"{source} opened a run of {book}." if source else f"A run of {book} was opened."
    if facts.get("by"):
        lead += f" {facts['by']} asked for it."
    if facts.get("dry_run"):
        lead += " It is a dry run: it plans and is judged, and does nothing."
    return Told("inbox", "info", "A case arrived", lead, headline=subject, facts=inputs, main=True)


def _recalled(facts: JSON, body: JSON, words: Wording) -> Told:
    items = facts["items"]
    if not items:
        return Told("books", "plain", "Memory was searched", "Nothing in memory resembles this case.")
    lead = f"{formats.count(len(items), 'memory item')} came up, in {formats.took(facts['latency_us'])}."
    shown = [Fact(item["id"], item["sha256"], "code") for item in items]
    return Told("books", "plain", "Memory was searched", lead, context=shown)


def _planned(facts: JSON, body: JSON, words: Wording) -> Told:
    if facts["planner"] in _FIXED:
        return _fixed(facts, body, words)
    details = filled(
        [
            Fact("Planned", by_planner(facts["planner"])),
            Fact("Abstained", facts["abstained"]) if facts["abstained"] else None,
            Fact("Took", formats.took(facts["latency_us"])),
            Fact("Tokens", _tokens(facts)) if facts["prompt_tokens"] or facts["generated_tokens"] else None,
            code("Model asked about open fields", facts["model"]),
            Fact("Prompt", facts["prompt"]) if facts["prompt"] else None,
            Fact("Cost", formats.cents(facts["cost_cents"])) if facts["cost_cents"] else None,
        ]
    )
    if not facts["action"]:
        lead = "The planner was not sure enough to recommend anything, so the case is left to a person."
        return Told("help-circle", "warn", "No recommendation", lead, facts=details, main=True)
    action = mapping(body, "action")
    arguments = named_values(mapping(action, "arguments"), words)
    leans_on = sources(body.get("sources"))
    extracted = named_values({k: v for k, v in mapping(body, "fields").items() if v is not None}, words)
    return Told(
        "bulb",
        "accent",
        "Recommendation",
        lead="The planner was not sure, so this is only where it leans." if facts["abstained"] else "",
        headline=text(body, "label") or words.lane(facts["label"]),
        confidence=facts["confidence"],
        quote=text(body, "reason"),
        facts=[*details, *extracted],
        rules=[(rule, words.rule(rule)) for rule in facts["rules"] if rule not in {source.id for source in leans_on}],
        sources=leans_on,
        context=[Fact("Tool", facts["tool"]), *arguments],
        main=True,
    )


_FIXED = {
    "playbook": ("list-check", "info", "The playbook says what to do", ""),
    "undo": ("arrow-back-up", "warn", "How it is taken back", "Judged, asked about and logged like any other action."),
    "assistant": ("message-chatbot", "accent", "An assistant asks for this", "It acts under the same policy."),
}


def _fixed(facts: JSON, body: JSON, words: Wording) -> Told:
    """A step that needed no thinking: a playbook's own, one that takes another back, or an assistant's."""
    icon, tone, title, lead = _FIXED[facts["planner"]]
    action = mapping(body, "action")
    arguments = mapping(action, "arguments")
    if facts["tool"] == CONFIRM:
        question = text(arguments, "question")
        return Told("user-question", "info", "The playbook asks a person", headline=question, main=True)
    return Told(
        icon,
        tone,
        title,
        lead,
        headline=text(body, "label") or facts["tool"],
        context=[Fact("Tool", facts["tool"]), *named_values(arguments, words)],
        main=True,
    )


def _tokens(facts: JSON) -> str:
    reused = f", {facts['reused_tokens']:,} of them reused" if facts["reused_tokens"] else ""
    return f"{facts['prompt_tokens']:,} read{reused}; {facts['generated_tokens']:,} written"


def _judged(facts: JSON, body: JSON, words: Wording) -> Told:
    rules = facts["rules"]
    host = any(rule.startswith("host:") for rule in rules)
    again = facts["context"].get("approved") is True
    icon, tone, title, lead = {
        "allow": ("scale", "ok", "The policy allows it", "No person is needed."),
        "ask": ("scale", "ask", "The policy asks for a person", "It may be done, but not unattended."),
    }.get(facts["verdict"], ("ban", "bad", "The policy denies it", "Nothing was done."))
    if again and facts["verdict"] in ("allow", "ask"):
        title, tone, lead = "Judged again, with the approval", "ok", "The policy still lets it be done."
    elif host and facts["verdict"] == "deny":
        icon, tone, title, lead = "player-pause", "warn", "Held", "The device could not do it just then."
    elif host and facts["verdict"] == "ask":
        title = "It is for a person"
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
    roles, needed = " or ".join(facts["roles"]), facts.get("needed", 1)
    lead = f"Anyone with the role {roles} may answer."
    if needed > 1:
        return Told(
            "users",
            "ask",
            f"{needed} people are asked",
            f"{needed} different people must approve. {lead}",
            until=facts["expires_at"],
        )
    if facts.get("local"):
        lead += " The policy lets it be answered at the agent's own computer too."
    return Told("user-question", "ask", "A person is asked", lead, until=facts["expires_at"])


def _escalated(facts: JSON, body: JSON, words: Wording) -> Told:
    lead = f"Nobody had answered, so anyone with the role {' or '.join(facts['roles'])} may answer too."
    return Told("bell", "ask", "More people are asked", lead)


def _covered(facts: JSON, body: JSON, words: Wording) -> Told:
    lead = "Somebody approved all actions like this one for a while, so nobody is asked again."
    return Told("user-check", "ok", "Covered by an earlier answer", lead, facts=filled([code("It", facts["grant"])]))


def _answered(facts: JSON, body: JSON, words: Wording) -> Told:
    answer = signed(body, Answer)
    did = {"approve": ("approved it", "ok"), "deny": ("denied it", "bad"), "correct": ("corrected it", "warn")}
    said, tone = did.get(facts["answer"], (facts["answer"], "plain"))
    corrected: list[Fact] = []
    headline = ""
    if answer is not None and answer.arguments is not None:
        corrected = named_values(dict(answer.arguments), words)
        headline = words.lane(str(answer.arguments.get("lane", "")))
    lead = f"The answer is signed by the hub; {facts['by']} gave it as {answer.role}." if answer else ""
    if facts.get("place") == "local":
        lead = "The answer was given at the agent's own computer."
    if facts.get("similar_until"):
        lead += " It covers actions like this one."
    return Told(
        "user-check",
        tone,
        f"{facts['by']} {said}",
        lead,
        headline=headline,
        quote=answer.reason if answer else text(body, "reason"),
        until_words="It covers them until" if facts.get("similar_until") else "",
        until=facts.get("similar_until") or 0,
        context=corrected,
        main=True,
    )


def _voided(facts: JSON, body: JSON, words: Wording) -> Told:
    lead = "The question cannot be answered any more; the action is judged anew."
    return Told("clock-exclamation", "warn", "The question lapsed", lead, facts=[Fact("Code", facts["code"])])


def _intended(facts: JSON, body: JSON, words: Wording) -> Told:
    lead = "Written to disk before anything is done, so that not even a crash can do it twice."
    shown = filled([Fact("Tool", facts["tool"]), code("Idempotency key", facts["key"])])
    return Told("bolt", "info", "About to act", lead, facts=shown)


def _doubted(facts: JSON, body: JSON, words: Wording) -> Told:
    lead = (
        "The agent was stopped while acting, and the tool cannot say whether it happened. It is not tried again: "
        "a person has to look."
    )
    return Told("help-circle", "bad", "In doubt", lead, facts=filled([code("Idempotency key", facts["key"])]))


def _resulted(facts: JSON, body: JSON, words: Wording) -> Told:
    receipt = named_values(mapping(body, "receipt"), words)
    if facts["how"] == "told":
        return Told("user-check", "ok", "A person said that it happened", "Nothing was sent again.", facts=receipt)
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
    found = named_values(mapping(body, "found"), words)
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
    "approval.escalated": _escalated,
    "approval.answered": _answered,
    "approval.covered": _covered,
    "approval.voided": _voided,
    "intent.recorded": _intended,
    "intent.doubted": _doubted,
    "result.recorded": _resulted,
    "effect.observed": _observed,
    "run.closed": _closed,
    **story_steps.TELLERS,
}
