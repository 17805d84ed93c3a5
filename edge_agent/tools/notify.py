"""Desktop notifications: a line that the person at this computer sees, by org.freedesktop.Notifications.

One D-Bus call on the session bus, by ``dbus-fast`` (MIT) alone: libraries that cover several systems either swallow
what went wrong or leave the text to be read as markup. Where there is no session bus (a server, a service without a
desktop, macOS and Windows) nothing is shown and the error says so. Reference: ``docs/reference/tools.md``.

A notification that was seen cannot be unseen, so ``show`` is compensated, by ``close``, and not reversed. Nobody can be
asked about a notification afterwards: a call whose answer was lost stays in doubt.
"""

from __future__ import annotations

import asyncio
import html
import os
import unicodedata
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusError
from msgspec import Meta, Struct

from edge_agent.tools import Argument, Effect, Manual, NotSent, Rate, Receipt, Risk, Tool, check_arguments
from edge_agent.tools.build import Place, settings
from shared.actions import Action
from shared.errors import BadInput, OutriderError, Refused, Unavailable

TITLE_CHARS = 200
TEXT_CHARS = 2000
URGENCIES = {"low": 0, "normal": 1, "critical": 2}

_SERVICE = "org.freedesktop.Notifications"
_BUS = "org.freedesktop.DBus"
_CALL_S = 10.0  # the daemon is on this computer
_SHOW = {
    "title": Argument(about="one line"),
    "text": Argument(required=False, about="what else there is to say, plain"),
    "urgency": Argument(required=False, about="low, normal or critical; normal unless told"),
}
_CLOSE = {
    "server": Argument(about="what show gave as 'server'"),
    "notification": Argument("integer", about="what show gave as 'notification'"),
}
# The call never came to a daemon: none runs and none can be started, or the bus itself would not have it.
_NOBODY = {
    f"org.freedesktop.DBus.Error.{name}"
    for name in (
        "ServiceUnknown",
        "NameHasNoOwner",
        "AccessDenied",
        "UnknownMethod",
        "UnknownInterface",
        "UnknownObject",
    )
}


