"""The device's side of releases, against a real repository made by the hub's own code, honest and otherwise."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata, MetaFile, TargetFile
from tuf.ngclient import FetcherInterface

from edge_agent.link.fetcher import HttpFetcher
from edge_agent.link.updates import OFFLINE_DAYS, Updates
from server.releases import Releases, RootChange
from shared.codec import hex_sha256
from shared.errors import BadInput, OutriderError, Refused, Tampered, Unavailable
from tests.trust import change_root, root_keepers

T0 = 1_790_000_000_000_000
HOUR = 3600 * 1_000_000
DAY = 24 * HOUR

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
MODEL = {"name": "small", "kind": "language", "sha256": "ab" * 32, "size": 1000, "source": "file:small.gguf"}


class Log:
    def append(self, drafts: list[Any], /) -> object:
        return drafts


class Hub:
    """A hub's releases in a folder, with a clock that the test turns."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now = T0
        self.workspace = home / "workspace"
        for folder in ("playbooks", "prompts"):
            (self.workspace / folder).mkdir(parents=True)
        self.write("policy.cedar", POLICY)
        self.write("schema.cedarschema", SCHEMA)
        self.write("playbooks/sorting.yaml", PLAYBOOK)
        self.write("prompts/sorting@1.txt", "Sort this: <<< [[text]] >>>\n[[field]]:\n")
        self.write("models.json", json.dumps([MODEL]))
        self.releases = Releases(home, Log(), clock=lambda: self.now)
        self.releases.init_repository()
        self.repository = self.releases._repository

    def write(self, path: str, text: str) -> None:
        (self.workspace / path).write_text(text)

    def publish(self) -> int:
        """Another release, different from the last by a comment."""
        with (self.workspace / "policy.cedar").open("a") as file:
            file.write("// changed\n")
        return self.releases.publish("eve")

    def commit(self, change: Callable[[Any], None], *roles: str) -> None:
        """Sign whatever the test put in the lists: what a thief of those keys could do."""
        state = self.repository._load()
        change(state)
        self.repository._commit(state, set(roles))

    @property
    def metadata(self) -> Path:
        return self.home / "repository" / "metadata"

    def sign(self, name: str, held: Metadata[Any], *keys: str) -> bytes:
        for number, key in enumerate(keys):
            held.sign(self.repository._keys._load(key), append=number > 0)
        (self.metadata / name).write_bytes(held.to_bytes())
        return held.to_bytes()

    def read(self, name: str) -> Metadata[Any]:
        return Metadata.from_bytes((self.metadata / name).read_bytes())

    def newest(self, role: str) -> str:
        return f"{self.repository._load().lists[role].signed.version}.{role}.json"


class Wire(FetcherInterface):
    """TUF's seam: files from the hub's folder, unless the test answers in its place."""

    def __init__(self, hub: Hub) -> None:
        self.root = hub.home / "repository"
        self.asked: list[str] = []
        self.instead: dict[str, Callable[[], Iterator[bytes]]] = {}

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.split("/tuf/", 1)[1]
        self.asked.append(path)
        for part, answer in self.instead.items():
            if part in path:
                return answer()
        try:
            return iter([(self.root / path).read_bytes()])
        except FileNotFoundError as error:
            raise DownloadHTTPError(path, 404) from error


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    hub = Hub(tmp_path / "hub")
    hub.publish()
    return hub


@pytest.fixture
def wire(hub: Hub) -> Wire:
    return Wire(hub)


@pytest.fixture
def device(tmp_path: Path, hub: Hub, wire: Wire) -> Updates:
    updates = Updates(tmp_path / "agent", "http://hub.test", fetcher=wire)
    updates.install_root(hub.releases.root_bytes(), hub.releases.minimum())
    return updates


def refused(kind: type[OutriderError], code: str, call: Callable[..., Any], *args: Any) -> OutriderError:
    with pytest.raises(kind) as caught:
        call(*args)
    assert caught.value.code == code
    assert caught.value.advice
    return caught.value


