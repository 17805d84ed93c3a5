from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from edge_agent.models.catalogue import known
from edge_agent.models.probe import findings, probe
from edge_agent.models.store import ModelStore


def child(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_healthy_models_are_found_well(home: Path) -> None:
    found = {item.name: item for item in findings(home)}
    models = {"model smollm2-135m", "model minilm-l6", "model wordllama-256"}
    assert set(found) == {"language runtime", "embedder runtime"} | models
    assert all(item.ok and not item.advice for item in found.values())
    assert "1 token" in found["model smollm2-135m"].detail
    assert "384 numbers" in found["model minilm-l6"].detail
    assert "256 numbers" in found["model wordllama-256"].detail


@pytest.mark.parametrize("signal", ["SIGILL", "SIGABRT", "SIGSEGV"])
def test_a_crash_becomes_advice(home: Path, signal: str) -> None:
    row = ModelStore(home).by_hash(known("smollm2-135m").sha256)
    crash = child(f"import os, signal, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.kill(os.getpid(), signal.{signal})")  # fmt: skip  # noqa: E501 -- one child program
    found = probe(ModelStore(home), row, child=crash)
    assert not found.ok
    assert signal in found.detail
    assert "GGML_NATIVE=OFF" in found.advice and "llama-cpp-python==0.3.36" in found.advice


def test_a_hang_becomes_advice(home: Path) -> None:
    row = ModelStore(home).by_hash(known("smollm2-135m").sha256)
    found = probe(ModelStore(home), row, timeout_s=0.5, child=child("import time; time.sleep(60)"))
    assert not found.ok
    assert "0.5 s" in found.detail


def test_an_error_of_the_child_is_passed_on(home: Path) -> None:
    row = ModelStore(home).by_hash(known("smollm2-135m").sha256)
    found = probe(ModelStore(home), row, child=child("import sys; sys.exit('[model.load] no')"))
    assert (found.ok, found.detail) == (False, "[model.load] no")


def test_a_changed_file_is_found_and_not_run(home: Path) -> None:
    path = home / "models" / f"{known('smollm2-135m').sha256}.gguf"
    path.unlink()
    path.write_bytes(b"GGUF changed")
    found = {item.name: item for item in findings(home)}["model smollm2-135m"]
    assert not found.ok
    assert "changed" in found.detail


def test_an_empty_home_gets_advice_for_each_kind(tmp_path: Path) -> None:
    found = {item.name: item for item in findings(tmp_path)}
    assert found["language model"].advice == "run: outrider model add smollm2-135m"
    assert found["embedder model"].advice == "run: outrider model add minilm-l6"


def test_a_missing_runtime_names_the_command_and_the_compiler(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    found = {item.name: item for item in findings(home)}
    assert not found["language runtime"].ok
    assert "GGML_NATIVE=OFF" in found["language runtime"].advice
    assert "model smollm2-135m" not in found
    assert found["model minilm-l6"].ok
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("c++") is None
    found = {item.name: item for item in findings(home)}
    assert "compiler" in found["language runtime"].advice


def test_a_damaged_registry_is_a_finding(home: Path) -> None:
    (home / "models" / "models.json").write_bytes(b"{")
    assert [item.name for item in findings(home) if not item.ok] == ["model registry"]
