"""``outrider hub rollout``, as an operator types it, whether the hub runs or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.__main__ import hub
from server.admin import init
from server.config import HubConfig
from shared.errors import OutriderError
from tests.fakes import FakeDevice
from tests.server.test_commands import joined, running

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A hub whose first release is published, and the second for nobody yet."""
    folder = tmp_path / "hub"
    given = {"name": "City", "starter": "permits", "user": "clara", "password": "correct horse battery"}
    init(HubConfig(home=folder), **given, random=lambda n: b"r" * n)
    (folder / "workspace" / "models.json").write_text("[]\n")
    publish(folder)
    publish(folder, "--staged")
    return folder


def publish(folder: Path, *more: str) -> None:
    policy = folder / "workspace" / "policy.cedar"
    policy.write_text(policy.read_text() + "// says the same\n")
    typed("release", "publish", *more, "--home", str(folder))


def typed(*words: str, **env: str) -> str:
    done = CliRunner().invoke(hub, words, env=env, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.strip()


def said(folder: Path, *words: str) -> str:
    return typed("rollout", *words, "--home", str(folder))


def test_a_rollout_by_command_while_the_hub_runs_and_while_it_does_not(home: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    desks: list[FakeDevice] = []
    with running(home):
        desks = [joined(home, f"desk {number}") for number in range(2)]
        wanted = json.loads(said(home, "plan"))
        assert [stage["permille"] for stage in wanted["stages"]] == [500, 1000]
        plan.write_text(json.dumps({"stages": wanted["stages"][1:], "settle_s": 5}))
        assert said(home, "start", "--plan", str(plan)).endswith(": release 2 for 100% of the devices")
        assert said(home, "pause") == "it is paused"
    shown = json.loads(said(home, "show", "--json"))
    assert (shown["status"], shown["plan"]["settle_s"], shown["said"]) == ("paused", 5, "it is paused")
    text = said(home, "show")
    assert "release 2 against 1: paused, stage 1 of 1 (100% of the devices)" in text
    assert "candidate: 2 devices, 0 online, 2 not there yet" in text and "failures: 0 of 0 runs" in text
    assert said(home, "resume") == "it goes on"
    assert said(home, "advance") == "it has gone on"
    assert said(home, "pin", desks[0].id, "1") == f"{desks[0].id} runs release 1"
    assert said(home, "pin", desks[0].id, "0") == f"{desks[0].id} is pinned no longer"
    assert said(home, "exclude", desks[1].id) == f"{desks[1].id} takes no part in rollouts"
    assert said(home, "exclude", desks[1].id, "--undo") == f"{desks[1].id} takes part again"
    assert said(home, "list").splitlines()[0] == "release 2 is what devices run"
    assert said(home, "rollback") == "it is taken back"
    assert said(home, "list").splitlines()[0] == "release 1 is what devices run"


@pytest.mark.parametrize(
    ("text", "code"),
    [("[]", "rollout.plan"), ("{", "rollout.plan"), ('{"stages": []}', "rollout.plan"), ('{"x": 1}', "http.body")],
)
def test_a_plan_that_makes_no_sense_is_refused(home: Path, tmp_path: Path, text: str, code: str) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(text)
    with pytest.raises(OutriderError) as caught:
        said(home, "start", "--plan", str(plan))
    assert caught.value.code == code
    assert said(home, "list") == "release 1 is what devices run"


def test_where_the_setting_says_so_every_release_waits_for_its_rollout(home: Path) -> None:
    policy = home / "workspace" / "policy.cedar"
    policy.write_text(policy.read_text() + "// says the same\n")
    typed("release", "publish", "--home", str(home), OUTRIDER_HUB_ROLLOUT="staged")
    assert said(home, "list") == "release 1 is what devices run"
