"""`outrider release` as a person uses it: real commands against a real hub, with a token of theirs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from server.authoring.access import READ, WRITE
from server.releases.workspace import POLICY
from tests.server.authoring.conftest import STARTER
from tests.server.conftest import Serving

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]  # many commands, each a process of its own
OLD, NEW = "context.confidence < 850", "context.confidence < 800"
STATE = ".outrider-release.json"


def outrider(*given: str | Path, token: str = "") -> subprocess.CompletedProcess[str]:
    code = "from shared.command import main; main()"
    env = {name: value for name, value in os.environ.items() if name != "OUTRIDER_TOKEN"}
    env |= {"OUTRIDER_TOKEN": token} if token else {}
    command = [sys.executable, "-c", code, "release", *map(str, given)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)


def done(*given: str | Path, token: str = "") -> dict[str, object]:
    ended = outrider(*given, "--json", token=token)
    assert ended.returncode == 0, ended.stderr
    said: dict[str, object] = json.loads(ended.stdout)
    return said


def refused(*given: str | Path, token: str = "") -> str:
    ended = outrider(*given, token=token)
    assert ended.returncode in (1, 2) and "Traceback" not in ended.stderr, ended.stderr
    return ended.stderr


@pytest.fixture
def hub(serving_hub: Serving, home: Path) -> Serving:
    shutil.copytree(STARTER, home / "workspace")
    serving_hub.hub.users.add("mara", "four unrelated words", ["release", "clerk"])
    serving_hub.hub.users.add("ilse", "four unrelated words", ["clerk"])
    serving_hub.hub.authoring.begin()
    return serving_hub


def token_of(hub: Serving, user: str = "mara", *scopes: str) -> str:
    made, _ = hub.hub.access.issue(user, scopes=scopes or [READ, WRITE], seconds=3600, by=user)
    return made


def change(folder: Path, old: str = OLD, new: str = NEW) -> None:
    text = (folder / POLICY).read_text()
    assert text.count(old) == 1
    (folder / POLICY).write_text(text.replace(old, new))


def test_pull_edit_validate_push_and_a_person_publishes(hub: Serving, tmp_path: Path) -> None:
    folder, token = tmp_path / "permits", token_of(hub)
    first = done("pull", folder, "--hub", hub.address, token=token)
    assert first["version"] == 1 and POLICY in str(first["changed"])
    assert (folder / POLICY).read_bytes() == (STARTER / POLICY).read_bytes()
    assert done("pull", folder, token=token)["changed"] == []  # the folder knows its hub
    change(folder)
    assert outrider("validate", folder).returncode == 0
    pushed = done("push", folder, "--note", "ask below 80%", token=token)
    assert pushed["version"] == 2
    newest = hub.hub.authoring.need()
    assert (newest.by, newest.origin, newest.note) == ("mara", "push", "ask below 80%")
    assert done("push", folder, token=token)["version"] == 2
    change(folder, NEW, OLD)
    (folder / POLICY).write_text((folder / POLICY).read_text() + "\n// looked at\n")
    assert outrider("validate", folder, "--strict").returncode == 0
    assert done("push", folder, token=token) == {"version": 3, "findings": []}
    mara = next(user for user in hub.hub.users.list() if user.name == "mara")
    assert hub.hub.authoring.publish(3, by=mara).release == 1


def test_two_folders_meet_file_by_file(hub: Serving, tmp_path: Path) -> None:
    one, two, token = tmp_path / "one", tmp_path / "two", token_of(hub)
    for folder in (one, two):
        done("pull", folder, "--hub", hub.address, token=token)
    change(one)
    done("push", one, token=token)
    memory = two / "memory.yaml"
    memory.write_text(memory.read_text() + "\n# from two\n")
    assert "draft.moved" in refused("push", two, token=token)
    assert done("pull", two, token=token)["changed"] == [POLICY]
    assert memory.read_text().endswith("# from two\n")
    assert done("push", two, token=token)["version"] == 3
    change(one, NEW, "context.confidence < 700")
    change(two, NEW, "context.confidence < 750")
    done("push", two, token=token)
    before = {path: path.read_bytes() for path in one.rglob("*") if path.is_file()}
    assert "draft.conflict" in refused("pull", one, token=token)
    assert {path: path.read_bytes() for path in one.rglob("*") if path.is_file()} == before
    assert done("push", one, "--replace", token=token)["version"] == 5


def test_a_file_that_was_removed_is_removed(hub: Serving, tmp_path: Path) -> None:
    one, two, token = tmp_path / "one", tmp_path / "two", token_of(hub)
    for folder in (one, two):
        done("pull", folder, "--hub", hub.address, token=token)
    (one / "memory.yaml").unlink()
    done("push", one, token=token)
    assert done("pull", two, token=token)["changed"] == ["memory.yaml"]
    assert not (two / "memory.yaml").exists()


def test_validate_needs_no_hub_and_says_file_and_line(tmp_path: Path) -> None:
    folder = tmp_path / "permits"
    shutil.copytree(STARTER, folder)
    assert outrider("validate", folder, "--strict").stdout == "nothing is wrong\n"
    text = (folder / POLICY).read_text()
    (folder / POLICY).write_text(
        text + '\n@id("extra") @about("x")\npermit (principal, action, resource == Tool::"regster.decide");\n'
    )
    line = text.count("\n") + 3
    loose, strict = outrider("validate", folder), outrider("validate", folder, "--strict")
    assert (loose.returncode, strict.returncode) == (0, 1)
    assert f"policy.cedar:{line}: warning [lint.tool-unknown]" in loose.stdout
    (folder / POLICY).write_text(text + "\npermit (principal, action, resource) when { context.undo ;\n")
    broken = outrider("validate", folder, "--json")
    (found,) = json.loads(broken.stdout)["findings"]
    assert (broken.returncode, found["path"], found["line"], found["code"]) == (
        1, POLICY, text.count("\n") + 2, "policy.parse",
    )  # fmt: skip


def test_the_hub_knows_more_than_the_folder(hub: Serving, tmp_path: Path) -> None:
    folder = tmp_path / "permits"
    shutil.copytree(STARTER, folder)
    book = folder / "playbooks" / "permit-triage.yaml"
    book.write_text(book.read_text().replace("roles: [clerk]", "roles: [clark]"))
    assert outrider("validate", folder, "--strict").returncode == 0
    told = outrider("validate", folder, "--strict", "--hub", hub.address, token=token_of(hub, "ilse", READ))
    assert told.returncode == 1 and "lint.role-nobody" in told.stdout


def test_who_may_not_push(hub: Serving, tmp_path: Path) -> None:
    folder = tmp_path / "permits"
    reader, clerk = token_of(hub, "mara", READ), token_of(hub, "ilse")
    done("pull", folder, "--hub", hub.address, token=clerk)  # everybody may read
    change(folder)
    assert "access.scope" in refused("push", folder, token=reader)
    assert "draft.role" in refused("push", folder, token=clerk)
    assert "access.token" in refused("push", folder, token="oat_" + "0" * 64)
    assert "release.token" in refused("push", folder)
    secret = tmp_path / "token"
    secret.write_text(token_of(hub) + "\n")
    assert done("push", folder, "--token-file", secret)["version"] == 2
    assert hub.hub.authoring.need().by == "mara"


def test_a_token_is_not_sent_in_the_clear(tmp_path: Path) -> None:
    for address, code in (
        ("http://hub.city.example", "release.clear-text"),
        ("ftp://hub.city.example", "release.hub"),
        ("hub", "release.hub"),
        ("", "release.hub"),
        ("http://127.0.0.1:9", "release.unreachable"),
    ):
        said = refused("pull", tmp_path / "x", "--hub", address, token="oat_secret")
        assert code in said and "oat_secret" not in said


def test_a_broken_state_is_told(tmp_path: Path) -> None:
    (tmp_path / STATE).write_text("{")
    assert "release.state" in refused("pull", tmp_path, token="x")


def test_the_routes_refuse_what_is_no_token_of_theirs(hub: Serving) -> None:
    admin = (hub.hub.config.home / "admin.token").read_text().strip()
    for header in ({}, {"Authorization": f"Bearer {admin}"}, {"Authorization": "Basic eDp5"}):
        status, _, body = hub.request("GET", "/api/workspace", headers=header)
        assert (status, json.loads(body)["code"]) == (401, "access.token")
    token = {"Authorization": f"Bearer {token_of(hub)}"}
    assert hub.request("GET", "/api/workspace?version=99", headers=token)[0] == 404
    assert hub.request("GET", "/api/workspace?version=x", headers=token)[0] == 404
    status, _, body = hub.request("POST", "/api/workspace", {"base": 1, "files": {"../x": "aGk="}}, token)
    assert (status, json.loads(body)["code"]) == (400, "draft.path")
    status, _, body = hub.request("POST", "/api/workspace", {"base": 1, "files": {POLICY: "no base64!"}}, token)
    assert (status, json.loads(body)["code"]) == (400, "http.body")
    assert hub.request("POST", "/api/admin/publish", {}, token)[0] == 401
