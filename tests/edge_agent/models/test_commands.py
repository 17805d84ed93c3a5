from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_agent.models.catalogue import KNOWN
from edge_agent.models.commands import model
from shared.errors import OutriderError

runner = CliRunner()
DATA = b"GGUF" + bytes(5000)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "mine.gguf"
    path.write_bytes(DATA)
    return path


def run(home: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output, and what the command says of its error."""
    result = runner.invoke(model, list(arguments), env={"OUTRIDER_HOME": str(home)})
    if result.exception is not None and not isinstance(result.exception, OutriderError):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr + str(result.exception or "")


def test_list_shows_known_models_and_what_is_installed(home: Path) -> None:
    code, out, _ = run(home, "list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert set(rows) == {item.name for item in KNOWN}
    assert rows["smollm2-135m"]["installed"] and rows["minilm-l6"]["installed"]
    assert not rows["qwen2.5-coder-1.5b"]["installed"]
    code, out, _ = run(home, "list")
    assert code == 0
    assert all(item.name in out for item in KNOWN)


def test_a_file_is_added_listed_and_removed(tmp_path: Path, gguf: Path) -> None:
    home = tmp_path / "home"
    code, out, _ = run(home, "add", str(gguf), "--name", "mine")
    assert code == 0 and SHA in out
    rows = {row["name"]: row for row in json.loads(run(home, "list", "--json")[1])}
    assert rows["mine"]["installed"] and not rows["mine"]["known"] and rows["mine"]["sha256"] == SHA
    assert run(home, "remove", "mine")[0] == 0
    assert not (home / "models" / f"{SHA}.gguf").exists()
    code, _, err = run(home, "remove", "mine")
    assert code == 1 and "[model.unknown]" in err


def test_home_may_be_an_option(tmp_path: Path, gguf: Path) -> None:
    home = tmp_path / "elsewhere"
    assert runner.invoke(model, ["add", str(gguf), "--name", "mine", "--home", str(home)]).exit_code == 0
    assert (home / "models" / "models.json").exists()


@pytest.mark.parametrize(
    "arguments, code",
    [
        (("add", "gpt-17"), "model.unknown"),
        (("add", "nowhere/x.gguf", "--name", "x"), "model.path"),
        (("add", "pypi:tiny"), "model.name"),
        (("add", "pypi:tiny", "--name", "x"), "model.hash-form"),
        (("add", "pypi:tiny", "--name", "x", "--sha256", "abc"), "model.hash-form"),
        (("add", "pypi:-x", "--name", "x", "--sha256", "0" * 64), "model.source"),
        (("add", "pypi:tiny", "--name", "A B", "--sha256", "0" * 64), "model.name"),
    ],
)
def test_errors_have_a_code_and_advice_and_leave_nothing(tmp_path: Path, arguments: tuple[str, ...], code: str) -> None:
    exit_code, _, err = run(tmp_path / "home", *arguments)
    assert exit_code == 1
    assert f"[{code}]" in err
    assert not (tmp_path / "home" / "models" / "models.json").exists()


@pytest.mark.parametrize("command", [[], ["list"], ["add"], ["remove"]])
def test_help_is_complete(command: list[str]) -> None:
    result = runner.invoke(model, [*command, "--help"])
    assert result.exit_code == 0
    if command:
        assert "--home" in result.stdout
        assert "agent's folder" in result.stdout


def test_the_commands_import_nothing_heavy() -> None:
    script = (
        "import sys, edge_agent.models.commands\n"
        "print([n for n in ('numpy', 'onnxruntime', 'llama_cpp', 'rich.progress') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
