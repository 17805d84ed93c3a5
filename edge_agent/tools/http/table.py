"""What ``tools.toml`` says about a tool set of the kind ``http``.

    [shop]
    kind = "http"
    base = "https://api.shop.example/v1"
    auth = {type = "oauth2", token_url = "https://id.shop.example/token", client_id = "outrider", secret = "shop"}
    allow = ["https://id.shop.example"]

    [shop.calls.place-order]
    method = "POST"
    path = "/customers/{customer}/orders"
    effect = "compensatable"
    idempotent = true
    arguments = {customer = "text", sku = "text", count = "integer", note = {kind = "text", required = false}}
    body = {sku = "{sku}", quantity = "{count}", note = "{note}", reference = "{subject}"}
    keep = {order = "/id"}
    ask = {path = "/orders", query = {reference = "{key}"}, at = "/data/0"}
    read_back = {path = "/orders/{kept.order}", expect = {"/sku" = "{sku}", "/quantity" = "{count}"}}
    undo = {call = "cancel-order", arguments = {order = "{kept.order}"}}

Reference: ``docs/reference/tools.md``. Templates are told in ``templates``; besides the arguments they know ``key``
(the idempotency key), ``subject`` (the business key) and, in ``read_back`` and ``undo``, ``kept.NAME``. Times are
seconds, sizes bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edge_agent.tools import Effect, Kind, Risk

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,39}\Z")]
CallName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,39}\Z")]
Target = Annotated[str, Meta(pattern=r"^/[A-Za-z0-9._~!$&'()*+,;=:@%/{}-]*\Z")]  # RFC 3986 pchar, slashes, references
Pointer = Annotated[str, Meta(pattern=r"^(/([^~]|~[01])*)?\Z")]
HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,80}\Z")]
KeyHeader = Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{0,80}\Z")]
HeaderText = Annotated[str, Meta(pattern=r"^[ -~]{0,1000}\Z")]
Seconds = Annotated[float, Meta(gt=0, le=600)]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class NoAuth(_Part, frozen=True, tag_field="type", tag="none"):
    """Nothing is shown."""


class Bearer(_Part, frozen=True, tag_field="type", tag="bearer"):
    """``Authorization: Bearer`` and the secret of that name."""

    secret: str


class Header(_Part, frozen=True, tag_field="type", tag="header"):
    """The secret in a header of its own, as many services take their API keys."""

    header: HeaderName
    secret: str


class Basic(_Part, frozen=True, tag_field="type", tag="basic"):
    """``Authorization: Basic`` with a user name and the secret as the password (RFC 7617)."""

    user: str
    secret: str


class ClientCredentials(_Part, frozen=True, tag_field="type", tag="oauth2"):
    """OAuth 2 client credentials (RFC 6749, 4.4). The token URL's origin must stand in ``allow`` unless it is the
    base's. ``send`` says how the client shows its own secret: in a Basic header, or in the body."""

    token_url: str
    client_id: str
    secret: str
    scope: str = ""
    send: Literal["basic", "body"] = "basic"


class ArgumentSetting(_Part, frozen=True):
    kind: Kind = "text"
    required: bool = True
    about: str = ""


class RateSetting(_Part, frozen=True):
    calls: Annotated[int, Meta(ge=1)]
    per_s: Seconds


class Ask(_Part, frozen=True):
    """How the service is asked what became of a key: with GET. 404, or nothing at ``at``, means that it never heard of
    it. ``keep`` says where the kept values stand in this answer, below ``at``; by default as in the call's own."""

    path: Target
    query: dict[str, str] = {}
    at: Pointer = ""
    keep: dict[Name, Pointer] | None = None


class ReadBack(_Part, frozen=True):
    """How the outcome is looked at: with GET. ``expect`` names places in the answer and what must stand there; without
    it, an answer is enough. ``gone`` expects 404 instead: the thing is no more."""

    path: Target
    query: dict[str, str] = {}
    expect: dict[Pointer, str | int | bool] = {}
    gone: bool = False


class Undo(_Part, frozen=True):
    """The call of the same table that takes it back, and its arguments."""

    call: CallName
    arguments: dict[Name, Any] = {}


class CallSetting(_Part, frozen=True):
    """One call, which is one tool. ``effect`` may be left out for GET alone, which is a ``read`` then."""

    method: Method
    path: Target
    about: str = ""
    arguments: dict[Name, Kind | ArgumentSetting] = {}
    query: dict[str, str | int | bool] = {}
    headers: dict[HeaderName, HeaderText] = {}
    body: Any = None
    form: bool = False  # the body as a web form instead of JSON
    effect: Effect | None = None
    risk: Risk | None = None
    idempotent: bool = False  # the service promises that the same key acts once
    key_header: KeyHeader = "Idempotency-Key"  # "" sends none
    key_quoted: bool = False  # as a structured field, "KEY", which the IETF draft asks for and few services take
    unsure: list[int] | None = None  # statuses that mean "the first of them is still at work"
    keep: dict[Name, Pointer] = {}
    ask: Ask | None = None
    read_back: ReadBack | None = None
    undo: Undo | None = None
    timeout_s: Seconds | None = None
    rate: RateSetting | None = None


class Settings(_Part, frozen=True):
    """A tool set: one service."""

    base: str
    calls: dict[CallName, CallSetting]
    auth: NoAuth | Bearer | Header | Basic | ClientCredentials = NoAuth()
    allow: list[str] = []  # exact hosts (https, any port) or origins besides the base's
    private: list[str] = []  # exact hosts that may be on the local networks, and be reached without encryption
    headers: dict[HeaderName, HeaderText] = {}
    ca: str = ""  # the only authorities to trust, as a PEM file, instead of the system's
    timeout_s: Seconds = 30.0
    connect_s: Seconds = 10.0
    most_bytes: Annotated[int, Meta(ge=1, le=64 * 1024 * 1024)] = 1024 * 1024
    redirects: Annotated[int, Meta(ge=0, le=5)] = 0  # how many a GET follows, each judged like a request of its own
    rate: RateSetting | None = None
    at_once: Annotated[int, Meta(ge=1, le=16)] = 4
