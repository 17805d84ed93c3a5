"""Enrolment, leases, the outbox, and letting a device go."""

from __future__ import annotations

import itertools
import threading

import msgspec
import pytest

from shared import entries as e
from shared.entries import read
from shared.errors import BadInput, Conflict, OutriderError
from shared.keys import SigningKey
from shared.protocol import Status
from shared.release import Lease, open_signed
from tests.fakes import FakeDevice
from tests.server.conftest import Rooms


def code(rooms: Rooms, join: object) -> str:
    with pytest.raises(OutriderError) as caught:
        rooms.devices.join(join)  # type: ignore[arg-type]
    return caught.value.code


def test_a_token_enrols_one_device_and_pins_its_keys(rooms: Rooms) -> None:
    token = rooms.devices.issue_token("clara", 60)
    assert token.endswith("." + rooms.hublog.key.public.fingerprint)
    device = FakeDevice(rooms.clock)
    joined = device.enrolled(rooms.devices.join(device.request(token)))
    assert (joined.hub, joined.root, joined.minimum["snapshot"]) == (rooms.hublog.hub, '{"root": true}', 1)
    assert joined.origin == f"{rooms.hublog.hub}/device/{device.id}"
    pinned = rooms.devices.pinned(device.id)
    assert (pinned.log_key, pinned.link_key) == (device.log_key.public, device.link_key.public)
    types = [read(data).type for _, data in rooms.hublog.entries()]
    assert types == ["log.opened", "token.issued", "device.enrolled"]
    again = FakeDevice(rooms.clock, "second")
    assert code(rooms, again.request(token)) == "token.used"


def test_wrong_and_expired_tokens(rooms: Rooms) -> None:
    device = FakeDevice(rooms.clock)
    token = rooms.devices.issue_token("clara", 60)
    fingerprint = token.partition(".")[2]
    assert code(rooms, device.request(f"{'0' * 64}.{fingerprint}")) == "token.unknown"
    assert code(rooms, device.request(f"short.{fingerprint}")) == "token.unknown"
    rooms.clock.step(61)
    assert code(rooms, device.request(token)) == "token.expired"
    for ttl in (0, -1, 10**9):
        with pytest.raises(BadInput):
            rooms.devices.issue_token("clara", ttl)


def test_both_keys_must_be_proven_for_this_hub_and_this_request(rooms: Rooms) -> None:
    device = FakeDevice(rooms.clock)
    token = rooms.devices.issue_token("clara", 60)
    good = device.request(token)
    stranger = SigningKey(b"s" * 32).public.text
    change = msgspec.structs.replace
    assert code(rooms, change(good, log_key=stranger)) == "join.proof"
    assert code(rooms, change(good, name="other")) == "join.proof"
    assert code(rooms, change(good, link_proof=good.log_proof)) == "join.proof"
    assert code(rooms, device.request(token.partition(".")[0] + ".0000000000000000")) == "join.proof"
    assert code(rooms, change(good, link_proof="zz")) == "join.keys"
    assert code(rooms, change(good, link_key=good.log_key, link_proof=good.log_proof)) == "join.keys"
    assert code(rooms, change(good, version=99)) == "join.version"
    device.enrolled(rooms.devices.join(good))


@pytest.mark.parametrize("name", ["", " x", "x ", "a/b", "x" * 65, "a\nb", "<b>"])
def test_device_names_are_plain(rooms: Rooms, name: str) -> None:
    good = FakeDevice(rooms.clock).request(rooms.devices.issue_token("clara", 60))
    assert code(rooms, msgspec.structs.replace(good, name=name)) == "device.name"


def test_a_name_is_taken_until_its_device_is_revoked_and_the_token_survives(rooms: Rooms) -> None:
    first = rooms.join("desk")
    second = FakeDevice(rooms.clock, "desk")
    token = rooms.devices.issue_token("clara", 60)
    assert code(rooms, second.request(token)) == "device.name-taken"
    rooms.devices.revoke(first.id, "clara")
    second.enrolled(rooms.devices.join(second.request(token)))
    assert [view.state for view in rooms.devices.list()] == ["active", "revoked"]


def test_a_token_is_used_once_even_by_many_at_once(rooms: Rooms) -> None:
    token = rooms.devices.issue_token("clara", 60)
    outcomes: list[str] = []
    together = threading.Barrier(4)

    def work(n: int) -> None:
        device = FakeDevice(rooms.clock, f"desk {n}")
        request = device.request(token)
        together.wait()
        try:
            rooms.devices.join(request)
            outcomes.append("ok")
        except OutriderError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["ok", "token.used", "token.used", "token.used"]
    assert len(rooms.devices.list()) == 1


