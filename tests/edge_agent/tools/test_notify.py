"""Desktop notifications on a real session bus: shown by dunst where it can be started, and by a daemon that misbehaves.

dunst draws on an X server without a screen (Xvfb) and keeps a history, so what arrived and what it made of it can be
read. The bus has a configuration of its own, so that no daemon of this computer is started by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from edge_agent.tools import Manual, NotSent, Tool
from edge_agent.tools.build import Place
from edge_agent.tools.conformance import ToolContract
from edge_agent.tools.notify import Notify, bus_address, make
from shared.actions import Action, Value
from shared.errors import BadInput, OutriderError, Refused, Unavailable
from tests.listening import listening

NAME = "org.freedesktop.Notifications"
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
"""
PATH = "/org/freedesktop/Notifications"
DUNST = '[global]\nhistory_length = 100\nmarkup = full\nformat = "%s\\n%b"\nstack_duplicates = false\n'


class Bus:
    """A session bus of its own, with nobody on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix:path={folder / 'bus'}"
        (folder / "bus.conf").write_text(BUS.format(socket=folder / "bus"))
        # The daemon says its address once it listens; its socket is a file a moment earlier.
        read, write = os.pipe()
        words = [
            "dbus-daemon",
            f"--config-file={folder / 'bus.conf'}",
            "--nofork",
            "--nopidfile",
            f"--print-address={write}",
        ]
        self.bus = subprocess.Popen(words, pass_fds=[write])
        os.close(write)
        with os.fdopen(read) as told:
            assert told.readline().startswith(self.address), "dbus-daemon did not start"

    def close(self) -> None:
        self.bus.kill()
        self.bus.wait(60)

    async def owner(self) -> str:
        """The unique name of the notification daemon, or nothing."""
        try:
            return str((await self.call("org.freedesktop.DBus", "GetNameOwner", "s", [NAME]))[0])
        except LookupError:
            return ""

    async def call(self, of: str, member: str, signature: str = "", body: list[Any] | None = None) -> list[Any]:
        bus = await MessageBus(bus_address=self.address).connect()
        try:
            to, path = (of, f"/{of.replace('.', '/')}") if of == "org.freedesktop.DBus" else (NAME, PATH)
            reply = await bus.call(
                Message(destination=to, path=path, interface=of, member=member, signature=signature, body=body or [])
            )
        finally:
            bus.disconnect()
        if reply is None or reply.message_type is MessageType.ERROR:
            raise LookupError(member)
        return list(reply.body)


class Desktop(Bus):
    """A bus, a screen that nobody sees, and dunst. ``before`` are the numbers of what earlier tests showed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "dunstrc").write_text(DUNST)
        read, write = os.pipe()
        words = ["Xvfb", "-displayfd", str(write), "-screen", "0", "320x240x8", "-nolisten", "tcp", "-ac"]
        self.screen = subprocess.Popen(words, pass_fds=[write], stderr=subprocess.DEVNULL)
        os.close(write)
        with os.fdopen(read) as told:
            self.display = f":{told.readline().strip()}"
        self.daemon: subprocess.Popen[bytes] | None = None
        self.before: set[int] = set()

    async def start(self) -> None:
        env = os.environ | {"DISPLAY": self.display, "DBUS_SESSION_BUS_ADDRESS": self.address}
        with (self.folder / "dunst.log").open("ab") as log:
            words = ["dunst", "-config", str(self.folder / "dunstrc")]
            self.daemon = subprocess.Popen(words, env=env, stdout=log, stderr=log)
        async with asyncio.timeout(60):
            while not await self.owner():
                await asyncio.sleep(0.01)
        self.before = set()

    async def kill(self) -> None:
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait(60)
        self.daemon = None
        async with asyncio.timeout(60):
            while await self.owner():
                await asyncio.sleep(0.01)

    def close(self) -> None:
        for process in (self.daemon, self.screen):
            if process is not None:
                process.kill()
                process.wait(60)
        super().close()

    async def shown(self) -> list[dict[str, Any]]:
        """What this test showed, newest first; what is on the screen is closed for it, which brings it into history."""
        await self.call("org.dunstproject.cmd0", "NotificationCloseAll")
        return await self.closed()

    async def closed(self) -> list[dict[str, Any]]:
        """What this test showed and is on the screen no more."""
        (told,) = await self.call("org.dunstproject.cmd0", "NotificationListHistory")
        history = [{name: value.value for name, value in one.items()} for one in told]
        return [one for one in history if one["id"] not in self.before]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desktop]:
    made = Desktop(tmp_path_factory.mktemp("desktop"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
async def desktop(running: Desktop) -> Desktop:
    if running.daemon is None:
        await running.start()
    running.before |= {one["id"] for one in await running.shown()}
    return running


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Bus]:
    made = Bus(tmp_path)
    yield made
    made.close()


def tools(bus: Bus | str, **settings: Any) -> dict[str, Tool]:
    address = bus if isinstance(bus, str) else bus.address
    place = Place("desk", Path("unused"), str, lambda: 0)
    return {tool.name: tool for tool in make(place, {"bus": address, **settings})}


def show(n: int = 0, **more: Value) -> Action:
    return Action("desk.show", {"title": f"Case {n}", "text": f"is waiting: {n}", **more}, f"PA-{n}")


async def failed(tool: Tool, action: Action) -> OutriderError:
    with pytest.raises(OutriderError) as caught:
        await tool.send(action, action.key)
    return caught.value


# --- what they promise --------------------------------------------------------------------------------------------


class DesktopContract(ToolContract):
    @pytest.fixture(autouse=True)
    async def world(self, desktop: Desktop) -> None:
        self.desktop = desktop

    def make_tool(self) -> Tool:
        return tools(self.desktop)["desk.show"]

    def tool_named(self, name: str) -> Tool:
        return tools(self.desktop)[name]

    async def break_receiver(self) -> None:
        await self.desktop.kill()

    async def mend_receiver(self) -> None:
        await self.desktop.start()


class TestShow(DesktopContract):
    def good_action(self, n: int) -> Action:
        return show(n)

    async def effects(self, action: Action | None) -> int:
        shown = [one["summary"] for one in await self.desktop.shown()]
        return len(shown) if action is None else shown.count(action.arguments["title"])


class TestClose(DesktopContract):
    """Five notifications are on the screen; a restart of the daemon takes them off, so it is left running."""

    breakable = False

    @pytest.fixture(autouse=True)
    async def on_the_screen(self, world: None) -> None:
        tool = tools(self.desktop)["desk.show"]
        self.shown = [(await tool.send(show(n), show(n).key)).details for n in range(5)]

    def make_tool(self) -> Tool:
        return tools(self.desktop)["desk.close"]

    def good_action(self, n: int) -> Action:
        return Action("desk.close", dict(self.shown[n]), f"PA-{n}")

    async def effects(self, action: Action | None) -> int:
        closed = [one["id"] for one in await self.desktop.closed()]
        return len(closed) if action is None else closed.count(action.arguments["notification"])


# --- on the desktop -----------------------------------------------------------------------------------------------


async def test_title_and_text_arrive_as_they_were_written(desktop: Desktop) -> None:
    title, text = "Bauantrag <b>7</b> & mehr", 'Bitte prüfen:\n\t<a href="https://evil.example">hier</a> &amp; dort'
    action = show(title=title, text=text, urgency="critical")
    receipt = await tools(desktop, app="City desk")["desk.show"].send(action, action.key)
    (one,) = await desktop.shown()
    assert one["summary"] == title and one["appname"] == "City desk" and one["id"] == receipt.details["notification"]
    drawn = one["message"].partition("\n")[2]  # the markup that dunst draws: what it stands for is the text itself
    assert "<a" not in drawn and html.unescape(drawn) == text
    assert receipt.details["server"] == await desktop.owner()


async def test_a_title_alone_is_enough(desktop: Desktop) -> None:
    action = Action("desk.show", {"title": "Done"}, "PA-1")
    await tools(desktop)["desk.show"].send(action, action.key)
    assert [(one["summary"], one["body"]) for one in await desktop.shown()] == [("Done", "")]


async def test_settings_say_how_long_it_stays(desktop: Desktop) -> None:
    action = show()
    await tools(desktop, shown_s=40)["desk.show"].send(action, action.key)
    assert [one["timeout"] for one in await desktop.shown()] == [40_000_000]


async def test_its_undo_takes_it_off_the_screen(desktop: Desktop) -> None:
    desk = tools(desktop)
    kept, taken = show(1), show(2)
    await desk["desk.show"].send(kept, kept.key)
    undo = desk["desk.show"].undo(taken, (await desk["desk.show"].send(taken, taken.key)).details)
    assert isinstance(undo, Action) and await desktop.closed() == []
    await desk["desk.close"].send(undo, undo.key)
    assert [one["summary"] for one in await desktop.closed()] == ["Case 2"]
    assert isinstance(desk["desk.close"].undo(undo, {}), Manual)


def test_what_a_person_said_was_shown_is_closed_by_a_person() -> None:
    undo = tools("")["desk.show"].undo(show(7), {"told_by": "bo"})
    assert isinstance(undo, Manual) and "Case 7" in undo.steps[0]


async def test_a_number_of_a_daemon_that_is_gone_closes_nothing(desktop: Desktop) -> None:
    desk = tools(desktop)
    action = show(1)
    receipt = (await desk["desk.show"].send(action, action.key)).details
    other = Action("desk.close", {**receipt, "server": ":1.9999"}, "PA-1")
    await desk["desk.close"].send(other, other.key)
    assert await desktop.closed() == []


@pytest.mark.parametrize(
    ("verb", "arguments", "code"),
    [
        ("show", {"title": ""}, "notify.characters"),
        ("show", {"title": "a\nb"}, "notify.characters"),
        ("show", {"title": "x" * 201}, "notify.characters"),
        ("show", {"title": "a", "text": "\x00"}, "notify.characters"),
        ("show", {"title": "a", "text": "x" * 2001}, "notify.characters"),
        ("show", {"title": "a", "urgency": "panic"}, "notify.urgency"),
        ("close", {"server": ":1.1", "notification": 0}, "tool.arguments"),
        ("close", {"server": ":1.1", "notification": 2**32}, "tool.arguments"),
    ],
)
async def test_what_makes_no_sense_is_refused(verb: str, arguments: dict[str, Value], code: str) -> None:
    error = await failed(tools("unix:path=/nowhere")[f"desk.{verb}"], Action(f"desk.{verb}", arguments, "PA-1"))
    assert isinstance(error, BadInput) and error.code == code


@pytest.mark.parametrize("settings", [{"most_urgent": "panic"}, {"shown_s": -1}, {"per_minute": 0}, {"colour": "red"}])
def test_wrong_settings_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        tools("", **settings)
    assert caught.value.code == "tools.setting" and caught.value.where == "tools.toml [desk]"


# --- no desktop, and one that misbehaves --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["unix:path=/nowhere/bus", "tcp:host=127.0.0.1,port=9", "unix:", "nonsense", "warp:x=1", ";", "unix:path=", "a=b"],
)
async def test_without_a_bus_nothing_is_shown_and_that_is_said(address: str) -> None:
    error = await failed(tools(address)["desk.show"], show())
    assert isinstance(error, NotSent) and error.code == "notify.no-desktop" and "notification daemon" in error.advice


