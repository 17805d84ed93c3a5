"""Who may sign: releases signed by people, the root changed by those who hold its keys, and kills in between."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tuf.api.metadata import Metadata

from edge_agent.link.updates import Updates
from server.releases import Proposal, RootChange
from server.releases.proposals import KEPT_US
from server.releases.workspace import read_workspace
from shared.codec import b64
from shared.entries import OfferSigned, ReleasePublished, RootChanged
from shared.errors import BadInput, Conflict, Refused, Tampered, Unavailable
from shared.offer import Signature, read_offer, sign_offer
from tests.server.test_releases import DAY, MODEL, T0, Hub, Killed, device, die_at, refused
from tests.trust import Person, change_root, expiries, quorum, root_keepers, signed

ALICE, BOB, CAROL, EVE = (Person(name) for name in ("alice", "bob", "carol", "eve"))


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    hub = Hub(tmp_path / "hub")
    hub.releases.init_repository()
    hub.releases.publish("eve")
    return hub


@pytest.fixture
def agent(hub: Hub, tmp_path: Path) -> Updates:
    agent = device(hub, tmp_path / "agent")
    agent.fetch(1, T0)
    return agent


@pytest.fixture
def keepers(hub: Hub) -> list[Person]:
    """Those who hold the root keys; the keys are at the hub no more."""
    found = root_keepers(hub.home)
    for keeper in found:
        (hub.home / f"keys/tuf/{keeper.name}.key").unlink()
    return found


def by_people(hub: Hub, keepers: list[Person], *people: Person, threshold: int = 2, role: str = "policy") -> None:
    """Let people sign from now on; all of them are asked to, and as many as are needed do."""
    change = RootChange(people={role: quorum(threshold, *people)})
    change_root(hub.releases, change, keepers[0], keepers[1], *people[:threshold])


def proposed(hub: Hub) -> Proposal:
    hub.touch()
    return hub.releases.propose(read_workspace(hub.workspace), "eve")


# --- releases signed by people ------------------------------------------------------------------------------------


def test_the_hub_alone_by_default(hub: Hub, agent: Updates) -> None:
    assert not hub.releases.people_sign()
    proposal = proposed(hub)
    assert (proposal.missing, proposal.state, proposal.by, proposal.at) == ({}, "open", "eve", T0)
    assert hub.again().current() == 1, "a proposal is not a release"
    refused(Refused, "release.unlisted", agent.fetch, 2, T0)
    assert hub.releases.complete(proposal.id, "mara") == 2
    assert agent.fetch(2, T0).number == 2
    assert (hub.log.facts[-1].release, hub.log.facts[-1].by) == (2, "mara")
    assert hub.log.facts[-1].files == proposal.files


def test_two_of_three_people(hub: Hub, agent: Updates, keepers: list[Person]) -> None:
    by_people(hub, keepers, ALICE, BOB, CAROL)
    assert hub.releases.people_sign() and not (hub.home / "keys/tuf/policy.key").exists()
    assert agent.fetch(1, T0).number == 1, "what ran goes on"
    hub.touch()
    refused(Refused, "release.needs-people", hub.releases.publish, "eve")
    proposal = proposed(hub)
    assert proposal.missing == {"policy": 2}
    refused(Conflict, "sign.missing", hub.releases.complete, proposal.id, "eve")
    assert hub.releases.add_signature(proposal.id, ALICE.sign(proposal), "eve").missing == {"policy": 1}
    refused(Conflict, "sign.missing", hub.releases.complete, proposal.id, "eve")
    assert hub.again().add_signature(proposal.id, CAROL.sign(proposal), "eve").signers == ["alice", "carol"]
    assert hub.again().complete(proposal.id, "eve") == proposal.number
    assert agent.fetch(proposal.number, T0).number == hub.releases.current() == proposal.number
    listed = Metadata.from_bytes(next(hub.metadata.glob("4.policy.json")).read_bytes())
    assert len(listed.signatures) == 2


def test_who_signed_stands_in_the_hubs_log(hub: Hub, keepers: list[Person]) -> None:
    by_people(hub, keepers, ALICE, BOB)
    proposal = proposed(hub)
    refused(Refused, "sign.not-wanted", EVE.sign, proposal)
    signed(hub.releases, proposal, BOB, ALICE)
    facts: list[Any] = hub.log.facts
    root, *_ = (each for each in facts if isinstance(each, RootChanged))
    prints = sorted(person.key.public.fingerprint for person in (ALICE, BOB))
    assert (root.version, root.by, root.keys["policy"]) == (2, "eve", f"2 of {' '.join(prints)}")
    assert facts[-3:] == [
        OfferSigned(proposal.id, "release", proposal.number, BOB.key.public.fingerprint, "eve"),
        OfferSigned(proposal.id, "release", proposal.number, ALICE.key.public.fingerprint, "eve"),
        ReleasePublished(proposal.number, "eve", proposal.files),
    ]


def test_an_expired_root_is_renewed_and_devices_come_back(hub: Hub, agent: Updates, keepers: list[Person]) -> None:
    hub.now = T0 + 1100 * DAY
    hub.releases.refresh_timestamp()
    refused(Refused, "release.expired", agent.fetch, 1, hub.now)
    change_root(hub.releases, RootChange(), *keepers[:2])
    assert agent.fetch(1, hub.now).number == 1


def test_each_signature_is_judged_at_once(hub: Hub, keepers: list[Person]) -> None:
    by_people(hub, keepers, ALICE, BOB, CAROL)
    proposal, other = proposed(hub), proposed(hub)
    take = hub.releases.add_signature
    right = BOB.sign(proposal)
    refused(BadInput, "sign.unknown", take, "nothing", right, "eve")
    refused(BadInput, "sign.unknown", take, "../../keys", right, "eve")
    refused(BadInput, "sign.other-offer", take, other.id, right, "eve")
    stranger = Signature(
        proposal.id, EVE.text, {"policy": b64(EVE.key.sign(proposal.offer.payloads["policy"].encode()))}
    )
    refused(Refused, "sign.not-wanted", take, proposal.id, stranger, "eve")
    in_bobs_name = Signature(proposal.id, BOB.text, stranger.signatures)
    refused(Tampered, "sign.wrong", take, proposal.id, in_bobs_name, "eve")
    of_other_bytes = Signature(proposal.id, BOB.text, BOB.sign(other).signatures)
    refused(Tampered, "sign.wrong", take, proposal.id, of_other_bytes, "eve")
    refused(Refused, "sign.not-wanted", take, proposal.id, Signature(proposal.id, BOB.text, {}), "eve")
    assert hub.releases.proposal(proposal.id).signers == []
    take(proposal.id, right, "eve")
    refused(Conflict, "sign.twice", take, proposal.id, right, "eve")
    renamed = Person("robert", BOB.key)
    again = Signature(proposal.id, renamed.text, right.signatures)
    refused(Conflict, "sign.twice", take, proposal.id, again, "eve")
    assert hub.releases.proposal(proposal.id).missing == {"policy": 1}


def test_late_signatures_and_what_was_overtaken(hub: Hub, agent: Updates, keepers: list[Person]) -> None:
    by_people(hub, keepers, ALICE, BOB)
    first, second = proposed(hub), proposed(hub)
    signed(hub.releases, second, ALICE, BOB)
    refused(Conflict, "sign.late", hub.releases.add_signature, second.id, ALICE.sign(second), "eve")
    refused(Conflict, "sign.late", hub.releases.add_signature, first.id, ALICE.sign(first), "eve")
    refused(Conflict, "sign.late", hub.releases.complete, first.id, "eve")
    states = {proposal.number: proposal.state for proposal in hub.releases.proposals() if proposal.kind == "release"}
    assert (states[first.number], states[second.number]) == ("superseded", "completed")
    third = proposed(hub)
    hub.releases.withdraw(third.id, "eve")
    refused(Conflict, "sign.late", hub.releases.add_signature, third.id, ALICE.sign(third), "eve")
    fourth = proposed(hub)
    hub.now += KEPT_US + 1
    refused(Conflict, "sign.late", hub.releases.add_signature, fourth.id, ALICE.sign(fourth), "eve")
    hub.releases.refresh_timestamp()
    assert agent.fetch(second.number, hub.now).number == hub.releases.current() == second.number
    fifth = proposed(hub)
    assert {proposal.id for proposal in hub.releases.proposals()} == {fifth.id}, "what is long closed is forgotten"


def test_people_for_models_too(hub: Hub, agent: Updates, keepers: list[Person]) -> None:
    by_people(hub, keepers, ALICE, BOB)
    by_people(hub, keepers, CAROL, threshold=1, role="model")
    assert proposed(hub).missing == {"policy": 2}, "no new model, no list of models to sign"
    hub.write("models.json", msgspec.json.encode([MODEL, MODEL | {"name": "other", "sha256": "cd" * 32}]))
    proposal = proposed(hub)
    assert proposal.missing == {"policy": 2, "model": 1}
    number = signed(hub.releases, proposal, ALICE, BOB, CAROL)
    assert len(agent.fetch(number, T0).manifest.models) == 2


def test_the_list_that_people_signed_is_not_renewed_by_the_hub(hub: Hub, agent: Updates, keepers: list[Person]) -> None:
    by_people(hub, keepers, ALICE, BOB)
    before = expiries(hub.releases)
    for _ in range(60):
        hub.now += int(2.5 * DAY)
        hub.releases.refresh_timestamp()
    after = expiries(hub.releases)
    assert after["policy"] == before["policy"] and after["model"] > before["model"]
    assert agent.fetch(1, hub.now).number == 1
    candidate = read_workspace(hub.workspace)
    proposal = hub.releases.propose(candidate, "eve")  # unchanged: it is time to sign anew
    assert agent.fetch(signed(hub.releases, proposal, ALICE, BOB), hub.now).number == hub.releases.current()
    assert expiries(hub.releases)["policy"] > after["policy"]
    refused(Conflict, "release.unchanged", hub.releases.propose, candidate, "eve")


def test_back_to_the_hub_with_a_key_that_nobody_had(hub: Hub, agent: Updates, keepers: list[Person]) -> None:
    old = (hub.home / "keys/tuf/policy.key").read_bytes()
    by_people(hub, keepers, ALICE, BOB)
    change_root(hub.releases, RootChange(people={"policy": quorum(0)}), *keepers[1:])
    assert (hub.home / "keys/tuf/policy.key").read_bytes() != old
    hub.touch()
    assert agent.fetch(hub.again().publish("eve"), T0).number == hub.releases.current()


# --- the root -----------------------------------------------------------------------------------------------------


def test_the_root_is_renewed_without_its_keys_coming_back(hub: Hub, agent: Updates, keepers: list[Person]) -> None:
    hub.now = T0 + 1000 * DAY
    hub.releases.refresh_timestamp()
    proposal = hub.releases.offer_root(RootChange(), "eve")
    assert proposal.missing == {"root": 2, "targets": 2}
    assert signed(hub.releases, proposal, *keepers[1:]) == 2
    assert agent.fetch(1, hub.now).number == 1
    assert min(expiries(hub.releases)[role] for role in ("root", "targets")) > T0 + 2000 * DAY
    hub.touch()
    assert agent.fetch(hub.again().publish("eve"), hub.now).number == 2


def test_root_keys_are_added_removed_and_replaced(hub: Hub, agent: Updates, keepers: list[Person]) -> None:
    first, second, third = keepers
    change_root(hub.releases, RootChange(add=[ALICE.text]), first, second)
    assert agent.fetch(1, T0).number == 1
    change = RootChange(remove=["root-3", first.key.public.fingerprint], add=[BOB.text])
    proposal = hub.releases.offer_root(change, "eve")
    # The old keys must agree, and enough of the new ones must be there: the two who go are not enough.
    hub.releases.add_signature(proposal.id, first.sign(proposal), "eve")
    assert hub.releases.add_signature(proposal.id, third.sign(proposal), "eve").missing == {"root": 2, "targets": 2}
    refused(Conflict, "sign.missing", hub.releases.complete, proposal.id, "eve")
    signed(hub.releases, proposal, ALICE, BOB)
    assert agent.fetch(1, T0).number == 1
    names = [key["name"] for key in hub.releases.trust()["roles"]["root"]["keys"]]
    assert names == ["alice", "bob", "root-2"]
    later = hub.releases.offer_root(RootChange(), "eve")
    with pytest.raises(Refused) as caught:
        third.sign(later)
    assert caught.value.code == "sign.not-wanted", "whoever was removed has nothing to say"
    assert signed(hub.releases, later, ALICE, second) == 4
    assert agent.fetch(1, T0).number == 1


def test_a_person_who_left_is_taken_out_with_their_signature(hub: Hub, agent: Updates, keepers: list[Person]) -> None:
    by_people(hub, keepers, ALICE, BOB, CAROL)
    number = signed(hub.releases, proposed(hub), ALICE, BOB)
    proposal = hub.releases.offer_root(RootChange(people={"policy": quorum(2, BOB, CAROL)}), "eve")
    assert proposal.missing == {"root": 2, "targets": 2, "policy": 2}, "what Alice signed is signed by the others"
    signed(hub.releases, proposal, *keepers[:2], BOB, CAROL)
    assert agent.fetch(number, T0).number == number
    refused(Refused, "sign.not-wanted", ALICE.sign, proposed(hub))


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "policy", "model"])
def test_a_key_of_the_hub_is_replaced(hub: Hub, agent: Updates, keepers: list[Person], role: str) -> None:
    path = hub.home / f"keys/tuf/{role}.key"
    old = path.read_bytes()
    proposal = hub.releases.offer_root(RootChange(new_keys=[role]), "eve")
    assert path.read_bytes() == old, "the old one signs until the root has changed"
    hub.touch()
    assert agent.fetch(hub.releases.publish("eve"), T0).number == 2
    signed(hub.releases, proposal, *keepers[:2])
    assert path.read_bytes() != old and not path.with_name(f"{role}.next.key").exists()
    assert path.stat().st_mode & 0o077 == 0
    hub.touch()
    assert agent.fetch(hub.again().publish("eve"), T0).number == 3


def test_a_lost_key_of_the_hub_is_replaced(hub: Hub, agent: Updates, keepers: list[Person]) -> None:
    (hub.home / "keys/tuf/snapshot.key").unlink()
    hub.touch()
    refused(Unavailable, "release.key-missing", hub.releases.publish, "eve")
    change_root(hub.releases, RootChange(), *keepers[:2])
    assert agent.fetch(hub.releases.publish("eve"), T0).number == hub.releases.current()


@pytest.mark.parametrize(
    "change",
    [
        RootChange(remove=["root-1"]),
        RootChange(remove=["nobody"], add=[ALICE.text]),
        RootChange(add=[Person("root-1").text]),
        RootChange(add=[Person(f"p{number}").text for number in range(7)]),
        RootChange(new_keys=["root"]),
        RootChange(new_keys=["targets"]),
        RootChange(people={"targets": quorum(1, ALICE)}),
        RootChange(people={"policy": quorum(3, ALICE, BOB)}),
        RootChange(people={"policy": quorum(0, ALICE)}),
        RootChange(people={"policy": quorum(2, ALICE, ALICE)}),
        RootChange(people={"policy": quorum(2, ALICE, Person("al", ALICE.key))}),
        RootChange(people={"policy": quorum(2, ALICE, Person("alice", BOB.key))}),
    ],
)
def test_changes_that_make_no_sense(hub: Hub, change: RootChange) -> None:
    refused(BadInput, "root.change", hub.releases.offer_root, change, "eve")
    assert hub.releases.proposals()[0].kind == "release"


def test_signatures_edited_on_the_hubs_disk_do_not_complete(hub: Hub, agent: Updates, keepers: list[Person]) -> None:
    by_people(hub, keepers, ALICE, BOB)
    proposal = proposed(hub)
    forged = EVE.key.sign(proposal.offer.payloads["policy"].encode())
    made_up = [Signature(proposal.id, person.text, {"policy": b64(forged)}) for person in (ALICE, BOB)]
    path = hub.home / f"repository/proposals/{proposal.id}.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(proposal, signatures=made_up)))
    refused(Tampered, "release.damaged", hub.again().complete, proposal.id, "eve")
    refused(Refused, "release.unlisted", agent.fetch, proposal.number, T0)
    assert hub.again().current() == 1


def test_a_hub_of_before_goes_on_and_gives_targets_to_the_root(hub: Hub, tmp_path: Path) -> None:
    """Older hubs signed `targets` by a key of their own, and their root keys had no names."""
    keys = hub.releases._repository._keys
    keepers = root_keepers(hub.home)
    keys._make("targets")
    root = Metadata.from_bytes((hub.metadata / "1.root.json").read_bytes())
    targets = Metadata.from_bytes((hub.metadata / "1.targets.json").read_bytes())
    for key in root.signed.keys.values():
        key.unrecognized_fields.clear()
    for keyid in list(root.signed.roles["targets"].keyids):
        root.signed.revoke_key(keyid, "targets")
    own = keys._load("targets")
    root.signed.add_key(own.public_key, "targets")
    root.signed.roles["targets"].threshold = 1
    for name in ("root-1", "root-2"):
        root.sign(keys._load(name), append=name != "root-1")
    targets.sign(own)
    (hub.metadata / "1.root.json").write_bytes(root.to_bytes())
    (hub.metadata / "1.targets.json").write_bytes(targets.to_bytes())
    state = hub.releases._repository._unchecked()
    from server.releases.state import State

    held = State(root.signed, state[2], state[1], state[0])
    hub.releases._repository._commit(held, {"targets"})
    agent = device(hub, tmp_path / "old agent")
    hub.touch()
    assert agent.fetch(hub.again().publish("eve"), T0).number == 2
    hub.now = T0 + 400 * DAY
    hub.releases.refresh_timestamp()
    assert change_root(hub.releases, RootChange(), *keepers[:2]) == 2
    assert not (hub.home / "keys/tuf/targets.key").exists()
    assert agent.fetch(2, hub.now).number == 2


# --- kills --------------------------------------------------------------------------------------------------------


def killed_at_each(hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str, act: Any, look: Any) -> int:
    """``act`` is begun again and again, each time killed one write later, until it is not; ``look`` after each."""
    for step in range(100):
        with monkeypatch.context() as patch:
            die_at(patch, name, step)
            try:
                act()
                return step
            except Killed:
                pass
        hub.again().recover()
        look()
    raise AssertionError("it never came through")


@pytest.mark.parametrize("name", ["fsync", "replace", "open"])
def test_completing_killed_at_any_write(
    hub: Hub, agent: Updates, keepers: list[Person], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    by_people(hub, keepers, ALICE, BOB)
    proposal = proposed(hub)
    for person in (ALICE, BOB):
        hub.releases.add_signature(proposal.id, person.sign(proposal), "eve")

    def act() -> None:
        if hub.again().current() == 1:
            assert hub.releases.complete(proposal.id, "eve") == proposal.number

    def look() -> None:
        current = hub.releases.current()
        assert agent.fetch(current, T0).number == current
        assert hub.releases.proposal(proposal.id).state == ("open" if current == 1 else "completed")
        assert hub.releases.proposal(proposal.id).signers == ["alice", "bob"]

    assert killed_at_each(hub, monkeypatch, name, act, look) > 3
    look()
    published = [facts.release for facts in hub.log.facts if isinstance(facts, ReleasePublished)]
    assert set(published) == {1, proposal.number}


@pytest.mark.parametrize("name", ["fsync", "replace", "open"])
def test_a_new_root_killed_at_any_write(
    hub: Hub, agent: Updates, keepers: list[Person], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    change = RootChange(
        add=[ALICE.text],
        remove=["root-3"],
        new_keys=["timestamp", "snapshot"],
        people={"policy": quorum(2, ALICE, BOB)},
    )
    proposal = hub.releases.offer_root(change, "eve")
    for person in (*keepers[:2], ALICE, BOB):
        hub.releases.add_signature(proposal.id, person.sign(proposal), "eve")

    def act() -> None:
        if hub.again().trust()["version"] == 1:
            assert hub.releases.complete(proposal.id, "eve") == 2

    def look() -> None:
        version = hub.releases.trust()["version"]
        assert agent.fetch(1, T0).number == 1
        assert hub.releases.people_sign() == (version == 2)
        assert hub.releases.proposal(proposal.id).state == ("open" if version == 1 else "completed")

    assert killed_at_each(hub, monkeypatch, name, act, look) > 3
    look()
    names = sorted(path.name for path in (hub.home / "keys/tuf").glob("*.key"))
    assert names == ["model.key", "snapshot.key", "timestamp.key"]
    assert signed(hub.again(), proposed(hub), ALICE, BOB) == agent.fetch(hub.releases.current(), T0).number


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_signature_killed_at_any_write(
    hub: Hub, keepers: list[Person], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    by_people(hub, keepers, ALICE, BOB)
    proposal = proposed(hub)
    given = ALICE.sign(proposal)

    def act() -> None:
        try:
            hub.again().add_signature(proposal.id, given, "eve")
        except Conflict as error:
            assert error.code == "sign.twice", "it was there in full"

    killed_at_each(hub, monkeypatch, name, act, lambda: hub.releases.proposal(proposal.id).missing)
    assert hub.again().proposal(proposal.id).signers == ["alice"]


KILL = """
import os, sys
from pathlib import Path
from server.releases import Releases
real, left = os.replace, [int(sys.argv[2])]
def die(*args, **more):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), 9)
    return real(*args, **more)
