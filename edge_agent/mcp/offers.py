"""The agent's tools in MCP's words: names, schemas and annotations.

Annotations are made from the effect classes, and say no more than is true of a call made here. ``idempotentHint`` is
true of reads alone: a tool may act once for one key, but an action's key is made of tool, arguments and subject, and
calls that name no subject of their own get one each. So they are two actions, with two keys.
"""

from __future__ import annotations

from typing import Any

STATUS = "outrider_run_status"
SUBJECT = "outrider_subject"

_ABOUT_SUBJECT = (
    "What this is about, such as an order's number. Calls of the same tool with the same arguments and the same subject"
    " are the same action: a tool that knows idempotency keys does it once. Without it, every call is another action."
)
_ABOUT_STATUS = (
    "Look at a run that was asked for before: whether a person has answered, and what came of it. Changes nothing."
)
_EFFECTS = {
    "read": "It changes nothing.",
    "reversible": "It can be undone.",
    "compensatable": "It can be made good by another action.",
    "irreversible": "It cannot be undone.",
}
# What every answer has; receipts and questions come along where there are any.
_ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "run": {"type": "string", "description": "The run's name, for outrider_run_status."},
        "status": {"type": "string"},
        "outcome": {"type": "string", "description": "Empty while the run is open."},
    },
    "required": ["run", "status", "outcome"],
}


def name_of(tool: str) -> str:
    """``TABLE.VERB`` as assistants can call it: many take letters, digits, ``_`` and ``-`` only. A table's name holds
    no ``_``, so the first one stands for the dot."""
    return tool.replace(".", "_", 1)


def tool_of(name: str) -> str:
    return name.replace("_", ".", 1)


def offers(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All tools as ``tools/list`` gives them, ``outrider_run_status`` first."""
    return [_status(), *(offer(tool) for tool in tools if name_of(str(tool["name"])) != STATUS)]


def offer(tool: dict[str, Any]) -> dict[str, Any]:
    effect = str(tool["effect"])
    schema = tool["arguments"]
    properties = {**schema["properties"], SUBJECT: {"type": "string", "description": _ABOUT_SUBJECT}}
    said = [str(tool["about"]), _EFFECTS.get(effect, ""), "Policy may refuse it, or have a person asked first."]
    return {
        "name": name_of(str(tool["name"])),
        "description": " ".join(part for part in said if part),
        "inputSchema": {**schema, "properties": properties},
        "outputSchema": _ANSWER,
        "annotations": {
            "title": str(tool["name"]),
            "readOnlyHint": effect == "read",
            "destructiveHint": effect not in ("read", "reversible"),
            "idempotentHint": effect == "read",
        },
    }


def _status() -> dict[str, Any]:
    run = {"type": "string", "description": "The run's name, as an earlier answer gave it."}
    return {
        "name": STATUS,
        "description": _ABOUT_STATUS,
        "inputSchema": {
            "type": "object",
            "properties": {"run": run},
            "required": ["run"],
            "additionalProperties": False,
        },
        "outputSchema": _ANSWER,
        "annotations": {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False},
    }
