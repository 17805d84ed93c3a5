"""The hub's releases: the workspace read, signed, numbered, logged, and never half visible."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata
from tuf.ngclient import FetcherInterface

from edge_agent.link.updates import Updates
from server.releases import Releases
from server.releases.state import LIFETIME, PATHS
from server.store import HubLog
from shared.codec import canonical
from shared.entries import ReleasePublished
from shared.errors import BadInput, Conflict, OutriderError, Refused, Tampered, Unavailable
from shared.memory.rules import MemoryRules
from tests.trust import expiries

T0 = 1_790_000_000_000_000
DAY = 24 * 3600 * 1_000_000

POLICY = '@id("all") @about("Anything goes.")\npermit(principal, action, resource);\n'
SCHEMA = """entity Device;
entity Tool;
action execute, execute_unattended appliesTo { principal: [Device], resource: [Tool], context: { label: String } };
"""
PLAYBOOK = """playbook: sorting
version: 1
owner: Clerks
trigger: {folder: inbox}
inputs:
  number: {required: true}
  words: {required: true}
business_key: [number]
lanes: [{id: easy, label: Easy}]
fallback: easy
steps:
  - {id: decide, planner: triage, tools: [register.decide], prompt: sorting@1}
approvals: {roles: [clerk]}
"""
EASY = "lane: easy, confidence: 900, reason: Small."
MODEL = {"name": "small", "kind": "language", "sha256": "ab" * 32, "size": 1000, "source": "file:small.gguf"}


class Log:
    """A hub's log that can be made to fail."""

    def __init__(self) -> None:
        self.facts: list[ReleasePublished] = []
        self.broken = False

    def append(self, drafts: list[Any], /) -> object:
        if self.broken:
            raise Unavailable("disk.write", "full", advice="free space")
        self.facts.extend(draft.facts for draft in drafts)
        return None


class Hub:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = Log()
        self.now = T0
        self.workspace = home / "workspace"
        for folder in ("playbooks", "prompts"):
            (self.workspace / folder).mkdir(parents=True)
        self.write("policy.cedar", POLICY)
        self.write("schema.cedarschema", SCHEMA)
        self.write("playbooks/sorting.yaml", PLAYBOOK)
        self.write("prompts/sorting@1.txt", "Sort this: <<< [[text]] >>>\n[[field]]:\n")
        self.write("models.json", json.dumps([MODEL]))
        self.releases = self.again()

    def again(self) -> Releases:
        """As after a restart: nothing but the disk."""
        self.releases = Releases(self.home, self.log, clock=lambda: self.now)
        return self.releases

    def write(self, path: str, text: str | bytes) -> None:
        (self.workspace / path).write_bytes(text.encode() if isinstance(text, str) else text)

    def touch(self) -> None:
        with (self.workspace / "policy.cedar").open("a") as file:
            file.write("// changed\n")

    @property
    def metadata(self) -> Path:
        return self.home / "repository" / "metadata"


class Folder(FetcherInterface):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self.folder / url.split("/tuf/", 1)[1]
        if not path.is_file():
            raise DownloadHTTPError(url, 404)
        return iter([path.read_bytes()])


def device(hub: Hub, home: Path) -> Updates:
    updates = Updates(home, "http://hub.test", fetcher=Folder(hub.home / "repository"))
    updates.install_root(hub.releases.root_bytes(), hub.releases.minimum())
    return updates


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    hub = Hub(tmp_path / "hub")
    hub.releases.init_repository()
    return hub


def refused(kind: type[OutriderError], code: str, call: Any, *args: Any) -> OutriderError:
    with pytest.raises(kind) as caught:
        call(*args)
    assert caught.value.code == code
    assert caught.value.advice
    return caught.value


# --- the repository -----------------------------------------------------------------------------------------------


