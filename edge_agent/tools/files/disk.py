"""Single steps on the disk, each relative to an open folder and without following links."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from edge_agent.tools.files.paths import OURS, Spot, in_the_way, not_plain, plain_status
from shared.codec import hex_sha256
from shared.errors import Refused

_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_READ |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)  # should a device stand there all the same
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # FAT, some network shares, some owners


@dataclass
class Held:
    """A file that was read and is still open, so that what became of it can be seen."""

    handle: int
    status: os.stat_result
    content: bytes

    def written_to(self) -> bool:
        """Whether somebody wrote into the very file since it was read."""
        return _version(os.fstat(self.handle))[1:] != _version(self.status)[1:]

    def read_again(self) -> bytes:
        os.lseek(self.handle, 0, os.SEEK_SET)
        return _read(self.handle, 1 << 40)


@contextmanager
def held(folder: int, spot: Spot, most: int) -> Iterator[Held | None]:
    """The regular file at ``spot``, read and kept open; ``None`` for nothing there. Raises ``Refused('files.plain')``
    and ``Refused('files.too-large')``."""
    found = plain_status(folder, spot)
    if found is None:
        yield None
        return
    if found.st_size > most:
        raise too_large(spot, found.st_size, most)
    try:
        handle = os.open(spot.name, _READ, dir_fd=folder)
    except OSError as error:
        raise in_the_way(error, spot) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise not_plain(spot)
        content = _read(handle, most + 1)
        if len(content) > most:
            raise too_large(spot, len(content), most)
        yield Held(handle, status, content)
    finally:
        os.close(handle)


def write_passing(folder: int, key: str, content: bytes, *, mode: int | None, modified_ns: int | None) -> str:
    """Write the content into a hidden file beside its target, durably; its mark. ``mode`` ``None`` is what the
    process gives new files."""
    name = passing(key)
    drop(folder, name)
    handle = os.open(name, _NEW, 0o666 if mode is None else 0o600, dir_fd=folder)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(handle, view) :]
            if mode is not None:
                os.fchmod(handle, mode)
            if modified_ns is not None:
                os.utime(handle, ns=(modified_ns, modified_ns))
            os.fsync(handle)
            os.fsync(folder)
            return mark(os.fstat(handle))
        finally:
            os.close(handle)
    except OSError:
        drop(folder, name)
        raise


def place(folder: int, key: str, spot: Spot, old: Held | None) -> None:
    """Give the hidden file its name at once: over ``old``, and only over that. Raises ``Refused('files.changed')``."""
    name = passing(key)
    now = plain_status(folder, spot)
    if (now and _version(now)) != (old and _version(old.status)):
        raise changed(spot)
    if old is None and take_name(folder, name, folder, spot):
        os.unlink(name, dir_fd=folder)
    else:
        os.rename(name, spot.name, src_dir_fd=folder, dst_dir_fd=folder)


def take_name(source: int, name: str, folder: int, spot: Spot) -> bool:
    """Link ``name`` to the free name ``spot``, which fails where somebody took it meanwhile; False where this file
    system has no such links, and a plain rename must do."""
    try:
        os.link(name, spot.name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        raise exists(spot) from None
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise Refused(
                "files.other-disk", f"{spot} is on another disk", advice="write it there, and trash the first one"
            ) from error
        if error.errno not in _NO_LINKS:
            raise
        if plain_status(folder, spot) is not None:
            raise exists(spot) from None
        return False
    return True


def drop(folder: int, name: str) -> None:
    """Remove one of our own hidden files, if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def passing(key: str) -> str:
    """The name of a content on its way, the same for the same key."""
    return f"{OURS}{hex_sha256(key.encode())[:24]}"


def mark(status: os.stat_result) -> str:
    """Which file it is, whatever its name."""
    return f"{status.st_dev}:{status.st_ino}"


def exists(spot: Spot) -> Refused:
    return Refused("files.exists", f"there is a {spot} already", advice="trash it first, or take another name")


def changed(spot: Spot) -> Refused:
    return Refused(
        "files.changed", f"{spot} is not as it was: somebody else changed it", advice="look at it, and decide again"
    )


def missing(spot: Spot) -> Refused:
    return Refused("files.missing", f"there is no {spot}", advice="list the folder to see what is there")


def too_large(spot: Spot, size: int, most: int) -> Refused:
    return Refused(
        "files.too-large", f"{spot} has {size} bytes, more than {most}", advice="raise max_bytes in tools.toml"
    )


def _version(status: os.stat_result) -> tuple[str, int, int]:
    return mark(status), status.st_size, status.st_mtime_ns


def _read(handle: int, most: int) -> bytes:
    parts = []
    while most > 0 and (part := os.read(handle, min(most, 1 << 20))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)
