"""Topics, bounded queues, threads."""

from __future__ import annotations

import asyncio
import threading

from server.bus import Bus


async def test_events_reach_those_who_listen_to_their_topic() -> None:
    bus = Bus()
    with bus.subscribe(["runs", "devices"]) as both, bus.subscribe(["approvals"]) as other:
        bus.publish("runs", {"n": 1})
        bus.publish("devices")
        first, second = await anext(both), await anext(both)
        assert (first.topic, first.payload, second.topic) == ("runs", {"n": 1}, "devices")
        assert other.drain() == []
    bus.publish("runs")
    assert both.drain() == []


async def test_a_full_queue_drops_the_oldest_and_says_so() -> None:
    bus = Bus()
    with bus.subscribe(["runs"], bound=3) as events:
        for n in range(5):
            bus.publish("runs", {"n": n})
        assert events.missed
        assert [event.payload["n"] for event in events.drain()] == [2, 3, 4]


async def test_threads_wake_a_waiting_listener() -> None:
    bus = Bus()
    with bus.subscribe(["runs"]) as events:
        thread = threading.Timer(0.05, bus.publish, ("runs", {"n": 7}))
        thread.start()
        event = await asyncio.wait_for(anext(events), 30)
        assert event.payload == {"n": 7}
        thread.join()


async def test_closing_the_bus_ends_every_stream() -> None:
    bus = Bus()
    events = bus.subscribe(["runs"])
    bus.publish("runs")
    seen = []

    async def read() -> None:
        async for event in events:
            seen.append(event.topic)

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    bus.close()
    await asyncio.wait_for(task, 30)
    assert seen == ["runs"]
    bus.publish("runs")


async def test_a_mark_tells_whether_something_happened_before_the_listening_began() -> None:
    bus = Bus()
    bus.publish("runs")
    mark = bus.mark()
    bus.publish("device:a")
    with bus.subscribe(["runs", "approvals"], since=mark) as current, bus.subscribe(["runs"]) as without:
        assert not current.missed
        assert not without.missed
    bus.publish("approvals")
    with bus.subscribe(["runs", "approvals"], since=mark) as late, bus.subscribe(["runs"], since=mark) as other:
        assert late.missed
        assert not other.missed
    for foreign in ("", Bus().mark(), mark + "x", mark.partition("-")[0] + "-" + "9" * 19):
        with bus.subscribe(["runs"], since=foreign) as unknown:
            assert unknown.missed, foreign


async def test_one_listener_hears_what_is_told_to_any_device() -> None:
    bus = Bus()
    with bus.subscribe(["device:"]) as every, bus.subscribe(["device:d2"]) as one:
        bus.publish("device:d1", {"n": 1})
        bus.publish("device:d2", {"n": 2})
        bus.publish("devices", {"n": 3})
        assert [event.topic for event in every.drain()] == ["device:d1", "device:d2"]
        assert [event.payload["n"] for event in one.drain()] == [2]