def in_force(device: Updates, number: int, now: int = T0) -> None:
    """What every failed switch must leave: the release before it, usable without the hub."""
    assert device.cached(number, now).number == number


# --- the honest way -----------------------------------------------------------------------------------------------


def test_a_release_is_fetched_installed_and_verified_again_offline(device: Updates, wire: Wire, tmp_path: Path) -> None:
    release = device.fetch(1, T0)
    assert release.number == 1
    assert release.playbooks["sorting"].owner == "Clerks"
    assert release.prompts["sorting@1"].startswith("Sort this")
    model = release.permitted("ab" * 32)
    assert model is not None and model.size == 1000
    assert (tmp_path / "agent/releases/1/playbooks/sorting.yaml").read_text() == PLAYBOOK
    asked = len(wire.asked)
    assert device.cached(1, T0 + HOUR).manifest == release.manifest
    assert len(wire.asked) == asked, "offline verification must not touch the network"


def test_nothing_new_costs_two_requests(device: Updates, wire: Wire) -> None:
    device.fetch(1, T0)
    wire.asked.clear()
    device.fetch(1, T0 + 1)
    assert wire.asked == ["metadata/2.root.json", "metadata/timestamp.json"]


def test_a_new_release_takes_only_the_files_that_changed(device: Updates, hub: Hub, wire: Wire) -> None:
    device.fetch(1, T0)
    assert device.fetch(hub.publish(), T0).number == 2
    in_force(device, 1)
    in_force(device, 2)


def test_an_older_release_can_be_assigned_again(device: Updates, hub: Hub) -> None:
    hub.publish()
    device.fetch(2, T0)
    assert device.fetch(1, T0).number == 1


def test_a_renewed_root_is_followed_online_and_offline(device: Updates, hub: Hub) -> None:
    device.fetch(1, T0)
    change_root(hub.releases, RootChange(new_keys=["timestamp"]), *root_keepers(hub.home)[:2])
    hub.publish()
    assert device.fetch(2, T0).number == 2
    in_force(device, 2)


def test_a_model_role_changed_by_a_later_release_still_proves_the_earlier(device: Updates, hub: Hub) -> None:
    device.fetch(1, T0)
    other = MODEL | {"name": "other", "sha256": "cd" * 32}
    hub.write("models.json", json.dumps([other]))
    hub.publish()
    assert device.fetch(2, T0).manifest.models == device.cached(2, T0).manifest.models
    in_force(device, 1)
    hub.write("models.json", "[]")
    hub.publish()
    assert device.fetch(3, T0).manifest.models == []
    in_force(device, 1)


# --- attacks on metadata ------------------------------------------------------------------------------------------


def test_timestamp_rolled_back(device: Updates, hub: Hub) -> None:
    old = (hub.metadata / "timestamp.json").read_bytes()
    hub.publish()
    device.fetch(2, T0)
    (hub.metadata / "timestamp.json").write_bytes(old)
    refused(Tampered, "release.rollback", device.fetch, 1, T0)
    in_force(device, 2)


def test_snapshot_rolled_back_by_a_thief_of_the_timestamp_key(device: Updates, hub: Hub) -> None:
    old = hub.read("timestamp.json").signed.snapshot_meta
    hub.publish()
    device.fetch(2, T0)
    held = hub.read("timestamp.json")
    held.signed.version += 1
    held.signed.snapshot_meta = old
    hub.sign("timestamp.json", held, "timestamp")
    refused(Tampered, "release.rollback", device.fetch, 2, T0)
    in_force(device, 2)


def test_targets_rolled_back_by_a_thief_of_snapshot_and_timestamp_keys(device: Updates, hub: Hub) -> None:
    old = hub.repository._load().snapshot.signed.meta["policy.json"]
    hub.publish()
    device.fetch(2, T0)

    def back(state: Any) -> None:
        state.snapshot.signed.meta["policy.json"] = old

    hub.commit(back)
    refused(Tampered, "release.rollback", device.fetch, 2, T0)
    in_force(device, 2)


