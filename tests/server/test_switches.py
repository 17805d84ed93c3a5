"""Stops at the hub: pressed, let go, told to each device as one signed set whose version rises."""

from __future__ import annotations

import pytest

from server.store import HubLog
from server.switches import Switches, SwitchOrder
from shared import limits
from shared.entries import SwitchPressed, SwitchReleased, read
from shared.errors import BadInput, Conflict, Refused
from shared.release import Stop, open_signed
from tests.server.conftest import Rooms

NAMES = {"playbook": ["triage"], "tool": ["mail.send"]}


@pytest.fixture
def switches(rooms: Rooms) -> Switches:
    return Switches(rooms.hublog, rooms.bus, names=lambda: NAMES)


def told(switches: Switches, rooms: Rooms, device: str) -> Stop:
    sealed = switches.stop(device)
    assert sealed is not None
    return open_signed(sealed, Stop, rooms.hublog.key.public, device)


def test_the_operator_is_told_of_a_name_that_nothing_published_has(switches: Switches, rooms: Rooms) -> None:
    device = rooms.join("one")

    def known(kind: str, name: str) -> object:
        return switches.carry_out(SwitchOrder("press", kind, name, "drill"), "clara")["known"]

    assert known("playbook", "triage") is known("tool", "mail.send") is known("device", device.id) is True
    assert known("fleet", "") is True
    assert known("playbook", "triaje") is known("tool", "mail.sent") is False
    assert len(switches.in_force()) == 6, "they are in force all the same"


def test_a_press_is_in_the_log_and_in_what_every_device_is_told(switches: Switches, rooms: Rooms) -> None:
    one, two = rooms.join("one"), rooms.join("two")
    assert switches.stop(one.id) is None, "where nothing was ever pressed there is nothing to say"
    made = switches.press("fleet", by="clara", reason="wrong", note="  it  mailed everybody ")
    for device in (one, two):
        stop = told(switches, rooms, device.id)
        assert [(held.kind, held.name, held.by, held.reason_code) for held in stop.switches] == [
            ("fleet", "", "clara", "wrong")
        ]
        assert stop.version == made.version == rooms.hublog.size
    (entry,) = [read(data) for seq, data in rooms.hublog.entries(rooms.hublog.size - 1)]
    assert entry.facts == SwitchPressed(made.id, "fleet", "", "clara", "wrong")
    assert rooms.hublog.body(entry.seq) == {"note": "it mailed everybody"}
    assert (made.note, made.released_at) == ("it mailed everybody", 0)


def test_letting_go_raises_the_version_too(switches: Switches, rooms: Rooms) -> None:
    device = rooms.join()
    made = switches.press("tool", "mail.send", by="clara", reason="tool")
    before = told(switches, rooms, device.id)
    done = switches.release(made.id, by="otto", note="mended")
    after = told(switches, rooms, device.id)
    assert after.switches == [] and after.version > before.version
    assert (done.released_by, done.released_note, done.released_at > made.at) == ("otto", "mended", True)
    assert (switches.in_force(), [one.id for one in switches.past()]) == ([], [made.id])
    (entry,) = [read(data) for seq, data in rooms.hublog.entries(rooms.hublog.size - 1)]
    assert entry.facts == SwitchReleased(made.id, "otto")
    with pytest.raises(Conflict, match=r"switch\.released"):
        switches.release(made.id, by="otto")
    again = switches.press("tool", "mail.send", by="clara", reason="tool")
    assert told(switches, rooms, device.id).version > after.version and again.id != made.id


def test_a_stop_of_another_device_changes_nothing_here(switches: Switches, rooms: Rooms) -> None:
    one, two = rooms.join("one"), rooms.join("two")
    switches.press("device", one.id, by="clara", reason="drill")
    assert switches.stop(two.id) is None
    switches.press("playbook", "letters", by="clara", reason="drill")
    mine, other = told(switches, rooms, one.id), told(switches, rooms, two.id)
    assert [held.kind for held in mine.switches] == ["device", "playbook"]
    assert [held.kind for held in other.switches] == ["playbook"]
    assert mine.version == other.version
    switches.release(switches.in_force()[1].id, by="clara")
    assert told(switches, rooms, two.id) == other
    assert told(switches, rooms, one.id).version > mine.version


def test_a_restart_says_the_same(switches: Switches, rooms: Rooms, hublog: HubLog) -> None:
    device = rooms.join()
    first = switches.press("fleet", by="clara", reason="security")
    switches.press("playbook", "letters", by="clara", reason="wrong")
    switches.release(first.id, by="clara")
    again = Switches(HubLog(hublog.store, clock=rooms.clock, random=hublog.random), rooms.bus, names=lambda: NAMES)
    assert again.stop(device.id) == switches.stop(device.id)
    assert again.in_force() == switches.in_force()


def test_what_is_not_pressed(switches: Switches, rooms: Rooms) -> None:
    size = rooms.hublog.size
    for kind, name, reason, code in (
        ("world", "", "wrong", "switch.kind"),
        ("fleet", "all", "wrong", "switch.name"),
        ("tool", "", "wrong", "switch.name"),
        ("tool", "mail send", "wrong", "switch.name"),
        ("tool", "x" * (limits.SWITCH_NAME_CHARS + 1), "wrong", "switch.name"),
        ("fleet", "", "", "switch.reason"),
        ("device", "d-none", "wrong", "device.unknown"),
    ):
        with pytest.raises(BadInput) as caught:
            switches.press(kind, name, by="clara", reason=reason)
        assert caught.value.code == code
    with pytest.raises(BadInput, match=r"switch\.note"):
        switches.press("fleet", by="clara", reason="wrong", note="x" * (limits.REASON_CHARS + 1))
    with pytest.raises(BadInput, match=r"switch\.unknown"):
        switches.release("sw-none", by="clara")
    assert rooms.hublog.size == size and switches.in_force() == []
    switches.press("fleet", by="clara", reason="wrong")
    with pytest.raises(Conflict, match=r"switch\.pressed"):
        switches.press("fleet", by="otto", reason="wrong")


def test_the_fleet_can_be_stopped_however_much_else_is(switches: Switches, rooms: Rooms) -> None:
    """And all of it fits into one entry of a device's log."""
    device = rooms.join()
    for number in range(limits.SWITCHES):
        name = f"tool-{number}.".ljust(limits.SWITCH_NAME_CHARS, "x")
        switches.press("tool", name, by="c" * 64, reason="security")
    with pytest.raises(Refused, match=r"switch\.too-many"):
        switches.press("tool", "one.more", by="clara", reason="wrong")
    switches.press("device", device.id, by="clara", reason="wrong")
    switches.press("fleet", by="clara", reason="wrong")
    sealed = switches.stop(device.id)
    assert sealed is not None and len(sealed.payload) < limits.ENTRY_BYTES - 1024
    assert len(told(switches, rooms, device.id).switches) == limits.SWITCHES + 2


def test_what_is_in_force_is_found_for_a_page(switches: Switches, rooms: Rooms) -> None:
    device = rooms.join()
    assert switches.covering("device", device.id) is None
    mine = switches.press("device", device.id, by="clara", reason="drill")
    found = switches.covering("device", device.id)
    assert found is not None and found.id == mine.id
    assert switches.covering("playbook", "letters") is None
    whole = switches.press("fleet", by="clara", reason="drill")
    found = switches.covering("playbook", "letters")
    assert found is not None and found.id == whole.id
