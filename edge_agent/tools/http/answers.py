"""What an answer means: whether it happened, and what of it is worth keeping.

    2xx                          it happened
    303, 302, 301 to a change    nobody knows: some services answer a form so, after they acted
    other 3xx                    it did not happen
    429; 503 with Retry-After    it did not happen, and may be tried again
    "still at work" (``unsure``) nobody knows
    other 4xx                    it did not happen, and will not
    all else                     nobody knows

JSON becomes plain as ``edge_agent.plain`` says: what is kept goes into signed bytes, where no floats are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from edge_agent.plain import plain_json
from edge_agent.tools import NotSent
from edge_agent.tools.http.transport import Answer
from shared.codec import canonical, hex_sha256
from shared.errors import BadInput, OutriderError, Refused, Unavailable

KEPT_BYTES = 8 * 1024  # one kept value, canonical
ANSWER_BYTES = 64 * 1024  # a whole answer in a receipt, canonical
_SAID = 200  # characters of what a service says about its refusal


def parsed(answer: Answer) -> Any:
    """The body: JSON-plain, or text where it says that it is text, or size and hash of what it is otherwise."""
    if not answer.body:
        return None
    if answer.whole and "content-encoding" not in answer.headers:
        with contextlib.suppress(BadInput):
            return plain_json(answer.body)
        if answer.headers.get("content-type", "").startswith("text/"):
            return answer.body.decode(errors="replace")
    return {"bytes": len(answer.body), "sha256": hex_sha256(answer.body)}


def struck(value: Any, strike: Callable[[str], str]) -> Any:
    """A JSON-plain value with every text in it passed through ``strike``."""
    if isinstance(value, str):
        return strike(value)
    if isinstance(value, dict):
        return {strike(name): struck(item, strike) for name, item in value.items()}
    if isinstance(value, list):
        return [struck(item, strike) for item in value]
    return value


def trouble(what: str, answer: Answer, *, read: bool, unsure: list[int], strike: Callable[[str], str]) -> OutriderError:
    """The error that an answer other than 2xx stands for. ``what`` is the request, for people."""
    status = answer.status
    said = strike(f"{what} was answered with {status}{later(answer)}{_reason(answer, strike)}")
    if status == 429 or (status == 503 and "retry-after" in answer.headers):
        return NotSent("web.later", said, advice="it is tried again later")
    if status in unsure:
        return Unavailable("web.at-work", said, advice="ask again: an earlier request with this key is under way")
    if status == 401:
        return Refused("web.unauthorised", said, advice="check the secret that the tool's auth names")
    if 300 <= status < 400 and (read or status in (304, 307, 308)):
        return Refused("web.redirect", said, advice="correct base and path in tools.toml")
    if 400 <= status < 500:
        return Refused("web.refused", said, advice="correct the request; the service's own words may say how")
    return Unavailable("web.failed", said, advice="whether it acted is not known")


def later(answer: Answer) -> str:
    wait = answer.headers.get("retry-after", "")[:40]
    return f", to be tried again after {wait}{' s' if wait.isdigit() else ''}" if wait and wait.isascii() else ""


def _reason(answer: Answer, strike: Callable[[str], str]) -> str:
    """A few words of the service's own, from a problem (RFC 9457) or what is usual in its place. Struck before they are
    cut, lest half a secret be left."""
    found = parsed(answer)
    if not isinstance(found, dict):
        return ""
    inner = found.get("error") if isinstance(found.get("error"), dict) else found
    for name in ("detail", "title", "message", "error_description", "error"):
        text = inner.get(name) if isinstance(inner, dict) else None
        if isinstance(text, str) and text.strip():
            return f": {' '.join(strike(text).split())[:_SAID]}"
    return ""


def fits(value: Any, most: int) -> bool:
    return len(canonical(value)) <= most