def test_root_is_two_of_three_and_roles_are_delegated(hub: Hub) -> None:
    root = Metadata.from_bytes(hub.releases.root_bytes()).signed
    assert (root.roles["root"].threshold, len(root.roles["root"].keyids)) == (2, 3)
    assert root.consistent_snapshot
    targets = Metadata.from_bytes((hub.metadata / "1.targets.json").read_bytes()).signed
    assert {name: role.paths for name, role in targets.delegations.roles.items()} == PATHS
    keys = [role.keyids[0] for role in targets.delegations.roles.values()]
    keys += [keyid for name, role in root.roles.items() if name != "targets" for keyid in role.keyids]
    assert len(set(keys)) == 7, "every role has a key of its own"
    assert root.roles["targets"].to_dict() == root.roles["root"].to_dict(), "save that who may publish is the root's"


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_keys_are_private_and_explained(hub: Hub) -> None:
    folder = hub.home / "keys" / "tuf"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(list(folder.glob("*.key"))) == 7
    assert "move the root keys" in (folder / "README.txt").read_text()
    (folder / "policy.key").chmod(0o644)
    refused(Refused, "release.key-exposed", hub.releases.publish, "eve")


def test_lifetimes(hub: Hub) -> None:
    found = expiries(hub.releases)
    assert found == {role: T0 + int(LIFETIME[role].total_seconds()) * 1_000_000 for role in found}
    assert found["timestamp"] == T0 + 7 * DAY
    assert set(found) == {"root", "targets", "policy", "model", "snapshot", "timestamp"}


def test_init_twice_is_refused(hub: Hub) -> None:
    refused(Conflict, "release.repository-exists", hub.releases.init_repository)