def test_a_role_dropped_from_the_snapshot(device: Updates, hub: Hub) -> None:
    device.fetch(1, T0)
    hub.commit(lambda state: state.snapshot.signed.meta.pop("policy.json"))
    refused(Tampered, "release.tampered", device.fetch, 1, T0)
    in_force(device, 1)


def test_frozen_repository_expires(device: Updates, hub: Hub) -> None:
    device.fetch(1, T0)
    refused(Refused, "release.expired", device.fetch, 1, T0 + 8 * DAY)
    hub.now = T0 + 8 * DAY
    assert hub.releases.refresh_timestamp()
    assert device.fetch(1, hub.now).number == 1


def test_mix_and_match(device: Updates, hub: Hub) -> None:
    old = (hub.metadata / hub.newest("policy")).read_bytes()
    device.fetch(1, T0)
    hub.publish()
    (hub.metadata / hub.newest("policy")).write_bytes(old)
    refused(Tampered, "release.tampered", device.fetch, 2, T0)
    in_force(device, 1)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "policy", "model"])
def test_one_byte_changed_in_metadata(device: Updates, hub: Hub, role: str) -> None:
    name = next(
        path.name
        for path in sorted(hub.metadata.iterdir(), reverse=True)
        if path.name == f"{role}.json" or path.name.endswith(f".{role}.json")
    )
    path = hub.metadata / name
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"version":', b'"versiom":', 1))
    refused(Tampered, "release.tampered", device.fetch, 1, T0)
    at = data.index(b'"sig":"') + len(b'"sig":"')
    path.write_bytes(data[:at] + (b"1" if data[at : at + 1] == b"0" else b"0") + data[at + 1 :])
    refused(Tampered, "release.unsigned" if role == "timestamp" else "release.tampered", device.fetch, 1, T0)
    path.write_bytes(data)
    assert device.fetch(1, T0).number == 1


@pytest.mark.parametrize("junk", [b"", b"{}", b"[" * 50_000, b"\xff\xfe", b'{"signed": {"_type": "root"}}'])
def test_junk_in_place_of_metadata(device: Updates, wire: Wire, junk: bytes) -> None:
    wire.instead["timestamp.json"] = lambda: iter([junk])
    with pytest.raises(Tampered) as caught:
        device.fetch(1, T0)
    assert caught.value.code in {"release.tampered", "release.endless"}


def test_root_signed_by_one_key_only(device: Updates, hub: Hub) -> None:
    held = hub.read("1.root.json")
    held.signed.version = 2
    hub.sign("2.root.json", held, "root-1")
    refused(Tampered, "release.unsigned", device.fetch, 1, T0)


def test_root_that_leaves_a_version_out(device: Updates, hub: Hub) -> None:
    held = hub.read("1.root.json")
    held.signed.version = 3
    hub.sign("2.root.json", held, "root-1", "root-2")
    refused(Tampered, "release.rollback", device.fetch, 1, T0)


@pytest.mark.parametrize("role", ["targets", "policy"])
def test_list_signed_by_another_roles_key(device: Updates, hub: Hub, role: str) -> None:
    name = hub.newest(role)
    data = hub.sign(name, hub.read(name), "model")

    # The repository's own check would refuse such a state, so the snapshot is rewritten by hand.
    version = hub.read("timestamp.json").signed.snapshot_meta.version
    snapshot = hub.read(f"{version}.snapshot.json")
    snapshot.signed.version += 1
    snapshot.signed.meta[f"{role}.json"] = MetaFile.from_data(int(name.split(".")[0]), data, ["sha256"])
    written = hub.sign(f"{version + 1}.snapshot.json", snapshot, "snapshot")
    timestamp = hub.read("timestamp.json")
    timestamp.signed.version += 1
    timestamp.signed.snapshot_meta = MetaFile.from_data(version + 1, written, ["sha256"])
    hub.sign("timestamp.json", timestamp, "timestamp")
    refused(Tampered, "release.unsigned", device.fetch, 1, T0)


