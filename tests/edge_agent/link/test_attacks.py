"""Attacks on updates, one by one, as TUF's specification and python-tuf's own tests list them, over real HTTP.

The repository is the hub's own, in a folder behind a real HTTP server; the client is the agent's, with its own fetcher
and its own disk. Each attacker has what the attack says and nothing else: the wire, the repository's disk, or keys that
lie at the hub. After each attack the device goes on with what it had, offline too, and takes the next honest release.
``docs/explanation/trust.md`` has the list.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import (  # type: ignore[attr-defined]  # exported, in a way mypy cannot follow
    Metadata,
    MetaFile,
    Root,
    TargetFile,
)

from edge_agent.link.fetcher import HttpFetcher
from edge_agent.link.updates import Updates
from server.releases import RootChange
from server.releases.workspace import read_workspace
from shared.errors import OutriderError, Refused, Tampered, Unavailable
from tests.edge_agent.link.test_updates import DAY, T0, Hub
from tests.trust import Person, change_root, quorum, root_keepers, signed

ALICE, BOB = Person("alice"), Person("bob")
Attack = Callable[["Stage"], OutriderError]


class Answers(BaseHTTPRequestHandler):
    """The repository folder as static files, unless the attacker answers first."""

    def do_GET(self) -> None:
        server: Any = self.server
        path = self.path.removeprefix("/tuf/")
        server.asked.append(path)
        if server.attacker(self, path):
            return
        file = server.folder / path
        data = file.read_bytes() if file.is_file() else b""
        self.send_response(200 if file.is_file() else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class Stage:
    """A hub whose releases two people sign, its HTTP server, and a device that runs release ``held``."""

    def __init__(self, tmp_path: Path, server: Any) -> None:
        self.hub = Hub(tmp_path / "hub")
        self.hub.publish()
        self.keepers = root_keepers(self.hub.home)
        for keeper in self.keepers:
            (self.hub.home / f"keys/tuf/{keeper.name}.key").unlink()
        change = RootChange(people={"policy": quorum(2, ALICE, BOB)})
        change_root(self.hub.releases, change, *self.keepers[:2], ALICE, BOB)
        self.held = self.publish()
        server.folder = self.hub.home / "repository"
        self.server = server
        self.tmp = tmp_path
        self.device = self.joined("agent")
        self.device.fetch(self.held, T0)

    @property
    def folder(self) -> Path:
        return self.hub.metadata

    def joined(self, name: str, **bounds: float) -> Updates:
        fetcher = HttpFetcher(**bounds) if bounds else None
        updates = Updates(self.tmp / name, f"http://127.0.0.1:{self.server.server_port}", fetcher=fetcher)
        updates.install_root(self.hub.releases.root_bytes(), self.hub.releases.minimum())
        return updates

    def publish(self) -> int:
        """The next honest release."""
        with (self.hub.workspace / "policy.cedar").open("a") as file:
            file.write("// changed\n")
        proposal = self.hub.releases.propose(read_workspace(self.hub.workspace), "eve")
        return signed(self.hub.releases, proposal, ALICE, BOB)

    def copy(self, name: str) -> Path:
        """The repository as it is now, kept by the attacker."""
        return Path(shutil.copytree(self.hub.home / "repository", self.tmp / name))

    def fails(self, number: int, now: int = T0, device: Updates | None = None) -> OutriderError:
        with pytest.raises(OutriderError) as caught:
            (device or self.device).fetch(number, now)
        return caught.value

    def write(self, name: str, held: Metadata[Any], *keys: str) -> MetaFile:
        """Sign with these keys that lie at the hub, and put it where devices look."""
        held.signatures.clear()
        for key in keys:
            held.sign(self.hub.repository._keys._load(key), append=True)
        data = held.to_bytes()
        (self.folder / name).write_bytes(data)
        return MetaFile.from_data(held.signed.version, data, ["sha256"])

    def read(self, role: str) -> Metadata[Any]:
        """What the repository says now in this role."""
        if role == "timestamp":
            return self.hub.read("timestamp.json")
        snapshot = self.hub.read(f"{self.read('timestamp').signed.snapshot_meta.version}.snapshot.json")
        return (
            snapshot
            if role == "snapshot"
            else self.hub.read(f"{snapshot.signed.meta[f'{role}.json'].version}.{role}.json")
        )

    def list_online(self, change: Callable[[dict[str, MetaFile]], None], *, jump: int = 1) -> None:
        """A snapshot and a timestamp by whoever has their keys, with other words on the lists."""
        snapshot, timestamp = self.read("snapshot"), self.read("timestamp")
        change(snapshot.signed.meta)
        snapshot.signed.version += jump
        timestamp.signed.version += jump
        timestamp.signed.snapshot_meta = self.write(f"{snapshot.signed.version}.snapshot.json", snapshot, "snapshot")
        self.write("timestamp.json", timestamp, "timestamp")

    def answer(self, part: str, data: bytes, *, status: int = 200) -> None:
        """The attacker on the wire answers for every path that has this part."""

        def attacker(request: Any, path: str) -> bool:
            if part not in path:
                return False
            request.send_response(status)
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            request.wfile.write(data)
            return True

        self.server.attacker = attacker


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.asked = []
    server.attacker = lambda request, path: False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield Stage(tmp_path, server)
    server.shutdown()
    server.server_close()
    thread.join()


# --- rollback, fast-forward, freeze -------------------------------------------------------------------------------


def rollback_of_everything(stage: Stage) -> OutriderError:
    """The whole repository as it was, unexpired and rightly signed."""
    old = stage.copy("old")
    stage.device.fetch(stage.publish(), T0)
    stage.server.folder = old
    return stage.fails(stage.held)


def rollback_of_the_timestamp(stage: Stage) -> OutriderError:
    old = (stage.folder / "timestamp.json").read_bytes()
    stage.device.fetch(stage.publish(), T0)
    stage.answer("timestamp.json", old)
    return stage.fails(stage.held)


def rollback_of_the_snapshot(stage: Stage) -> OutriderError:
    """A thief of the timestamp key points to an older snapshot."""
    old = stage.read("timestamp").signed.snapshot_meta
    stage.device.fetch(stage.publish(), T0)
    timestamp = stage.read("timestamp")
    timestamp.signed.version += 1
    timestamp.signed.snapshot_meta = old
    stage.write("timestamp.json", timestamp, "timestamp")
    return stage.fails(stage.held)


def rollback_of_a_list(stage: Stage) -> OutriderError:
    """A thief of every key at the hub shows people's older list."""
    old = stage.read("snapshot").signed.meta["policy.json"]
    stage.device.fetch(stage.publish(), T0)
    stage.list_online(lambda meta: meta.update({"policy.json": old}))
    return stage.fails(stage.held)


