"""People with keys, for tests: what they do at their own desks with ``outrider keys``."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.releases import Proposal, Releases, RootChange
from shared.keys import SigningKey, vkey
from shared.offer import Quorum, Signature, read_offer, sign_offer


class Person:
    """Somebody and their private key."""

    def __init__(self, name: str, key: SigningKey | None = None) -> None:
        self.name = name
        self.key = key or SigningKey(name.encode().ljust(32, b"."))

    @property
    def text(self) -> str:
        return vkey(self.name, self.key.public)

    def sign(self, proposal: Proposal) -> Signature:
        return sign_offer(read_offer(proposal.offer.data()), self.text, self.key)


def root_keepers(home: Path) -> list[Person]:
    """Those who hold the root keys that a new hub made."""
    return [Person(f"root-{number}", _private(home / f"keys/tuf/root-{number}.key")) for number in (1, 2, 3)]


def _private(path: Path) -> SigningKey:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return SigningKey(key.private_bytes_raw())


def quorum(threshold: int, *people: Person) -> Quorum:
    return Quorum(threshold, [person.text for person in people])


def signed(releases: Releases, proposal: Proposal, *people: Person) -> int:
    """Have a proposal signed and completed."""
    for person in people:
        releases.add_signature(proposal.id, person.sign(proposal), "eve")
    return releases.complete(proposal.id, "eve")


def change_root(releases: Releases, change: RootChange, *people: Person) -> int:
    return signed(releases, releases.offer_root(change, "eve"), *people)


def expiries(releases: Releases) -> dict[str, int]:
    """When each role's signature ends (microseconds since 1970 UTC)."""
    return {role: given["ends_at"] for role, given in releases.trust()["roles"].items()}
