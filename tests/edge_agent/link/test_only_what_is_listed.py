"""No device ever runs what TUF does not list: whatever the order of releases, new roots, thieves and old copies."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tuf.api.metadata import Metadata, MetaFile, TargetFile  # type: ignore[attr-defined]  # mypy cannot follow it

from edge_agent.link.updates import Updates
from server.releases import Proposal, RootChange
from server.releases.state import tuf_key
from server.releases.workspace import read_workspace
from shared.codec import canonical, hex_sha256
from shared.errors import OutriderError, Tampered
from tests.edge_agent.link.test_updates import T0, Hub, Wire
from tests.trust import Person, change_root, quorum, root_keepers, signed

PEOPLE = [Person(name) for name in ("alice", "bob", "carol")]
AHEAD = st.integers(-1, 1)  # of the newest release that people signed
ONLINE = ("model", "snapshot", "timestamp")


class Machine(RuleBasedStateMachine):
    """A hub whose releases two of three people sign, a thief with every key at it, and a device."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.hub = Hub(self.folder / "hub")
        self.keepers = root_keepers(self.hub.home)
        self.wire = Wire(self.hub)
        self.published: dict[int, str] = {}  # what people signed: number to the policy's hash
        self.waiting: list[Proposal] = []
        self.copies: list[Path] = []
        self.device = Updates(self.folder / "agent", "http://hub.test", fetcher=self.wire)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize()
    def begin(self) -> None:
        change = RootChange(people={"policy": quorum(2, *PEOPLE)})
        change_root(self.hub.releases, change, *self.keepers[:2], *PEOPLE[:2])
        self.device.install_root(self.hub.releases.root_bytes(), self.hub.releases.minimum())
        self.publish(0)

    def propose(self) -> Proposal:
        with (self.hub.workspace / "policy.cedar").open("a") as file:
            file.write("// changed\n")
        return self.hub.releases.propose(read_workspace(self.hub.workspace), "eve")

    @rule(absent=st.integers(0, 2))
    def publish(self, absent: int) -> None:
        self.honest()
        proposal = self.propose()
        number = signed(self.hub.releases, proposal, *(each for at, each in enumerate(PEOPLE) if at != absent))
        self.published[number] = proposal.files["policy.cedar"]

    @rule(who=st.integers(0, 2))
    def propose_and_leave_it(self, who: int) -> None:
        """One signature is not enough."""
        self.honest()
        proposal = self.propose()
        self.hub.releases.add_signature(proposal.id, PEOPLE[who].sign(proposal), "eve")

    @rule(role=st.sampled_from(ONLINE))
    def replace_a_key(self, role: str) -> None:
        self.honest()
        change_root(self.hub.releases, RootChange(new_keys=[role]), *self.keepers[1:])

    @rule()
    def keep_a_copy(self) -> None:
        copy = self.folder / f"copy-{len(self.copies)}"
        self.copies.append(Path(shutil.copytree(self.hub.home / "repository", copy)))

    @rule(at=st.integers(0, 5))
    def show_an_old_copy(self, at: int) -> None:
        if self.copies:
            self.wire.root = self.copies[at % len(self.copies)]

    @rule()
    def honest(self) -> None:
        self.wire.root = self.hub.home / "repository"

    @rule(ahead=AHEAD, who=st.sampled_from(PEOPLE), key=st.sampled_from(ONLINE))
    def slip_a_release_in(self, ahead: int, who: Person, key: str) -> None:
        """With every key of the hub and one person's: in a copy, so that the honest hub can go on."""
        forged = self.folder / f"forged-{len(list(self.folder.iterdir()))}"
        shutil.copytree(self.hub.home / "repository", forged)
        keys = self.hub.repository._keys
        timestamp = Metadata[Any].from_bytes((forged / "metadata/timestamp.json").read_bytes())
        name = f"{timestamp.signed.snapshot_meta.version}.snapshot.json"
        snapshot = Metadata[Any].from_bytes((forged / "metadata" / name).read_bytes())
        name = f"{snapshot.signed.meta['policy.json'].version}.policy.json"
        policy = Metadata[Any].from_bytes((forged / "metadata" / name).read_bytes())
        evil = b'@id("all") @about("Evil.")\npermit(principal, action, resource);\n'
        newest = max(self.published)
        number = newest + ahead
        files = self.hub.releases.files(newest) | {"policy.cedar": evil}
        lied = _plain(self.hub.releases.release(newest).manifest) | {
            "release": number,
            "files": {path: hex_sha256(data) for path, data in files.items()},
        }
        for path, data in {"release.json": canonical(lied), **files}.items():
            target = f"release/{number}/{path}"
            policy.signed.targets[target] = TargetFile.from_data(target, data, ["sha256"])
            place = forged / "targets" / f"release/{number}" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.with_name(f"{hex_sha256(data)}.{place.name}").write_bytes(data)
        policy.signed.version += 1
        policy.sign(keys._load(key))
        signature = keys._load(key).sign(policy.signed_bytes)
        signature.signature = who.key.sign(policy.signed_bytes).hex()
        signature.keyid = _keyid(who)
        policy.signatures[signature.keyid] = signature
        _write(forged, snapshot, "policy", policy)
        snapshot.signed.version += 1
        snapshot.sign(keys._load("snapshot"))
        data = snapshot.to_bytes()
        (forged / f"metadata/{snapshot.signed.version}.snapshot.json").write_bytes(data)
        timestamp.signed.version += 1
        timestamp.signed.snapshot_meta = MetaFile.from_data(snapshot.signed.version, data, ["sha256"])
        timestamp.sign(keys._load("timestamp"))
        (forged / "metadata/timestamp.json").write_bytes(timestamp.to_bytes())
        self.wire.root = forged
        self.fetch(ahead)

    @rule(ahead=AHEAD)
    def fetch(self, ahead: int) -> None:
        number = max(self.published) + ahead
        try:
            release = self.device.fetch(number, T0)
        except OutriderError:
            return
        assert self.published.get(number) == release.manifest.files["policy.cedar"]

    @invariant()
    def only_what_people_signed_is_usable_offline(self) -> None:
        for path in (self.folder / "agent/releases").glob("[0-9]*"):
            number = int(path.name)
            try:
                release = self.device.cached(number, T0)
            except Tampered as error:
                raise AssertionError("what was installed is damaged") from error
            assert self.published[number] == release.manifest.files["policy.cedar"]


def _plain(manifest: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(canonical(manifest))
    return found


def _keyid(person: Person) -> str:
    return tuf_key(person.text).keyid


def _write(folder: Path, snapshot: Metadata[Any], role: str, held: Metadata[Any]) -> None:
    data = held.to_bytes()
    (folder / f"metadata/{held.signed.version}.{role}.json").write_bytes(data)
    snapshot.signed.meta[f"{role}.json"] = MetaFile.from_data(held.signed.version, data, ["sha256"])


Machine.TestCase.settings = settings(
    max_examples=8, stateful_step_count=10, deadline=None, suppress_health_check=list(HealthCheck)
)
TestOnlyWhatIsListed = pytest.mark.timeout(600)(Machine.TestCase)