def test_model_role_cannot_publish_a_release(device: Updates, hub: Hub) -> None:
    def smuggle(state: Any) -> None:
        path = "release/9/release.json"
        state.lists["model"].signed.targets[path] = TargetFile.from_data(path, b"{}", ["sha256"])

    hub.commit(smuggle, "model")
    refused(Refused, "release.unlisted", device.fetch, 9, T0)


@pytest.mark.parametrize("path", ["models/evil", "models/evil.chunks"])
def test_policy_role_cannot_permit_a_model(device: Updates, hub: Hub, path: str) -> None:
    hub.write("models.json", json.dumps([MODEL, MODEL | {"name": "evil", "sha256": "ee" * 32, "chunks": "dd" * 32}]))
    hub.publish()

    def move(state: Any) -> None:
        listed = state.lists["model"].signed.targets.pop(path)
        state.lists["policy"].signed.targets[path] = listed

    hub.commit(move, "model", "policy")
    refused(Tampered, "release.mismatch", device.fetch, 2, T0)
    assert device.fetch(1, T0).number == 1


def test_an_old_repository_is_not_passed_off_on_a_new_device(tmp_path: Path, hub: Hub, wire: Wire) -> None:
    old = tmp_path / "old"
    shutil.copytree(hub.home / "repository", old)
    hub.publish()
    new = Updates(tmp_path / "new", "http://hub.test", fetcher=wire)
    new.install_root(hub.releases.root_bytes(), hub.releases.minimum())
    wire.root = old
    refused(Tampered, "release.rollback", new.fetch, 1, T0)
    assert not (tmp_path / "new/releases/1").exists()
    wire.root = hub.home / "repository"
    assert new.fetch(2, T0).number == 2


# --- attacks on what is listed ------------------------------------------------------------------------------------


def test_target_tampered(device: Updates, hub: Hub) -> None:
    device.fetch(1, T0)
    hub.publish()
    (path,) = (hub.home / "repository/targets/release/2").glob("*.policy.cedar")
    path.write_bytes(path.read_bytes().replace(b"permit", b"forbid"))
    refused(Tampered, "release.tampered", device.fetch, 2, T0)
    in_force(device, 1)


def test_target_missing(device: Updates, hub: Hub) -> None:
    device.fetch(1, T0)
    hub.publish()
    (path,) = (hub.home / "repository/targets/release/2").glob("*.policy.cedar")
    path.unlink()
    refused(Unavailable, "release.incomplete", device.fetch, 2, T0)
    in_force(device, 1)


def test_release_that_nobody_published(device: Updates) -> None:
    refused(Refused, "release.unlisted", device.fetch, 7, T0)


def relist(hub: Hub, number: int, manifest: dict[str, Any] | bytes, *, also: dict[str, bytes] | None = None) -> None:
    """List a release with exactly this manifest: what a thief of the policy key, or a broken hub, could do."""
    data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    files = {f"release/{number}/release.json": data} | (also or {})
    hub.repository.draft(files, {})
    hub.repository.add(files, {}, {})


def manifest_of(hub: Hub, number: int) -> dict[str, Any]:
    listed = hub.repository.listed()
    path = f"release/{number}/release.json"
    found: dict[str, Any] = json.loads(hub.repository.target(path, listed[path]))
    return found


def test_manifest_that_claims_another_number(device: Updates, hub: Hub) -> None:
    relist(hub, 2, manifest_of(hub, 1))
    refused(Tampered, "release.mismatch", device.fetch, 2, T0)


def test_manifest_that_disagrees_with_the_list(device: Updates, hub: Hub) -> None:
    device.fetch(1, T0)
    number = hub.publish()
    found = manifest_of(hub, number)
    found["files"]["policy.cedar"] = "00" * 32
    relist(hub, number, found)
    refused(Tampered, "release.mismatch", device.fetch, number, T0)
    in_force(device, 1)


def test_manifest_that_changes_a_models_size(device: Updates, hub: Hub) -> None:
    number = hub.publish()
    found = manifest_of(hub, number)
    found["models"][0]["size"] = 1001
    relist(hub, number, found)
    refused(Tampered, "release.mismatch", device.fetch, number, T0)