def a_list_left_out(stage: Stage) -> OutriderError:
    def left_out(meta: dict[str, MetaFile]) -> None:
        del meta["policy.json"]

    stage.list_online(left_out)
    return stage.fails(stage.held)


def rollback_of_the_root(stage: Stage) -> OutriderError:
    """An older root where the next one is expected."""
    stage.answer("3.root.json", (stage.folder / "1.root.json").read_bytes())
    return stage.fails(stage.held)


def a_root_that_skips_a_version(stage: Stage) -> OutriderError:
    change_root(stage.hub.releases, RootChange(), *stage.keepers[:2])
    change_root(stage.hub.releases, RootChange(), *stage.keepers[:2])
    stage.answer("3.root.json", (stage.folder / "4.root.json").read_bytes())
    return stage.fails(stage.held)


def freeze(stage: Stage) -> OutriderError:
    """What was true a week ago, for ever."""
    old = stage.copy("old")
    stage.server.folder = old
    return stage.fails(stage.held, T0 + 8 * DAY)


def freeze_of_the_root(stage: Stage) -> OutriderError:
    """A new root is kept from the device; the hub's new timestamp key is then not one that it knows."""
    change_root(stage.hub.releases, RootChange(new_keys=["timestamp"]), *stage.keepers[:2])
    stage.answer("3.root.json", b"", status=404)
    return stage.fails(stage.held)


# --- mix and match, tampering, junk -------------------------------------------------------------------------------


def mix_and_match(stage: Stage) -> OutriderError:
    """The list of one release with the snapshot of the next."""
    old = (stage.folder / f"{stage.read('policy').signed.version}.policy.json").read_bytes()
    number = stage.publish()
    stage.answer(".policy.json", old)
    return stage.fails(number)


