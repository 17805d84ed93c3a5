"""The hub's own signing keys: one file each, PKCS#8 PEM, so that any TUF tool can use one that was moved away.

A key that is to be replaced and the one that replaces it are both here until the root that names the new one is in
force: ``ROLE.key`` and ``ROLE.next.key``. Which of them signs is never a matter of the file's name: it is the one that
the repository counts.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # exported, but not in __all__

from server.releases import durable
from shared.errors import Refused, Unavailable
from shared.offer import NAME_FIELD

ROOT_KEYS = ("root-1", "root-2", "root-3")
ROOT_THRESHOLD = 2
ONLINE = ("policy", "model", "snapshot", "timestamp")

README = """\
These keys sign the releases that your devices obey. Each file is an Ed25519 private key (PKCS#8 PEM).

  root-1.key root-2.key root-3.key   Say which other keys count. Any two of the three are enough.
  policy.key model.key               Sign each release, and the list of permitted models, unless people do.
  snapshot.key timestamp.key         Used by the running hub to show that what it serves is complete and recent.

Do this now: move the root keys to three people or places, such as memory sticks in safes, and delete them here. While
two of them are in this folder, whoever copies it can take over every device. The hub runs without root keys. You need
two of them to replace a lost or stolen key, to say who may publish, and to renew the root before it expires; they sign
where they are kept, by `outrider keys sign`, and never have to come back here.

Back up the remaining files. Without them nothing can be published until two root keys have named others; without two
root keys, every device has to be enrolled again.
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
                self._make(name)
        durable.write(self.folder / "README.txt", README.encode(), mode=0o600)

    def root_signers(self) -> list[CryptoSigner]:
        """Those first root keys that are in the folder at the moment, by name."""
        signers = []
        for name in ROOT_KEYS:
            if self._path(name).exists():
                signer = self._load(name)
                signer.public_key.unrecognized_fields[NAME_FIELD] = name
                signers.append(signer)
        return signers

    def signer(self, role: str, keyids: Collection[str]) -> CryptoSigner:
        """The role's key that is one of ``keyids``.

        Raises ``Unavailable('release.key-missing' | 'release.key-damaged' | 'release.key-wrong')``,
        ``Refused('release.key-exposed')``.
        """
        names = [name for name in (f"{role}.next", role) if self._path(name).exists()]
        for signer in [self._load(name) for name in names or [role]]:
            if signer.public_key.keyid in keyids:
                return signer
        raise Unavailable(
            "release.key-wrong",
            f"{role}.key is not the key that the repository names",
            advice="restore the right key file from the backup",
        )

    def coming(self, role: str, *, fresh: bool) -> SSlibKey:
        """The public key to name for a role of the hub's own: the present one, or a new one that waits beside it."""
        name = f"{role}.next" if fresh or not self._path(role).exists() else role
        if not self._path(name).exists():
            self._make(name)
        return self._load(name).public_key

    def tidy(self, counted: dict[str, list[str]]) -> None:
        """Let go of keys that no longer count. ``counted``: for each role that the hub signs for, the keyids."""
        for role in (*ONLINE, "targets"):  # hubs of before the root's keys signed `targets` have a key for it
            following = self._path(f"{role}.next")
            if role not in counted:
                for path in (self._path(role), following):
                    durable.remove(path)
            elif following.exists() and self._load(f"{role}.next").public_key.keyid in counted[role]:
                durable.rename(following, self._path(role))

    def _make(self, name: str) -> None:
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        durable.write(self._path(name), pem, mode=0o600)

    def _load(self, name: str) -> CryptoSigner:
        path = self._path(name)
        try:
            mode = path.stat().st_mode
            private = serialization.load_pem_private_key(path.read_bytes(), None)
        except FileNotFoundError as error:
            raise Unavailable(
                "release.key-missing",
                f"{path} is missing",
                advice="restore it from the backup; a lost key is replaced by `outrider hub root offer --new-key`",
            ) from error
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _damaged(path) from error
        if sys.platform != "win32" and mode & 0o077:
            raise Refused(
                "release.key-exposed",
                f"other users can read {path}",
                advice=f"chmod 600 {path}; if they may have read it, replace it: `outrider hub root offer --new-key`",
            )
        if not isinstance(private, Ed25519PrivateKey):
            raise _damaged(path)
        return CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.key"


def _damaged(path: Path) -> Unavailable:
    return Unavailable(
        "release.key-damaged", f"{path} is not an Ed25519 key in PEM", advice="restore it from the backup"
    )
