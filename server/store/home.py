"""The hub's home directory: who it is, its key, and the lock that keeps it to one writer.

HOME/hub.json     its names, written once
HOME/hub.lock     held by whichever process may write
HOME/keys/hub.key the key that signs the log, cosigns devices' checkpoints and seals messages (hex, 0600)
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from shared.codec import parse
from shared.errors import BadInput, Conflict, Unavailable
from shared.keys import SigningKey

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no fcntl
    fcntl = None  # type: ignore[assignment]  # the seam: take_lock falls back to msvcrt there

HUB_KEY = "hub.key"


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``name`` is for people; ``hub`` names the hub to machines (handshakes, cosignatures), and is never changed."""

    name: str
    hub: str


def _unavailable(path: Path, error: OSError) -> Unavailable:
    return Unavailable("hub.home", f"{error.strerror}", advice="check the directory and its owner", where=str(path))


def make_private(folder: Path) -> None:
    """Make a directory that only this user may enter."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise _unavailable(folder, error) from error


def write_secret(path: Path, data: bytes) -> None:
    """Write a new file for this user alone, and see it onto the disk. Never overwrites."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Conflict(
            "hub.exists", "this file is there already", advice="use it, or move it away", where=str(path)
        ) from error
    except OSError as error:
        raise _unavailable(path, error) from error
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def make_home(home: Path, name: str, random: Callable[[int], bytes]) -> Identity:
    """Make the directory, the key and the identity of a new hub. Raises ``Conflict('hub.exists')`` where one lives."""
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise BadInput("hub.name", f"{name!r} cannot name a hub", advice="use up to 100 printable characters")
    if (home / "hub.json").exists():
        raise Conflict("hub.exists", "a hub lives here already", advice="choose another --home", where=str(home))
    make_private(home)
    make_private(home / "keys")
    key = SigningKey(random(32))
    write_secret(home / "keys" / HUB_KEY, key.secret_bytes().hex().encode() + b"\n")
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "hub"
    identity = Identity(name=name.strip(), hub=f"{slug}/{key.public.fingerprint}")
    write_secret(home / "hub.json", msgspec.json.format(msgspec.json.encode(identity)) + b"\n")
    return identity


def load_identity(home: Path) -> Identity:
    path = home / "hub.json"
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise Unavailable(
            "hub.missing", "no hub lives here", advice="run outrider hub init", where=str(home)
        ) from error
    except OSError as error:
        raise _unavailable(path, error) from error
    return parse(data, Identity, code="hub.identity", what=str(path))


def load_key(home: Path) -> SigningKey:
    path = home / "keys" / HUB_KEY
    try:
        text = path.read_text(encoding="ascii").strip()
        return SigningKey(bytes.fromhex(text))
    except OSError as error:
        raise _unavailable(path, error) from error
    except ValueError as error:
        raise Unavailable(
            "hub.key", "the hub's key cannot be read", advice="restore the file", where=str(path)
        ) from error


def make_token(path: Path) -> str:
    """The secret in a file, made on first use: it proves that whoever shows it can read this user's files."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        token = secrets.token_hex(32)
        write_secret(path, token.encode() + b"\n")
        return token
    except OSError as error:
        raise _unavailable(path, error) from error


@contextlib.contextmanager
def take_lock(home: Path) -> Iterator[None]:
    """Be the one process that writes here. Raises ``Conflict('hub.locked')`` while another is.

    The kernel drops the lock when its process ends, however it ends, so there are no stale locks to clear.
    """
    path = home / "hub.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unavailable(path, error) from error
    try:
        try:
            _lock(handle)
        except OSError as error:
            raise Conflict(
                "hub.locked", "another process runs this hub", advice="stop it, or ask it", where=str(path)
            ) from error
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt  # pragma: no cover - Windows only

    msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # pragma: no cover