def a_list_changed_by_one_byte(stage: Stage) -> OutriderError:
    number = stage.publish()
    name = f"{stage.read('policy').signed.version}.policy.json"
    stage.answer(name, (stage.folder / name).read_bytes().replace(b'"length": ', b'"length":  ', 1)[:-1])
    return stage.fails(number)


def a_timestamp_changed(stage: Stage) -> OutriderError:
    stage.publish()
    data = (stage.folder / "timestamp.json").read_bytes()
    stage.answer(
        "timestamp.json", data.replace(b'"version": ', b'"version": 1', 1).replace(b'"version":', b'"version":1', 1)
    )
    return stage.fails(stage.held)


def a_file_changed(stage: Stage) -> OutriderError:
    number = stage.publish()
    (path,) = (stage.hub.home / f"repository/targets/release/{number}").glob("*.policy.cedar")
    stage.answer(".policy.cedar", path.read_bytes().replace(b"permit", b"forbid"))
    return stage.fails(number)


def a_file_of_another_release(stage: Stage) -> OutriderError:
    number = stage.publish()
    (path,) = (stage.hub.home / "repository/targets/release/1").glob("*.policy.cedar")
    stage.answer(".policy.cedar", path.read_bytes())
    return stage.fails(number)


def junk_for_metadata(stage: Stage) -> OutriderError:
    stage.answer("timestamp.json", b"\xff{]")
    return stage.fails(stage.held)


def metadata_of_another_kind(stage: Stage) -> OutriderError:
    stage.answer("timestamp.json", (stage.folder / "1.root.json").read_bytes()[:15_000])
    return stage.fails(stage.held)


def missing_files(stage: Stage) -> OutriderError:
    number = stage.publish()
    stage.answer("targets/", b"", status=404)
    return stage.fails(number)


# --- too few, or the wrong, signatures ----------------------------------------------------------------------------


def root_by_one_key(stage: Stage) -> OutriderError:
    root = stage.hub.read("2.root.json")
    root.signed.version = 3
    root.sign(_signer(stage.keepers[0]))
    (stage.folder / "3.root.json").write_bytes(root.to_bytes())
    return stage.fails(stage.held)


def root_by_its_own_new_keys(stage: Stage) -> OutriderError:
    """A root of the attacker's, signed by the keys that it names and not by those before it."""
    root = stage.hub.read("2.root.json")
    thief = [Person("thief-1"), Person("thief-2"), Person("thief-3")]
    root.signed = _rooted(root.signed, thief)
    root.signatures.clear()
    for person in thief:
        root.sign(_signer(person), append=True)
    (stage.folder / "3.root.json").write_bytes(root.to_bytes())
    return stage.fails(stage.held)


def root_without_its_new_keys(stage: Stage) -> OutriderError:
    """The old keys alone cannot name keys that do not agree."""
    root = stage.hub.read("2.root.json")
    root.signed = _rooted(root.signed, [Person("other-1"), Person("other-2"), Person("other-3")])
    root.signatures.clear()
    for keeper in stage.keepers:
        root.sign(_signer(keeper), append=True)
    (stage.folder / "3.root.json").write_bytes(root.to_bytes())
    return stage.fails(stage.held)


def release_by_one_of_two_people(stage: Stage) -> OutriderError:
    return _release_signed_by(stage, ALICE)


def release_by_one_person_twice(stage: Stage) -> OutriderError:
    """Under a second key id for the same key: the list of who may sign does not have that id."""
    return _release_signed_by(stage, ALICE, Person("alice-again", ALICE.key))


def release_by_people_who_are_nobody(stage: Stage) -> OutriderError:
    return _release_signed_by(stage, Person("mallory"), Person("mallet"))


def release_by_the_hubs_other_keys(stage: Stage) -> OutriderError:
    """A thief of all keys at the hub (model, snapshot, timestamp, and a policy key that counted once)."""
    stage.hub.repository._keys._make("policy")
    held = stage.read("policy")
    _slip_in(held)
    name = f"{held.signed.version}.policy.json"
    meta = stage.write(name, held, "policy", "model", "snapshot", "timestamp")
    stage.list_online(lambda listed: listed.update({"policy.json": meta}))
    return stage.fails(99)