@pytest.mark.parametrize("path", ["../../stolen", "/tmp/stolen", "a/../../stolen", "a/b/c", ".hidden", "a\\..\\b"])
def test_manifest_cannot_name_a_path_outside_its_folder(device: Updates, hub: Hub, tmp_path: Path, path: str) -> None:
    number = hub.publish()
    found = manifest_of(hub, number)
    found["files"][path] = "00" * 32
    relist(hub, number, found)
    refused(BadInput, "release.form", device.fetch, number, T0)
    assert not list(tmp_path.rglob("*stolen*"))


def test_release_whose_policy_does_not_parse_is_not_installed(device: Updates, hub: Hub, tmp_path: Path) -> None:
    device.fetch(1, T0)
    number = hub.publish()
    found = manifest_of(hub, number)
    broken = b"permit(principal, action, resource"
    found["files"]["policy.cedar"] = hex_sha256(broken)
    relist(hub, number, found, also={f"release/{number}/policy.cedar": broken})
    refused(BadInput, "policy.parse", device.fetch, number, T0)
    assert not (tmp_path / "agent/releases/2").exists()
    in_force(device, 1)


# --- a bad wire ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["timestamp.json", ".snapshot.json", ".policy.json", ".release.json"])
def test_endless_data_is_cut_off(device: Updates, wire: Wire, part: str) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1000
            yield b" " * 1000

    wire.instead[part] = endless
    refused(Tampered, "release.endless", device.fetch, 1, T0)
    assert sent < 100_000


def test_a_target_listed_as_huge_is_not_even_asked_for(device: Updates, hub: Hub, wire: Wire) -> None:
    def inflate(state: Any) -> None:
        state.lists["policy"].signed.targets["release/1/release.json"].length = 10**12

    hub.commit(inflate, "policy")
    refused(Tampered, "release.endless", device.fetch, 1, T0)
    assert not [path for path in wire.asked if path.startswith("targets/")]


def test_a_fetch_cut_after_any_request_leaves_the_old_release_in_force(device: Updates, hub: Hub, wire: Wire) -> None:
    device.fetch(1, T0)
    hub.publish()
    real = wire._fetch
    for allowed in range(20):
        left = [allowed]

        def cut(url: str, left: list[int] = left) -> Iterator[bytes]:
            left[0] -= 1
            if left[0] < 0:
                raise OSError("the cable was pulled")
            return real(url)

        wire._fetch = cut  # type: ignore[method-assign]
        try:
            device.fetch(2, T0)
        except Unavailable as error:
            assert error.code == "release.unreachable"
            in_force(device, 1)
        else:
            break
    assert allowed >= 5, "a whole fetch takes at least root, timestamp, snapshot, policy and the files"
    in_force(device, 2)


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


@pytest.mark.parametrize("name", ["fsync", "replace", "rename"])
def test_a_kill_at_any_write_leaves_a_usable_device(
    device: Updates, hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    device.fetch(1, T0)
    hub.publish()
    real = getattr(os, name)
    killed = 0
    for survived in range(60):
        left = [survived]

        def die(*args: Any, left: list[int] = left, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*args, **more)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, die)
            try:
                device.fetch(2, T0)
                break
            except Killed:
                killed += 1
        in_force(device, 1)
    assert killed >= 1 and survived < 59
    in_force(device, 2)
    assert device.fetch(2, T0).number == 2


