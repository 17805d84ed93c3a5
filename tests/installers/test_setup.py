"""Setup on a machine that has what it needs, and on one that has not."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``installers/setup.py`` with its paths below ``tmp_path``."""
    spec = importlib.util.spec_from_file_location("outrider_setup", ROOT / "installers" / "setup.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    venv = tmp_path / ".venv"
    venv.mkdir()
    paths = {"ROOT": tmp_path, "VENV": venv, "STAMP": venv / "stamp.json", "LOG": venv / "log"}
    for name, path in {**paths, "CACHE": tmp_path / "cache", "WHEELS": tmp_path / "cache" / "wheels"}.items():
        monkeypatch.setattr(module, name, path)
    return module


def direct_requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + extras["agent"] + extras["agent-llm"] + extras["hub"] + extras["dev"]
    return [re.split(r"[<>=!~;\[ ]", line)[0] for line in lines]


def test_every_direct_requirement_is_pinned_exactly_and_without_an_address() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_]+", line)] == []
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0].lower()) for line in lines}
    assert [name for name in direct_requirements() if re.sub(r"[-_.]+", "-", name.lower()) not in pinned] == []
    assert len(pinned) == len(lines)


def test_without_a_fitting_python_it_says_what_to_install(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "installers", tmp_path / "installers")
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name in ("sh", "cat", "dirname"):
        (binaries / name).symlink_to(str(shutil.which(name)))
    for name in ("python3.12", "python3"):  # a shim that does not run, and a Python too new
        (binaries / name).write_text("#!/bin/sh\nexit 127\n")
        (binaries / name).chmod(0o755)
    done = subprocess.run(
        ["sh", str(tmp_path / "installers" / "setup.sh")],
        env={"PATH": str(binaries)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no Python 3.11 or 3.12 was found" in done.stderr
    assert "python3-venv" in done.stderr


def test_a_wheel_counts_only_with_our_flags_beside_it(setup: ModuleType) -> None:
    setup.WHEELS.mkdir(parents=True)
    platform = setup.sysconfig.get_platform().replace("-", "_").replace(".", "_")
    wheel = setup.WHEELS / f"llama_cpp_python-0.3.36-py3-none-{platform}.whl"
    wheel.touch()
    assert setup.cached_wheel("llama-cpp-python==0.3.36") is None
    wheel.with_suffix(".flags").write_text("-DGGML_NATIVE=ON\n")
    assert setup.cached_wheel("llama-cpp-python==0.3.36") is None
    wheel.with_suffix(".flags").write_text(setup.CMAKE_ARGS + "\n")
    assert setup.cached_wheel("llama-cpp-python==0.3.36") == wheel
    assert setup.cached_wheel("llama-cpp-python==0.3.37") is None


def test_without_a_compiler_it_advises_and_goes_on(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(setup, "models", list)
    stamp: dict[str, str] = {}
    setup.optional(stamp, "models")
    said = capsys.readouterr().out
    assert "no C++ compiler" in said
    assert "apt-get install g++" in said
    assert "by rules, and by asking a person" in said
    assert "runtime" not in stamp
    assert stamp["models"] == "models"


def test_the_stamp_changes_with_what_it_stands_for(setup: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("a")
    setup.CONSTRAINTS = tmp_path / "constraints.txt"
    setup.CONSTRAINTS.write_text("b==1\n")
    before = setup.wanted()
    assert setup.wanted() == before
    setup.CONSTRAINTS.write_text("b==2\n")
    assert setup.wanted() != before


def test_a_damaged_stamp_is_no_stamp(setup: ModuleType) -> None:
    setup.keep({}, packages="x")
    assert setup.read_stamp() == {"packages": "x"}
    setup.STAMP.write_text("{ cut")
    assert setup.read_stamp() == {}


def test_a_failed_command_is_told_by_its_last_words_with_advice(setup: ModuleType) -> None:
    script = (
        "print('Collecting x'); print('ERROR: no such thing'); print('No space left on device'); raise SystemExit(3)"
    )
    shown: list[str] = []
    with pytest.raises(setup.Failed, match="no such thing") as failed:
        setup.run([sys.executable, "-c", script], lambda line: shown.append(line), setup.Live(io.StringIO()))
    assert any("disk is full" in line for line in failed.value.advice)
    assert shown[0] == "Collecting x\n"
    assert "ERROR: no such thing" in setup.LOG.read_text()


def test_progress_is_a_line_now_and_then_where_output_is_collected(setup: ModuleType) -> None:
    out = io.StringIO()
    live = setup.Live(out, every=0)
    live.show("compiling 7 of 140 (5%)")
    live.done("done")
    assert re.fullmatch(r" +compiling 7 of 140 \(5%\), 0:00\n +done, 0:00\n", out.getvalue())


@pytest.mark.parametrize(
    ("said", "advised"),
    [
        ("Temporary failure in name resolution", "network"),
        ("ERROR: No matching distribution found for x==1", "pinned version"),
        ("OSError: [Errno 13] Permission denied: 'x'", "another user"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "memory"),
    ],
)
def test_known_failures_have_their_own_advice(setup: ModuleType, said: str, advised: str) -> None:
    assert advised in next(setup.advice_on(said))


def test_make_help_names_every_target() -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run([make, "help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    for target in ("setup", "demo", "test", "check", "bench", "fmt", "clean", "help"):
        assert f"make {target}" in done.stdout
