"""``outrider hub`` as real processes: made, run, asked, stopped, and killed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from server.admin import Operator
from server.config import HubConfig
from shared import command
from shared.keys import Envelope, PublicKey, verify_cosignature
from shared.protocol import Accepted
from tests.fakes import FakeDevice, Wire

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]  # many processes, one after the other
HUB = [sys.executable, "-m", "server"]


def hub(*arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HUB, *arguments], input=stdin, capture_output=True, text=True, timeout=300, env=os.environ | env
    )


def typed(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The same command in this process, where it is not the process that is looked at: starting one takes a second."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    before, sys.stdin = sys.stdin, io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            command.main(["hub", *arguments])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    finally:
        sys.stdin = before
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def new(home: Path) -> Path:
    """A hub's home, made by its command."""
    words = ("init", "--home", str(home), "--user", "clara", "--password-stdin")
    done = typed(*words, stdin="correct horse battery\n")
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new(tmp_path_factory.mktemp("first") / "hub")


@pytest.fixture
def made(first: Path, tmp_path: Path) -> Path:
    """A copy of a new hub's home."""
    return Path(shutil.copytree(first, tmp_path / "hub"))


@contextlib.contextmanager
def running(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([*HUB, "run", "--home", str(home), "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("hub ready at http://127.0.0.1:")
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()


def now() -> int:
    return time.time_ns() // 1000


def joined(home: Path, name: str = "front desk") -> FakeDevice:
    """Enrolled through the running hub."""
    import http.client

    token = typed("token", "--home", str(home)).stdout.strip()
    device = FakeDevice(now, name)
    address = (home / "address").read_text().strip().removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("POST", "/api/join", msgspec.json.encode(device.request(token)))
    answer = connection.getresponse().read()
    connection.close()
    device.enrolled(msgspec.json.decode(answer, type=Envelope))
    return device


def test_init_makes_a_private_home_once(tmp_path: Path) -> None:
    made = tmp_path / "hub"
    first = hub("init", "--home", str(made), "--user", "clara", "--password-stdin", stdin="correct horse battery\n")
    assert first.returncode == 0, first.stderr
    assert (made / "hub.json").stat().st_mode & 0o077 == 0
    assert (made / "admin.token").stat().st_mode & 0o077 == 0
    assert (made / "keys").stat().st_mode & 0o077 == 0
    assert (made / "repository" / "metadata" / "timestamp.json").exists()
    assert any((made / "workspace").iterdir())
    again = hub("init", "--home", str(made), "--user", "clara", "--password-stdin", stdin="correct horse battery\n")
    assert again.returncode == 1 and "hub.exists" in again.stderr
    assert "correct horse" not in again.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "status", "code"),
    [
        (["init", "--user", "clara", "--password-stdin"], "short\n", 2, "user.password"),
        (["init", "--user", "Clara!", "--password-stdin"], "correct horse battery\n", 2, "user.name"),
        (
            ["init", "--user", "clara", "--password-stdin", "--starter", "none"],
            "correct horse battery\n",
            2,
            "hub.starter",
        ),
        (["token", "--ttl", "soon"], "", 2, "token.ttl"),
        (["token"], "", 1, "hub.missing"),
        (["run", "--port", "99999"], "", 2, "hub.config"),
        (["run"], "", 1, "hub.missing"),
    ],
)
def test_errors_say_code_and_advice(tmp_path: Path, arguments: list[str], stdin: str, status: int, code: str) -> None:
    home = tmp_path / "hub"
    done = hub(*arguments, "--home", str(home), stdin=stdin)
    assert (done.returncode, code in done.stderr, "→" in done.stderr) == (status, True, True), done.stderr
    assert "Traceback" not in done.stderr
    if code.startswith("user."):
        retry = hub("init", "--user", "clara", "--password-stdin", "--home", str(home), stdin="correct horse battery\n")
        assert retry.returncode == 0, retry.stderr


def test_commands_work_beside_a_running_hub_and_without_one(made: Path) -> None:
    alone = json.loads(hub("token", "--home", str(made), "--ttl", "2h", "--json").stdout)
    assert alone["expires_in_s"] == 7200
    usual = hub("token", "--home", str(made), "--json", OUTRIDER_HUB_TOKEN_SECONDS="900")
    assert json.loads(usual.stdout)["expires_in_s"] == 900
    endless = hub("token", "--home", str(made), OUTRIDER_HUB_TOKEN_SECONDS="604801")
    assert endless.returncode == 2 and "hub.config" in endless.stderr
    with running(made) as (process, address):
        assert (made / "address").read_text().strip() == address
        added = hub("user", "add", "dan", "--home", str(made), "--password-stdin", stdin="correct horse battery\n")
        assert added.returncode == 0, added.stderr
        twice = hub("user", "add", "dan", "--home", str(made), "--password-stdin", stdin="correct horse battery\n")
        assert twice.returncode == 1 and "user.exists" in twice.stderr
        device = joined(made)
        listed = json.loads(hub("device", "list", "--home", str(made), "--json").stdout)
        assert [one["id"] for one in listed] == [device.id]
        second = hub("run", "--home", str(made), "--port", "0")
        assert second.returncode == 1 and "hub.locked" in second.stderr
        assert hub("device", "revoke", device.id, "--home", str(made)).returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not (made / "address").exists()
    assert "revoked" in hub("device", "list", "--home", str(made)).stdout


def test_a_taken_port_is_told(made: Path, tmp_path: Path) -> None:
    other = new(tmp_path / "other")
    with running(made) as (_, address):
        done = hub("run", "--home", str(other), "--port", address.rpartition(":")[2])
        assert done.returncode == 1 and "hub.port" in done.stderr


async def test_kill_9_between_batches_loses_nothing_acknowledged(made: Path) -> None:
    """What was countersigned is there after the hub was killed at any moment; what was not is simply sent again."""
    acknowledged: list[tuple[int, str]] = []
    device: FakeDevice | None = None
    for round_ in range(4):
        with running(made) as (process, address):
            device = device or joined(made)
            wire = await Wire.greeted(address, device)
            held = acknowledged[-1][0] if acknowledged else 0
            for n in range(3):
                device.decide_alone(f"PA-{round_}-{n}")
                await wire.send(device.batch(held))
                accepted = await wire.until(Accepted)
                assert accepted.size == device.size
                held = accepted.size
                acknowledged.append((accepted.size, accepted.checkpoint))
            device.decide_alone(f"PA-{round_}-last")
            await wire.send(device.batch(held))  # in flight as the hub dies
            os.kill(process.pid, signal.SIGKILL)
            process.wait(60)
            wire.socket.transport.abort()
            with contextlib.suppress(Exception):
                await wire.socket.wait_closed()
    assert device is not None
    with running(made) as (_, address):
        wire = await Wire.greeted(address, device)
        for size, checkpoint in acknowledged:
            verify_cosignature(checkpoint.encode(), device.hub, PublicKey(device.hub_key.raw))
            assert size <= device.size
        await wire.send(device.batch(0))
        accepted = await wire.until(Accepted)
        assert accepted.size == device.size
        await wire.close()
        (view,) = Operator(HubConfig(home=made)).devices()
        assert (view["held"], view["problem_code"]) == (device.size, "")
