"""A thousand agents in one process, for ``kill_switch.py``: each has its own connection with the link's handshake, the
fold of a device, the real guard with a policy and a lease, and takes stops as ``edge_agent.incoming`` does. It has no
log on the disk, no runs and no tools: what it begins is a number.

Started with the hub's address, how many, the hub's key, and how often each tries to act, in milliseconds. Told by
lines: ``ROUND V`` waits until every agent obeys version V of the stops, and a while longer, and answers with when each
did, and when the last action began that the guard allowed.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import random
import sys
import time
from pathlib import Path

import msgspec
import uvloop
from _push_clients import AT_ONCE, PATIENCE_S, Client, device

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from verdict import NOW, PLAN, RUN, SCHEMA, case, policy_text

from edge_agent.config import uptime_us
from edge_agent.guard import Guard
from shared.entries import Entry, LeaseTaken, SwitchesTaken, type_of
from shared.keys import PublicKey
from shared.policy import ALLOW, Policy
from shared.protocol import Urgent, decode
from shared.release import Stop, open_signed
from shared.runs import Device

LONGER_S = 1.0
POLICIES = 10


class Agent(Client):
    def __init__(self, number: int, host: str, key: PublicKey, policy: Policy, obeyed: asyncio.Event) -> None:
        super().__init__(number, "hub", host, [], obeyed)
        self.number, self._key, self._obeyed = number, key, obeyed
        self.state = Device(lease=LeaseTaken("l", NOW - 10**9, NOW + 10**10, 10**9, 10**15))
        self.guard = Guard(
            self.state,
            name=device(number),
            policy=lambda: (policy, 7),
            online=lambda: True,
            in_question=lambda: False,
            now=lambda: NOW,
            uptime=uptime_us,
            newest=0,
            local=lambda at: datetime.datetime.fromtimestamp(at / 1e6, datetime.UTC),
        )
        self.since = 0  # when it obeyed the newest stop
        self.last = 0  # when its last action began
        self.acted = 0

    @property
    def version(self) -> int:
        return self.state.stops.version if self.state.stops is not None else 0

    def told(self, payload: bytes, now: int) -> None:
        message = decode(payload.decode())
        if not isinstance(message, Urgent):
            return
        stop = open_signed(message.message, Stop, self._key, device(self.number))
        if stop.version <= self.version:
            return
        taken = SwitchesTaken(version=stop.version, at=stop.at, switches=stop.switches)
        self.guard.heed(taken)
        name, version = type_of(taken)
        self.state.fold(Entry(self.state.size, stop.at, name, version, "", taken, {}))
        self.since = time.perf_counter_ns()
        self._obeyed.set()

    async def act(self, every_s: float) -> None:
        await asyncio.sleep(random.random() * every_s)
        while True:
            verdict, _ = self.guard.judge(RUN, PLAN, case(self.number))
            if verdict.kind == ALLOW and self.guard.stopped(RUN.id, PLAN.tool) is None:
                self.last = time.perf_counter_ns()
                self.acted += 1
            await asyncio.sleep(every_s)


async def main(address: str, count: int, key: PublicKey, every_ms: int) -> None:
    host, _, port = address.partition(":")
    policy = Policy(policy_text(POLICIES), SCHEMA)
    obeyed, gate, loop = asyncio.Event(), asyncio.Semaphore(AT_ONCE), asyncio.get_running_loop()

    async def one(number: int) -> Agent:
        async with gate, asyncio.timeout(PATIENCE_S):
            _, agent = await loop.create_connection(
                lambda: Agent(number, address, key, policy, obeyed), host, int(port)
            )
            await agent.ready
            return agent

    began = time.perf_counter()
    agents = await asyncio.gather(*(one(number) for number in range(count)))
    print(json.dumps({"connected": len(agents), "s": time.perf_counter() - began}), flush=True)
    acting = [asyncio.create_task(agent.act(every_ms / 1000)) for agent in agents]
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().split():
        async with asyncio.timeout(PATIENCE_S):
            while any(agent.version < int(line[1]) for agent in agents):
                obeyed.clear()
                await obeyed.wait()
        await asyncio.sleep(LONGER_S)
        told = {
            "since": [agent.since for agent in agents],
            "last": max(agent.last for agent in agents),
            "acted": sum(agent.acted for agent in agents),
        }
        print(msgspec.json.encode(told).decode(), flush=True)
    for task in acting:
        task.cancel()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), PublicKey.from_text(sys.argv[3]), int(sys.argv[4])))
