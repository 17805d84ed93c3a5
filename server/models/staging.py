"""A model's file on its way in: written in blocks, hashed on the way, bounded, and nobody's until it is named.

    HOME/repository/incoming/ID          the file
    HOME/repository/incoming/ID.chunks   its chunk list

They lie on the repository's disk, where a rename ends their way, and outside of what is served. What nobody named for a
day is thrown away.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

import msgspec

from server.releases import durable
from shared.chunks import Lister
from shared.codec import hex_sha256
from shared.errors import BadInput, Unavailable
from shared.release import Sha256

BLOCK = 1 << 20
_ID = re.compile(r"inc_[0-9a-f]{24}")
_LEFT_S = 24 * 3600


class Staged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that has come in whole. ``chunks`` is the SHA-256 of its chunk list, ``head`` the first bytes in hex."""

    id: str
    sha256: Sha256
    size: int
    chunks: Sha256
    head: str


class Staging:
    """The folder of a hub's incoming files. ``limit`` is the largest file in bytes."""

    def __init__(self, home: Path, limit: int) -> None:
        self._folder = home / "repository" / "incoming"
        self._limit = limit

    @contextlib.contextmanager
    def receiving(self) -> Iterator[Receiver]:
        """Take one file in. It is gone again unless ``Receiver.done`` was called."""
        self._sweep()
        id_ = f"inc_{secrets.token_hex(12)}"
        path = self._folder / id_
        whole = False
        try:
            durable.make_folder(self._folder, mode=0o700)
            with path.open("xb") as file:
                receiver = Receiver(id_, file, path, self._limit)
                yield receiver
                whole = receiver.whole
        except OSError as error:
            said = error.strerror or type(error).__name__
            raise Unavailable("disk.write", f"{path}: {said}", advice="free space, check its owner") from error
        finally:
            if not whole:
                path.unlink(missing_ok=True)

    def places(self, staged: Staged) -> tuple[Path, Path]:
        """Where a staged file and its chunk list lie. Raises ``BadInput('model.staged')`` where they do not."""
        if _ID.fullmatch(staged.id):
            path, listed = self._folder / staged.id, self._folder / f"{staged.id}.chunks"
            if listed.is_file() and path.is_file() and path.stat().st_size == staged.size:
                return path, listed
        raise BadInput("model.staged", "that file did not come in whole", advice="send it again")

    def drop(self, staged: Staged) -> None:
        """Throw a staged file away, if it is still there."""
        if _ID.fullmatch(staged.id):
            for name in (staged.id, f"{staged.id}.chunks"):
                (self._folder / name).unlink(missing_ok=True)

    def _sweep(self) -> None:
        before = time.time() - _LEFT_S
        for path in self._folder.glob("inc_*"):
            with contextlib.suppress(OSError):  # another may sweep at the same time
                if path.stat().st_mtime < before:
                    path.unlink()


class Receiver:
    """One file as it comes."""

    def __init__(self, id_: str, file: BinaryIO, path: Path, limit: int) -> None:
        self.whole = False
        self._id, self._file, self._path, self._limit = id_, file, path, limit
        self._lister, self._head = Lister(), b""
        self.folder = path.parent

    def write(self, data: bytes) -> None:
        """Raises ``BadInput('model.too-large')``."""
        if self._lister.size + len(data) > self._limit:
            raise BadInput(
                "model.too-large",
                f"the file has more than {self._limit // 1_000_000} MB",
                advice="raise OUTRIDER_HUB_MODEL_BYTES if devices are to have such a file",
            )
        self._head = (self._head + data[:8])[:8]
        self._lister.take(data)
        self._file.write(data)

    def pour(self, source: IO[bytes]) -> None:
        while block := source.read(BLOCK):
            self.write(block)

    def done(self) -> Staged:
        """It is whole: force it to disk, with its chunk list."""
        self._file.flush()
        os.fsync(self._file.fileno())
        sha256, listed = self._lister.done()
        durable.write(self._path.with_name(f"{self._id}.chunks"), listed)
        self.whole = True
        return Staged(self._id, sha256, self._lister.size, hex_sha256(listed), self._head.hex())