def who_may_sign_by_the_hub(stage: Stage) -> OutriderError:
    """A thief of all keys at the hub makes its own key count for releases."""
    thief = stage.hub.repository._keys._load("model")
    held = stage.read("targets")
    held.signed.version += 1
    held.signed.delegations.roles["policy"].keyids = [thief.public_key.keyid]
    held.signed.delegations.roles["policy"].threshold = 1
    held.signed.delegations.keys[thief.public_key.keyid] = thief.public_key
    meta = stage.write(f"{held.signed.version}.targets.json", held, "model", "snapshot", "timestamp")
    stage.list_online(lambda listed: listed.update({"targets.json": meta}))
    return stage.fails(stage.held)


def release_by_the_model_role(stage: Stage) -> OutriderError:
    """The right key for models, and a path that is not its role's."""
    held = stage.read("model")
    held.signed.version += 1
    path = "release/99/release.json"
    held.signed.targets[path] = TargetFile.from_data(path, b"{}", ["sha256"])
    meta = stage.write(f"{held.signed.version}.model.json", held, "model")
    stage.list_online(lambda listed: listed.update({"model.json": meta}))
    return stage.fails(99)


def timestamp_by_another_role(stage: Stage) -> OutriderError:
    held = stage.read("timestamp")
    held.signed.version += 1
    stage.write("timestamp.json", held, "snapshot", "model")
    return stage.fails(stage.held)


def a_key_that_was_replaced(stage: Stage) -> OutriderError:
    """The thief kept the old timestamp key; the root names another by now."""
    old = stage.hub.repository._keys._load("timestamp")
    change_root(stage.hub.releases, RootChange(new_keys=["timestamp"]), *stage.keepers[:2])
    stage.device.fetch(stage.held, T0)
    held = stage.read("timestamp")
    held.signed.version += 1
    held.sign(old)
    stage.answer("timestamp.json", held.to_bytes())
    return stage.fails(stage.held)


# --- a bad wire ---------------------------------------------------------------------------------------------------


def endless_metadata(stage: Stage) -> OutriderError:
    return _endless(stage, "timestamp.json", stage.held)


def endless_list(stage: Stage) -> OutriderError:
    stage.publish()
    return _endless(stage, ".policy.json", stage.held)


def endless_file(stage: Stage) -> OutriderError:
    number = stage.publish()
    return _endless(stage, ".release.json", number)


def endless_roots(stage: Stage) -> OutriderError:
    """The same root again, whatever version is asked for."""
    stage.answer(".root.json", (stage.folder / "2.root.json").read_bytes())
    return stage.fails(stage.held)


def slow_sender(stage: Stage) -> OutriderError:
    """A byte now and then, which never trips a read timeout."""
    done = threading.Event()

    def drip(request: Any, path: str) -> bool:
        if not path.endswith("timestamp.json"):
            return False
        request.send_response(200)
        request.send_header("Content-Length", "10000")
        request.end_headers()
        try:
            while not done.wait(0.05):
                request.wfile.write(b" ")
                request.wfile.flush()
        except OSError:
            pass
        return True

    stage.server.attacker = drip
    device = stage.joined("impatient", connect_s=30, gap_s=30, total_s=1)
    error = stage.fails(stage.held, device=device)
    done.set()
    device._fetcher.close()  # type: ignore[union-attr]  # it is the one made above
    return error


def cut_in_the_middle(stage: Stage) -> OutriderError:
    number = stage.publish()

    def cut(request: Any, path: str) -> bool:
        if ".policy.cedar" not in path:
            return False
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b"half of it")
        return True

    stage.server.attacker = cut
    return stage.fails(number)


# --- devices that are new, or away; clocks ------------------------------------------------------------------------


def an_old_repository_to_a_new_device(stage: Stage) -> OutriderError:
    """Unexpired and rightly signed; only what joining gave the device tells."""
    old = stage.copy("old")
    stage.publish()
    new = stage.joined("new")
    stage.server.folder = old
    return stage.fails(stage.held, device=new)


