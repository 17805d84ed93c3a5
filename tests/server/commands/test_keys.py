"""People with keys, and a hub, as real processes: an offer travels, signatures come back, and it is in force."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_agent.link.updates import Updates
from server.__main__ import hub as hub_commands
from server.admin import STARTERS, Operator, init
from server.config import HubConfig
from server.releases.keys import KeyFolder
from shared.codec import canonical
from shared.errors import OutriderError
from shared.keyfile import read_key, read_public
from shared.offer import Offer
from shared.release import Manifest
from tests.server.test_commands import HUB, running

KEYS = [sys.executable, "-c", "import sys; from shared.command import main; main(['keys', *sys.argv[1:]])"]
pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]  # a dozen processes one after the other


def run(command: list[str], *arguments: object, stdin: str = "", code: int = 0) -> str:
    done = subprocess.run([*command, *map(str, arguments)], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def first_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub with one release, made once: the tests work on copies."""
    config = HubConfig(home=tmp_path_factory.mktemp("hub") / "hub")
    init(
        config,
        name="Hub",
        starter="permits",
        user="clara",
        password="correct horse battery",
        random=secrets.token_bytes,
    )
    Operator(config).publish()
    return config.home


@pytest.fixture
def home(first_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(first_home, tmp_path / "hub"))


def made(folder: Path, name: str, *options: str) -> str:
    """A new key's public line."""
    return str(json.loads(run(KEYS, "new", name, "--folder", folder, "--json", *options))["key"])


@contextlib.contextmanager
def agent_of(home: Path, folder: Path) -> Iterator[tuple[str, Updates]]:
    with running(home) as (_, url):
        updates = Updates(folder, url)
        if not (folder / "trust").exists():
            names = sorted((home / "repository/metadata").glob("*.root.json"))
            updates.install_root(names[-1].read_bytes(), {})
        yield url, updates


def now() -> int:
    return time.time_ns() // 1000


