"""The signed repository in memory: its roles, how long they last, and whose keys count for each.

Some keys are the hub's own, and it signs with them by itself. All others are people's: they carry a name
(``shared.offer.NAME_FIELD``), and a list that counts them is signed elsewhere and handed in.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from securesystemslib.signer import Signature as TufSignature  # type: ignore[attr-defined]  # as below
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # exported, but not in __all__
from tuf.api.metadata import (  # type: ignore[attr-defined]  # tuf builds its __all__ from names mypy cannot follow
    Key,
    Metadata,
    Root,
    Signed,
    Snapshot,
    Targets,
    Timestamp,
)

from shared.codec import unb64
from shared.keys import PublicKey, read_vkey, vkey
from shared.offer import NAME_FIELD, Offer, Quorum, Signature

# How long each role's signature holds. The timestamp is what stops a device from being shown an old repository as if
# it were new, so it is the short one. A week, renewed by the running hub when a third is used: a hub that stands still
# over a long weekend strands nobody, and a frozen copy is found out within a week. The hub's other lists are renewed in
# the same way; what people sign is not, hence a year for releases, and years for the root and what it alone may sign.
LIFETIME = {
    "timestamp": timedelta(days=7),
    "snapshot": timedelta(days=30),
    "targets": timedelta(days=3 * 365),
    "policy": timedelta(days=365),
    "model": timedelta(days=365),
    "root": timedelta(days=3 * 365),
}
RENEW_AFTER = 1 / 3

# TUF's wildcard does not cross a slash: files of a release stand directly in its folder or one folder below.
PATHS = {"policy": ["release/*/*", "release/*/*/*"], "model": ["models/*"]}
LISTS = ("targets", "policy", "model")
HASHES = ["sha256"]


class State:
    """The repository as the timestamp shows it, to be changed and committed."""

    def __init__(
        self,
        root: Root,
        timestamp: Metadata[Timestamp],
        snapshot: Metadata[Snapshot],
        lists: dict[str, Metadata[Targets]],
    ) -> None:
        self.root = root
        self.timestamp = timestamp
        self.snapshot = snapshot
        self.lists = lists

    def delegator(self, role: str) -> Root | Targets:
        return self.lists["targets"].signed if role in PATHS else self.root

    def quorum(self, role: str) -> Quorum:
        return quorum(self.delegator(role), role)

    def by_people(self, role: str) -> bool:
        delegator = self.delegator(role)
        return any(named(delegator.get_key(keyid)) for keyid in delegator.get_delegated_role(role).keyids)

    @property
    def signed(self) -> dict[str, Signed]:
        """What each role says."""
        lists: dict[str, Signed] = {role: held.signed for role, held in self.lists.items()}
        return {"root": self.root} | lists | {"snapshot": self.snapshot.signed, "timestamp": self.timestamp.signed}

    def told(self) -> dict[str, dict[str, Any]]:
        """Whose keys count for each role, and until when (ISO 8601, and microseconds since 1970 UTC), plain."""
        found = {}
        for role, signed in self.signed.items():
            delegator = self.delegator(role)
            given = delegator.get_delegated_role(role)
            keys = sorted((named(key), public(key).fingerprint) for key in map(delegator.get_key, given.keyids))
            found[role] = {
                "threshold": given.threshold,
                "keys": [{"name": name, "fingerprint": fingerprint} for name, fingerprint in keys],
                "by_people": role == "root" or self.by_people(role),
                "expires": signed.expires.isoformat(),
                "ends_at": int(signed.expires.timestamp()) * 1_000_000,
            }
        return found

    def version(self, role: str) -> int:
        return int(self.root.version if role == "root" else self.lists[role].signed.version)


def unsigned(signed: Signed) -> Metadata[Any]:
    """New metadata before its first signing, which makes it version 1."""
    signed.version = 0
    return Metadata(signed)


# --- keys: ours and TUF's -----------------------------------------------------------------------------------------


def tuf_key(text: str) -> Key:
    """A person's key as TUF keeps it, from its one line."""
    name, key = read_vkey(text)
    made = SSlibKey.from_crypto(key.verifier)
    made.unrecognized_fields[NAME_FIELD] = name
    return made


def named(key: Key) -> str:
    """Whose key it is; empty for the hub's own."""
    return str(key.unrecognized_fields.get(NAME_FIELD, ""))


def public(key: Key) -> PublicKey:
    return PublicKey(bytes.fromhex(key.keyval["public"]))


def key_line(key: Key) -> str:
    """The one line of a key in TUF's keeping. One without a name (a root key of before there were names) gets one."""
    return vkey(named(key) or f"key-{key.keyid[:8]}", public(key))


def quorum(delegator: Root | Targets, role: str) -> Quorum:
    found = delegator.get_delegated_role(role)
    return Quorum(found.threshold, sorted(key_line(delegator.get_key(keyid)) for keyid in found.keyids))


# --- what people sign -------------------------------------------------------------------------------------------


def payload(signed: Root | Targets) -> str:
    """The exact bytes that TUF signs, as text."""
    held: Metadata[Any] = Metadata(signed)
    return held.signed_bytes.decode()


def version_of(text: str) -> int:
    """The version of a payload of our own making."""
    return int(json.loads(text)["version"])


def joined(offer: Offer, signatures: list[Signature]) -> dict[str, Metadata[Any]]:
    """Metadata by role, with the signatures that were judged right for it."""
    return {role: _joined(role, text, signatures) for role, text in offer.payloads.items()}


def _joined(role: str, text: str, signatures: list[Signature]) -> Metadata[Any]:
    said = json.loads(text)
    held: Metadata[Any] = Metadata(Root.from_dict(said) if role == "root" else Targets.from_dict(said))
    for each in signatures:
        if role in each.signatures:
            keyid = tuf_key(each.key).keyid
            signature = unb64(each.signatures[role], what="the signature")
            held.signatures[keyid] = TufSignature(keyid, signature.hex())
    return held
