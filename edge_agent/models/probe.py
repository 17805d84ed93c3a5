"""Does each model run on this machine? One token and one vector, each in a child process that may crash alone.

A llama.cpp built for one CPU ends with an illegal instruction, or an abort, on another; only running it shows that.
What comes back is a list of findings for ``doctor``; nothing raises for what it finds.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from edge_agent.models.catalogue import USUAL, Kind
from edge_agent.models.store import Installed, ModelStore
from edge_agent.models.worker import BUILD, open_embedder, runtime_missing
from shared.errors import OutriderError

_CHILD = (sys.executable, "-m", "edge_agent.models.probe")


class Finding(msgspec.Struct, frozen=True):
    """One line of the doctor's report. ``advice`` is empty when ``ok``."""

    name: str
    ok: bool
    detail: str
    advice: str = ""


def findings(home: Path, *, timeout_s: float = 60, child: Sequence[str] = _CHILD) -> list[Finding]:
    """Runtimes, then every installed model: its hash, and one token or vector. Takes seconds per model."""
    found = [_runtime("language"), _runtime("embedder")]
    store = ModelStore(home)
    try:
        rows = store.installed()
    except OutriderError as error:
        return [*found, Finding("model registry", False, error.message, error.advice)]
    for kind in USUAL:
        if not any(row.kind == kind for row in rows):
            name = "smollm2-135m" if kind == "language" else "minilm-l6"
            found.append(Finding(f"{kind} model", False, "none is installed", f"run: outrider model add {name}"))
    return [
        *found,
        *(probe(store, row, timeout_s=timeout_s, child=child) for row in rows if runtime_missing(row.format) is None),
    ]


def _runtime(kind: Kind) -> Finding:
    name = f"{kind} runtime"
    missing = runtime_missing(USUAL[kind])
    if missing is None:
        return Finding(name, True, "llama-cpp-python" if kind == "language" else "onnxruntime")
    advice = missing.advice
    if kind == "language" and not any(shutil.which(tool) for tool in ("c++", "g++", "clang++", "cl")):
        advice = f"install a C++ compiler first (Debian, Ubuntu: apt install g++); then run: {BUILD}"
    return Finding(name, False, missing.message, advice)


def probe(store: ModelStore, row: Installed, *, timeout_s: float = 60, child: Sequence[str] = _CHILD) -> Finding:
    """Check one model's hash and run it once in a child process."""
    name = f"model {row.name}"
    try:
        path = store.path_for(row.sha256)
    except OutriderError as error:
        return Finding(name, False, error.message, error.advice)
    command = [*child, row.kind, str(path), row.sha256]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)  # noqa: S603 -- our own module, a path of our own store
    except subprocess.TimeoutExpired:
        advice = "the machine is too slow or too busy for this model: add a smaller one"
        return Finding(name, False, f"no answer within {timeout_s:g} s", advice)
    if done.returncode == 0:
        return Finding(name, True, done.stdout.strip())
    last = (done.stderr.strip().splitlines() or [""])[-1][:300]
    if died(done.returncode):
        advice = f"rebuild its runtime for any CPU of this kind: {BUILD}"
        if row.kind == "embedder":
            advice = "reinstall it: pip install --force-reinstall onnxruntime"
        return Finding(name, False, f"crashed with {how(done.returncode)}", advice)
    return Finding(name, False, last or f"exit code {done.returncode}", f"remove {row.name} and add it again")


def died(code: int) -> bool:
    """Whether a child's exit code says that it crashed."""
    # Windows gives an NTSTATUS such as 0xC000001D (illegal instruction) in place of a signal.
    return code < 0 or code >= 0xC0000000


def how(code: int) -> str:
    """What it crashed with, by name."""
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return hex(code)


def _run(kind: Literal["language", "embedder"], path: Path, sha256: str) -> str:
    """In the child: load, do the least there is to do, say how long it took."""
    import time

    began = time.perf_counter_ns()
    if kind == "language":
        from edge_agent.models.language import Language
        from edge_agent.models.messages import Completion
        from edge_agent.models.states import StateFolder

        model = Language(path, sha256, StateFolder(path.parent, 0), context=256)
        result = model.complete(Completion(prompt="One, two,", max_tokens=1))
        did = f"{result.generated_tokens} token"
    else:
        (vector,) = open_embedder(path).embed(("a text",)) or ()
        did = f"{len(vector.values)} numbers"
    return f"{did} in {(time.perf_counter_ns() - began) // 1_000_000} ms, loading included"


def main(arguments: list[str]) -> None:
    kind, path, sha256 = arguments
    assert kind in ("language", "embedder")
    try:
        print(_run("language" if kind == "language" else "embedder", Path(path), sha256))
    except OutriderError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
