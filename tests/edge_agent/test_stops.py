"""A person's stop: held at the verdict, between the verdict and the sending, and between one try and the next."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from edge_agent.identity import Identity
from edge_agent.incoming import Incoming
from edge_agent.releases import Releases
from edge_agent.tools import Backoff, NotSent, Receipt
from edge_agent.tools.register import Register
from shared.actions import Action
from shared.entries import Draft, Entry, Switch, SwitchesTaken
from shared.errors import BadInput, OutriderError, Refused, Tampered, Unavailable
from shared.keys import Envelope, SigningKey
from shared.release import Stop, sign
from tests.edge_agent.rig import START, Clock, Rig
from tests.edge_agent.test_runner import ALONE, ENDED, decisions

FLEET = Switch("sw1", "fleet", "", "mara", START, "wrong")


def taken(version: int, *switches: Switch) -> SwitchesTaken:
    return SwitchesTaken(version=version, at=START, switches=list(switches))


class Counted(Register):
    """A register that counts what is sent to it. ``fails`` are raised by the first calls, one each; ``before`` is
    called with each."""

    backoff = Backoff(attempts=3, first_s=0.001, most_s=0.002)

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.sent: list[str] = []
        self.asked = 0
        self.fails: Iterator[OutriderError] = iter(())
        self.before: Any = lambda: None

    async def send(self, action: Action, key: str) -> Receipt:
        self.sent.append(key)
        self.before()
        failure = next(self.fails, None)
        if failure is not None:
            raise failure
        return await super().send(action, key)

    async def ask(self, key: str, action: Action) -> Receipt | None:
        self.asked += 1
        return await super().ask(key, action)


class Careless(Counted):
    """One that can neither be asked nor sent to twice."""

    askable = idempotent = False


async def opened(folder: Path, kind: type[Counted] = Counted) -> tuple[Rig, Counted, str]:
    rig = Rig(folder, tool=lambda home: kind(home / "register.sqlite3"))
    await rig.install()
    await rig.lend()
    return rig, cast(Counted, rig.tool), await rig.open("A1", "New roof on the house")


@pytest.mark.parametrize(
    ("kind", "name", "stops"),
    [
        ("fleet", "", True),
        ("device", "dev", True),
        ("playbook", "triage", True),
        ("tool", "register.decide", True),
        ("playbook", "another", False),
        ("tool", "mail.send", False),
    ],
)
async def test_what_a_switch_covers_is_held_and_goes_on_when_it_is_let(
    tmp_path: Path, kind: str, name: str, stops: bool
) -> None:
    rig, tool, run = await opened(tmp_path)
    await rig.journal.append(Draft(taken(4, Switch("sw1", kind, name, "mara", START, "wrong"))))
    await rig.settle()
    if not stops:
        assert rig.device.closed is not None and rig.device.closed[run] == "done"
        rig.close()
        return
    assert tool.sent == []
    held = rig.device.runs[run]
    assert held.held and held.shown.verdict is not None
    assert held.shown.verdict.rules == ["host:stopped"]
    await rig.settle()
    assert rig.types(run) == ALONE[:4], "it is judged again each time it is woken, and written down once"
    await rig.journal.append(Draft(taken(5)))
    await rig.settle()
    assert len(tool.sent) == 1
    assert rig.device.closed is not None and rig.device.closed[run] == "done"
    rig.close()


async def test_a_stop_outlives_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    rig = Rig(tmp_path, clock=clock)
    await rig.install()
    await rig.lend()
    await rig.journal.append(Draft(taken(4, FLEET)))
    run = await rig.open("A1", "New roof on the house")
    rig.close()
    again = Rig(tmp_path, clock=clock)
    await again.settle()
    assert again.device.runs[run].held
    assert not (tmp_path / "register.sqlite3").exists()
    again.close()


async def test_a_stop_that_cannot_be_written_down_holds_all_the_same(tmp_path: Path) -> None:
    """And one that was let go counts until that is on the disk."""
    rig, tool, run = await opened(tmp_path)
    rig.guard.heed(taken(4, FLEET))
    await rig.settle()
    assert rig.device.runs[run].held and tool.sent == []
    await rig.journal.append(Draft(taken(4, FLEET)))
    rig.guard.heed(taken(3))
    assert rig.guard.stopped(run, tool.name) == FLEET, "an older one says nothing"
    rig.guard.heed(taken(5))
    assert rig.guard.stopped(run, tool.name) == FLEET
    await rig.journal.append(Draft(taken(5)))
    assert rig.guard.stopped(run, tool.name) is None
    rig.close()


@pytest.mark.parametrize("kind", [Counted, Careless])
async def test_pressed_between_verdict_and_sending(tmp_path: Path, kind: type[Counted]) -> None:
    """The intent is on the disk; nothing is sent, and when it is let go it is sent once, with nothing in doubt."""
    rig, tool, run = await opened(tmp_path, kind)

    def press(entries: list[Entry]) -> None:
        if any(entry.type == "intent.recorded" for entry in entries):
            rig.guard.heed(taken(4, FLEET))

    rig.journal.listen(press)
    await rig.settle()
    assert tool.sent == []
    assert rig.types(run) == ALONE
    assert [error.code for error in rig.troubles] == ["stop.pressed"]
    await rig.journal.append(Draft(taken(4, FLEET)))
    await rig.settle()
    assert tool.sent == [], "waking it changes nothing"
    await rig.journal.append(Draft(taken(5)))
    await rig.settle()
    assert len(tool.sent) == 1
    assert rig.types(run) == ALONE + ENDED
    assert decisions(tmp_path) == [("A1", "express", 1)]
    rig.close()


async def test_a_retry_loop_is_stopped_where_nothing_arrived(tmp_path: Path) -> None:
    rig, tool, run = await opened(tmp_path, Careless)
    tool.fails = iter([NotSent("tool.down", "refused", advice="wait")])
    tool.before = lambda: rig.guard.heed(taken(4, FLEET))
    await rig.settle()
    assert len(tool.sent) == 1, "the second try did not begin"
    await rig.journal.append(Draft(taken(5)))
    await rig.settle()
    assert len(tool.sent) == 2
    assert rig.types(run) == ALONE + ENDED
    rig.close()


@pytest.mark.parametrize("askable", [True, False])
async def test_a_retry_loop_is_stopped_where_something_may_have_arrived(tmp_path: Path, askable: bool) -> None:
    """Asking is no act. Sending again is one, and waits until it is let go."""
    rig, tool, run = await opened(tmp_path)
    tool.askable = askable
    tool.fails = iter([Unavailable("tool.silent", "no answer", advice="wait")])
    tool.before = lambda: rig.guard.heed(taken(4, FLEET))
    await rig.settle()
    assert len(tool.sent) == 1
    assert (tool.asked > 0) == askable
    assert rig.types(run) == ALONE, "neither a result nor a doubt"
    await rig.journal.append(Draft(taken(5)))
    await rig.settle()
    assert len(tool.sent) == 2 and len(set(tool.sent)) == 1, "under the same key"
    assert rig.types(run) == ALONE + ENDED
    rig.close()


async def test_killed_while_stopped_before_the_sending(tmp_path: Path) -> None:
    """What could be sent is not known after a restart: a tool that can be asked is asked, and nothing is sent."""
    rig, _, _ = await opened(tmp_path)
    rig.journal.listen(lambda entries: rig.guard.heed(taken(4, FLEET)) if entries[-1].type.startswith("int") else None)
    await rig.settle()
    await rig.journal.append(Draft(taken(4, FLEET)))
    rig.close()
    again = Rig(tmp_path, clock=rig.clock, tool=lambda home: Counted(home / "register.sqlite3"))
    await again.settle()
    fresh = cast(Counted, again.tool)
    assert fresh.sent == [] and fresh.asked == 1
    await again.journal.append(Draft(taken(5)))
    await again.settle()
    assert len(fresh.sent) == 1
    assert decisions(tmp_path) == [("A1", "express", 1)]
    again.close()


# --- as the hub sends it ------------------------------------------------------------------------------------------


def incoming(rig: Rig) -> Incoming:
    identity = Identity("dev", "front desk", "city/dev", "city", rig.hub.public.text, "http://127.0.0.1:1")

    async def use(release: object) -> None:
        raise AssertionError("no release comes here")

    return Incoming(
        identity,
        rig.journal,
        rig.device,
        rig.guard,
        rig.runner,
        cast(Releases, None),
        use,
        lambda hold: None,
        lambda wanted: None,
    )


def stop(version: int, *switches: Switch, device: str = "dev") -> Stop:
    return Stop(device=device, at=START, version=version, switches=list(switches))


async def test_an_older_stop_is_refused_and_the_same_changes_nothing(tmp_path: Path) -> None:
    rig, _, _ = await opened(tmp_path)
    rig.journal.attach(asyncio.get_running_loop())
    hub = incoming(rig)
    await hub.take(sign(stop(7, FLEET), rig.hub))
    size = rig.journal.committed
    await hub.take(sign(stop(7, FLEET), rig.hub))
    for older in (sign(stop(6), rig.hub), sign(stop(0), rig.hub), sign(stop(-1), rig.hub)):
        with pytest.raises(Refused) as caught:
            await hub.take(older)
        assert caught.value.code == "stop.older"
    assert rig.journal.committed == size
    assert rig.device.stops == taken(7, FLEET)
    rig.close()


async def test_a_forged_stop_or_release_of_one_is_refused(tmp_path: Path) -> None:
    rig, tool, run = await opened(tmp_path)
    rig.journal.attach(asyncio.get_running_loop())
    hub = incoming(rig)
    good = sign(stop(7, FLEET), rig.hub)
    await hub.take(good)
    other = SigningKey(secrets.token_bytes(32))
    renamed = Envelope("lease", good.payload, good.signature)
    changed = Envelope("stop", good.payload.replace('"version":7', '"version":8'), good.signature)
    forged: list[tuple[Envelope, type[OutriderError]]] = [
        (sign(stop(8), other), Tampered),
        (changed, Tampered),
        (renamed, Tampered),
        (sign(stop(8, device="another"), rig.hub), Refused),
        (msgspec.structs.replace(good, payload="{}"), Tampered),
    ]
    for envelope, kind in forged:
        with pytest.raises((kind, BadInput)):
            await hub.take(envelope)
        assert rig.guard.stopped(run, tool.name) == FLEET
    rig.close()


async def test_two_that_come_together_end_with_the_newer(tmp_path: Path) -> None:
    rig, _, _ = await opened(tmp_path)
    rig.journal.attach(asyncio.get_running_loop())
    hub = incoming(rig)
    both = [hub.take(sign(stop(version, *held), rig.hub)) for version, held in ((8, ()), (7, (FLEET,)), (9, (FLEET,)))]
    said = await asyncio.gather(*both, return_exceptions=True)
    assert [type(one) for one in said] == [type(None), Refused, type(None)]
    assert rig.device.stops == taken(9, FLEET)
    rig.close()
