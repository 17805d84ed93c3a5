"""Who this device is: its two keys, and the hub it joined.

The log key signs checkpoints, the link key signs handshakes: a leak of one does not forge the other. Key files are made
with ``O_EXCL`` and mode 0600 in a folder of mode 0700; a file that others can read is refused, not repaired.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from pathlib import Path

import msgspec

from edge_agent.config import Home
from shared.codec import parse
from shared.errors import BadInput, Conflict, Refused, Unavailable
from shared.keys import PublicKey, SigningKey


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``identity.json``: what enrolment fixed. ``origin`` names this device's log; ``hub_key`` is base64."""

    device: str
    name: str
    origin: str
    hub: str
    hub_key: str
    hub_url: str

    @property
    def hub_public(self) -> PublicKey:
        return PublicKey.from_text(self.hub_key)


def load_identity(home: Home) -> Identity:
    try:
        data = home.identity.read_bytes()
    except FileNotFoundError as error:
        raise Unavailable(
            "agent.not-joined",
            f"{home.root} belongs to no hub yet",
            advice="get a token (`outrider hub token`) and run `outrider agent join URL TOKEN`",
        ) from error
    except OSError as error:
        raise _disk(home.identity, error) from error
    return parse(data, Identity, code="agent.identity", what=str(home.identity))


def save_identity(home: Home, identity: Identity) -> None:
    write_file(home.identity, msgspec.json.format(msgspec.json.encode(identity), indent=2) + b"\n", mode=0o600)


def write_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace a file so that a crash leaves the old bytes or the new ones, never a mixture."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _disk(path, error) from error


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive power loss, where the system can."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_key(path: Path) -> SigningKey:
    """A new key, written before it is used. Raises ``Conflict('key.exists')`` rather than replace one."""
    key = SigningKey(secrets.token_bytes(32))
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Conflict("key.exists", f"{path} exists already", advice="use another --home, or remove it") from error
    except OSError as error:
        raise _disk(path, error) from error
    try:
        with os.fdopen(handle, "w") as file:
            file.write(key.secret_bytes().hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except OSError as error:
        raise _disk(path, error) from error
    return key


def load_key(path: Path) -> SigningKey:
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise Unavailable("key.missing", f"{path} is missing", advice="restore it, or join again") from error
    except OSError as error:
        raise _disk(path, error) from error
    if sys.platform != "win32" and mode & 0o077:
        raise Refused("key.exposed", f"others can read {path}", advice=f"chmod 600 {path}; if unsure, join again")
    try:
        return SigningKey(bytes.fromhex(data.decode().strip()))
    except (ValueError, BadInput) as error:
        raise Unavailable("key.damaged", f"{path} is damaged", advice="restore it, or join again") from error


def _disk(path: Path, error: OSError) -> Unavailable:
    said = error.strerror or str(error)
    return Unavailable("disk.write", f"{path}: {said}", advice="free some space; check the file's owner and the disk")
