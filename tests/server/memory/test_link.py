"""Memory over real sockets: what is pushed is told of and pulled, and refusals do not end the link."""

from __future__ import annotations

import asyncio
import secrets

from shared.codec import unb64
from shared.keys import Envelope
from shared.memory import Item
from shared.memory.document import Document
from shared.memory.feed import Change, change, open_tombstone
from shared.memory.item import new_id
from shared.protocol import (
    Accepted,
    Forget,
    Forgotten,
    Message,
    Notice,
    Recall,
    Recalled,
    Refusal,
    Remember,
    Remembered,
)
from tests.fakes import FakeDevice, Wire
from tests.server.conftest import Serving


def note(text: str, by: FakeDevice) -> Change:
    made = Document.create(Item("note", text, "test"), secrets.token_bytes(16), at=by.clock(), by=by.id)
    return change(new_id(secrets.token_bytes), made.changes()[0])


async def two(serving: Serving) -> tuple[FakeDevice, Wire, Wire]:
    laptop, phone = serving.join("laptop"), serving.join("phone")
    for device in (laptop, phone):
        serving.hub.memory.own(device.id, "mara", "clara")
    return laptop, await Wire.greeted(serving.address, laptop), await Wire.greeted(serving.address, phone)


async def news(wire: Wire) -> list[str]:
    async with asyncio.timeout(60):
        return (await wire.until(Notice)).topics


async def test_a_push_is_told_to_the_persons_other_devices(serving_hub: Serving) -> None:
    laptop, up, down = await two(serving_hub)
    made = note("The gate is green.", laptop)
    await up.send(Remember("person", [made]))
    done = await up.until(Remembered)
    assert done.refused == [] and len(done.stored) == 1
    assert "memory" in await news(down)
    await down.send(Recall({"person": 0}))
    got = await down.until(Recalled)
    assert [record.item for record in got.records] == [made.item] and not got.more
    assert Document.load([unb64(got.records[0].data, what="t")]).item().text == "The gate is green."
    await up.close()
    await down.close()


async def test_forgetting_comes_to_the_other_device(serving_hub: Serving) -> None:
    laptop, up, down = await two(serving_hub)
    made = note("To be forgotten.", laptop)
    await up.send(Remember("person", [made]))
    await up.until(Remembered)
    name = f"tmb_{secrets.token_hex(12)}"
    await up.send(Forget(name, "item", "person", made.item, "", "", "", "asked"))
    assert await up.until(Forgotten) == Forgotten(name)
    while "memory" not in await news(down):
        continue
    await down.send(Recall({"person": 0}))
    (record,) = (await down.until(Recalled)).records
    assert isinstance(record.tombstone, Envelope)
    assert open_tombstone(record.tombstone, laptop.hub_key).item == made.item
    await up.close()
    await down.close()


async def test_answers_come_in_the_order_of_the_questions_and_refusals_end_nothing(serving_hub: Serving) -> None:
    laptop, up, down = await two(serving_hub)
    laptop.decide_alone("PA-1")
    await up.send(Forget("tmb_x", "item", "person", "", "", "", "", "asked"))
    await up.send(Remember("person", []))
    await up.send(laptop.batch())
    await up.send(Recall({}))
    answers: list[Message] = []
    while len(answers) < 4:
        message = await up.receive()
        if not isinstance(message, Notice):
            answers.append(message)
    first, second, third, fourth = answers
    assert isinstance(first, Refusal) and (first.code, first.fatal, first.held) == ("memory.tombstone", False, -1)
    assert isinstance(second, Refusal) and (second.code, second.fatal) == ("memory.batch", False)
    assert isinstance(third, Accepted) and isinstance(fourth, Recalled)
    await up.close()
    await down.close()


async def test_a_device_of_which_nobody_is_told_stays_alone(serving_hub: Serving) -> None:
    device = serving_hub.join("alone")
    wire = await Wire.greeted(serving_hub.address, device)
    await wire.send(Recall({}))
    assert (await wire.until(Recalled)).scopes == {"person": "steward"}
    await wire.send(Recall({"team/permits": 0, "person": 0}))
    assert (await wire.until(Recalled)).records == []
    await wire.close()