def test_full_disk(device: Updates, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    device.fetch(1, T0)
    hub.publish()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        refused(Unavailable, "disk.write", device.fetch, 2, T0)
    in_force(device, 1)
    assert device.fetch(2, T0).number == 2


# --- over real HTTP -----------------------------------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    """Serves the repository folder; ``server.misbehave`` may answer first."""

    def do_GET(self) -> None:
        server: Any = self.server
        if server.misbehave(self):
            return
        path = server.folder / self.path.removeprefix("/tuf/")
        if not path.is_file():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        self.wfile.write(path.read_bytes())

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def http(hub: Hub) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    server.folder = hub.home / "repository"
    server.misbehave = lambda request: False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def over_http(tmp_path: Path, hub: Hub, server: Any, **limits: float) -> Updates:
    fetcher = HttpFetcher(**limits) if limits else None
    updates = Updates(tmp_path / "agent", f"http://127.0.0.1:{server.server_port}", fetcher=fetcher)
    updates.install_root(hub.releases.root_bytes(), hub.releases.minimum())
    return updates


def test_http_whole(tmp_path: Path, hub: Hub, http: Any) -> None:
    device = over_http(tmp_path, hub, http)
    assert device.fetch(1, T0).number == 1
    in_force(device, 1)


def test_http_hub_away(tmp_path: Path, hub: Hub, http: Any) -> None:
    device = over_http(tmp_path, hub, http)
    device.fetch(1, T0)
    gone = Updates(tmp_path / "agent", "http://127.0.0.1:1")
    refused(Unavailable, "release.unreachable", gone.fetch, 1, T0)
    in_force(gone, 1)


def test_http_server_error_and_redirect(tmp_path: Path, hub: Hub, http: Any) -> None:
    device = over_http(tmp_path, hub, http)

    def redirect(request: Any) -> bool:
        request.send_response(302)
        request.send_header("Location", "http://127.0.0.1:1/elsewhere")
        request.end_headers()
        return True

    def broken(request: Any) -> bool:
        request.send_error(500)
        return True

    for answer in (redirect, broken):
        http.misbehave = answer
        refused(Unavailable, "release.unreachable", device.fetch, 1, T0)


def test_http_cut_in_the_middle_of_a_file(tmp_path: Path, hub: Hub, http: Any) -> None:
    device = over_http(tmp_path, hub, http)

    def cut(request: Any) -> bool:
        if "policy.cedar" not in request.path:
            return False
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b"half of it")
        request.close_connection = True
        return True

    http.misbehave = cut
    refused(Unavailable, "release.unreachable", device.fetch, 1, T0)
    http.misbehave = lambda request: False
    assert device.fetch(1, T0).number == 1


def test_http_dripping_sender_meets_a_deadline(tmp_path: Path, hub: Hub, http: Any) -> None:
    device = over_http(tmp_path, hub, http, connect_s=60, gap_s=60, total_s=0.4)

    def drip(request: Any) -> bool:
        if not request.path.endswith("timestamp.json"):
            return False
        request.send_response(200)
        request.send_header("Content-Length", "10000")
        request.end_headers()
        try:
            while True:  # until the device has had enough
                request.wfile.write(b" ")
                request.wfile.flush()
                time.sleep(0.02)
        except OSError:
            pass
        return True

    http.misbehave = drip
    refused(Unavailable, "release.slow", device.fetch, 1, T0)
    device._fetcher.close()  # type: ignore[union-attr]


def test_http_silent_sender_times_out(tmp_path: Path, hub: Hub, http: Any) -> None:
    device = over_http(tmp_path, hub, http, connect_s=60, gap_s=0.2, total_s=60)
    done = threading.Event()

    def silent(request: Any) -> bool:
        done.wait(60)
        return True

    http.misbehave = silent
    refused(Unavailable, "release.slow", device.fetch, 1, T0)
    done.set()
    device._fetcher.close()  # type: ignore[union-attr]


# --- the clock, and being away ------------------------------------------------------------------------------------


def test_clock_set_back(device: Updates) -> None:
    device.fetch(1, T0 + HOUR)
    refused(Refused, "release.clock", device.fetch, 1, T0)
    refused(Refused, "release.clock", device.cached, 1, T0)
    assert device.cached(1, T0 + HOUR - 200 * 1_000_000).number == 1, "within the skew"


def test_clock_far_ahead_is_refused_and_not_remembered(device: Updates) -> None:
    device.fetch(1, T0)
    refused(Refused, "release.expired", device.fetch, 1, T0 + 3650 * DAY)
    refused(Refused, "release.offline-too-long", device.cached, 1, T0 + 3650 * DAY)
    assert device.fetch(1, T0 + 1).number == 1


