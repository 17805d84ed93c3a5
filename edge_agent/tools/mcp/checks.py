"""Whether arguments fit a tool's input schema, by a validator; only the worker runs this.

The schema is a stranger's. References are not fetched, and a pattern that takes for ever ends the worker: the alarm's
default action kills the process even inside a regular expression.
"""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import best_match
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from edge_agent.tools.mcp import schema
from shared.errors import BadInput

SECONDS = 5.0


def unfit(description: str) -> str:
    """Why the tool with this canonical description cannot be used; empty when it can."""
    given = json.loads(description).get("inputSchema")
    try:
        validator_for(given, default=Draft202012Validator).check_schema(given)
        schema.arguments(given)
    except (SchemaError, BadInput, RecursionError) as error:
        return schema.clean(f"its input schema does not fit: {getattr(error, 'message', 'too deep')}", 200)
    return ""


def fitting(description: str, given: dict[str, Any]) -> dict[str, Any]:
    """The JSON arguments to send. Raises ``BadInput``: ``mcp.arguments``, ``mcp.number``, ``mcp.schema``."""
    wanted = json.loads(description)["inputSchema"]
    arguments = schema.to_json(wanted, given)
    try:
        with _alarm():
            found = validator_for(wanted, default=Draft202012Validator)(wanted, registry=Registry())
            error = best_match(found.iter_errors(arguments))
    except (Unresolvable, SchemaError, RecursionError, ValueError, TypeError) as failure:
        raise BadInput(
            "mcp.schema", f"its input schema cannot be used: {type(failure).__name__}", advice="leave the tool out"
        ) from failure
    if error is not None:
        # The rule and its place, and not the value: errors are shown where arguments are not.
        place = ".".join(str(part) for part in error.absolute_path) or "the arguments"
        rule = f"{error.validator} {json.dumps(error.validator_value)}"
        raise BadInput(
            "mcp.arguments",
            f"{schema.clean(place, 200)}: it must fit {schema.clean(rule, 200)}",
            advice="correct them",
        )
    return arguments


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
