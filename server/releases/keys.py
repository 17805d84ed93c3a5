"""The repository's signing keys: one file each, PKCS#8 PEM, so that any TUF tool can use one that was moved away."""

from __future__ import annotations

import sys
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # exported, but not in __all__

from server.releases import durable
from shared.errors import Refused, Unavailable

ROOT_KEYS = ("root-1", "root-2", "root-3")
ROOT_THRESHOLD = 2
ONLINE = ("targets", "policy", "model", "snapshot", "timestamp")

README = """\
These keys sign the releases that your devices obey. Each file is an Ed25519 private key (PKCS#8 PEM).

  root-1.key root-2.key root-3.key   Say which other keys count. Any two of the three are enough.
  targets.key                        Says that policy.key may publish releases and model.key may list models.
  policy.key model.key               Sign each release, and the list of permitted models.
  snapshot.key timestamp.key         Used by the running hub to show that what it serves is complete and recent.

Do this now: move two of the root keys (say root-2.key and root-3.key) to two offline places, such as memory sticks in
two safes, and delete them here. While all three are in this folder, whoever copies it can take over every device. The
hub runs without root keys. You need two of them together only to replace a lost or stolen key, and to renew the root
before it expires.

Back up the remaining files. Without targets.key, policy.key, snapshot.key and timestamp.key nothing can be published
until the root is renewed; without two root keys, every device has to be enrolled again.
"""


class KeyFolder:
    """``HOME/keys/tuf``: files of mode 0600 in a folder of mode 0700."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make_all(self) -> None:
        """Make every key that is not there yet, and the README that says what to do with them."""
        durable.make_folder(self.folder, mode=0o700)
        self.folder.chmod(0o700)
        for name in (*ROOT_KEYS, *ONLINE):
            if not self._path(name).exists():
                durable.write(self._path(name), _pem(Ed25519PrivateKey.generate()), mode=0o600)
        durable.write(self.folder / "README.txt", README.encode(), mode=0o600)

    def signer(self, name: str) -> CryptoSigner:
        """Raises ``Unavailable('release.key-missing' | 'release.key-damaged')``, ``Refused('release.key-exposed')``."""
        path = self._path(name)
        try:
            mode = path.stat().st_mode
            private = serialization.load_pem_private_key(path.read_bytes(), None)
        except FileNotFoundError as error:
            raise Unavailable(
                "release.key-missing",
                f"{path} is missing",
                advice="restore it from the backup; a lost key is replaced by renewing the root",
            ) from error
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _damaged(path) from error
        if sys.platform != "win32" and mode & 0o077:
            raise Refused(
                "release.key-exposed",
                f"other users can read {path}",
                advice=f"chmod 600 {path}; if they may have read it, replace it by renewing the root",
            )
        if not isinstance(private, Ed25519PrivateKey):
            raise _damaged(path)
        return CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))

    def root_signers(self) -> list[CryptoSigner]:
        """Those root keys that are in the folder at the moment."""
        return [self.signer(name) for name in ROOT_KEYS if self._path(name).exists()]

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.key"


def _damaged(path: Path) -> Unavailable:
    return Unavailable(
        "release.key-damaged", f"{path} is not an Ed25519 key in PEM", advice="restore it from the backup"
    )


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