def test_offline_the_rules_outlive_the_timestamp_but_not_for_ever(device: Updates) -> None:
    device.fetch(1, T0)
    assert device.cached(1, T0 + OFFLINE_DAYS * DAY).number == 1
    refused(Refused, "release.offline-too-long", device.cached, 1, T0 + OFFLINE_DAYS * DAY + 1)


def test_fetching_again_confirms_the_rules_in_force(device: Updates, hub: Hub) -> None:
    assert device.confirmed_at() == 0
    device.fetch(1, T0)
    assert device.confirmed_at() == T0
    hub.now = T0 + 25 * DAY
    hub.releases.refresh_timestamp()
    device.fetch(1, hub.now)
    assert device.confirmed_at() == hub.now
    assert device.cached(1, T0 + 50 * DAY).number == 1


def test_the_highest_time_survives_a_restart(device: Updates, tmp_path: Path, wire: Wire) -> None:
    device.fetch(1, T0 + HOUR)
    again = Updates(tmp_path / "agent", "http://hub.test", fetcher=wire)
    refused(Refused, "release.clock", again.cached, 1, T0)


# --- what stands on the device's own disk -------------------------------------------------------------------------


def test_an_installed_file_changed_on_disk_is_found_and_repaired(device: Updates, tmp_path: Path) -> None:
    device.fetch(1, T0)
    path = tmp_path / "agent/releases/1/policy.cedar"
    for change in (lambda: path.write_text("permit(principal, action, resource);"), path.unlink):
        change()
        error = refused(Tampered, "release.tampered", device.cached, 1, T0)
        assert error.where == str(path)
        device.fetch(1, T0)
        in_force(device, 1)


def test_not_installed_not_joined(device: Updates, tmp_path: Path) -> None:
    refused(Unavailable, "release.no-trust", device.cached, 1, T0)
    device.fetch(1, T0)
    refused(Unavailable, "release.not-installed", device.cached, 2, T0)
    refused(Unavailable, "release.no-trust", Updates(tmp_path / "other", "http://hub.test").fetch, 1, T0)


@pytest.mark.parametrize("name", ["enrolment.json", "proof.json", "clock.json"])
def test_damaged_trust_files_are_named(device: Updates, tmp_path: Path, name: str) -> None:
    device.fetch(1, T0)
    (tmp_path / "agent/trust" / name).write_text("{")
    error = refused(BadInput, "release.trust", device.cached, 1, T0)
    assert name in error.message


def test_a_proof_put_together_by_hand_does_not_verify(device: Updates, hub: Hub, tmp_path: Path) -> None:
    device.fetch(1, T0)
    path = tmp_path / "agent/trust/proof.json"
    proof = json.loads(path.read_text())
    proof["roles"]["policy"] = proof["roles"]["policy"].replace("release/1/", "release/3/")
    path.write_text(json.dumps(proof))
    refused(Tampered, "release.tampered", device.cached, 1, T0)


def test_root_that_is_none_is_not_trusted(tmp_path: Path, hub: Hub) -> None:
    updates = Updates(tmp_path / "new", "http://hub.test")
    held = hub.read("1.root.json")
    held.sign(hub.repository._keys._load("root-1"))
    for root in (b"", b"{}", held.to_bytes(), (hub.metadata / "timestamp.json").read_bytes()):
        refused(Tampered, "release.root", updates.install_root, root, {})
    refused(BadInput, "release.minimum", updates.install_root, hub.releases.root_bytes(), {"../x": 1})


def test_joining_another_hub_starts_from_its_root(device: Updates, tmp_path: Path, wire: Wire) -> None:
    device.fetch(1, T0)
    other = Hub(tmp_path / "other")
    other.publish()
    other.publish()
    device.install_root(other.releases.root_bytes(), other.releases.minimum())
    refused(Unavailable, "release.no-trust", device.cached, 1, T0)
    refused(Tampered, "release.unsigned", device.fetch, 1, T0)
    wire.root = other.home / "repository"
    assert device.fetch(2, T0).number == 2
    in_force(device, 2)