class Notify(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a table of kind ``notify``."""

    app: Annotated[
        str, Meta(min_length=1, max_length=50, description="The name that notifications are shown under.")
    ] = "Outrider"
    shown_s: Annotated[
        int, Meta(ge=0, le=86_400, description="Seconds a notification stays; 0 leaves it to the desktop.")
    ] = 0
    most_urgent: Annotated[
        Literal["low", "normal", "critical"], Meta(description="What asks for more is shown as this.")
    ] = "normal"
    per_minute: Annotated[int, Meta(ge=1, le=60, description="Notifications in any minute.")] = 6
    bus: Annotated[str, Meta(description="The session bus's address; empty is this session's.")] = ""


class Show(Tool):
    """``TABLE.show``."""

    about = "Show a notification on this computer's desktop."
    effect: Effect = "compensatable"
    risk: Risk = "low"
    idempotent = False
    askable = False
    arguments = _SHOW
    timeout_s = 3 * _CALL_S
    reads_back: ClassVar[bool] = False

    def __init__(self, table: str, given: Notify) -> None:
        self.name = f"{table}.show"
        self.rate = Rate(given.per_minute, 60.0)
        self._table = table
        self._given = given

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        title, text, urgency = _title(action), _text(action), _urgency(action)
        urgency = min(urgency, URGENCIES[self._given.most_urgent])
        shown_ms = self._given.shown_s * 1000 or -1
        async with _session(self._given) as bus:
            (able,) = await _call(bus, "GetCapabilities", "", [], changing=False)
            if "body-markup" in able:
                text = html.escape(text, quote=False)
            hints = {"urgency": Variant("y", urgency)}
            body = [self._given.app, 0, "", title, text, [], hints, shown_ms]
            server = await _owner(bus)
            (number,) = await _call(bus, "Notify", "susssasa{sv}i", body, changing=True, to=server)
        return Receipt({"server": server, "notification": number})

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual:
        if "server" not in receipt:  # a person gave it, by saying that it was shown
            return Manual([f"Close the notification {str(action.arguments['title'])!r} if it is still on the screen."])
        shown = {"server": receipt["server"], "notification": receipt["notification"]}
        return Action(f"{self._table}.close", shown, action.subject)


class Close(Tool):
    """``TABLE.close``: take a notification off the screen. One that is gone already, or whose daemon is, stays gone."""

    about = "Take a notification that was shown off the desktop."
    effect: Effect = "irreversible"
    risk: Risk = "low"
    idempotent = True
    askable = False
    arguments = _CLOSE
    timeout_s = 3 * _CALL_S
    reads_back: ClassVar[bool] = False

    def __init__(self, table: str, given: Notify) -> None:
        self.name = f"{table}.close"
        self._given = given

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        number = int(str(action.arguments["notification"]))
        if not 0 < number < 2**32:
            raise BadInput("tool.arguments", f"notification is {number}", advice="use what show gave", where=self.name)
        async with _session(self._given) as bus:
            # Another daemon counts anew: its number would name somebody else's notification.
            server = await _owner(bus)
            if server == action.arguments["server"]:
                await _call(bus, "CloseNotification", "u", [number], changing=True, to=server, gone_is_fine=True)
        return Receipt({"notification": number})


def make(place: Place, given: dict[str, Any]) -> list[Tool]:
    """``TABLE.show`` and ``TABLE.close``. Connects to nothing."""
    read = settings(Notify, place, given)
    return [Show(place.name, read), Close(place.name, read)]


def bus_address(given: Notify, environ: Mapping[str, str]) -> str:
    """Where the session bus listens. Raises ``NotSent('notify.no-desktop')``."""
    if given.bus or environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return given.bus or environ["DBUS_SESSION_BUS_ADDRESS"]
    if environ.get("XDG_RUNTIME_DIR"):
        socket = Path(environ["XDG_RUNTIME_DIR"]) / "bus"
        if socket.exists():
            return f"unix:path={socket}"
    raise _no_desktop("no session bus is announced here")


@asynccontextmanager
async def _session(given: Notify) -> AsyncIterator[MessageBus]:
    """A connection to the session bus, for a few calls."""
    address = bus_address(given, os.environ)
    try:
        bus = MessageBus(bus_address=address)
        async with asyncio.timeout(_CALL_S):
            await bus.connect()
    except (DBusError, OSError, EOFError, ValueError, TypeError, LookupError, TimeoutError) as error:
        raise _no_desktop(
            f"the session bus at {address} does not let us in: {error or type(error).__name__}"
        ) from error
    try:
        yield bus
    finally:
        bus.disconnect()


async def _owner(bus: MessageBus) -> str:
    """The unique name of the daemon that shows notifications now."""
    (name,) = await _call(bus, "GetNameOwner", "s", [_SERVICE], changing=False, of=_BUS, to=_BUS)
    return str(name)


async def _call(
    bus: MessageBus, member: str, signature: str, body: list[Any], *, changing: bool, of: str = _SERVICE,
    to: str = _SERVICE, gone_is_fine: bool = False,
) -> list[Any]:  # fmt: skip
    """The answer's values. Raises ``NotSent`` while nothing is changed, ``Unavailable('notify.unknown')`` when a
    change's answer was lost."""
    path = f"/{of.replace('.', '/')}"
    call = Message(destination=to, path=path, interface=of, member=member, signature=signature, body=body)
    try:
        async with asyncio.timeout(_CALL_S):
            reply = await bus.call(call)
    except (DBusError, OSError, EOFError, TimeoutError) as error:
        raise _lost(member, type(error).__name__, changing) from error
    if reply is None:
        raise _lost(member, "no answer", changing)
    if reply.message_type is not MessageType.ERROR:
        return list(reply.body)
    said = f"{reply.error_name}: {' '.join(str(part) for part in reply.body)[:200]}"
    if reply.error_name in _NOBODY:
        raise _no_desktop(f"no notification daemon answers: {said}")
    if reply.error_name in ("org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected"):
        raise _lost(member, said, changing)
    if gone_is_fine:
        return []
    if "Excess" in str(reply.error_name) or "Limits" in str(reply.error_name):
        raise NotSent("notify.later", f"the desktop takes no more now: {said}", advice="try again later")
    raise Refused("notify.refused", f"the desktop refused: {said}", advice="read what it said; nothing was shown")


def _lost(member: str, said: str, changing: bool) -> OutriderError:
    if not changing:
        return _no_desktop(f"{member} was not answered: {said}")
    return Unavailable(
        "notify.unknown", f"{member} was not answered ({said}): nobody knows whether it was done",
        advice="look at the desktop",
    )  # fmt: skip


def _no_desktop(said: str) -> OutriderError:
    advice = "run the agent in the session of a person with a desktop and a notification daemon; nothing was shown"
    return NotSent("notify.no-desktop", said, advice=advice)


def _title(action: Action) -> str:
    title = str(action.arguments["title"])
    if not title.strip() or len(title) > TITLE_CHARS or _odd(title):
        said = f"the title is empty, longer than {TITLE_CHARS} characters, or has control characters or line breaks"
        raise BadInput("notify.characters", said, advice="write one short line", where="title")
    return title


def _text(action: Action) -> str:
    given = action.arguments.get("text")
    text = "" if given is None else str(given)
    if len(text) > TEXT_CHARS or _odd(text.replace("\n", "").replace("\t", "")):
        said = f"the text is longer than {TEXT_CHARS} characters, or has control characters"
        raise BadInput("notify.characters", said, advice="write a few plain lines", where="text")
    return text


def _urgency(action: Action) -> int:
    given = action.arguments.get("urgency")
    if given is not None and given not in URGENCIES:
        advice = f"use one of {', '.join(URGENCIES)}"
        raise BadInput("notify.urgency", f"{given!r} is no urgency", advice=advice, where="urgency")
    return URGENCIES["normal" if given is None else str(given)]


def _odd(text: str) -> bool:
    return any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)
