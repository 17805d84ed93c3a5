"""Paths that stay inside their roots, however they are written and whatever stands on the disk.

A path is ``root-name/folder/file``. Its form is judged first, without looking at the disk (``Roots.spot``); then it is
walked one component at a time from an open folder, never following a symbolic link (``Roots.folder``), so that nothing
that is swapped in between leads outside. Above the root the person's own settings are trusted, links included.

Only names that every system can hold are taken: a file named ``con`` or ``a:b`` is trouble on the next machine.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from edge_agent.tools import NotSent
from shared.errors import BadInput, OutriderError, Refused, Unavailable

OURS = ".outrider-"  # begins the names of files under way; no path may use it

_ROOT = re.compile(r"[a-z][a-z0-9-]{0,39}")
_DEPTH = 32
_NAME_BYTES = 200  # file systems hold 255; our own files under way add to it
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])( *\..*)?", re.IGNORECASE)
_SIGNS = set('\\:*?"<>|')
_TURNING = set("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # show a name otherwise
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True)
class Spot:
    """A place below a root; no ``parts`` is the root itself."""

    root: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return "/".join((self.root, *self.parts))

    @property
    def name(self) -> str:
        return self.parts[-1]

    @property
    def parent(self) -> Spot:
        return Spot(self.root, self.parts[:-1])


class Roots:
    """The folders, by name, in which an adapter may work."""

    def __init__(self, roots: Mapping[str, str], *, where: str) -> None:
        """Raises ``BadInput('files.roots')``; ``Unavailable('files.platform')`` where the system cannot walk safely.
        The folders need not be there yet."""
        if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
            raise Unavailable(
                "files.platform", "this system cannot open a file relative to an open folder",
                advice="use Linux or macOS for tools on files", where=where,
            )  # fmt: skip
        for name, path in roots.items():
            if not _ROOT.fullmatch(name) or not Path(path).is_absolute() or "\0" in path:
                raise BadInput(
                    "files.roots",
                    f"{name} = {path!r}",
                    advice='name = "/absolute/folder", lower-case names',
                    where=where,
                )
        if not roots:
            raise BadInput("files.roots", "there are no roots", advice='roots = {name = "/folder"}', where=where)
        self._roots = {name: Path(path) for name, path in roots.items()}

    def spot(self, text: str, *, root_too: bool = False) -> Spot:
        """Read a path. Raises ``BadInput('files.path')``."""
        root, *parts = text.split("/")
        if root not in self._roots:
            known = ", ".join(sorted(self._roots))
            _bad(text, f"does not begin with a root: {known}")
        if not parts and not root_too:
            _bad(text, "names a root, not a file in it")
        if len(parts) > _DEPTH:
            _bad(text, f"is deeper than {_DEPTH} folders")
        for part in parts:
            wrong = _wrong(part)
            if wrong:
                _bad(text, f"has the part {part!r}, which {wrong}")
        return Spot(root, tuple(parts))

    @contextmanager
    def folder(self, spot: Spot) -> Iterator[int]:
        """``spot`` as an open folder. Raises ``Refused('files.missing')`` where there is none,
        ``Refused('files.plain')`` where a link or something else stands in the way, ``NotSent`` where the root is out
        of reach."""
        handle = self._open_root(spot)
        try:
            for depth, part in enumerate(spot.parts, 1):
                handle = _step(handle, part, Spot(spot.root, spot.parts[:depth]))
            yield handle
        finally:
            os.close(handle)

    def missing(self, spot: Spot) -> list[str]:
        """The folders on the way to ``spot`` that are not there, outermost first, as paths."""
        handle = self._open_root(spot)
        try:
            for depth, part in enumerate(spot.parts, 1):
                here = Spot(spot.root, spot.parts[:depth])
                try:
                    handle = _step(handle, part, here)
                except Refused as error:
                    if error.code != "files.missing":
                        raise
                    return [str(Spot(spot.root, spot.parts[:end])) for end in range(depth, len(spot.parts) + 1)]
            return []
        finally:
            os.close(handle)

    def make(self, path: str) -> None:
        """Make one folder, durably; one that is there already is left as it is."""
        spot = self.spot(path)
        with self.folder(spot.parent) as parent:
            try:
                os.mkdir(spot.name, dir_fd=parent)
            except FileExistsError:
                return
            os.fsync(parent)

    def remove(self, path: str) -> None:
        """Remove one folder if it is there and empty, durably."""
        spot = self.spot(path)
        try:
            with self.folder(spot.parent) as parent:
                os.rmdir(spot.name, dir_fd=parent)
                os.fsync(parent)
        except Refused:
            return  # it is gone, or something else stands there: not ours
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise

    def _open_root(self, spot: Spot) -> int:
        path = self._roots[spot.root]
        try:
            # The root itself may be a link: the person at this computer chose it.
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotSent(
                "files.root", f"the root {spot.root} cannot be opened: {error.strerror}",
                advice="make the folder, or correct roots in tools.toml", where=str(path),
            ) from error  # fmt: skip


def _step(handle: int, part: str, here: Spot) -> int:
    """Open the folder ``part`` of the open folder ``handle``, which is closed once that has worked."""
    try:
        inner = os.open(part, _FOLDER, dir_fd=handle)
    except OSError as error:
        raise in_the_way(error, here) from error
    os.close(handle)
    return inner


def in_the_way(error: OSError, spot: Spot) -> OutriderError:
    """Why something could not be opened; nothing was changed."""
    if error.errno == errno.ENOENT:
        return Refused("files.missing", f"there is no {spot}", advice="list the folder to see what is there")
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
        return not_plain(spot)
    return NotSent("files.unreachable", f"{spot}: {error.strerror}", advice="check the folder's owner and the disk")


def not_plain(spot: Spot) -> Refused:
    return Refused(
        "files.plain", f"{spot} is a link, or not a plain file or folder", advice="name the real file inside the root"
    )


def status(folder: int, spot: Spot) -> os.stat_result | None:
    """What stands at ``spot`` in its open folder, links not followed; ``None`` for nothing."""
    try:
        return os.stat(spot.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise in_the_way(error, spot) from error


def plain_status(folder: int, spot: Spot) -> os.stat_result | None:
    """The same, and ``Refused('files.plain')`` for all that is no regular file."""
    found = status(folder, spot)
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise not_plain(spot)
    return found


def _wrong(part: str) -> str:
    if part in ("", ".", ".."):
        return "is no name"
    if part.startswith(OURS):
        return "is reserved for files under way"
    if part[-1] in ". " or part[0] == " ":
        return "begins or ends with a space, or ends with a dot"
    if _RESERVED.fullmatch(part):
        return "is a device on Windows"
    if any(
        sign in _SIGNS or sign in _TURNING or unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in part
    ):
        return "has a sign that no name may have"
    if len(part.encode()) > _NAME_BYTES:
        return f"is longer than {_NAME_BYTES} bytes"
    return ""


def _bad(text: str, said: str) -> NoReturn:
    raise BadInput("files.path", f"the path {text!r} {said}", advice="write it as root-name/folder/file")
