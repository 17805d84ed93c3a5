"""Bodies and errors of the local API.

Unknown fields are refused. Numbers with a fraction arrive as text (see ``edge_agent.plain``).
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from edge_agent.plain import plain_json
from shared.errors import BadInput, Conflict, OutriderError, Refused, Tampered, Unavailable

BODY_BYTES = 256 * 1024
BODY_SECONDS = 10
WAIT_SECONDS = 300

_STATUS: dict[type[OutriderError], int] = {BadInput: 400, Refused: 403, Tampered: 422, Conflict: 409, Unavailable: 503}
_BY_CODE = {
    "api.fault": 500,
    "api.host": 421,
    "api.media": 415,
    "api.method": 405,
    "api.not-found": 404,
    "api.slow": 408,
    "api.token": 401,
    "api.too-large": 413,
    "hook.signature": 401,
    "hook.stale": 401,
    "panel.closed": 401,
}
# An answer may hold what only this user should read, and is never a page.
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

T = TypeVar("T", bound=msgspec.Struct)
Line = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,200}\Z")]
Reason = Annotated[str, Meta(max_length=2000)]


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class ActBody(_Body, frozen=True):
    """POST /v1/actions. ``client`` names the program that asks; ``key`` is its own for this action: sent again, it is
    the same run."""

    tool: Line
    arguments: dict[str, Any]
    client: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,59}\Z")]
    key: Line
    subject: Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{0,200}\Z")] = ""


class StartBody(_Body, frozen=True):
    """POST /v1/runs."""

    playbook: Line
    by: Line
    inputs: dict[str, Any] = {}
    dry_run: bool = False


class WaitBody(_Body, frozen=True):
    """POST /v1/runs/ID/wait."""

    timeout_s: Annotated[int, Meta(ge=0, le=WAIT_SECONDS)] = 30


class OrderBody(_Body, frozen=True):
    """POST /v1/runs/ID/orders."""

    order: Line
    by: Line
    reason: Reason = ""
    step: Annotated[str, Meta(max_length=200)] = ""


class AnswerBody(_Body, frozen=True):
    """POST /v1/approvals/ID/answer."""

    answer: Line
    by: Line
    reason: Reason = ""


class EventBody(_Body, frozen=True):
    """POST /v1/events/NAME."""

    key: Line
    payload: dict[str, Any] = {}


async def read(request: Request, kind: type[T]) -> T:
    """The body as ``kind``. Raises ``BadInput``: ``api.media``, ``api.too-large``, ``api.slow``, ``api.body``."""
    try:
        return msgspec.convert(plain_json(await read_bytes(request)), kind)
    except msgspec.ValidationError as error:
        raise BadInput(
            "api.body", f"the body does not fit: {error}", advice="see docs/reference/local-api.md"
        ) from error


async def read_bytes(request: Request) -> bytes:
    """The body as it came, read no further and no longer than it may be."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise BadInput("api.media", "the body must be JSON", advice="send Content-Type: application/json")
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > BODY_BYTES:
                    raise BadInput("api.too-large", "the body is too large", advice=f"send at most {BODY_BYTES} bytes")
    except TimeoutError as error:
        raise BadInput("api.slow", "the body took too long", advice="send it at once") from error
    except ClientDisconnect as error:
        raise BadInput("api.body", "the body ended early", advice="send it whole") from error
    return body


def answer(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, _HEADERS, media_type="application/json")


def text(value: str, kind: str = "text/plain; charset=utf-8") -> Response:
    return Response(value, 200, {**_HEADERS, "Content-Type": kind})


def _kind(error: OutriderError) -> type[OutriderError]:
    return next(base for base in type(error).__mro__ if base in _STATUS)  # NotSent and the like are told as their kind


def status_of(error: OutriderError) -> int:
    """The status code that an error is answered with."""
    return 404 if error.code.endswith("unknown") else _BY_CODE.get(error.code, _STATUS[_kind(error)])


def refusal(error: OutriderError) -> Response:
    """An error with its kind, so that the other side can raise it again."""
    said = {"kind": _kind(error).__name__, "code": error.code, "message": error.message, "advice": error.advice}
    made = answer(said | ({"where": error.where} if error.where else {}), status_of(error))
    made.headers["Connection"] = "close"  # the body may not have been read, and must not be waited for
    return made