async def test_without_a_daemon_nothing_is_shown_and_that_is_said(empty: Bus) -> None:
    error = await failed(tools(empty)["desk.show"], show())
    assert isinstance(error, NotSent) and error.code == "notify.no-desktop"


def test_the_bus_is_found_as_desktops_announce_it(tmp_path: Path) -> None:
    announced = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/a", "XDG_RUNTIME_DIR": str(tmp_path)}
    assert bus_address(Notify(), announced) == "unix:path=/run/a"
    assert bus_address(Notify(bus="unix:path=/run/b"), announced) == "unix:path=/run/b"
    for environ in ({}, {"XDG_RUNTIME_DIR": str(tmp_path)}):
        with pytest.raises(NotSent) as caught:
            bus_address(Notify(), environ)
        assert caught.value.code == "notify.no-desktop"
    (tmp_path / "bus").touch()
    assert bus_address(Notify(), {"XDG_RUNTIME_DIR": str(tmp_path)}) == f"unix:path={tmp_path / 'bus'}"


@contextlib.asynccontextmanager
async def odd_daemon(on: Bus | MessageBus, notify: Callable[[Message], Message | None]) -> AsyncIterator[None]:
    """A daemon on the bus that answers ``Notify`` and ``CloseNotification`` as it is told; ``None`` is no answer."""
    mine = on if isinstance(on, MessageBus) else await MessageBus(bus_address=on.address).connect()

    def answer(message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL or message.interface != NAME:
            return None
        if message.member == "GetCapabilities":
            return Message.new_method_return(message, "as", [["body"]])
        return notify(message) or True

    mine.add_message_handler(answer)
    await mine.request_name(NAME)
    try:
        yield
    finally:
        mine.disconnect()


async def test_text_is_left_alone_where_markup_is_not_read(empty: Bus) -> None:
    heard: list[Any] = []

    def notify(message: Message) -> Message:
        heard.append(message.body)
        return Message.new_method_return(message, "u", [7])

    async with odd_daemon(empty, notify):
        action = show(text="a <b> & c", urgency="critical")
        await tools(empty)["desk.show"].send(action, action.key)
        await tools(empty, most_urgent="critical")["desk.show"].send(action, action.key)
    assert heard[0][:6] == ["Outrider", 0, "", "Case 0", "a <b> & c", []] and heard[0][7] == -1
    assert [one[6]["urgency"] for one in heard] == [Variant("y", 1), Variant("y", 2)], "no more than most_urgent"


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        (f"{NAME}.Error.ExcessNotificationGeneration", NotSent, "notify.later"),
        ("org.freedesktop.DBus.Error.LimitsExceeded", NotSent, "notify.later"),
        ("org.freedesktop.DBus.Error.InvalidArgs", Refused, "notify.refused"),
        ("org.freedesktop.DBus.Error.NoReply", Unavailable, "notify.unknown"),
    ],
)
async def test_what_the_daemon_says_is_told(empty: Bus, name: str, kind: type[OutriderError], code: str) -> None:
    async with odd_daemon(empty, lambda message: Message.new_error(message, name, "no")):
        error = await failed(tools(empty)["desk.show"], show())
    assert (type(error), error.code) == (kind, code)


