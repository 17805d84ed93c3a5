"""Checks of the installation and the machine: Python, packages, disk, file modes, keys, lock."""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal

from edge_agent.config import Home
from edge_agent.doctor.findings import Finding
from edge_agent.identity import load_key
from edge_agent.lock import is_held
from shared.errors import BadInput, OutriderError
from shared.peering import read_address

_LITTLE_SPACE, _NO_SPACE = 1_000_000_000, 100_000_000  # bytes
_SLOW_FSYNC_MS = 100

# The extras that an agent cannot do without. ``agent-llm`` is judged by running it: see edge_agent.models.probe.
_NEEDED = ("", "agent")
CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"


# --- what is installed --------------------------------------------------------------------------------------------


def installed(constraints: Path = CONSTRAINTS) -> Iterator[Finding]:
    yield from _python()
    yield from _packages(constraints)


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] < (3, 13):
        yield Finding("python", "ok", f"{version} at {sys.executable}")
    else:
        yield Finding("python", "fail", f"{version} is not supported", "use Python 3.11 or 3.12")


def _packages(constraints: Path) -> Iterator[Finding]:
    """Each extra: whole, in part or absent; then versions that are not the tested ones."""
    try:
        yield Finding("outrider", "ok", metadata.version("outrider"))
        required = metadata.requires("outrider") or []
    except metadata.PackageNotFoundError:
        yield Finding(
            "outrider", "fail", "it is not installed as a package", "run: make setup, or pip install outrider"
        )
        return
    extras = _by_extra(required)
    for extra, names in extras.items():
        missing = [name for name in names if _version(name) is None]
        elsewhere = {name for other, those in extras.items() if other != extra for name in those}
        own = [name for name in names if name not in elsewhere]  # what others bring too does not make it begun
        label = f"packages [{extra}]" if extra else "packages"
        what = f"outrider[{extra}]" if extra else "outrider"
        if not missing:
            yield Finding(label, "ok", f"{len(names)} are in")
        elif extra in _NEEDED or any(name not in missing for name in own):
            status: Literal["fail", "warn"] = "fail" if extra in _NEEDED else "warn"
            yield Finding(label, status, f"missing: {', '.join(missing)}", f"run: pip install '{what}'")
    yield from _pins(constraints)


def _by_extra(required: list[str]) -> dict[str, list[str]]:
    """Names of the direct requirements by extra, without those that another system would have."""
    found: dict[str, list[str]] = {}
    for line in required:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"""extra\s*==\s*['"]([^'"]+)""", marker)
        if "sys_platform" in marker and sys.platform == "win32":
            continue
        name = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
        if name and (extra is None or extra[1] != "agent-llm"):
            found.setdefault(extra[1] if extra else "", []).append(name[0])
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _pins(constraints: Path) -> Iterator[Finding]:
    try:
        lines = constraints.read_text("utf-8").splitlines()
    except OSError:
        return  # installed as a package, not from a checkout: there is nothing to compare with
    pins = dict(line.strip().split("==", 1) for line in lines if "==" in line and not line.startswith("#"))
    other = [
        f"{name} {have} (tested: {pin})"
        for name, pin in pins.items()
        if (have := _version(name)) is not None and have.partition("+")[0] != pin  # behind a +: how it was built
    ]
    if other:
        advice = "run: make setup; other versions may work, these were tested"
        yield Finding("versions", "warn", "; ".join(other[:5]) + ("; …" if len(other) > 5 else ""), advice)
    else:
        yield Finding("versions", "ok", "as pinned in constraints.txt")


# --- the machine and the home -------------------------------------------------------------------------------------


def disk(home: Home) -> Iterator[Finding]:
    folder = home.root
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free at {folder}"
    if free < _NO_SPACE:
        yield Finding("disk space", "fail", text, "free some: the agent stops rather than act without a record")
    elif free < _LITTLE_SPACE:
        yield Finding("disk space", "warn", text, "free some; a model needs up to 1.2 GB")
    else:
        yield Finding("disk space", "ok", text)
    if not home.root.exists():
        yield Finding("home", "warn", f"{home.root} is not there yet", "run: outrider agent join URL TOKEN")
        return
    yield _write(home.root)


def _write(folder: Path) -> Finding:
    """4 kB to the disk and back off it: what every commit of the log depends on."""
    path = folder / f".doctor-{secrets.token_hex(4)}"
    began = time.perf_counter_ns()
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        took = (time.perf_counter_ns() - began) / 1e6
        path.unlink()
    except OSError as error:
        path.unlink(missing_ok=True)
        return Finding("disk write", "fail", f"{folder}: {error.strerror}", "check the folder's owner and the disk")
    if took > _SLOW_FSYNC_MS:
        return Finding(
            "disk write", "warn", f"write and sync took {took:.0f} ms", "a busy or failing disk slows each act"
        )
    return Finding("disk write", "ok", f"write and sync in {took:.1f} ms")


def modes(home: Home) -> Iterator[Finding]:
    """The folder that holds keys, log and memory, and each key, are for this user alone."""
    if not home.root.exists():
        return
    wrong = []
    folders = [home.root, home.keys]
    for path in [*folders, *(sorted(home.keys.iterdir()) if home.keys.is_dir() else [])]:
        try:
            stat = path.stat()
        except OSError:
            continue
        want = 0o700 if path in folders else 0o600
        if stat.st_mode & 0o777 & ~want:
            wrong.append((path, want, f"{path} is {stat.st_mode & 0o777:04o}, not {want:04o}"))
        elif stat.st_uid != os.geteuid():
            wrong.append((path, want, f"{path} belongs to another user"))
    for path, want, said in wrong:
        advice = f"run: chmod {want:o} {path}; if others use this machine, join again for new keys"
        yield Finding("file modes", "fail", said, advice)
    if not wrong:
        yield Finding("file modes", "ok", "folders 0700, keys 0600")


def peering(listen: str) -> Iterator[Finding]:
    """Where models are to be handed to other devices, if anywhere. Its port may be in use already: by the agent."""
    if not listen:
        return
    try:
        host, _ = read_address(listen)
        with socket.socket(socket.AF_INET6 if host.version == 6 else socket.AF_INET) as tried:
            tried.bind((str(host), 0))
    except BadInput as error:
        yield Finding("peers", "fail", f"OUTRIDER_PEER_LISTEN: {error.message}", error.advice)
    except OSError:
        advice = "correct OUTRIDER_PEER_LISTEN: devices find this one only at an address of its own"
        yield Finding("peers", "warn", f"this computer does not have the address in {listen}", advice)
    else:
        yield Finding("peers", "ok", f"models are handed to other devices at {listen}, where the release lets it")


def running(home: Home) -> Finding:
    """Whether an agent holds the lock. Asking takes it for an instant."""
    try:
        return Finding("agent", "ok", "running" if is_held(home.lock) else "not running")
    except OSError as error:
        return Finding("agent", "fail", f"{home.lock}: {error.strerror}", "check the file's owner")


def keys(home: Home) -> Iterator[Finding]:
    paths = sorted(home.keys.glob("*.key"))
    if not paths:
        yield Finding("keys", "fail", f"there are no keys in {home.keys}", "restore them from a backup, or join again")
    for path in paths:
        try:
            key = load_key(path)
        except OutriderError as error:
            yield Finding(f"key {path.stem}", "fail", error.message, error.advice)
        else:
            yield Finding(f"key {path.stem}", "ok", f"fingerprint {key.public.fingerprint}")
