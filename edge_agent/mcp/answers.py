"""A run as the answer to an assistant's call: words, structured content, and whether it is an error.

An error invites an assistant to try again. So only what surely did not happen and will not is one; a run that waits for
a person, or of which nobody knows the end, is an answer that says so and asks for patience.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from edge_agent.mcp.offers import STATUS
from shared.errors import OutriderError

_HUB = "in the hub's console"
_TELL = "Tell your user: a person has to look."


@dataclass(frozen=True)
class Answer:
    text: str
    structured: dict[str, Any] = field(default_factory=dict)
    is_error: bool = False


def answer(run: dict[str, Any]) -> Answer:
    """The answer for a run as ``edge_agent.desk`` shows it."""
    step = _acting(run)
    structured: dict[str, Any] = {"run": run["run"], "status": run["status"], "outcome": run["outcome"]}
    if run["status"] == "closed":
        return _closed(run, step, structured)
    if run["waiting_for"]:
        structured["waiting_for"] = run["waiting_for"]
        return Answer(_asked(run), structured)
    return Answer(f"{_open(run)} {_look_again(run['run'])}", structured)


def failed(error: OutriderError, *, looking: bool = False) -> Answer:
    """The agent did not take the call, or is not there: nothing was done. ``looking``: nothing was to be done."""
    said = "" if looking else "Not done: "
    return Answer(f"{said}{error.message} [{error.code}]\n{error.advice}", is_error=True)


def taken(run: str, error: OutriderError) -> Answer:
    """The agent has opened the run and then could not be asked what came of it."""
    text = f"The agent took this as run {run}, and then did not answer: {error.message} [{error.code}]."
    return Answer(f"{text} {_look_again(run)}", {"run": run, "status": "unknown", "outcome": ""})


def unclear(error: OutriderError) -> Answer:
    """The agent may have taken the call, or not."""
    text = f"It is not known whether the agent took this call: {error.message} [{error.code}]. {error.advice}"
    return Answer(
        f"{text}\nTell your user, who can see all runs in the agent's panel, before you call the tool again.",
        {"run": "", "status": "unknown", "outcome": ""},
    )


def _acting(run: dict[str, Any]) -> dict[str, Any]:
    """The step that stands for the action: an assistant's run has one, and perhaps others that undid it."""
    steps: list[dict[str, Any]] = [step for step in run["steps"] if not str(step["step"]).startswith("~")]
    return steps[0] if steps else {"rules": [], "receipt": {}, "code": "", "tool": "", "verdict": ""}


def _closed(run: dict[str, Any], step: dict[str, Any], structured: dict[str, Any]) -> Answer:
    rules = [f"{rule['id']}: {rule['about']}" if rule["about"] else rule["id"] for rule in step["rules"]]
    receipt, code = step["receipt"], run["code"] or step["code"]
    if run["outcome"] == "done":
        structured["receipt"] = receipt
        return Answer(f"Done (run {run['run']}).\n{_receipt(receipt)}", structured)
    structured |= {"code": code, "rules": step["rules"]}
    if code == "effect.mismatch":
        return Answer(f"It was done, and what was found afterwards is not what was expected. {_TELL}", structured)
    said = {
        "denied": "Policy does not allow this: " + ("; ".join(rules) or code),
        "declined": f"A person said no{_why(receipt)}.",
        "failed": f"It failed{_why(receipt)}.",
        "referred": "It was left to a person to do.",
        "cancelled": "The run was cancelled.",
        "rehearsed": "This was a rehearsal: nothing was done.",
    }.get(run["outcome"], f"The run ended: {run['outcome']}.")
    return Answer(f"{said}\nRun {run['run']}{f', {code}' if code else ''}.", structured, is_error=True)


def _receipt(receipt: dict[str, Any]) -> str:
    """What a tool read or wrote: its own text where it has one, else all of it."""
    if isinstance(receipt.get("text"), str) and "structured" not in receipt:
        return str(receipt["text"])
    return json.dumps(receipt, ensure_ascii=False, indent=1) if receipt else ""


def _why(receipt: dict[str, Any]) -> str:
    message = str(receipt.get("message") or receipt.get("reason") or "")
    return f": {message}" if message else ""


def _asked(run: dict[str, Any]) -> str:
    lines = ["Not done yet: a person has to allow it first, and has been asked."]
    for question in run["waiting_for"]:
        who = ", ".join(question["roles"]) or "somebody who may answer"
        where = "at this computer (the agent's panel) or in the hub's console" if question["local"] else _HUB
        rules = "; ".join(str(rule["about"] or rule["id"]) for rule in question["rules"])
        lines.append(f"Approval {question['approval']}, for {who}, to be answered {where}.")
        if rules:
            lines.append(f"Why: {rules}")
    return "\n".join([*lines, _look_again(run["run"])])


def _open(run: dict[str, Any]) -> str:
    match run["status"]:
        case "held":
            return "Not done yet: this computer has no authority to act just now, and gets it from its hub."
        case "doubted":
            return "It is not known whether it was done. A person has to look."
        case "left":
            return "A person has to finish this by hand."
        case "paused":
            return "A person has paused the run."
        case _:
            return "It is still under way."


def _look_again(run: str) -> str:
    return f"Do not call the tool again for this; look with {STATUS}, run {run}."