async def test_a_notification_that_is_gone_is_closed(empty: Bus) -> None:
    async with odd_daemon(empty, lambda message: Message.new_error(message, f"{NAME}.Error", "no such number")):
        action = Action("desk.close", {"server": await empty.owner(), "notification": 7}, "PA-1")
        assert (await tools(empty)["desk.close"].send(action, action.key)).details == {"notification": 7}


async def test_a_daemon_that_does_not_answer_leaves_a_doubt(empty: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.tools.notify._CALL_S", 0.3)
    async with odd_daemon(empty, lambda message: None):
        error = await failed(tools(empty)["desk.show"], show())
    assert type(error) is Unavailable and error.code == "notify.unknown"


async def test_a_daemon_that_goes_away_before_it_answers_leaves_a_doubt(empty: Bus) -> None:
    mine = await MessageBus(bus_address=empty.address).connect()
    async with odd_daemon(mine, lambda message: mine.disconnect()):
        error = await failed(tools(empty)["desk.show"], show())
    assert type(error) is Unavailable and error.code == "notify.unknown"


async def test_a_daemon_that_dies_before_it_was_told_showed_nothing(desktop: Desktop) -> None:
    assert desktop.daemon is not None
    os.kill(desktop.daemon.pid, signal.SIGSTOP)
    task = asyncio.create_task(failed(tools(desktop)["desk.show"], show()))
    await asyncio.sleep(0.2)
    await desktop.kill()
    error = await task
    assert isinstance(error, NotSent) and error.code == "notify.no-desktop"


async def test_a_bus_that_dies_before_the_answer_leaves_a_doubt(empty: Bus) -> None:
    def notify(message: Message) -> None:
        empty.close()

    async with odd_daemon(empty, notify):
        error = await failed(tools(empty)["desk.show"], show())
    assert type(error) is Unavailable and error.code == "notify.unknown"


async def test_a_bus_that_says_nothing_is_waited_for_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.tools.notify._CALL_S", 0.3)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent, tmp_path / "bus"):
        error = await failed(tools(f"unix:path={tmp_path / 'bus'}")["desk.show"], show())
        assert isinstance(error, NotSent) and error.code == "notify.no-desktop"
