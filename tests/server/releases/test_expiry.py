"""Who is told that signatures end, when, and what they are told to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.releases import RootChange
from server.releases.orders import TrustOrder, carry_out
from server.releases.workspace import read_workspace
from shared.errors import Refused, Unavailable
from tests.server.test_releases import DAY, T0, Hub, device, refused
from tests.trust import Person, change_root, expiries, quorum, root_keepers, signed

ALICE, BOB = (Person(name) for name in ("alice", "bob"))


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    hub = Hub(tmp_path / "hub")
    hub.releases.init_repository()
    hub.releases.publish("eve")
    return hub


def told(hub: Hub) -> list[tuple[str, str]]:
    """Roles and levels, after the hub has renewed what it can, as a running one does hourly."""
    hub.releases.refresh_timestamp()
    return [(one["role"], one["level"]) for one in hub.releases.ending()]


def test_a_running_hub_needs_nobody_until_the_root_ends(hub: Hub) -> None:
    ends = expiries(hub.releases)["root"]
    for left, expected in ((31 * DAY, ""), (30 * DAY, "soon"), (8 * DAY, "soon"), (7 * DAY, "urgent"), (0, "over")):
        hub.now = ends - left
        assert told(hub) == ([("root", expected)] if expected else []), "root and targets are one act"
    (one,) = hub.releases.ending()
    assert one["advice"] == (
        "run `outrider hub root offer --out FILE`; "
        "2 of root-1, root-2, root-3 sign the file with `outrider keys sign`; hand in with `outrider hub root accept`"
    )
    signed(hub.releases, hub.releases.offer_root(RootChange(), "eve"), *root_keepers(hub.home)[:2])
    assert told(hub) == []


def test_what_people_sign_is_told_to_them_and_renewed_as_told(hub: Hub, tmp_path: Path) -> None:
    keepers = root_keepers(hub.home)
    people = {"policy": quorum(1, ALICE), "model": quorum(2, ALICE, BOB)}
    change_root(hub.releases, RootChange(people=people), *keepers[:2], ALICE, BOB)
    hub.now = expiries(hub.releases)["policy"] - 20 * DAY
    assert told(hub) == [("model", "soon"), ("policy", "soon")]
    assert [one["advice"] for one in hub.releases.ending()] == [
        "run `outrider hub release publish` and `outrider hub release offer`; "
        f"{people} sign the file with `outrider keys sign`; hand in with `outrider hub release sign`"
        for people in ("2 of alice, bob", "1 of alice")
    ]
    proposal = hub.releases.propose(read_workspace(hub.workspace), "eve")
    assert proposal.missing == {"policy": 1, "model": 2}
    signed(hub.releases, proposal, ALICE, BOB)
    assert told(hub) == []


def test_a_list_of_models_is_renewed_though_the_hub_signs_releases(hub: Hub) -> None:
    change_root(hub.releases, RootChange(people={"model": quorum(1, ALICE)}), *root_keepers(hub.home)[:2], ALICE)
    hub.now += 350 * DAY
    assert told(hub) == [("model", "soon")]
    proposal = hub.releases.propose(read_workspace(hub.workspace), "eve")  # unchanged, and still a release
    assert proposal.missing == {"model": 1}
    signed(hub.releases, proposal, ALICE)
    assert told(hub) == []


def test_a_hub_that_stood_still_or_cannot_sign_is_told_of(hub: Hub) -> None:
    hub.now += 3 * DAY
    assert hub.releases.ending() == []
    hub.now += 1 * DAY
    (one,) = hub.releases.ending()
    assert (one["role"], one["level"], one["by_people"]) == ("timestamp", "urgent", False)
    assert one["advice"].startswith("the running hub renews it by itself")
    hub.now += 4 * DAY
    assert [one["level"] for one in hub.releases.ending()] == ["over"]
    assert told(hub) == []
    (hub.home / "keys/tuf/timestamp.key").unlink()
    hub.now += 4 * DAY
    refused(Unavailable, "release.key-missing", hub.releases.refresh_timestamp)
    assert [one["role"] for one in hub.releases.ending()] == ["timestamp"]


def test_a_command_shows_it(hub: Hub) -> None:
    assert carry_out(hub.releases, TrustOrder("show"), "eve")["ending"] == []
    hub.now = T0 + 1090 * DAY
    hub.releases.refresh_timestamp()
    (one,) = carry_out(hub.releases, TrustOrder("show"), "eve")["ending"]
    assert (one["what"], one["expires"][:4]) == ("the root of trust", "2029")


def test_without_a_repository_there_is_nothing_to_end(tmp_path: Path) -> None:
    assert Hub(tmp_path / "hub").releases.ending() == []


def test_a_device_tells_that_its_root_ends_until_it_has_the_next(hub: Hub, tmp_path: Path) -> None:
    agent = device(hub, tmp_path / "agent")
    agent.check_root(T0)
    hub.now = expiries(hub.releases)["root"] - 29 * DAY
    hub.releases.refresh_timestamp()
    agent.fetch(1, hub.now)
    error = refused(Unavailable, "release.root-ending", agent.check_root, hub.now)
    assert "2029-" in error.message and "outrider hub root show" in error.advice
    signed(hub.releases, hub.releases.offer_root(RootChange(), "eve"), *root_keepers(hub.home)[:2])
    refused(Unavailable, "release.root-ending", agent.check_root, hub.now)
    agent.fetch(1, hub.now)
    agent.check_root(hub.now)
    hub.now += 1200 * DAY
    hub.releases.refresh_timestamp()
    refused(Refused, "release.expired", agent.fetch, 1, hub.now)
    refused(Unavailable, "release.root-ending", agent.check_root, hub.now)