def test_without_a_repository(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub")
    for call in (hub.releases.current, hub.releases.root_bytes, hub.releases.minimum, hub.releases.refresh_timestamp):
        refused(Unavailable, "release.no-repository", call)


def test_refresh_signs_anew_after_a_third(hub: Hub, tmp_path: Path) -> None:
    hub.releases.publish("eve")
    agent = device(hub, tmp_path / "agent")
    hub.now = T0 + 2 * DAY
    assert not hub.releases.refresh_timestamp()
    hub.now = T0 + 7 * DAY // 3
    before = hub.releases.minimum()
    assert hub.releases.refresh_timestamp()
    after = hub.releases.minimum()
    assert after["timestamp"] == before["timestamp"] + 1 and after["snapshot"] == before["snapshot"]
    assert not hub.releases.refresh_timestamp()
    for _ in range(160):  # more than a year of a hub on which nobody publishes
        hub.now += int(2.5 * DAY)
        hub.releases.refresh_timestamp()
        assert min(expiries(hub.releases).values()) > hub.now
    assert agent.fetch(1, hub.now).number == 1


def test_refresh_revives_a_hub_that_stood_still(hub: Hub, tmp_path: Path) -> None:
    hub.releases.publish("eve")
    agent = device(hub, tmp_path / "agent")
    hub.now = T0 + 500 * DAY
    refused(Refused, "release.expired", agent.fetch, 1, hub.now)
    assert hub.again().refresh_timestamp()
    assert agent.fetch(1, hub.now).number == 1


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.policy.json", "1.root.json"])
def test_what_was_edited_behind_the_hubs_back_is_not_signed_again(hub: Hub, name: str) -> None:
    path = hub.metadata / name
    path.write_bytes(
        path.read_bytes().replace(b'"spec_version":"1', b'"spec_version":"1.', 1).replace(b"202", b"203", 1)
    )
    for call in (hub.releases.refresh_timestamp, hub.releases.current):
        refused(Tampered, "release.damaged", call)
    refused(Tampered, "release.damaged", hub.releases.publish, "eve")


def test_missing_wrong_and_damaged_keys(hub: Hub) -> None:
    path = hub.home / "keys" / "tuf" / "policy.key"
    good = path.read_bytes()
    for data in (b"", b"nonsense", good[:60]):
        path.write_bytes(data)
        refused(Unavailable, "release.key-damaged", hub.releases.publish, "eve")
    path.write_bytes((path.parent / "model.key").read_bytes())
    refused(Unavailable, "release.key-wrong", hub.releases.publish, "eve")
    path.unlink()
    refused(Unavailable, "release.key-missing", hub.releases.publish, "eve")
    path.write_bytes(good)
    path.chmod(0o600)
    assert hub.releases.publish("eve") >= 1


# --- publishing ---------------------------------------------------------------------------------------------------


def test_publish_numbers_lists_and_logs(hub: Hub) -> None:
    assert hub.releases.current() == 0
    assert hub.releases.publish("eve") == 1
    release = hub.again().release(1)
    assert release.number == 1
    assert release.manifest.made_at == T0
    assert set(release.manifest.files) == {
        "policy.cedar",
        "schema.cedarschema",
        "playbooks/sorting.yaml",
        "prompts/sorting@1.txt",
    }
    assert release.playbooks["sorting"].steps[0].prompt == "sorting@1"
    (facts,) = hub.log.facts
    assert (facts.release, facts.by) == (1, "eve")
    assert facts.files == release.manifest.files | {"release.json": facts.files["release.json"]}
    models = Metadata.from_bytes((hub.metadata / "2.model.json").read_bytes()).signed.targets
    assert (models["models/small"].length, models["models/small"].hashes) == (1000, {"sha256": "ab" * 32})
    assert not list((hub.home / "repository/targets").glob("models/*")), "TUF vouches for models, the hub holds none"


def test_nothing_changed_is_refused_even_after_a_restart(hub: Hub) -> None:
    hub.releases.publish("eve")
    hub.now += DAY
    refused(Conflict, "release.unchanged", hub.releases.publish, "eve")
    refused(Conflict, "release.unchanged", hub.again().publish, "eve")
    assert len(hub.log.facts) == 1
    hub.touch()
    assert hub.releases.publish("eve") == 2
    hub.write("policy.cedar", POLICY)
    assert hub.releases.publish("eve") == 3, "going back is a change"
    hub.write("models.json", json.dumps([MODEL | {"source": "file:elsewhere.gguf"}]))
    assert hub.releases.publish("eve") == 4, "so is another source"


def test_old_releases_stay_readable(hub: Hub) -> None:
    hub.releases.publish("eve")
    first = hub.releases.release(1).manifest
    hub.touch()
    hub.releases.publish("eve")
    assert hub.again().current() == 2
    assert hub.releases.release(1).manifest == first
    refused(Unavailable, "release.none", hub.releases.release, 3)


def test_rules_of_memory_are_part_of_the_release(hub: Hub) -> None:
    assert hub.releases.publish("eve") == 1
    without = hub.releases.release(1)
    assert without.memory == MemoryRules() and b'"memory"' not in canonical(without.manifest)
    hub.write("memory.yaml", "memory: 1\nexpire: [{kinds: [note], after: 90d}]\n")
    assert hub.releases.publish("eve") == 2
    assert hub.again().release(2).memory.expire[0].kinds == ["note"]


def test_whether_devices_hand_models_to_each_other_is_part_of_the_release(hub: Hub) -> None:
    assert hub.releases.publish("eve") == 1
    without = hub.releases.release(1).manifest
    assert not without.peers and b'"peers"' not in canonical(without)
    hub.write("peers.yaml", "models: true\n")
    assert hub.releases.publish("eve") == 2
    manifest = hub.again().release(2).manifest
    assert manifest.peers and "peers.yaml" not in manifest.files
    hub.write("peers.yaml", "models: false\n")
    assert hub.releases.publish("eve") == 3
    assert not hub.again().release(3).manifest.peers


def test_a_model_name_never_gets_other_bytes(hub: Hub) -> None:
    hub.releases.publish("eve")
    hub.write("models.json", json.dumps([MODEL | {"sha256": "cd" * 32}]))
    refused(Conflict, "release.model-changed", hub.releases.publish, "eve")
    assert hub.again().current() == 1
    hub.write("models.json", json.dumps([MODEL | {"sha256": "cd" * 32, "name": "small-2"}]))
    assert hub.releases.publish("eve") > 1


def test_a_published_file_changed_on_disk_is_found(hub: Hub) -> None:
    hub.releases.publish("eve")
    (path,) = (hub.home / "repository/targets/release/1").glob("*.policy.cedar")
    path.write_text("permit(principal, action, resource);")
    refused(Tampered, "release.damaged", hub.releases.release, 1)


def test_the_real_log_of_the_hub_takes_it(hub: Hub, hublog: HubLog) -> None:
    releases = Releases(hub.home, hublog, clock=lambda: T0)
    before = hublog.size
    assert releases.publish("eve") == 1
    assert hublog.size == before + 1


# --- a bad workspace: file, line and field ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "code", "where"),
    [
        ("playbooks/sorting.yaml", PLAYBOOK.replace("version: 1", "version: one"), "playbook.field", "sorting.yaml:2"),
        (
            "playbooks/sorting.yaml",
            PLAYBOOK.replace("planner: triage", "planer: x"),
            "playbook.field",
            "sorting.yaml:12",
        ),
        ("playbooks/sorting.yaml", "a: [", "playbook.yaml", "sorting.yaml:1"),
        (
            "playbooks/sorting.yaml",
            PLAYBOOK.replace("sorting\n", "other\n", 1),
            "release.playbook-name",
            "sorting.yaml",
        ),
        ("playbooks/sorting.yaml", PLAYBOOK.replace("sorting@1", "sorting@2"), "release.prompt", "sorting.yaml"),
        ("playbooks/sorting.yaml", b"\xff\xfe", "release.encoding", "sorting.yaml"),
        (
            "playbooks/sorting.yaml",
            f"{PLAYBOOK}rules: [{{id: odd, when: {{any: [{{field: words, like: roof}}]}}, then: {{{EASY}}}}}]\n",
            "rule.form",
            "playbooks/sorting.yaml: rules.odd",
        ),
        (
            "playbooks/sorting.yaml",
            f"{PLAYBOOK}rules: [{{id: far, when: {{any: [{{field: words, contains: ['...']}}]}}, then: {{{EASY}}}}}]\n",
            "plan.phrase",
            "playbooks/sorting.yaml: rules.far",
        ),
        (
            "playbooks/sorting.yaml",
            f"{PLAYBOOK}fields: {{colour: {{type: rainbow}}}}\n",
            "field.form",
            "playbooks/sorting.yaml: fields.colour",
        ),
        ("prompts/sorting@1.txt", "Sort this, please.\n", "prompt.form", "prompts/sorting@1.txt"),
        ("playbooks/other.yml", PLAYBOOK, "release.stray-file", "playbooks/other.yml"),
        ("prompts/sorting.txt", "x", "release.stray-file", "prompts/sorting.txt"),
        ("prompts/sorting@01.txt", "x", "release.stray-file", "prompts/sorting@01.txt"),
        ("policy.cedar", "permit(principal, action, resource", "policy.parse", "policy.cedar"),
        ("policy.cedar", "permit(principal, action, resource);", "policy.rule-id", "policy.cedar"),
        ("policy.cedar", POLICY.replace(";", " when { context.lable == 1 };"), "policy.invalid", "policy.cedar:1"),
        ("schema.cedarschema", "entity", "policy.schema", "schema.cedarschema"),
        ("memory.yaml", "memory: 1\nexpire: [{after: soon}]\n", "memory.rules", "memory.yaml:2"),
        ("peers.yaml", "models: yes\n", "release.peers", "peers.yaml:1"),
        ("peers.yaml", "files: true\n", "release.peers", "peers.yaml:1"),
        ("peers.yaml", "", "release.peers", "peers.yaml:1"),
        ("peers.yaml", b"\xff", "release.peers", "peers.yaml"),
        ("models.json", "{", "release.models", "models.json"),
        ("models.json", json.dumps([MODEL | {"sha256": "AB" * 32}]), "release.models", "models.json"),
        ("models.json", json.dumps([MODEL | {"kind": "oracle"}]), "release.models", "models.json"),
        ("models.json", json.dumps([MODEL | {"name": "../x"}]), "release.models", "models.json"),
        ("models.json", json.dumps([MODEL | {"size": 0}]), "release.models", "models.json"),
        ("models.json", json.dumps([MODEL | {"url": "x"}]), "release.models", "models.json"),
        ("models.json", json.dumps([MODEL, MODEL]), "release.model-twice", "models[1]"),
    ],
)
def test_bad_workspace_is_named_and_nothing_is_published(
    hub: Hub, path: str, text: str | bytes, code: str, where: str
) -> None:
    hub.write(path, text)
    error = refused(BadInput, code, hub.releases.publish, "eve")
    assert error.where.endswith(where)
    assert hub.again().current() == 0 and hub.log.facts == []
    assert not (hub.home / "repository/targets").exists()