def test_keys_work_without_a_hub_or_its_packages(tmp_path: Path) -> None:
    """On a machine with the package alone: none of the extras, no server, no agent."""
    blocked = ("fastapi", "sqlmodel", "sqlalchemy", "argon2", "uvicorn", "pydantic_settings", "urllib3", "automerge")
    program = f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
    program += "from shared.command import main; main(['keys', *sys.argv[1:]])"
    alone = [sys.executable, "-c", program]
    line = run(alone, "new", "alice", "--folder", tmp_path / "keys").splitlines()[0]
    assert run(alone, "show", "alice", "--folder", tmp_path / "keys").splitlines()[0] == line
    manifest = Manifest(7, 1, "policy.cedar", "schema.cedarschema", {}, {}, [], {})
    offer = Offer("release", 7, 1, "mara", canonical(manifest).decode(), {}, {})
    (tmp_path / "offer").write_bytes(offer.data())
    sign = ("sign", tmp_path / "offer", "--key", "alice", "--folder", tmp_path / "keys", "--files")
    assert "[release.workspace]" in run(alone, *sign, tmp_path, code=2)
    assert "[sign.files] memory.yaml" in run(alone, *sign, STARTERS / "permits", code=1)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_key_files(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    told = json.loads(run(KEYS, "new", "bob", "--seal", "--folder", folder, "--json"))
    path = folder / "bob.key"
    assert (path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    assert read_public(path.read_bytes(), "x")[0] == read_key(path.read_bytes(), "x", told["secret"])[0] == "bob"
    assert told["secret"] not in path.read_text()
    assert "[key.exists]" in run(KEYS, "new", "bob", "--folder", folder, code=1)
    assert "[key.name]" in run(KEYS, "new", "../bob", "--folder", folder, code=2)
    made(folder, "alice")
    assert [one["name"] for one in json.loads(run(KEYS, "list", "--folder", folder, "--json"))] == ["alice", "bob"]
    assert "bob, sealed" in run(KEYS, "list", "--folder", folder)
    path.chmod(0o644)
    offer = tmp_path / "offer"
    offer.write_text('{"kind":"root","number":2,"at":1,"by":"x","manifest":"","payloads":{},"quorums":{}}')
    assert "[key.exposed]" in run(KEYS, "sign", offer, "--key", path, "--yes", code=1)
    path.chmod(0o600)
    assert "[key.sealed]" in run(KEYS, "sign", offer, "--key", path, "--yes", code=1)
    assert "[key.secret]" in run(KEYS, "sign", offer, "--key", path, "--secret-stdin", stdin="AAAA\n", code=1)
    error = run(KEYS, "sign", offer, "--key", path, "--secret-stdin", stdin=told["secret"].lower() + "\n", code=1)
    assert "[sign.not-wanted]" in error and told["secret"] not in error


def test_from_the_hubs_keys_to_peoples_with_a_device_that_follows(tmp_path: Path, home: Path) -> None:
    tuf = home / "keys/tuf"
    stick = tmp_path / "stick"
    stick.mkdir()
    for number in (1, 2, 3):
        (tuf / f"root-{number}.key").rename(stick / f"root-{number}.key")
    lines = {name: made(tmp_path / name, name) for name in ("alice", "bob", "carol")}
    root, held = tmp_path / "root.offer", tmp_path / "device"
    with agent_of(home, held) as (_, device):  # the hub runs: the commands ask it
        assert device.fetch(1, now()).number == 1
        run(HUB, "policy-keys", "set", "--threshold", 2, *lines.values(), "--home", home, "--out", root)
        for key in (
            stick / "root-1.key",
            stick / "root-3.key",
            tmp_path / "alice/alice.key",
            tmp_path / "carol/carol.key",
        ):
            run(KEYS, "sign", root, "--key", key, "--yes")
        signatures = sorted(tmp_path.glob("root.offer.*.sig"))
        assert [path.name.split(".")[2] for path in signatures] == ["alice", "carol", "root-1", "root-3"]
        assert "waits" in run(HUB, "root", "accept", signatures[0], "--home", home)
        assert "[sign.twice]" in run(HUB, "root", "accept", signatures[0], "--home", home, code=1)
        assert "in force" in run(HUB, "root", "accept", *signatures[1:], "--home", home)
        assert "[sign.late]" in run(HUB, "root", "accept", signatures[0], "--home", home, code=1)
        shown = json.loads(run(HUB, "root", "show", "--home", home, "--json"))
        assert shown["version"] == 2
        assert [key["name"] for key in shown["roles"]["policy"]["keys"]] == ["alice", "bob", "carol"]
        assert shown["roles"]["policy"]["threshold"] == 2 and not (tuf / "policy.key").exists()
        assert device.fetch(1, now()).number == 1

    workspace, review = home / "workspace", tmp_path / "review"
    with (workspace / "policy.cedar").open("a") as file:
        file.write("// reviewed\n")
    subprocess.run(["cp", "-r", workspace, review], check=True)
    said = run(HUB, "release", "publish", "--home", home)  # nobody runs: the command is the hub for a moment
    found = re.search(r"proposal ([0-9a-f]{16})", said)
    assert found, said
    offer = tmp_path / "release.offer"
    with agent_of(home, held) as (_, device):
        run(HUB, "release", "offer", found[1], "--home", home, "--out", offer)
        sign = ("sign", offer, "--files", review, "--yes", "--key")
        (review / "policy.cedar").write_text((review / "policy.cedar").read_text() + "// something else\n")
        error = run(KEYS, *sign, tmp_path / "alice/alice.key", code=1)
        assert "[sign.files] policy.cedar" in error and not list(tmp_path.glob("release.offer.*"))
        (review / "policy.cedar").write_bytes((workspace / "policy.cedar").read_bytes())
        run(KEYS, *sign, tmp_path / "alice/alice.key")
        run(KEYS, *sign, tmp_path / "bob/bob.key", "--out", tmp_path / "from-bob")
        run(HUB, "release", "sign", tmp_path / "release.offer.alice.sig", "--home", home)
        listed = json.loads(run(HUB, "release", "proposals", "--home", home, "--json"))
        assert (listed[0]["state"], listed[0]["signers"], listed[0]["missing"]) == ("open", ["alice"], {"policy": 1})
        assert "in force" in run(HUB, "release", "sign", tmp_path / "from-bob", "--home", home)
        assert device.fetch(listed[0]["number"], now()).number == listed[0]["number"]


def test_a_stolen_key_is_replaced_and_a_proposal_withdrawn(tmp_path: Path, home: Path) -> None:
    keys = KeyFolder(home / "keys/tuf")
    before = keys._load("timestamp").public_key.keyid
    offer = tmp_path / "offer"
    offer.write_text(run(HUB, "root", "offer", "--new-key", "timestamp", "--home", home))
    done = json.loads(run(HUB, "release", "proposals", "--home", home, "--json"))[0]
    assert (done["kind"], done["number"], done["missing"]) == ("root", 2, {"root": 2, "targets": 2})
    run(HUB, "release", "withdraw", done["id"], "--home", home)
    for number in (1, 2):
        run(KEYS, "sign", offer, "--key", home / f"keys/tuf/root-{number}.key", "--yes")
    signatures = sorted(tmp_path.glob("offer.*.sig"))
    assert "[sign.late]" in run(HUB, "root", "accept", *signatures, "--home", home, code=1)
    offer.write_text(run(HUB, "root", "offer", "--new-key", "timestamp", "--home", home))
    assert "[trust.order]" in run(HUB, "root", "accept", *_mixed(tmp_path, home, offer), "--home", home, code=2)
    assert "in force" in run(HUB, "root", "accept", *sorted(tmp_path.glob("offer.*.sig")), "--home", home)
    assert keys._load("timestamp").public_key.keyid != before
    with agent_of(home, tmp_path / "device") as (_, device):
        assert device.fetch(1, now()).number == 1


def _mixed(tmp_path: Path, home: Path, offer: Path) -> list[Path]:
    """The new offer signed by two, and one signature of the old one among them."""
    old = tmp_path / "old.sig"
    (tmp_path / "offer.root-1.sig").rename(old)
    for number in (1, 2):
        run(KEYS, "sign", offer, "--key", home / f"keys/tuf/root-{number}.key", "--yes")
    return [old, tmp_path / "offer.root-2.sig"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("policy-keys", "set"), "root.change"),
        (("policy-keys", "set", "--hub", "alice+00000000+AAAA"), "root.change"),
        (("policy-keys", "set", "alice"), "key.form"),
        (("root", "offer", "--add", "alice+00000000+AAAA"), "key.form"),
        (("root", "offer", "--remove", "root-1"), "root.change"),
        (("root", "accept", "/nowhere"), "sign.file"),
        (("release", "offer", "0123456789abcdef"), "sign.unknown"),
    ],
)
def test_what_is_refused_at_the_hub(first_home: Path, arguments: tuple[str, ...], code: str) -> None:
    done = CliRunner().invoke(hub_commands, [*arguments, "--home", str(first_home)])
    assert isinstance(done.exception, OutriderError) and done.exception.code == code
