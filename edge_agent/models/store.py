"""What is installed in ``<home>/models``: files named by their hash, and ``models.json`` that says what they are.

A file counts only when the registry lists its hash, and its bytes are hashed again before every load. Files arrive
whole: they are written under a temporary name, synced, and renamed, so that a crash or a full disk leaves the old
state. One installer at a time holds the lock; readers need none, because the registry is replaced in one rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import get_args

import msgspec

from edge_agent.models.catalogue import Format, Kind
from shared.codec import parse
from shared.errors import BadInput, Conflict, Tampered, Unavailable

BLOCK = 1 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_INCOMING = ".incoming-"
_SUFFIXES = {f".{form}" for form in get_args(Format)}


class Installed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One registry row. The file's name follows from ``sha256`` and ``format``, so a row cannot point elsewhere."""

    name: str
    kind: Kind
    format: Format
    sha256: str
    size: int
    source: str
    licence: str = ""
    context: int = 0

    @property
    def file(self) -> str:
        return f"{self.sha256}.{self.format}"


class _Registry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    models: tuple[Installed, ...]


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadInput(
            "model.name",
            f"{name!r} cannot name a model",
            advice="use up to 64 lower-case letters, digits, dots, dashes and underscores, a letter or digit first",
        )
    return name


def check_hash(sha256: str) -> str:
    if not _HASH.fullmatch(sha256):
        raise BadInput("model.hash-form", f"{sha256!r} is not a SHA-256", advice="give 64 lower-case hex digits")
    return sha256