def test_missing_and_huge_files(hub: Hub) -> None:
    (hub.workspace / "policy.cedar").unlink()
    error = refused(BadInput, "release.workspace", hub.releases.publish, "eve")
    assert error.where == "policy.cedar"
    hub.write("policy.cedar", POLICY + "/" * (8 * 1024 * 1024))
    refused(BadInput, "release.file-too-large", hub.releases.publish, "eve")
    hub.write("policy.cedar", POLICY)
    for number in range(2, 300):
        hub.write(f"prompts/sorting@{number}.txt", "x")
    refused(BadInput, "release.too-many-files", hub.releases.publish, "eve")
    assert hub.releases.current() == 0


def test_hidden_files_and_notes_are_left_alone(hub: Hub) -> None:
    hub.write("NOTES.md", "x")
    hub.write("playbooks/.sorting.yaml.swp", "x")
    hub.releases.publish("eve")
    assert len(hub.releases.release(1).manifest.files) == 4


# --- kills --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


def die_at(patch: pytest.MonkeyPatch, name: str, step: int) -> None:
    real = getattr(os, name)
    left = [step]

    def die(*args: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return real(*args, **more)

    patch.setattr(os, name, die)


@pytest.mark.parametrize("name", ["fsync", "replace", "open"])
def test_publishing_killed_at_any_write(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    hub.releases.publish("eve")
    agent = device(hub, tmp_path / "agent")
    agent.fetch(1, T0)
    hub.touch()
    seen = {1}
    for step in range(100):
        with monkeypatch.context() as patch:
            die_at(patch, name, step)
            try:
                hub.again().publish("eve")
                break
            except Killed:
                pass
            except Conflict as error:
                # Killed after the release became visible: there is nothing left to publish.
                assert error.code == "release.unchanged"
                break
        current = hub.again().current()
        assert agent.fetch(current, T0).number == current, "a client sees the old repository or the new one"
        seen.add(current)
    assert 5 < step < 99
    hub.again().recover()
    logged = [facts.release for facts in hub.log.facts]
    current = hub.releases.current()
    assert set(logged) == {number for number in seen | {current} if number} == {1, current}
    assert agent.fetch(current, T0).number == current
    hub.touch()
    assert hub.releases.publish("eve") == current + 1


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_init_killed_at_any_write_can_be_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for step in range(0, 100, 4):
        hub = Hub(tmp_path / f"hub{step}")
        with monkeypatch.context() as patch:
            die_at(patch, name, step)
            try:
                hub.releases.init_repository()
                break
            except Killed:
                pass
        if not hub.again()._repository.exists:
            hub.releases.init_repository()
        assert hub.releases.publish("eve") == 1
        assert device(hub, tmp_path / f"agent{step}").fetch(1, T0).number == 1
    assert 10 < step < 99


KILL = """
import os, sys
from pathlib import Path
from server.releases import Releases
from shared.memory.rules import MemoryRules
real, left = os.replace, [int(sys.argv[2])]
def die(*args, **more):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), 9)
    return real(*args, **more)
os.replace = die
class Log:
    def append(self, drafts): pass
Releases(Path(sys.argv[1]), Log(), clock=lambda: int(sys.argv[3])).publish("eve")
"""


@pytest.mark.system
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
@pytest.mark.parametrize("step", [0, 3, 6, 8])
def test_publishing_really_killed(hub: Hub, tmp_path: Path, step: int) -> None:
    hub.releases.publish("eve")
    hub.touch()
    done = subprocess.run([sys.executable, "-c", KILL, str(hub.home), str(step), str(T0)], check=False)
    assert done.returncode == -9
    assert hub.again().current() == 1
    number = hub.releases.publish("eve")
    assert number > 1
    assert device(hub, tmp_path / "agent").fetch(number, T0).number == number


def test_full_disk(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.releases.publish("eve")
    hub.touch()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        refused(Unavailable, "disk.write", hub.releases.publish, "eve")
    assert hub.again().current() == 1
    number = hub.releases.publish("eve")
    assert hub.again().current() == number > 1


def test_a_release_that_could_not_be_logged_is_logged_later(hub: Hub) -> None:
    hub.log.broken = True
    refused(Unavailable, "disk.write", hub.releases.publish, "eve")
    assert hub.releases.current() == 1, "it is public all the same"
    hub.log.broken = False
    hub.again().refresh_timestamp()
    assert [facts.release for facts in hub.log.facts] == [1]
    hub.again().recover()
    assert len(hub.log.facts) == 1


def test_numbers_of_interrupted_publishes_are_not_used_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        die_at(patch, "replace", 5)
        with pytest.raises(Killed):
            hub.releases.publish("eve")
    assert (hub.home / "repository/targets/release/1").is_dir()
    assert hub.again().publish("eve") == 2
    assert hub.releases.current() == 2 and [facts.release for facts in hub.log.facts] == [2]
