"""The link, over real sockets: who gets in, what goes up and down, and how a connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from shared import limits
from shared.codec import unb64
from shared.errors import Refused
from shared.keys import SigningKey
from shared.protocol import (
    Accepted,
    Challenge,
    Hello,
    Notice,
    Pull,
    Pulled,
    Refusal,
    Status,
    Urgent,
    Welcome,
    encode,
)
from shared.release import Answer, Lease, Order, Revocation, Stop, open_signed
from shared.tlog import Frontier, leaf_hash, open_checkpoint, verify_consistency
from tests.fakes import FakeDevice, Wire
from tests.server.conftest import Serving


async def refusal_of(wire: Wire) -> Refusal:
    """A fatal refusal, and then the end of the connection."""
    refusal = await asyncio.wait_for(wire.until(Refusal), 60)
    with pytest.raises(ConnectionClosed):
        while True:
            await asyncio.wait_for(wire.receive(), 60)
    return refusal


async def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


# --- the handshake ------------------------------------------------------------------------------------------------


async def test_a_device_is_welcomed_and_syncs(serving_hub: Serving) -> None:
    device = serving_hub.join()
    wire = await Wire.greeted(serving_hub.address, device)
    device.decide_alone("PA-1")
    await wire.send(device.batch())
    accepted = await wire.expect(Accepted)
    assert accepted.size == device.size
    await wire.send(Status(release=2, size=device.size, open_runs=1, waiting=1, lease_expires_at=0))
    await eventually(lambda: serving_hub.hub.devices.get(device.id).release == 2)
    view = serving_hub.hub.devices.get(device.id)
    assert (view.online, view.held, view.waiting) == (True, device.size, 1)
    await wire.close()
    await eventually(lambda: not serving_hub.hub.devices.get(device.id).online)
    wire = await Wire.greeted(serving_hub.address, device)
    await wire.close()


async def test_the_challenge_is_fresh_and_names_the_hub(serving_hub: Serving) -> None:
    one, two = await Wire.open(serving_hub.address), await Wire.open(serving_hub.address)
    first, second = await one.expect(Challenge), await two.expect(Challenge)
    assert first.hub == serving_hub.hub.hublog.hub
    assert first.nonce != second.nonce and len(bytes.fromhex(first.nonce)) == 32
    await one.close()
    await two.close()


@pytest.mark.parametrize("how", ["key", "nonce", "unknown", "version", "hex", "field"])
async def test_a_hello_that_does_not_hold_is_refused(serving_hub: Serving, how: str) -> None:
    device = serving_hub.join()
    wire = await Wire.open(serving_hub.address)
    asked = await wire.expect(Challenge)
    change = msgspec.structs.replace
    good = device.hello(asked)
    bad: dict[str, tuple[Hello, str]] = {
        "nonce": (device.hello(change(asked, nonce=secrets.token_hex(32))), "link.signature"),
        "unknown": (device.signed(asked, change(good, device="d-none")), "device.unknown"),
        "version": (device.signed(asked, change(good, version=99)), "link.version"),
        "hex": (change(good, signature="zz"), "link.message"),
        "field": (change(good, size=good.size + 1), "link.signature"),
    }
    if how == "key":
        device.link_key = SigningKey(b"s" * 32)
        bad["key"] = (device.hello(asked), "link.signature")
    hello, code = bad[how]
    await wire.send(hello)
    refusal = await refusal_of(wire)
    assert (refusal.code, refusal.fatal) == (code, True)
    assert not serving_hub.hub.devices.get(device.id).online


async def test_a_hello_cannot_be_replayed(serving_hub: Serving) -> None:
    device = serving_hub.join()
    first = await Wire.open(serving_hub.address)
    hello = device.hello(await first.expect(Challenge))
    await first.send(hello)
    await first.expect(Welcome)
    second = await Wire.open(serving_hub.address)
    await second.expect(Challenge)
    await second.send(hello)
    assert (await refusal_of(second)).code == "link.signature"
    await first.close()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("", "link.message"),
        ("{}", "link.message"),
        ('{"t":"imagined"}', "link.message"),
        ('{"t":"pull","cursor":0,"extra":1}', "link.message"),
        ('{"t":"pull","cursor":0}', "link.order"),
        (b"\x00\x01", "link.message"),
        ("[" * 5000, "link.message"),
    ],
)
async def test_a_connection_begins_with_hello_and_nothing_else(
    serving_hub: Serving, frame: str | bytes, code: str
) -> None:
    wire = await Wire.open(serving_hub.address)
    await wire.expect(Challenge)
    await wire.socket.send(frame)
    assert (await refusal_of(wire)).code == code


async def test_silence_is_not_waited_for(serving_hub: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_SECONDS", 0.3)
    wire = await Wire.open(serving_hub.address)
    await wire.expect(Challenge)
    with pytest.raises(ConnectionClosed) as caught:
        await asyncio.wait_for(wire.receive(), 60)
    assert caught.value.rcvd is not None and caught.value.rcvd.code == 4408


async def test_other_hosts_and_origins_are_refused_before_the_handshake(serving_hub: Serving) -> None:
    for origin in ("http://evil.example", "null", serving_hub.address + ".evil.example"):
        with pytest.raises(InvalidStatus) as caught:
            await Wire.open(serving_hub.address, additional_headers={"Origin": origin})
        assert caught.value.response.status_code == 403
    port = int(serving_hub.address.rpartition(":")[2])
    with pytest.raises(InvalidStatus) as rebound:
        await Wire.open(f"http://evil.example:{port}", host="127.0.0.1", port=port)
    assert rebound.value.response.status_code == 403
    wire = await Wire.open(serving_hub.address, additional_headers={"Origin": serving_hub.address})
    await wire.expect(Challenge)
    await wire.close()


async def test_rollback_and_fork_end_at_the_handshake_and_stand(serving_hub: Serving) -> None:
    device = serving_hub.join()
    wire = await Wire.greeted(serving_hub.address, device)
    device.decide_alone("PA-1")
    await wire.send(device.batch())
    await wire.expect(Accepted)
    await wire.close()
    honest = list(device.written)
    device.cut(2)
    for written in (device.written, honest):  # the second time the log is whole again, and it is still refused
        device.written = written
        wire = await Wire.open(serving_hub.address)
        await wire.send(device.hello(await wire.expect(Challenge)))
        refusal = await refusal_of(wire)
        assert (refusal.code, refusal.kind) == ("log.rollback", "Tampered")
    assert serving_hub.hub.devices.get(device.id).problem_code == "log.rollback"


# --- batches ------------------------------------------------------------------------------------------------------


async def test_a_refused_batch_says_where_to_go_on(serving_hub: Serving) -> None:
    device = serving_hub.join()
    wire = await Wire.greeted(serving_hub.address, device)
    device.decide_alone("PA-1")
    await wire.send(device.batch(0, 2))
    await wire.expect(Accepted)
    await wire.send(device.batch(4))
    refusal = await wire.expect(Refusal)
    assert (refusal.code, refusal.held, refusal.fatal) == ("log.gap", 2, False)
    await wire.send(device.batch(2))
    assert (await wire.expect(Accepted)).size == device.size
    await wire.close()


async def test_a_fork_ends_the_link(serving_hub: Serving) -> None:
    device = serving_hub.join()
    wire = await Wire.greeted(serving_hub.address, device)
    device.decide_alone("PA-1")
    await wire.send(device.batch())
    await wire.expect(Accepted)
    device.cut(3)
    device.decide_alone("PA-2")
    await wire.send(device.batch())
    refusal = await refusal_of(wire)
    assert (refusal.code, refusal.fatal) == ("log.fork", True)


@pytest.mark.parametrize("message", [Challenge([1], "h", "n", 1), Accepted(1, "x"), Notice([])])
async def test_what_only_hubs_say_ends_the_link(serving_hub: Serving, message: Challenge | Accepted | Notice) -> None:
    device = serving_hub.join()
    wire = await Wire.greeted(serving_hub.address, device)
    await wire.send(message)
    assert (await refusal_of(wire)).code == "link.order"


# --- pulls and notices --------------------------------------------------------------------------------------------


async def test_an_answer_is_noticed_pulled_and_held_to_one_history(serving_hub: Serving) -> None:
    hub, device = serving_hub.hub, serving_hub.join()
    wire = await Wire.greeted(serving_hub.address, device)
    approval = device.ask("PA-1")
    await wire.send(device.batch())
    await wire.expect(Accepted)
    first = await wire.pull()
    lease = open_signed(first.messages[-1], Lease, device.hub_key, device.id)
    assert lease.actions == 200
    await asyncio.to_thread(hub.approvals.decide, approval, by="clara", roles=["clerk"], answer="approve")
    notice = await asyncio.wait_for(wire.expect(Notice), 60)
    assert notice.topics == ["device"]
    pinned = open_checkpoint(first.checkpoint.encode(), f"{device.hub}/log", device.hub_key)
    second = await wire.pull(pinned.size)
    answer = open_signed(second.messages[-1], Answer, device.hub_key, device.id)
    assert (answer.approval, answer.answer, answer.by) == (approval, "approve", "clara")
    now = open_checkpoint(second.checkpoint.encode(), f"{device.hub}/log", device.hub_key)
    assert second.since == pinned.size
    proof = [unb64(node, what="proof") for node in second.proof]
    verify_consistency(pinned.size, pinned.root, now.size, now.root, proof)
    third = await wire.pull(now.size)
    assert [message.purpose for message in third.messages] == ["lease"]
    await wire.send(Pull(wire.cursor, pinned=10**6))
    assert (await wire.until(Refusal)).code == "hub.behind"
    await wire.close()


async def test_an_order_is_noticed_pulled_and_obeyed(serving_hub: Serving) -> None:
    hub, device = serving_hub.hub, serving_hub.join()
    wire = await Wire.greeted(serving_hub.address, device)
    run = device.in_doubt("PA-1")
    await wire.send(device.batch())
    await wire.expect(Accepted)
    await asyncio.to_thread(
        hub.orders.give, run, "happened", "triage", by="alice", roles=["admin"], reason="It is there."
    )
    assert (await asyncio.wait_for(wire.expect(Notice), 60)).topics == ["device"]
    envelope = (await wire.pull()).messages[-1]
    order = open_signed(envelope, Order, device.hub_key, device.id)
    assert (order.run, order.step, order.order, order.role) == (run, "triage", "happened", "admin")
    held = device.size
    device.obey(envelope)
    await wire.send(device.batch(held))
    await wire.expect(Accepted)
    (given,) = await asyncio.to_thread(hub.orders.given, device.id, run)
    assert given.state == "obeyed"
    await wire.close()


async def test_one_event_is_one_notice_and_a_burst_is_few(serving_hub: Serving) -> None:
    device = serving_hub.join()
    wire = await Wire.greeted(serving_hub.address, device)
    await wire.pull()
    for _ in range(50):
        serving_hub.hub.bus.publish("releases", {"release": 1})
        serving_hub.hub.bus.publish(f"device:{device.id}")
    notices = []
    told: set[str] = set()
    while told != {"releases", "device"}:
        notices.append(await asyncio.wait_for(wire.expect(Notice), 60))
        told |= set(notices[-1].topics)
    with contextlib.suppress(TimeoutError):
        while True:
            notices.append(await asyncio.wait_for(wire.expect(Notice), 1))
    assert len(notices) <= 10
    await wire.close()


async def test_revoking_a_connected_device_reaches_it_signed_and_ends_the_link(serving_hub: Serving) -> None:
    device = serving_hub.join()
    wire = await Wire.greeted(serving_hub.address, device)
    await wire.pull()
    await asyncio.to_thread(serving_hub.hub.devices.revoke, device.id, "clara")
    await asyncio.wait_for(wire.expect(Notice), 60)
    pulled = await wire.pull()
    revocation = open_signed(pulled.messages[-1], Revocation, device.hub_key, device.id)
    assert revocation.device == device.id
    refusal = await refusal_of(wire)
    assert (refusal.code, refusal.fatal) == ("device.revoked", True)


async def test_a_device_revoked_while_away_is_told_when_it_returns(serving_hub: Serving) -> None:
    device = serving_hub.join()
    serving_hub.hub.devices.revoke(device.id, "clara")
    wire = await Wire.greeted(serving_hub.address, device)
    device.decide_alone("PA-1")
    await wire.send(device.batch())  # nothing is taken from it any more
    pulled = await wire.pull()
    assert [message.purpose for message in pulled.messages] == ["revocation"]
    assert (await refusal_of(wire)).code == "device.revoked"
    assert serving_hub.hub.ingest.frontier(device.id).size == 0


# --- stops --------------------------------------------------------------------------------------------------------


def stop_in(message: Urgent | Pulled, device: FakeDevice) -> Stop:
    """The stop, which comes before anything else."""
    sealed = message.message if isinstance(message, Urgent) else message.messages[0]
    return open_signed(sealed, Stop, device.hub_key, device.id)


async def test_a_stop_comes_unasked_and_first_in_every_pull(serving_hub: Serving) -> None:
    device, other = serving_hub.join("one"), serving_hub.join("two")
    wire, fine = await Wire.greeted(serving_hub.address, device), await Wire.greeted(serving_hub.address, other)
    switches = serving_hub.hub.switches
    assert "stop" not in [message.purpose for message in (await wire.pull()).messages]
    made = await asyncio.to_thread(lambda: switches.press("device", device.id, by="clara", reason="drill"))
    urgent = stop_in(await asyncio.wait_for(wire.until(Urgent), 30), device)
    assert [(held.kind, held.name) for held in urgent.switches] == [("device", device.id)]
    for _ in range(2):
        assert stop_in(await wire.pull(), device) == urgent
    assert "stop" not in [message.purpose for message in (await fine.pull()).messages], "it is not the other's"
    await asyncio.to_thread(lambda: switches.release(made.id, by="clara"))
    let_go = stop_in(await asyncio.wait_for(wire.until(Urgent), 30), device)
    assert let_go.switches == [] and let_go.version > urgent.version
    await wire.close()
    await fine.close()


async def test_a_device_that_was_away_learns_the_stop_before_anything_else(serving_hub: Serving) -> None:
    device = serving_hub.join()
    serving_hub.hub.switches.press("fleet", by="clara", reason="drill")
    wire = await Wire.greeted(serving_hub.address, device)
    first = await asyncio.wait_for(wire.receive(), 30)
    assert isinstance(first, Urgent)
    assert [held.kind for held in stop_in(first, device).switches] == ["fleet"]
    await wire.close()


async def test_everybody_is_told_of_a_stop_of_the_fleet(serving_hub: Serving) -> None:
    devices = [serving_hub.join(f"desk {number}") for number in range(12)]
    wires = [await Wire.greeted(serving_hub.address, device) for device in devices]
    serving_hub.hub.switches.press("fleet", by="clara", reason="security")
    told = await asyncio.gather(*(asyncio.wait_for(wire.until(Urgent), 30) for wire in wires))
    versions = {stop_in(one, device).version for one, device in zip(told, devices, strict=True)}
    assert len(versions) == 1
    for wire in wires:
        await wire.close()


async def test_a_release_is_told_to_all_at_once_with_a_time_to_spread(serving_hub: Serving) -> None:
    devices = [serving_hub.join(f"desk {number}") for number in range(3)]
    wires = [await Wire.greeted(serving_hub.address, device) for device in devices]
    for wire in wires:
        await wire.pull()
    serving_hub.hub.bus.publish("releases", {"release": 1})
    told = await asyncio.gather(*(asyncio.wait_for(wire.until(Notice), 30) for wire in wires))
    assert set(map(encode, told)) == {encode(Notice(["releases"], serving_hub.hub.config.notice_jitter_ms))}
    serving_hub.hub.bus.publish(f"device:{devices[0].id}", {"order": "o1"})
    assert await asyncio.wait_for(wires[0].until(Notice), 30) == Notice(["device"])
    for wire in wires:
        await wire.close()


async def test_a_revoked_device_loses_link_and_lease(serving_hub: Serving) -> None:
    device = serving_hub.join()
    wire = await Wire.greeted(serving_hub.address, device)
    lease = open_signed((await wire.pull()).messages[-1], Lease, device.hub_key, device.id)
    assert serving_hub.hub.devices.get(device.id).lease_expires_at == lease.expires_at
    await asyncio.to_thread(serving_hub.hub.devices.revoke, device.id, "clara")
    assert serving_hub.hub.devices.get(device.id).lease_expires_at == 0
    pulled = await wire.pull()
    assert [message.purpose for message in pulled.messages] == ["revocation"], "and no lease beside it"
    await refusal_of(wire)
    await eventually(lambda: not serving_hub.hub.devices.get(device.id).online)
    with pytest.raises(Refused) as caught:
        serving_hub.hub.devices.lease(device.id)
    assert caught.value.code == "device.revoked"
    again = await Wire.greeted(serving_hub.address, device)
    serving_hub.hub.switches.press("fleet", by="clara", reason="drill")
    assert [message.purpose for message in (await again.pull()).messages] == ["revocation"]
    await refusal_of(again)


# --- many, slow, gone ---------------------------------------------------------------------------------------------


async def test_a_second_connection_takes_the_place_of_the_first(serving_hub: Serving) -> None:
    device = serving_hub.join()
    first = await Wire.greeted(serving_hub.address, device)
    second = await Wire.greeted(serving_hub.address, device)
    assert (await refusal_of(first)).code == "link.replaced"
    await second.pull()
    assert serving_hub.hub.devices.get(device.id).online
    await second.close()


async def test_a_device_that_does_not_read_is_dropped_and_holds_up_nobody(serving_hub: Serving) -> None:
    slow, quick = serving_hub.join("slow"), serving_hub.join("quick")
    for n in range(40):
        approval = slow.ask(f"PA-{n}")
        serving_hub.hub.ingest.accept(slow.id, slow.batch(serving_hub.hub.ingest.frontier(slow.id).size))
        serving_hub.hub.approvals.decide(
            approval, by="clara", roles=["clerk"], answer="deny", reason="\u2603" * limits.REASON_CHARS
        )
    stuck = await Wire.greeted(serving_hub.address, slow, max_queue=1)
    fine = await Wire.greeted(serving_hub.address, quick)

    async def ask_and_never_read() -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await stuck.send(Pull(0))

    asking = asyncio.create_task(ask_and_never_read())
    await eventually(lambda: not serving_hub.hub.devices.get(slow.id).online, 60)
    await asyncio.wait_for(fine.pull(), 60)
    stuck.socket.transport.abort()
    await asking
    await fine.close()


async def test_many_devices_at_once_keep_their_logs_apart(serving_hub: Serving) -> None:
    devices = [serving_hub.join(f"desk {n}") for n in range(12)]

    async def work(device: FakeDevice) -> None:
        wire = await Wire.greeted(serving_hub.address, device)
        for n in range(5):
            held = device.size if n else 0
            device.decide_alone(f"{device.name} {n}")
            await wire.send(device.batch(held))
            assert (await wire.until(Accepted)).size == device.size
        await wire.close()

    await asyncio.gather(*(work(device) for device in devices))
    for device in devices:
        assert serving_hub.hub.ingest.frontier(device.id).root() == device.frontier().root()
    assert serving_hub.hub.record.counts().by_outcome == {"done": 60}


async def test_a_restart_keeps_everything(open_home: Callable[[], Serving]) -> None:
    before = open_home()
    device = before.join()
    wire = await Wire.greeted(before.address, device)
    approval = device.ask("PA-1")
    await wire.send(device.batch())
    accepted = await wire.expect(Accepted)
    size = (await wire.pull()).cursor, before.hub.hublog.size
    await asyncio.to_thread(before.hub.approvals.decide, approval, by="c", roles=["clerk"], answer="approve")
    after = await asyncio.to_thread(open_home)
    with pytest.raises(ConnectionClosed):
        while True:
            await asyncio.wait_for(wire.receive(), 60)
    assert after.hub.hublog.size == size[1] + 1
    wire = await Wire.greeted(after.address, device)
    await wire.send(device.batch())
    assert await wire.expect(Accepted) == accepted
    pulled = await wire.pull()
    assert open_signed(pulled.messages[-1], Answer, device.hub_key, device.id).approval == approval
    device.take(pulled.messages[-1])
    await wire.send(device.batch(accepted.size))
    assert (await wire.until(Accepted)).size == device.size
    await wire.close()


def test_the_root_that_goes_over_the_wire_is_the_trees(serving_hub: Serving) -> None:
    """``Hello.root`` is hex, as the spec page says; a fake that agreed with the hub by accident would not show it."""
    device = serving_hub.join()
    frontier = Frontier()
    frontier.extend([leaf_hash(device.written[0].data)])
    hello = device.hello(Challenge([1], device.hub, "00", 0))
    assert bytes.fromhex(hello.root) == frontier.root()