def test_guessing_tokens_is_slowed_and_honest_joining_is_not(rooms: Rooms) -> None:
    device = FakeDevice(rooms.clock)
    wrong = device.request(f"{'0' * 64}.{rooms.hublog.key.public.fingerprint}")
    seen = []
    for _ in range(25):
        with pytest.raises(OutriderError) as caught:
            rooms.devices.join(wrong, "10.0.0.9")
        seen.append(caught.value.code)
    assert seen == ["token.unknown"] * 20 + ["join.throttled"] * 5
    for n in range(30):
        rooms.devices.join(FakeDevice(rooms.clock, f"d{n}").request(rooms.devices.issue_token("c", 60)), "10.0.0.8")
    rooms.clock.step(61)
    with pytest.raises(OutriderError) as after:
        rooms.devices.join(wrong, "10.0.0.9")
    assert after.value.code == "token.unknown"


def test_a_lease_is_kept_until_half_of_its_time_is_gone(rooms: Rooms) -> None:
    device = rooms.join()
    first = rooms.devices.lease(device.id)
    lease = open_signed(first, Lease, rooms.hublog.key.public, device.id)
    assert (lease.actions, lease.value_cents) == (200, 25_000_000)
    assert lease.expires_at - lease.issued_at == 8 * 3600 * 1_000_000
    assert rooms.devices.lease(device.id) == first
    rooms.clock.step(4 * 3600 + 1)
    second = open_signed(rooms.devices.lease(device.id), Lease, rooms.hublog.key.public, device.id)
    assert second.expires_at > lease.expires_at
    assert rooms.devices.get(device.id).lease_expires_at == second.expires_at
    issued = [read(data).facts for _, data in rooms.hublog.entries()]
    assert [f.lease for f in issued if isinstance(f, e.LeaseIssued)] == [lease.lease, second.lease]
    rooms.clock.step(-6 * 3600)  # a clock set back must not keep a lease from the future alive
    third = open_signed(rooms.devices.lease(device.id), Lease, rooms.hublog.key.public, device.id)
    assert third.lease != second.lease


def test_the_outbox_is_paged_in_order_and_remembers_what_was_kept(rooms: Rooms) -> None:
    device = rooms.join()
    approvals = [device.ask(f"PA-{n}") for n in range(70)]
    rooms.sync(device)
    for approval in approvals:
        rooms.approvals.decide(approval, by="clara", roles=["clerk"], answer="approve")
    got, cursor, more = rooms.devices.outbox(device.id, 0)
    assert (len(got), more) == (64, True)
    assert rooms.devices.pinned(device.id).acknowledged == 0
    rest, last, more = rooms.devices.outbox(device.id, cursor)
    assert (len(rest), more) == (6, False)
    assert rooms.devices.pinned(device.id).acknowledged == cursor
    answers = [device.take(envelope).approval for envelope in itertools.chain(got, rest)]
    assert answers == approvals
    rooms.devices.outbox(device.id, 10**12)
    assert rooms.devices.pinned(device.id).acknowledged == last


def test_a_revoked_device_is_lent_nothing_and_told_so_once(rooms: Rooms) -> None:
    device = rooms.join()
    rooms.devices.lease(device.id)
    rooms.devices.revoke(device.id, "clara")
    with pytest.raises(OutriderError) as caught:
        rooms.devices.lease(device.id)
    assert caught.value.code == "device.revoked"
    with pytest.raises(Conflict):
        rooms.devices.revoke(device.id, "clara")
    with pytest.raises(BadInput) as unknown:
        rooms.devices.revoke("d-none", "clara")
    assert unknown.value.code == "device.unknown"
    pinned = rooms.devices.pinned(device.id)
    assert pinned.revocation is not None and pinned.revocation.purpose == "revocation"


def test_presence_is_shown_at_once_and_stored_when_flushed(rooms: Rooms) -> None:
    from server.devices.views import Presence

    device = rooms.join()
    presence: Presence = rooms.devices._presence
    number = presence.arrive(device.id, rooms.clock(), 3, 10)
    rooms.devices.status(device.id, Status(release=4, size=12, open_runs=2, waiting=1, lease_expires_at=0))
    view = rooms.devices.get(device.id)
    assert (view.online, view.release, view.log_size, view.open_runs, view.waiting) == (True, 4, 12, 2, 1)
    newer = presence.arrive(device.id, rooms.clock(), 4, 12)
    rooms.devices.leave(device.id, number)
    assert rooms.devices.get(device.id).online  # the newer connection took its place
    rooms.devices.leave(device.id, newer)
    rooms.devices.flush()
    rooms.devices._presence = Presence()  # as after a restart
    view = rooms.devices.get(device.id)
    assert (view.online, view.release, view.open_runs) == (False, 4, 2)
    assert view.last_seen_at > 0