def the_root_that_a_new_device_is_given(stage: Stage) -> OutriderError:
    """A root that its own keys did not sign is not even started from."""
    root = stage.hub.read("2.root.json")
    root.signatures.clear()
    root.sign(_signer(stage.keepers[0]))
    with pytest.raises(OutriderError) as caught:
        Updates(stage.tmp / "new", "http://127.0.0.1:1").install_root(root.to_bytes(), {})
    return caught.value


def a_clock_set_back(stage: Stage) -> OutriderError:
    """To make what has expired look fresh."""
    stage.hub.now = T0 + 20 * DAY
    stage.hub.releases.refresh_timestamp()
    stage.device.fetch(stage.held, stage.hub.now)
    return stage.fails(stage.held, T0)


ATTACKS: list[tuple[Attack, type[OutriderError], str]] = [
    (rollback_of_everything, Tampered, "release.rollback"),
    (rollback_of_the_timestamp, Tampered, "release.rollback"),
    (rollback_of_the_snapshot, Tampered, "release.rollback"),
    (rollback_of_a_list, Tampered, "release.rollback"),
    (a_list_left_out, Tampered, "release.tampered"),
    (rollback_of_the_root, Tampered, "release.rollback"),
    (a_root_that_skips_a_version, Tampered, "release.rollback"),
    (freeze, Refused, "release.expired"),
    (freeze_of_the_root, Tampered, "release.unsigned"),
    (mix_and_match, Tampered, "release.tampered"),
    (a_list_changed_by_one_byte, Tampered, "release.tampered"),
    (a_timestamp_changed, Tampered, "release.unsigned"),
    (a_file_changed, Tampered, "release.tampered"),
    (a_file_of_another_release, Tampered, "release.tampered"),
    (junk_for_metadata, Tampered, "release.tampered"),
    (metadata_of_another_kind, Tampered, "release.tampered"),
    (missing_files, Unavailable, "release.incomplete"),
    (root_by_one_key, Tampered, "release.unsigned"),
    (root_by_its_own_new_keys, Tampered, "release.unsigned"),
    (root_without_its_new_keys, Tampered, "release.unsigned"),
    (release_by_one_of_two_people, Tampered, "release.unsigned"),
    (release_by_one_person_twice, Tampered, "release.unsigned"),
    (release_by_people_who_are_nobody, Tampered, "release.unsigned"),
    (release_by_the_hubs_other_keys, Tampered, "release.unsigned"),
    (who_may_sign_by_the_hub, Tampered, "release.unsigned"),
    (release_by_the_model_role, Refused, "release.unlisted"),
    (timestamp_by_another_role, Tampered, "release.unsigned"),
    (a_key_that_was_replaced, Tampered, "release.unsigned"),
    (endless_metadata, Tampered, "release.endless"),
    (endless_list, Tampered, "release.endless"),
    (endless_file, Tampered, "release.endless"),
    (endless_roots, Tampered, "release.rollback"),
    (slow_sender, Unavailable, "release.slow"),
    (cut_in_the_middle, Unavailable, "release.unreachable"),
    (an_old_repository_to_a_new_device, Tampered, "release.rollback"),
    (the_root_that_a_new_device_is_given, Tampered, "release.root"),
    (a_clock_set_back, Refused, "release.clock"),
]


@pytest.mark.parametrize(("attack", "kind", "code"), ATTACKS, ids=[attack.__name__ for attack, _, _ in ATTACKS])
def test_attack(stage: Stage, attack: Attack, kind: type[OutriderError], code: str) -> None:
    error = attack(stage)
    assert (type(error), error.code) == (kind, code)
    assert error.advice
    now = stage.hub.now
    # What the device had is still whole, and still its own.
    assert stage.device.cached(stage.held, now).number == stage.held


def test_the_table_in_the_docs_is_this_list() -> None:
    page = Path(__file__).parents[3] / "docs" / "explanation" / "trust.md"
    rows = re.findall(r"^\|[^|]+\| `([a-z_]+)` \| `([a-z.-]+)` \|$", page.read_text("utf-8"), re.MULTILINE)
    assert rows == [(attack.__name__, code) for attack, _, code in ATTACKS]


# --- after the attack ---------------------------------------------------------------------------------------------


