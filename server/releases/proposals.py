"""What was proposed and waits for people's signatures, or has been closed lately: one file each, replaced whole."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from server.releases import durable
from shared.codec import canonical, hex_sha256, parse
from shared.errors import BadInput, Conflict
from shared.keys import read_vkey
from shared.offer import Offer, Signature, missing
from shared.release import Manifest, read_manifest

# People who were asked a month ago have forgotten what they were asked; and closed ones are kept as long.
KEPT_US = 30 * 24 * 3600 * 1_000_000
State = Literal["open", "completing", "completed", "superseded", "withdrawn"]


class Proposal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``completed_by`` is the user who had it completed. Once it is closed the payloads are gone."""

    id: str
    offer: Offer
    signatures: list[Signature] = []
    state: State = "open"
    completed_by: str = ""
    staged: bool = False

    @property
    def kind(self) -> str:
        return self.offer.kind

    @property
    def number(self) -> int:
        """The release's number, or the root's version."""
        return self.offer.number

    @property
    def by(self) -> str:
        return self.offer.by

    @property
    def at(self) -> int:
        """When it was proposed, in microseconds since 1970 UTC."""
        return self.offer.at

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.offer.manifest.encode())

    @property
    def files(self) -> dict[str, str]:
        """Path to hex SHA-256 of the release's files, as they stand in the hub's log; none of a root."""
        if self.kind == "root":
            return {}
        return self.manifest.files | {"release.json": hex_sha256(self.offer.manifest.encode())}

    @property
    def missing(self) -> dict[str, int]:
        """How many signatures each list still wants; empty when it can be completed."""
        return missing(self.offer, self.signatures)

    @property
    def signers(self) -> list[str]:
        return [read_vkey(each.key)[0] for each in self.signatures]


class Proposals:
    """The folder of them. The caller holds the hub's lock, and one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[Proposal]:
        """Newest first."""
        found = [self._read(path) for path in self._folder.glob("*.json")] if self._folder.is_dir() else []
        return sorted(found, key=lambda proposal: (proposal.at, proposal.id), reverse=True)

    def get(self, id: str) -> Proposal:
        """Raises ``BadInput('sign.unknown')``."""
        path = self._path(id)
        if not id.isalnum() or not path.exists():
            raise BadInput(
                "sign.unknown",
                "nothing with that id was proposed here, or it is long closed",
                advice="`outrider hub release proposals` lists them",
            )
        return self._read(path)

    def open(self, id: str) -> Proposal:
        """One that can still be signed and completed. Raises ``Conflict('sign.late')``."""
        proposal = self.get(id)
        if proposal.state != "open":
            raise Conflict("sign.late", f"this proposal is {proposal.state}", advice="propose it again, and sign that")
        return proposal

    def put(self, proposal: Proposal) -> Proposal:
        durable.write(self._path(proposal.id), canonical(proposal))
        return proposal

    def close(self, proposal: Proposal, state: State) -> None:
        offer = msgspec.structs.replace(proposal.offer, payloads={}, quorums={})
        self.put(msgspec.structs.replace(proposal, offer=offer, state=state))

    def drop(self, proposal: Proposal) -> None:
        durable.remove(self._path(proposal.id))

    def _read(self, path: Path) -> Proposal:
        return parse(path.read_bytes(), Proposal, code="release.note", what=str(path))

    def _path(self, id: str) -> Path:
        return self._folder / f"{id}.json"