def file_sha256(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Hex SHA-256 of a file, read in blocks. ``progress`` gets the bytes read so far."""
    seen, done = hashlib.sha256(), 0
    with path.open("rb") as source:
        while block := source.read(BLOCK):
            seen.update(block)
            done += len(block)
            if progress:
                progress(done)
    return seen.hexdigest()


class ModelStore:
    """The models of one device. ``home`` is the agent's data directory; nothing is made before an install."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "models"
        self.states = self.folder / "states"
        self._registry = self.folder / "models.json"

    def installed(self) -> tuple[Installed, ...]:
        """All rows, by name. A damaged registry is ``BadInput('model.registry')``."""
        try:
            data = self._registry.read_bytes()
        except FileNotFoundError:
            return ()
        registry = parse(data, _Registry, code="model.registry", what=str(self._registry))
        for row in registry.models:
            check_name(row.name)
            check_hash(row.sha256)
        return tuple(sorted(registry.models, key=lambda row: row.name))

    def named(self, name: str) -> Installed | None:
        return next((row for row in self.installed() if row.name == name), None)

    def by_hash(self, sha256: str) -> Installed:
        """The row with that hash; ``Unavailable('model.missing')`` if there is none."""
        for row in self.installed():
            if row.sha256 == sha256:
                return row
        raise Unavailable(
            "model.missing",
            f"no installed model has the hash {sha256[:16]}…",
            advice="see 'outrider model list', then 'outrider model add NAME'",
        )

    def format_of(self, sha256: str, usual: Format) -> Format:
        """The format of an installed model; what is ``usual`` where it is not here."""
        return next((row.format for row in self.installed() if row.sha256 == sha256), usual)

    def path_for(self, sha256: str) -> Path:
        """The file of a registered model, its bytes hashed again now (0.1 to 2 s for 100 MB to 1 GB).

        Raises ``Unavailable('model.missing')`` when it is not registered or its file is gone,
        ``Tampered('model.hash')`` when the bytes are not those that were registered.
        """
        row = self.by_hash(sha256)
        path = self.folder / row.file
        again = f"outrider model remove {row.name} && outrider model add {row.name}"
        try:
            found = file_sha256(path)
        except FileNotFoundError as error:
            raise Unavailable(
                "model.missing", f"the file of {row.name} is gone", advice=again, where=str(path)
            ) from error
        except OSError as error:
            raise Unavailable(
                "model.unreadable", f"{row.name}: {error.strerror}", advice="check the file's owner", where=str(path)
            ) from error
        if found != sha256:
            raise Tampered("model.hash", f"the file of {row.name} has been changed", advice=again, where=str(path))
        return path

    @contextlib.contextmanager
    def installing(self) -> Iterator[Path]:
        """Hold the lock; yield an empty directory on the same disk. It is removed in the end, as are stale ones."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise disk_error(error, self.folder) from error
        with self._locked():
            for stale in self.folder.glob(f"{_INCOMING}*"):
                shutil.rmtree(stale, ignore_errors=True)
            incoming = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self.folder))
            try:
                yield incoming
            finally:
                shutil.rmtree(incoming, ignore_errors=True)

    def register(self, row: Installed, file: Path) -> Installed:
        """Move a finished file in and list it. Call inside ``installing``; the caller has checked the hash."""
        check_name(row.name)
        check_hash(row.sha256)
        try:
            file.chmod(0o600)
            _sync(file)
            file.replace(self.folder / row.file)
            kept = [other for other in self.installed() if other.name != row.name]
            self._write([*kept, row])
        except OSError as error:
            raise disk_error(error, self.folder) from error
        self._sweep()
        return row

    def remove(self, name: str) -> Installed:
        """Unlist a model and drop its file (unless another name shares it) and every kept prefix state."""
        with self.installing():
            row = self.named(name)
            if row is None:
                raise BadInput("model.unknown", f"{name!r} is not installed", advice="see 'outrider model list'")
            self._write([other for other in self.installed() if other.name != name])
            self._sweep()
            shutil.rmtree(self.states, ignore_errors=True)
        return row

    def collect(self, keep: Set[str], room: int, budget: int) -> list[Installed]:
        """Make room for ``room`` bytes more within ``budget`` (0: without bounds): unlist models whose hash is not in
        ``keep``, the longest installed first, and parts of files that nobody wants any more. What went.

        Raises ``Unavailable('model.budget')`` where what is kept leaves too little room.
        """
        with self.installing():
            for part in self.folder.glob(".part-*"):
                if part.name.removeprefix(".part-") not in keep:
                    part.unlink(missing_ok=True)
            rows = sorted(self.installed(), key=self._age)
            used, gone = sum({row.sha256: row.size for row in rows}.values()), []
            for row in rows:
                if budget and used + room > budget and row.sha256 not in keep:
                    gone.append(row)
                    used -= row.size if all(one in gone for one in rows if one.sha256 == row.sha256) else 0
            if gone:
                self._write([row for row in rows if row not in gone])
                self._sweep()
        if budget and used + room > budget:
            raise Unavailable(
                "model.budget",
                f"{(used + room) // 1_000_000} MB of models do not fit into {budget // 1_000_000} MB",
                advice="raise OUTRIDER_MODEL_DISK_MB, or remove a model: outrider model remove NAME",
            )
        return gone

    def _age(self, row: Installed) -> int:
        try:
            return (self.folder / row.file).stat().st_mtime_ns
        except OSError:
            return 0

    def _sweep(self) -> None:
        """Drop model files that no row lists: what a replaced or removed name leaves."""
        listed = {row.file for row in self.installed()}
        for path in self.folder.iterdir():
            if path.suffix in _SUFFIXES and _HASH.fullmatch(path.stem) and path.name not in listed:
                path.unlink(missing_ok=True)

    def _write(self, rows: list[Installed]) -> None:
        data = msgspec.json.format(msgspec.json.encode(_Registry(version=1, models=tuple(rows))), indent=1)
        fresh = self._registry.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as sink:
            sink.write(data)
            sink.flush()
            os.fsync(sink.fileno())
        fresh.replace(self._registry)
        _sync(self.folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                _lock(handle)
            except OSError as error:
                raise Conflict(
                    "model.locked",
                    "another process is installing or removing a model",
                    advice="wait until it is done",
                    where=str(self.folder),
                ) from error
            yield
        finally:
            os.close(handle)


def disk_error(error: OSError, where: Path) -> Unavailable:
    """What a failed write means to a person."""
    return Unavailable(
        "model.disk",
        f"could not write: {error.strerror or error}",
        advice="free some space or choose another --home; nothing was left behind",
        where=str(where),
    )


def _sync(path: Path) -> None:
    if sys.platform == "win32" and path.is_dir():
        return  # Windows cannot open a directory; the rename is journalled by NTFS
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