os.replace = die
class Log:
    def append(self, drafts): pass
Releases(Path(sys.argv[1]), Log(), clock=lambda: int(sys.argv[3])).complete(sys.argv[4], "eve")
"""


@pytest.mark.system
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
@pytest.mark.parametrize("step", [0, 1, 3, 5, 6, 7])
def test_a_new_root_really_killed(hub: Hub, agent: Updates, keepers: list[Person], step: int) -> None:
    change = RootChange(new_keys=["timestamp"], people={"policy": quorum(2, ALICE, BOB)})
    proposal = hub.releases.offer_root(change, "eve")
    for person in (*keepers[:2], ALICE, BOB):
        hub.releases.add_signature(proposal.id, person.sign(proposal), "eve")
    done = subprocess.run([sys.executable, "-c", KILL, str(hub.home), str(step), str(T0), proposal.id], check=False)
    assert done.returncode == -9
    hub.again().refresh_timestamp()
    if hub.releases.proposal(proposal.id).state == "open":
        hub.releases.complete(proposal.id, "eve")
    assert hub.releases.trust()["version"] == 2 and hub.releases.people_sign()
    assert agent.fetch(1, T0).number == 1


def test_full_disk(hub: Hub, agent: Updates, keepers: list[Person], monkeypatch: pytest.MonkeyPatch) -> None:
    by_people(hub, keepers, ALICE, BOB)
    proposal = proposed(hub)
    hub.releases.add_signature(proposal.id, BOB.sign(proposal), "eve")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        refused(Unavailable, "disk.write", hub.releases.add_signature, proposal.id, ALICE.sign(proposal), "eve")
    assert agent.fetch(signed(hub.again(), proposal, ALICE), T0).number == proposal.number


def test_an_offer_survives_its_travel(hub: Hub, keepers: list[Person]) -> None:
    by_people(hub, keepers, ALICE, BOB)
    proposal = proposed(hub)
    offer = read_offer(proposal.offer.data())
    assert offer == proposal.offer and offer.id == proposal.id
    refused(Refused, "sign.not-wanted", sign_offer, offer, EVE.text, EVE.key)
