"""The words of a run's steps that are no action, of what people ordered, and of the way back."""

from __future__ import annotations

from collections.abc import Callable

from server.console import formats
from server.console.catalogue import Wording
from server.console.telling import JSON, Fact, Told, code, filled, signed, text
from shared.release import Order
from shared.runs.words import OUTCOMES


def _entered(facts: JSON, body: JSON, words: Wording) -> Told:
    ref = filled([code("Event", facts["ref"])]) if facts["kind"] == "event" else []
    match facts["kind"]:
        case "time":
            return Told("hourglass", "plain", "Waits for a time", until_words="It goes on", until=facts["until"])
        case "event":
            return Told("hourglass", "plain", "Waits for an event", "It goes on when the event comes.", facts=ref)
        case "run":
            return Told(
                "sitemap", "info", "Another run was opened", "It waits until that one has ended.", child=facts["ref"]
            )
        case "each":
            items = formats.count(facts["count"], "item")
            return Told("repeat", "info", f"{items[:1].upper()}{items[1:]} to go through", "Each takes the same steps.")
        case "together":
            lead = f"{formats.count(facts['count'], 'branch', 'branches')} go on side by side."
            return Told("arrows-split", "info", "Several things at once", lead)
        case kind:
            return Told("hourglass", "plain", f"Entered: {formats.words(str(kind))}")


def _ended(facts: JSON, body: JSON, words: Wording) -> Told:
    ended = facts["code"]
    if ended == "time":
        return Told("clock", "ok", "The time has come")
    if ended == "event":
        payload = body.get("payload")
        shown = payload if isinstance(payload, dict) else {}
        found = [Fact(formats.words(name), formats.value(raw)) for name, raw in shown.items() if isinstance(name, str)]
        return Told("bolt", "ok", "The event came", facts=found)
    said, tone = OUTCOMES.get(ended, (formats.words(ended), "plain"))
    return Told("sitemap", tone, f"The other run ended: {said[:1].lower()}{said[1:]}")


def _skipped(facts: JSON, body: JSON, words: Wording) -> Told:
    if facts["step"].startswith("~"):
        return Told(
            "player-skip-forward", "plain", "Left as it is", "The playbook says that this need not be taken back."
        )
    return Told("player-skip-forward", "plain", "Skipped", "Its condition did not hold.")


def _rehearsed(facts: JSON, body: JSON, words: Wording) -> Told:
    would = "It would have been done." if facts["verdict"] == "allow" else "A person would have been asked."
    return Told("test-pipe", "info", "Rehearsed", f"{would} In a dry run nothing is done.")


def _failed(facts: JSON, body: JSON, words: Wording) -> Told:
    said = " ".join(part for name in ("message", "advice") if (part := formats.sentence(text(body, name))))
    return Told("x", "bad", "The step failed", said, facts=[Fact("Code", facts["code"])], main=True)


def _undoing(facts: JSON, body: JSON, words: Wording) -> Told:
    said, _ = OUTCOMES.get(facts["outcome"], (formats.words(facts["outcome"]), "plain"))
    lead = (
        f"The run ends as {said[:1].lower()}{said[1:]}. What it did is taken back first, the newest before the older."
    )
    shown = [Fact("Code", facts["code"])] if facts["code"] else []
    return Told("arrow-back-up", "warn", "The way back begins", lead, facts=shown, main=True)


def _left(facts: JSON, body: JSON, words: Wording) -> Told:
    steps = body.get("steps")
    shown = [step for step in steps if isinstance(step, str)] if isinstance(steps, list) else []
    lead = "No tool can take this back." if facts["code"] == "undo.manual" else "The attempt to take it back failed."
    code_shown = [Fact("Code", facts["code"])] if facts["code"] != "undo.manual" else []
    return Told("tool", "bad", "Left to a person", lead, facts=code_shown, steps=shown, main=True)


_ORDERS = {
    "pause": ("player-pause", "warn", "paused the run", "It begins nothing new until somebody resumes it."),
    "resume": ("player-play", "ok", "resumed the run", ""),
    "cancel": ("square-x", "warn", "cancelled the run", "What was under way is brought to its end first."),
    "retry": ("refresh", "info", "tried the run again", "It goes on from what failed. What was done stays done."),
    "dismiss": ("archive", "plain", "laid the failure to rest", ""),
    "undo": ("arrow-back-up", "warn", "had the run taken back", "What it did is taken back, the newest first."),
    "happened": ("user-check", "ok", "said that it happened", "Nothing is sent again; the run goes on."),
    "not-happened": ("user-check", "warn", "said that it did not happen", "The action is judged again."),
    "handled": ("tool", "ok", "took it back by hand", ""),
}


def _ordered(facts: JSON, body: JSON, words: Wording) -> Told:
    icon, tone, did, lead = _ORDERS.get(facts["order"], ("user-check", "plain", f"ordered: {facts['order']}", ""))
    order = signed(body, Order)
    place = {
        "hub": f"The order is signed by the hub; {facts['by']} gave it as {order.role}." if order else "",
        "local": "The order was given at the agent's own computer.",
        "parent": "Nobody waits for this run any more.",
    }.get(facts["place"], "")
    who = "The run that opened it" if facts["place"] == "parent" else facts["by"] or "Somebody"
    return Told(
        icon,
        tone,
        f"{who} {did}",
        " ".join(part for part in (lead, place) if part),
        quote=order.reason if order else text(body, "reason"),
        main=True,
    )


TELLERS: dict[str, Callable[[JSON, JSON, Wording], Told]] = {
    "step.entered": _entered,
    "step.ended": _ended,
    "step.skipped": _skipped,
    "step.rehearsed": _rehearsed,
    "step.failed": _failed,
    "undo.begun": _undoing,
    "undo.left": _left,
    "run.ordered": _ordered,
}