def test_an_attack_on_the_wire_is_over_when_it_stops(stage: Stage) -> None:
    for attack in (rollback_of_the_timestamp, a_file_changed, endless_file, missing_files, junk_for_metadata):
        attack(stage)
        stage.server.attacker = lambda request, path: False
        number = stage.hub.releases.current()
        assert stage.device.fetch(number, T0).number == number


def test_fast_forward_is_undone_by_new_keys(stage: Stage) -> None:
    """A thief of snapshot and timestamp keys sets versions far ahead, so that honest ones look like a rollback. The
    root's keys replace what was stolen, and devices come back by themselves."""
    honest = stage.copy("honest")
    stage.list_online(lambda meta: meta["policy.json"].__setattr__("version", 10**6), jump=10**6)
    assert stage.fails(stage.held).code in ("release.incomplete", "release.tampered")
    shutil.rmtree(stage.hub.home / "repository")
    shutil.copytree(honest, stage.hub.home / "repository")  # the operator's backup
    number = stage.publish()
    assert stage.fails(number).code == "release.rollback", "the device has seen the thief's versions"
    change_root(stage.hub.releases, RootChange(new_keys=["snapshot", "timestamp"]), *stage.keepers[:2])
    assert stage.device.fetch(number, T0).number == number


def test_revoked_and_added_people_reach_a_device_that_nobody_touches(stage: Stage) -> None:
    carol = Person("carol")
    change = RootChange(people={"policy": quorum(2, ALICE, carol)})
    change_root(stage.hub.releases, change, *stage.keepers[:2], ALICE, carol)
    assert stage.device.fetch(stage.held, T0).number == stage.held
    error = _release_signed_by(stage, ALICE, BOB)
    assert error.code == "release.unsigned", "Bob's signature counts no more"
    assert stage.device.cached(stage.held, T0).number == stage.held


def test_a_device_that_missed_twenty_roots_follows_them_all(stage: Stage) -> None:
    for _ in range(20):
        change_root(stage.hub.releases, RootChange(new_keys=["timestamp"]), *stage.keepers[:2])
    number = stage.publish()
    assert stage.device.fetch(number, T0).number == number
    assert stage.device.cached(number, T0).number == number


# --- within -------------------------------------------------------------------------------------------------------


def _signer(person: Person) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # not in its __all__

    private = Ed25519PrivateKey.from_private_bytes(person.key.secret_bytes())
    return CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))


def _rooted(root: Root, people: list[Person]) -> Root:
    """The next root, with these people's keys in place of the root's."""
    root.version += 1
    for keyid in list(root.roles["root"].keyids):
        root.revoke_key(keyid, "root")
    for person in people:
        root.add_key(_signer(person).public_key, "root")
    return root


def _slip_in(held: Metadata[Any]) -> None:
    """A release 99 that nobody proposed."""
    held.signed.version += 1
    path = "release/99/release.json"
    held.signed.targets[path] = TargetFile.from_data(path, b"{}", ["sha256"])


def _release_signed_by(stage: Stage, *people: Person) -> OutriderError:
    """A list with another release, by these people, and the hub's keys to make it visible."""
    held = stage.read("policy")
    _slip_in(held)
    held.signatures.clear()
    for person in people:
        signer = _signer(person)
        signature = signer.sign(held.signed_bytes)
        if person.name.endswith("-again"):
            signature.keyid = "00" * 32
        held.signatures[signature.keyid] = signature
    data = held.to_bytes()
    (stage.folder / f"{held.signed.version}.policy.json").write_bytes(data)
    meta = MetaFile.from_data(held.signed.version, data, ["sha256"])
    stage.list_online(lambda listed: listed.update({"policy.json": meta}))
    return stage.fails(99)


def _endless(stage: Stage, part: str, number: int) -> OutriderError:
    """A sender that never stops; how much of it the device took in is looked at too."""
    sent = 0

    def endless(request: Any, path: str) -> bool:
        nonlocal sent
        if part not in path:
            return False
        request.send_response(200)
        request.end_headers()
        try:
            while sent < 64 * 1024 * 1024:
                request.wfile.write(b" " * 65536)
                sent += 65536
        except OSError:
            pass
        return True

    stage.server.attacker = endless
    error = stage.fails(number)
    assert sent < 32 * 1024 * 1024, "the device hung up"
    return error
