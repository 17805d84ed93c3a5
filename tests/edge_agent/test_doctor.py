"""The doctor against a real home: a journal with entries, keys with modes, a hub that answers over loopback."""

from __future__ import annotations

import asyncio
import fcntl
import json
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_agent import doctor
from edge_agent.config import Home
from edge_agent.doctor import machine, upstream
from edge_agent.identity import Identity, make_key, save_identity
from edge_agent.journal import Journal
from edge_agent.models import probe
from shared.entries import DeviceJoined, Draft, LeaseTaken, ReleaseInstalled
from shared.keys import SigningKey, cosign_note

NOW_S = 1_760_000_000
NOW = NOW_S * 1_000_000
HUB = SigningKey(b"h" * 32)


class FakeHub:
    """Answers as the hub's public pages do; ``down`` makes it refuse."""

    def __init__(self) -> None:
        self.down = False
        self.now_s = NOW_S
        self.release = 1

    def __call__(self, url: str) -> tuple[bytes, str]:
        if self.down:
            raise ConnectionRefusedError(111, "Connection refused")
        documents: dict[str, Any] = {
            "healthz": {},
            "timestamp.json": {"meta": {"snapshot.json": {"version": 4}}},
            "4.snapshot.json": {"meta": {"policy.json": {"version": 3}}},
            "3.policy.json": {"targets": {f"release/{n}/release.json": {} for n in range(1, self.release + 1)}},
        }
        body = json.dumps({"signed": documents[url.rsplit("/", 1)[1]]}).encode()
        return body, formatdate(self.now_s, usegmt=True)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An agent that joined, has release 1 and a lease of an hour, and was countersigned ten minutes ago."""
    home = Home(tmp_path / "agent")
    home.make()
    home.root.chmod(0o700)
    log_key = make_key(home.keys / "log.key")
    make_key(home.keys / "link.key")
    save_identity(home, Identity("dev_1", "desk", "city/dev_1", "City", HUB.public.text, "http://127.0.0.1:9"))
    journal = Journal(home.log, "city/dev_1", log_key, now=lambda: NOW - 600_000_000, software="test")
    journal.append_blocking(
        [
            Draft(DeviceJoined("dev_1", "City", HUB.public.text, "ab" * 32, {"timestamp": 1})),
            Draft(ReleaseInstalled(1, {})),
            Draft(LeaseTaken("lease_1", NOW - 600_000_000, NOW + 3_600_000_000, 200, 100_000)),
        ]
    )
    *_, (size, note, _) = journal.checkpoints()
    asyncio.run(journal.cosign(size, cosign_note(note, "city/hub", HUB, NOW_S - 600)))
    journal.close()
    return home


def look(home: Home, hub: FakeHub | None = None, *, now: int = NOW) -> dict[str, list[doctor.Finding]]:
    found = doctor.examine(home.root, now=lambda: now, fetch=hub or FakeHub(), probe_models=lambda _: [])
    named: dict[str, list[doctor.Finding]] = {}
    for one in found:
        assert bool(one.advice) == (one.status != "ok"), f"{one} must give advice exactly where it is not ok"
        named.setdefault(one.name, []).append(one)
    return named


def test_a_healthy_agent_has_nothing_to_mend(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.doctor.machine._SLOW_FSYNC_MS", 60_000)  # this computer's disk may be busy
    found = look(home)
    assert {name: one.status for name, group in found.items() for one in group if one.status != "ok"} == {}
    assert found["log"][0].detail == "4 entries, 0 of them not yet countersigned"
    assert found["sync"][0].detail == "last 10 min ago"
    assert found["lease"][0].detail == "ends in 60 min, 0 of 200 actions used since the last sync"


def test_an_empty_home_says_how_to_begin(tmp_path: Path) -> None:
    found = look(Home(tmp_path / "none"))
    assert found["home"][0].status == "warn"
    assert "outrider agent join" in found["hub"][0].advice
    assert not (tmp_path / "none").exists()


def test_it_leaves_nothing_behind(home: Home) -> None:
    def files() -> list[Path]:
        return sorted(path for path in home.root.rglob("*") if not path.name.endswith(("-shm", "-wal")))  # SQLite's own

    before = files()
    look(home)
    assert files() == before


def test_a_readable_key_fails(home: Home) -> None:
    (home.keys / "log.key").chmod(0o644)
    found = look(home)
    assert found["file modes"][0].status == "fail"
    assert "chmod 600" in found["file modes"][0].advice
    assert found["key log"][0].status == "fail"


def test_an_open_folder_fails(home: Home) -> None:
    home.root.chmod(0o755)
    assert "0755, not 0700" in look(home)["file modes"][0].detail


def test_lost_keys_fail(home: Home) -> None:
    for path in home.keys.iterdir():
        path.unlink()
    assert look(home)["keys"][0].status == "fail"


def test_a_lease_that_ended_is_said(home: Home) -> None:
    found = look(home, now=NOW + 3 * 3_600_000_000)["lease"][0]
    assert (found.status, found.detail) == ("warn", "ended 2 h ago: runs wait")


def test_a_hub_out_of_reach_warns_and_does_not_fail(home: Home) -> None:
    hub = FakeHub()
    hub.down = True
    found = look(home, hub)
    assert found["hub"][0].status == "warn"
    assert "Connection refused" in found["hub"][0].detail
    assert [one.status for one in found["release"]] == ["ok"]


@pytest.mark.parametrize(("off_s", "status"), [(2, "ok"), (100, "warn"), (-100, "warn"), (400, "fail"), (-400, "fail")])
def test_the_clock_is_held_against_the_hubs(home: Home, off_s: int, status: str) -> None:
    hub = FakeHub()
    hub.now_s = NOW_S + off_s
    assert [one.status for one in look(home, hub)["clock"]] == [status]


def test_a_newer_release_is_noticed(home: Home) -> None:
    hub = FakeHub()
    hub.release = 12
    assert [one.detail for one in look(home, hub)["release"]] == [
        "1 is installed",
        "the hub offers release 12, 1 is installed",
    ]


def test_a_clock_set_back_is_noticed_without_the_hub(home: Home) -> None:
    hub = FakeHub()
    hub.down = True
    assert look(home, hub, now=NOW - 7_200_000_000)["clock"][0].status == "warn"


def test_a_long_unsynced_tail_warns(home: Home) -> None:
    key = SigningKey(bytes.fromhex((home.keys / "log.key").read_text().strip()))
    journal = Journal(home.log, "city/dev_1", key, now=lambda: NOW, software="test")
    journal.append_blocking([Draft(ReleaseInstalled(2, {}))])
    journal.close()
    found = look(home, now=NOW + 3 * 86_400_000_000)
    assert (found["sync"][0].status, found["sync"][0].detail) == ("warn", "last 3 days ago, 1 entries wait")


def test_a_damaged_log_fails_and_the_rest_is_still_checked(home: Home) -> None:
    home.log.write_bytes(b"not a database, not at all" * 100)
    for path in home.root.glob("log.sqlite3-*"):
        path.unlink()
    found = look(home)
    assert found["log"][0].status == "fail"
    assert found["hub"][0].status == "ok"


def test_a_held_lock_means_a_running_agent(home: Home) -> None:
    assert look(home)["agent"][0].detail == "not running"
    with home.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert look(home)["agent"][0].detail == "running"
    assert look(home)["agent"][0].detail == "not running"


def test_a_model_that_crashes_is_advice_and_no_failure(home: Home) -> None:
    crashed = [probe.Finding("model smollm2-135m", False, "crashed with SIGILL", "rebuild it")]
    found = doctor.examine(home.root, now=lambda: NOW, fetch=FakeHub(), probe_models=lambda _: crashed)
    assert found[-1] == doctor.Finding("model smollm2-135m", "warn", "crashed with SIGILL", "rebuild it")


def test_versions_other_than_the_pinned_are_listed(tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("# a comment with ==\nmsgspec==0.0.1\nnot-here==1\n")
    found = {one.name: one for one in machine.installed(pins)}
    assert found["versions"].status == "warn"
    assert found["versions"].detail.startswith("msgspec ")
    assert "versions" not in {one.name for one in machine.installed(tmp_path / "missing.txt")}


def test_requirements_are_sorted_by_extra() -> None:
    lines = ["msgspec>=0.19", "numpy>=1.26 ; extra == 'agent'", 'llama-cpp-python==1 ; extra == "agent-llm"']
    assert machine._by_extra(lines) == {"": ["msgspec"], "agent": ["numpy"]}


def test_an_extra_is_begun_only_by_what_no_other_brings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    agent, hub = ["numpy ; extra == 'agent'", "onnx ; extra == 'agent'"], ["numpy", "torch", "tokens"]
    required = [*agent, *(f"{name} ; extra == 'hub-embeddings'" for name in hub)]
    monkeypatch.setattr(machine.metadata, "requires", lambda name: required)

    def told(*there: str) -> list[str]:
        monkeypatch.setattr(machine, "_version", lambda name: "1" if name in there else None)
        return [one.status for one in machine._packages(tmp_path / "none") if "hub-embeddings" in one.name]

    assert told("numpy", "onnx") == []
    assert told("numpy", "onnx", "torch") == ["warn"]
    assert told("numpy", "onnx", "torch", "tokens") == ["ok"]


@pytest.fixture
def server() -> Iterator[str]:
    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthz" else 404)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as pages:
        thread = threading.Thread(target=pages.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{pages.server_port}"
        pages.shutdown()
        thread.join()


def test_fetching_gives_body_and_date(server: str) -> None:
    body, date = upstream.fetch_url(f"{server}/healthz")
    assert body == b"ok"
    now = time.time_ns() // 1000
    assert [one.status for one in upstream._clock(date, now, now)] == ["ok"]
    with pytest.raises(OSError, match="404"):
        upstream.fetch_url(f"{server}/other")
    with pytest.raises(OSError, match="not an http address"):
        upstream.fetch_url("file:///etc/hostname")


def test_the_command_prints_json_and_fails_where_something_failed(home: Home, server: str) -> None:
    runner = CliRunner()
    save_identity(home, Identity("dev_1", "desk", "city/dev_1", "City", HUB.public.text, server))
    good = runner.invoke(doctor.doctor, ["--home", str(home.root), "--json"])
    report = json.loads(good.stdout)
    assert report["ok"] is (good.exit_code == 0)
    assert {"python", "packages", "log", "lease", "hub"} <= {one["name"] for one in report["findings"]}

    (home.keys / "log.key").chmod(0o640)
    bad = runner.invoke(doctor.doctor, ["--home", str(home.root)])
    assert bad.exit_code == 1
    assert "fail  file modes" in bad.stdout
    assert "-> run: chmod 600" in bad.stdout


@pytest.mark.parametrize(
    ("listen", "status", "said"),
    [
        ("127.0.0.1:8401", "ok", "at 127.0.0.1:8401, where the release lets it"),
        ("10.255.255.254:8401", "warn", "does not have the address"),
        ("0.0.0.0:8401", "fail", "OUTRIDER_PEER_LISTEN"),
    ],
)
def test_where_models_are_handed_to_other_devices(listen: str, status: str, said: str) -> None:
    (found,) = machine.peering(listen)
    assert (found.status, bool(found.advice)) == (status, status != "ok") and said in found.detail
    assert list(machine.peering("")) == []
