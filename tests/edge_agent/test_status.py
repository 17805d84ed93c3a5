"""What the commands show of an agent, read from its log by another process than the one that writes."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.config import Home
from edge_agent.identity import Identity, save_identity
from edge_agent.lock import Lock
from edge_agent.status import percentile, runs, status
from shared.entries import Draft, SourceRead
from shared.errors import Unavailable
from shared.keys import SigningKey
from tests.edge_agent.rig import Rig

HUB = SigningKey(bytes(32))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    home = Home(tmp_path)
    home.make()
    save_identity(home, Identity("dev", "desk", "city/dev", "city", HUB.public.text, "http://127.0.0.1:1"))
    made = Rig(tmp_path)
    await made.install()
    await made.lend(actions=100, cents=10**9)
    yield made
    made.close()


async def test_counts_come_from_the_log(rig: Rig) -> None:
    for number in range(3):
        await rig.open(f"A{number}", "New roof on the house")
    asked = await rig.open("B1", "Deck behind the house")
    denied = await rig.open("C1", "Roof of the palace", value=200_000_000)
    await rig.settle()
    await rig.journal.append(Draft(SourceRead("aa", 5, 5, 0, 0), bodies={"shared": {"file": "a.csv", "errors": []}}))
    found = status(Home(rig.folder))
    assert (found["device"], found["name"], found["hub"], found["release"]) == ("dev", "desk", "city", 1)
    counts = {"open": 1, "waiting": 1, "held": 0, "in_doubt": 0, "left": 0, "paused": 0, "failed": 0, "closed": 4}
    assert found["runs"] == counts
    assert found["outcomes"] == {"done": 3, "denied": 1}
    assert (found["decided_alone"], found["asked"], found["answered"], found["denied"]) == (3, 1, 0, 1)
    assert found["lanes"] == {"express": 5}
    assert found["planners"] == found["model_calls_avoided_by"] == {"rules": 5}
    assert found["model_calls"] == 0 and found["model_calls_avoided"] == 5
    assert found["lease"]["actions_left"] == 97 and found["lease"]["value_left_cents"] == 10**9 - 300_000
    assert (found["synced"], found["cosigned"], found["log"]["size"]) == (0, False, rig.journal.committed)
    assert found["sources"] == [
        {"file": "a.csv", "rows": 5, "opened": 5, "duplicates": 0, "refused": 0, "code": "", "errors": []}
    ]
    assert 0 < found["planner"]["p50_us"] <= found["planner"]["p95_us"]
    assert (found["running"], found["problems"], found["model"]) == (False, [], None)
    json.dumps(found)

    every = {row["run"]: row for row in runs(Home(rig.folder))}
    assert len(every) == 5
    assert every[asked]["status"] == "waiting" and every[asked]["approval"] and every[asked]["subject"] == "B1"
    assert every[denied]["outcome"] == "denied" and every[denied]["rules"] == ["no-fortunes"]
    assert [row["run"] for row in runs(Home(rig.folder), waiting=True)] == [asked]
    await rig.answer(asked, "approve")
    await rig.settle()
    assert runs(Home(rig.folder), waiting=True) == []
    found = status(Home(rig.folder))
    assert (found["decided_alone"], found["answered"], found["outcomes"]["done"]) == (3, 1, 4)


async def test_what_only_the_living_agent_knows(rig: Rig) -> None:
    home = Home(rig.folder)
    live = {
        "at": time.time_ns() // 1000,
        "linked": True,
        "idle": True,
        "problems": [{"code": "x.y"}],
        "model": {"a": 1},
        "rss_bytes": 5,
    }
    home.live.write_text(json.dumps(live))
    assert status(home)["running"] is False  # nobody holds the lock: the file is left from before
    lock = Lock(home.lock)
    try:
        found = status(home)
        assert (found["running"], found["linked"], found["idle"], found["rss_bytes"]) == (True, True, True, 5)
        assert found["problems"] == [{"code": "x.y"}] and found["model"] == {"a": 1}
        for text in ("", "{", "[]", "{}", json.dumps({**live, "at": 0}), json.dumps({"at": live["at"]})):
            home.live.write_text(text)
            assert status(home)["running"] is False
    finally:
        lock.release()


def test_a_home_without_an_agent(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(Unavailable) as caught:
        status(home)
    assert caught.value.code == "agent.not-joined"
    with pytest.raises(Unavailable) as caught:
        runs(home)
    assert caught.value.code == "log.missing"


@pytest.mark.parametrize(
    ("values", "permille", "found"),
    [([], 500, 0), ([7], 500, 7), ([7], 950, 7), ([3, 1, 2], 500, 2), (list(range(100)), 950, 95), ([1, 2], 1000, 2)],
)
def test_percentile(values: list[int], permille: int, found: int) -> None:
    assert percentile(values, permille) == found
