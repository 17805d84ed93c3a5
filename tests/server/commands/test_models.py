"""``outrider hub model``: with a hub that runs, and without one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.server.test_commands import first, made, running, typed

__all__ = ["first", "made"]  # the fixtures
pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

DATA = b"GGUF" + bytes(range(256)) * 9_000
SHA = hashlib.sha256(DATA).hexdigest()
CASE = {"given": "One, two,", "answer": " three", "others": [" house"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "letters.gguf"
    path.write_bytes(DATA)
    (tmp_path / "cases.jsonl").write_text(json.dumps(CASE) + "\n")
    return path


def test_a_model_is_added_to_a_running_hub_and_published(made: Path, file: Path) -> None:
    at = ("--home", str(made))
    about = ("--version", "2.1", "--licence", "MIT", "--context", "8192", "--min-ram", "300")
    with running(made) as (_, _address):
        cases = str(file.with_name("cases.jsonl"))
        done = typed("model", "add", str(file), "--name", "letters-1", *about, "--smoke", cases, "--use", *at, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["sha256"] == SHA
        done = typed("model", "score", "letters-1", "--suite", "june", "--value", "right=941", "--cases", "240", *at)
        assert done.returncode == 0, done.stderr
        listed = typed("model", "list", *at).stdout
        assert "letters-1  language, 2 MB, 2.1, MIT, on 0 devices" in listed
        assert "june: right 0.941 (240 cases)" in listed
        done = typed("release", "publish", *at)
        assert done.returncode == 0, done.stderr
        refused = typed("model", "remove", "letters-1", *at)
        assert (refused.returncode, "[model.in-use]" in refused.stderr) == (1, True)
    named = json.loads((made / "workspace" / "models.json").read_text())
    (letters,) = [model for model in named if model["name"] == "letters-1"]
    assert (letters["smoke"], letters["min_ram_mb"], letters["source"]) == ([CASE], 300, "hub:")
    assert [model["name"] for model in named if model["kind"] == "language"] == ["letters-1"]


def test_a_model_is_added_and_removed_without_a_running_hub(made: Path, file: Path) -> None:
    at = ("--home", str(made))
    done = typed("model", "add", str(file), "--name", "letters-1", "--sha256", SHA.upper(), *at)
    assert done.returncode == 0, done.stderr
    assert typed("model", "use", "letters-1", *at).returncode == 0
    done = typed("model", "remove", "letters-1", *at)
    assert done.returncode == 0, done.stderr
    assert typed("model", "list", *at).stdout == "no model is in the registry yet\n"


def test_what_is_not_added(made: Path, file: Path) -> None:
    at = ("--home", str(made))
    bad = file.with_name("cases.jsonl")
    bad.write_text("{}\n")
    for words, code in (
        ((str(file), "--name", "x", "--sha256", "00" * 32), "model.hash"),
        (("pypi:some-package", "--name", "x"), "model.hash-form"),
        (("nowhere.gguf", "--name", "x"), "model.path"),
        ((str(file), "--name", "x", "--smoke", str(bad)), "model.smoke"),
    ):
        done = typed("model", "add", *words, *at)
        assert done.returncode != 0, words
        assert f"[{code}]" in done.stderr
    done = typed("model", "score", "x", "--suite", "s", "--value", "high", "--cases", "1", *at)
    assert "[model.score]" in done.stderr
    incoming = made / "repository" / "incoming"
    assert not incoming.exists() or list(incoming.iterdir()) == []
