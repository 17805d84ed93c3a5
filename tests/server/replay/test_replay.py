"""Replay at the hub: real verdicts of the sample's devices judged under another release; devices asked to try it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, select, text

from server.replay import ReplayOrder, carry_out
from server.replay.history import read_verdict, verdicts
from server.store.replay_tables import SCORES
from server.store.tables import ENTRIES, HUB_ENTRIES
from shared import limits
from shared.entries import ReplayAsked, read
from shared.errors import BadInput, Conflict, OutriderError, Refused, Unavailable
from shared.release import Replay, open_signed
from tests.server.console.conftest import copied, opened
from tests.server.console.sample_hub import SampleHub
from tests.server.console.sample_replay import CASES, a_day_offline, publish, scored

DAY_US = 86_400_000_000


@pytest.fixture
def busy(morning: SampleHub, tmp_path: Path) -> Iterator[SampleHub]:
    with opened(copied(morning, tmp_path)) as hub:
        yield hub


def test_the_release_in_force_changes_nothing(busy: SampleHub) -> None:
    found = busy.replays.compare(busy.replays.subject(1))
    assert found.looked > 10 and found.changed == 0 and found.found == []


def test_a_stricter_release_says_what_would_be_asked_and_denied_and_why(busy: SampleHub) -> None:
    found = busy.replays.compare(busy.replays.subject(publish(busy)))
    assert found.asked == 4 and found.denied >= 5 and found.allowed == 0
    assert len(found.found) == found.changed
    assert {rule for one in found.found for rule in one.rules} == {"signs-ask", "nothing-dear"}
    first = found.found[0]
    entry = _entry(busy, first.past.device, first.past.seq)
    assert entry.run == first.past.run and entry.facts == first.past.given
    assert [one.past.at for one in found.found] == sorted((one.past.at for one in found.found), reverse=True)


def _entry(hub: SampleHub, device: str, seq: int) -> Any:
    with hub.store.read() as conn:
        data = conn.execute(select(ENTRIES.c.data).where(ENTRIES.c.device == device, ENTRIES.c.seq == seq)).scalar_one()
    return read(data)


def test_only_the_days_that_were_asked_for_and_no_more_differences_than_wanted(busy: SampleHub) -> None:
    subject = busy.replays.subject(publish(busy))
    whole = busy.replays.compare(subject)
    few = busy.replays.compare(subject, most=2)
    assert (few.denied, few.asked, len(few.found)) == (whole.denied, whole.asked, 2)
    busy.clock.step(40 * DAY_US)
    assert busy.replays.compare(subject, 30).looked == 0
    assert busy.replays.compare(subject, 60).looked == whole.looked
    for days in (0, -1, 367):
        with pytest.raises(BadInput, match=r"replay\.days"):
            busy.replays.compare(subject, days)


def test_the_workspace_is_judged_before_it_is_published(busy: SampleHub) -> None:
    with pytest.raises(BadInput, match=r"draft\.none"):
        busy.replays.subject(0)
    policy = busy.store.home / "workspace" / "policy.cedar"
    policy.write_text(policy.read_text().replace("5000000", "300000"))
    (busy.store.home / "workspace" / "playbooks" / "permit-triage.cases.yaml").write_text(CASES)
    busy.authoring.take_folder("maria")
    subject = busy.replays.subject(0)
    assert busy.replays.compare(subject).asked > 0 and busy.releases.current() == 1
    assert [one.case for one in subject.cases] == ["a like-for-like roof"]


def test_an_unknown_release_cannot_be_replayed(busy: SampleHub) -> None:
    with pytest.raises(Unavailable, match=r"release\.none"):
        busy.replays.subject(7)


def test_verdicts_come_newest_first_each_once_and_by_the_index(
    busy: SampleHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(verdicts(busy.store, 0, 10_000))
    monkeypatch.setattr("server.replay.history._AT_ONCE", 3)
    assert list(verdicts(busy.store, 0, 10_000)) == whole
    places = [(one.at, one.device, one.seq) for one in whole]
    assert places == sorted(set(places), reverse=True)
    assert len(list(verdicts(busy.store, 0, 5))) == 5
    with busy.store.read() as conn:
        plan = conn.execute(
            text(
                "EXPLAIN QUERY PLAN SELECT data FROM entries WHERE type = 'verdict.given' AND at >= 5 ORDER BY at DESC"
            )
        ).all()
    assert any("entries_verdicts" in row[3] for row in plan)


def test_bytes_that_are_no_verdict_are_refused() -> None:
    with pytest.raises(BadInput, match=r"entry\.form"):
        read_verdict(b'{"facts":{"step":1}}')


def test_a_hundred_thousand_verdicts_in_seconds(busy: SampleHub) -> None:
    """Copies of real ones, with values of their own: what reading and judging costs, not what a cache saves."""
    given = next(iter(verdicts(busy.store, 0, 1))).given
    rows = []
    for number in range(100_000):
        context = given.context | {"value_cents": 1_000 + number * 97 % 6_000_000, "confidence": 600 + number % 400}
        facts = msgspec.json.encode(msgspec.structs.replace(given, context=context))
        row = {"device": "d-many", "seq": number, "at": busy.clock() - number, "type": "verdict.given", "run": "r"}
        rows.append(row | {"data": b'{"facts":' + facts + b"}"})
    with busy.store.write() as conn:
        conn.execute(insert(ENTRIES), rows)
    subject = busy.replays.subject(publish(busy))
    began = time.process_time()
    found = busy.replays.compare(subject)
    took = time.process_time() - began
    assert found.looked > 100_000 and found.denied > 50_000
    assert took < 20, f"{took:.1f} s of processor time"  # 2 s on a quiet machine of 2024


# --- on the devices ---------------------------------------------------------------------------------------------------


def ask(hub: SampleHub, release: int = 1, sample: int = 50, roles: tuple[str, ...] = ("admin",)) -> str:
    return hub.replays.ask(release, sample, by="maria", roles=roles)


async def test_every_active_device_is_asked_by_a_signed_message_and_the_log_says_so(busy: SampleHub) -> None:
    devices = [one.id for one in busy.devices.list() if one.state == "active"]
    with busy.bus.subscribe([f"device:{devices[0]}"]) as heard:
        name = ask(busy)
        assert [event.topic for event in heard.drain()] == [f"device:{devices[0]}"]
    with busy.store.read() as conn:
        newest = conn.execute(select(HUB_ENTRIES.c.data).order_by(HUB_ENTRIES.c.seq.desc()).limit(1)).scalar_one()
    for device in devices:
        (envelope,) = busy.replays.waiting(device)
        message = open_signed(envelope, Replay, busy.log.key.public, device)
        assert (message.id, message.release, message.sample) == (name, 1, 50)
        assert message.expires_at > busy.clock()
    assert read(newest).facts == ReplayAsked(name, 1, 50, len(devices), "maria")


def test_a_device_is_asked_until_it_has_answered_or_nobody_waits(busy: SampleHub) -> None:
    day = a_day_offline(busy)

    def waiting(device: str) -> list[str]:
        key = busy.log.key.public
        return [open_signed(one, Replay, key, device).id for one in busy.replays.waiting(device)]

    busy.clock.step(1)
    van, other = day.van.device, next(one.id for one in busy.devices.list() if one.id != day.van.device)
    assert waiting(van) == []
    name = ask(busy, 2)
    assert waiting(van) == waiting(van) == waiting(other) == [name]
    busy.clock.step(1)
    late = busy.agent("Late").device
    assert waiting(late) == [], "it was not asked"
    scored(day, name)
    assert (waiting(van), waiting(other)) == ([], [name])
    again = ask(busy, 2)
    assert waiting(other) == [name, again]
    busy.clock.step(14 * DAY_US)
    assert waiting(other) == []


@pytest.mark.parametrize(
    ("given", "kind", "code"),
    [
        ({"roles": ("clerk",)}, Refused, "replay.role"),
        ({"release": 9}, Unavailable, "release.none"),
        ({"sample": 0}, BadInput, "replay.sample"),
        ({"sample": limits.REPLAY_SAMPLE + 1}, BadInput, "replay.sample"),
    ],
)
def test_what_is_not_asked(busy: SampleHub, given: dict[str, Any], kind: type[OutriderError], code: str) -> None:
    before = busy.log.size
    with pytest.raises(kind) as caught:
        ask(busy, **given)
    assert caught.value.code == code and busy.log.size == before


def test_nobody_is_asked_where_there_is_nobody(hub: SampleHub) -> None:
    with pytest.raises(Conflict, match=r"replay\.devices"):
        ask(hub)


def test_scores_and_drift_stand_by_device(busy: SampleHub) -> None:
    day = a_day_offline(busy)
    first, name = ask(busy, 2), ask(busy, 2)
    scored(day, name)
    newest, older = busy.replays.asked(2)
    assert (newest.id, older.id, older.scores) == (name, first, [])
    (score,) = newest.scores
    assert (score.device_name, score.sampled, score.before, score.now) == ("Field van 3", 48, 44, 46)
    assert busy.replays.asked(1) == []
    (drift,) = busy.replays.drift()
    assert (drift.moved, drift.alert, drift.score.release) == (240, True, 1)
    assert busy.replays.drifted() == 1
    with busy.store.read() as conn:
        assert len(conn.execute(select(SCORES)).all()) == 2
    busy.devices.revoke(day.van.device, "maria")
    assert busy.replays.drift() == []


def test_orders_from_the_hub_s_own_machine(busy: SampleHub) -> None:
    publish(busy)

    def do(act: str, **given: Any) -> dict[str, Any]:
        return carry_out(busy.replays, busy.reconcile, ReplayOrder(act=act, **given), "operator", ["admin"])

    compared = do("compare", release=2, most=3)
    assert compared["asked"] == 4 and len(compared["found"]) == 3 and compared["golden"]["cases"] == 0
    assert msgspec.json.encode(compared)
    assert do("ask", release=2)["replay"] == do("scores", release=2)["asked"][0]["id"]
    assert do("drift") == {"drift": []} and do("reconcile") == {"open": []}
    with pytest.raises(BadInput, match=r"replay\.act"):
        do("guess")
