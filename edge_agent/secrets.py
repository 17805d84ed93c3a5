"""Named secrets of one agent: what its tools sign in with, and what the senders of webhooks sign with.

One file per secret, mode 0600, in ``HOME/secrets`` (0700), replaced atomically. A file that others can read, or a
folder that others can write, is refused and not repaired: what was exposed may have been copied, and only a person can
have it replaced. Values are handed to the adapter that names them and stand in no receipt, error, log or listing.

Not the keyring of the operating system: a headless Linux machine has no backend for one, and an agent that starts
before its user signs in could not open it. Where a backend works, it can take this class's place behind the same four
methods.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path

from edge_agent.identity import write_file
from shared.errors import BadInput, Refused, Unavailable

MOST_BYTES = 16 * 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Secrets:
    """The secrets in ``folder``, which is made at the first ``put``. Nothing is kept in memory: a secret that was
    replaced is read anew at its next use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> str:
        """The value. Raises ``Unavailable('secret.missing')``, ``Refused('secret.exposed')`` where others can read it,
        and ``Unavailable('secret.damaged')`` where it cannot be read."""
        path = self._path(name)
        try:
            self._check_folder(name)
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError as error:
            raise _missing(name) from error
        except OSError as error:
            raise _damaged(name, error.strerror or str(error)) from error
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise _damaged(name, "it is no file")
            if _others(found, 0o077):
                raise _exposed(name, path)
            value = os.read(handle, MOST_BYTES + 1).decode("latin-1")  # any bytes decode; only ASCII fits
        except OSError as error:
            raise _damaged(name, error.strerror or str(error)) from error
        finally:
            os.close(handle)
        if not _fits(value):
            raise _damaged(name, "it is no text of a fitting length")
        return value

    def put(self, name: str, value: str) -> None:
        """Keep a value, in place of a former one. Raises ``BadInput`` for a name or value that does not fit, and
        ``Unavailable('disk.write')``."""
        path = self._path(name)
        if not _fits(value):
            raise BadInput(
                "secret.value",
                f"the value of {name} does not fit",
                advice=f"give 1 to {MOST_BYTES} characters of ASCII",
            )
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._check_folder(name)
        except OSError as error:
            raise Unavailable(
                "disk.write", f"{self._folder}: {error.strerror}", advice="check the folder's owner and the disk"
            ) from error
        write_file(path, value.encode(), mode=0o600)

    def remove(self, name: str) -> None:
        """Raises ``Unavailable('secret.missing')``."""
        try:
            self._path(name).unlink()
        except FileNotFoundError as error:
            raise _missing(name) from error
        except OSError as error:
            raise Unavailable(
                "disk.write", f"{self._folder}: {error.strerror}", advice="check the folder's owner and the disk"
            ) from error

    def names(self) -> list[str]:
        """What is kept, by name and in order; empty where nothing ever was."""
        try:
            return sorted(path.name for path in self._folder.iterdir() if _NAME.fullmatch(path.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _damaged("", error.strerror or str(error)) from error

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise BadInput(
                "secret.name", f"{name[:80]!r} is no name of a secret", advice="use a-z, 0-9, dot, dash, underscore"
            )
        return self._folder / name

    def _check_folder(self, name: str) -> None:
        if _others(self._folder.stat(), 0o022):  # whoever can write here can put a secret of their own in its place
            raise _exposed(name, self._folder)


def _others(found: os.stat_result, bits: int) -> bool:
    """Whether somebody else owns it, or has one of these permissions."""
    if sys.platform == "win32":
        return False  # permissions are lists there, and a user's profile is private by default
    return bool(found.st_mode & bits) or found.st_uid not in (os.geteuid(), 0)


def _fits(value: str) -> bool:
    return value.isascii() and bool(value.strip()) and "\x00" not in value and len(value) <= MOST_BYTES


def _missing(name: str) -> Unavailable:
    return Unavailable(
        "secret.missing", f"there is no secret {name}", advice=f"set it: outrider agent secret set {name}"
    )


def _exposed(name: str, path: Path) -> Refused:
    return Refused(
        "secret.exposed",
        f"others can read or replace {name} ({path})",
        advice="have it replaced where it is from, close the folder (chmod -R go= on it) and set it again",
    )


def _damaged(name: str, said: str) -> Unavailable:
    return Unavailable("secret.damaged", f"the secret {name} cannot be read: {said}", advice="set it again")
