"""Publishing: workspace to signed release, its number, its place in the hub's log.

A publish in two steps. *Propose*: check the workspace, put its files where no list leads to them yet, and keep on disk
what is to be signed. *Complete*: sign (the repository makes it visible in one step at its end), append
``release.published`` to the hub's log, close the proposal. Where people sign releases, their signatures are collected
in between; where the hub does, ``publish`` takes both steps at once. The next root goes the same way (``offer_root``).

A kill in the middle of completing is made good on the next start: what became visible is logged then; else a proposal
that people signed is open again, and one of the hub's own is dropped and its number stays unused. The log may thus name
a release twice (a kill between append and closing), never miss one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from server.releases.ceremony import RootChange
from server.releases.expiry import ending
from server.releases.keys import KeyFolder
from server.releases.proposals import KEPT_US, Proposal, Proposals
from server.releases.repository import Repository
from server.releases.state import joined
from server.releases.workspace import Candidate, read_workspace
from shared import limits
from shared.codec import canonical
from shared.entries import Draft, Facts, OfferSigned, ReleasePublished, RootChanged
from shared.errors import BadInput, Conflict, OutriderError, Refused, Unavailable
from shared.keys import read_vkey
from shared.offer import Offer, Signature, judge
from shared.release import Manifest, Release, open_release, read_manifest


class HubLog(Protocol):
    """What publishing needs of the hub's log."""

    def append(self, drafts: list[Draft], /) -> object:
        """Commit durably, or raise."""


class Releases:
    """The hub's releases. ``clock()`` is microseconds since 1970 UTC; where ``staged``, every release is published for
    nobody until its rollout starts.

    One process at a time, by the hub's lock; within it, any thread.
    """

    def __init__(self, home: Path, hublog: HubLog, *, clock: Callable[[], int], staged: bool = False) -> None:
        self._workspace = home / "workspace"
        self._proposals = Proposals(home / "repository" / "proposals")
        self._repository = Repository(home / "repository", KeyFolder(home / "keys" / "tuf"), clock)
        self._hublog = hublog
        self._clock = clock
        self.staged = staged
        self._lock = threading.RLock()

    def init_repository(self) -> None:
        """Keys and an empty, signed repository. Raises ``Conflict('release.repository-exists')``."""
        with self._lock:
            self._repository.create()

    # --- publishing ---------------------------------------------------------------------------------------------

    def people_sign(self) -> bool:
        """Whether a release needs the signatures of people; else the hub's own key is enough."""
        with self._lock:
            return self._repository.by_people("policy")

    def publish(self, by: str, *, staged: bool = False) -> int:
        """Publish the workspace as the next release; ``by`` is the user. Returns its number.

        Raises ``BadInput`` (the workspace, with file, line and field), ``Conflict('release.unchanged')``,
        ``Conflict('release.model-changed')``, ``Refused('release.needs-people')``, ``Unavailable`` or ``Tampered``
        (keys or repository).
        """
        with self._lock:
            if self.people_sign():
                raise Refused(
                    "release.needs-people",
                    "people sign this hub's releases",
                    advice="propose it: `outrider hub release publish`, and have the offer signed",
                )
            return self.complete(self.propose(read_workspace(self._workspace), by, staged=staged).id, by)

    def propose(self, candidate: Candidate, by: str, *, staged: bool = False) -> Proposal:
        """Keep a candidate as the next release, to be signed and completed. A number is never used twice.

        Raises ``Conflict('release.unchanged' | 'release.model-changed')``, ``BadInput('release.too-many-files')``.
        """
        with self._lock:
            self.recover()
            self._refuse_unchanged(candidate)
            staged = staged or self.staged
            number, now = self._next_number(), self._clock()
            manifest = canonical(candidate.manifest(number, now))
            offer = Offer("release", number, now, by, manifest.decode(), {}, {})
            proposal = Proposal(offer.id, offer, staged=staged)
            self._refuse_too_many(ReleasePublished(number, by, proposal.files, staged))
            files = {"release.json": manifest, **candidate.files}
            payloads, quorums = self._repository.draft(_targets(number, files), _models(proposal.manifest))
            return self._put(msgspec.structs.replace(offer, payloads=payloads, quorums=quorums), staged=staged)

    def offer_root(self, change: RootChange, by: str) -> Proposal:
        """The next root and what it changes, to be signed by the root's keys. Raises ``BadInput('root.change')``."""
        with self._lock:
            self.recover()
            payloads, quorums = self._repository.draft_root(change)
            version = self._repository.root_version() + 1
            return self._put(Offer("root", version, self._clock(), by, "", payloads, quorums))

    def add_signature(self, id: str, signature: Signature, by: str) -> Proposal:
        """Take one person's signature, judged at once; ``by`` is who handed it in.

        Raises ``BadInput('sign.unknown' | 'sign.other-offer')``, ``Refused('sign.not-wanted')``,
        ``Tampered('sign.wrong')``, ``Conflict('sign.twice' | 'sign.late')``.
        """
        with self._lock:
            proposal = self._open(id)
            judge(proposal.offer, proposal.signatures, signature)
            signer = read_vkey(signature.key)[1].fingerprint
            self._hublog.append([Draft(OfferSigned(id, proposal.kind, proposal.number, signer, by))])
            return self._proposals.put(msgspec.structs.replace(proposal, signatures=[*proposal.signatures, signature]))

    def complete(self, id: str, by: str) -> int:
        """Bring into force what was proposed; the number of the release, or the root's version.

        Raises ``Conflict('sign.missing')`` where signatures are missing, ``Conflict('sign.late')`` where it is closed,
        or another one was completed first, ``Unavailable`` or ``Tampered`` (keys or repository).
        """
        with self._lock:
            self.recover()
            proposal = self._open(id)
            if proposal.missing:
                lacking = ", ".join(f"{count} for {role}" for role, count in proposal.missing.items())
                raise Conflict(
                    "sign.missing", f"signatures are missing: {lacking}", advice="have the offer signed by more people"
                )
            proposal = msgspec.structs.replace(proposal, state="completing", completed_by=by)
            self._carry_out(self._proposals.put(proposal))
            return proposal.number

    def withdraw(self, id: str, by: str) -> None:
        """Close a proposal that nobody wants any more."""
        with self._lock:
            proposal = self._open(id)
            self._proposals.close(msgspec.structs.replace(proposal, completed_by=by), "withdrawn")

    def proposals(self) -> list[Proposal]:
        """What is open, and what was closed in the last month; newest first."""
        with self._lock:
            return self._proposals.all()

    def proposal(self, id: str) -> Proposal:
        """Raises ``BadInput('sign.unknown')``."""
        with self._lock:
            return self._proposals.get(id)

    def recover(self) -> None:
        """Make good what a kill in the middle of completing left. Whatever changes releases begins so."""
        with self._lock:
            for proposal in self._proposals.all():
                if proposal.state != "completing":
                    continue
                if self._visible(proposal):
                    self._carry_out(proposal)
                elif proposal.signatures:
                    self._proposals.put(msgspec.structs.replace(proposal, state="open", completed_by=""))
                else:
                    self._proposals.drop(proposal)

    def refresh_timestamp(self) -> bool:
        """Sign anew what has used a third of its life; True if anything was. Call it on start and every hour.

        It makes good an interrupted publish too, so that a hub has one thing to call.
        """
        with self._lock:
            self.recover()
            return self._repository.refresh()

    # --- reading ------------------------------------------------------------------------------------------------

    def names(self) -> dict[str, list[str]]:
        """What the newest release has a name for: its ``playbook`` names and ``tool`` names. Empty where none is
        published, or it cannot be opened."""
        try:
            release = self.release(self.current())
        except OutriderError:
            return {"playbook": [], "tool": []}
        return {"playbook": sorted(release.playbooks), "tool": sorted(release.tools)}

    def current(self) -> int:
        """The newest release's number; 0 where none is published yet."""
        return max(self._numbers(), default=0)

    def release(self, number: int) -> Release:
        """A published release, read back and checked. Raises ``Unavailable('release.none')`` for an unknown number."""
        manifest, files = self._contents(number)
        return open_release(canonical(manifest), files)

    def files(self, number: int) -> dict[str, bytes]:
        """The files of a published release as they are, without ``release.json``. Raises as ``release`` does."""
        return self._contents(number)[1]

    def root_bytes(self) -> bytes:
        """The newest root.json: what a device is given to trust when it joins."""
        with self._lock:
            return self._repository.root_bytes()

    def minimum(self) -> dict[str, int]:
        """The oldest ``timestamp``, ``snapshot`` and ``targets`` versions that a device joining now may accept."""
        with self._lock:
            return self._repository.versions()

    def trust(self) -> dict[str, Any]:
        """Whose keys count, JSON-plain: ``version`` of the root, and for each of the ``roles`` its ``threshold``,
        ``keys`` (``name``, empty for the hub's own, and ``fingerprint``), ``by_people``, and its end: ``expires`` (ISO
        8601, UTC), ``ends_at`` (microseconds since 1970 UTC), ``level`` (empty, or ``soon``, ``urgent``, ``over``) and
        ``advice``, who must do what, where there is a level."""
        with self._lock:
            return self._repository.trust()

    def ending(self) -> list[dict[str, Any]]:
        """What has to be renewed soon, nearest end first: roles as ``trust`` tells them, with ``role`` and ``what``.
        Empty where there is no repository that could be read: who signs or publishes is told that."""
        try:
            return ending(self.trust())
        except OutriderError:
            return []

    # --- within -------------------------------------------------------------------------------------------------

    def _numbers(self) -> list[int]:
        with self._lock:
            listed = self._repository.listed()
        return [int(path.split("/")[1]) for path in listed if path.endswith("/release.json")]

    def _next_number(self) -> int:
        """Beyond every number that was ever used, were it only by an interrupted publish."""
        used = [int(name) for name in self._repository.folders() if name.isdecimal()]
        return max([*used, *self._numbers()], default=0) + 1

    def _manifest(self, number: int, listed: dict[str, str]) -> Manifest:
        path = f"release/{number}/release.json"
        if path not in listed:
            raise _none(f"there is no release {number}")
        return read_manifest(self._repository.target(path, listed[path]))

    def _contents(self, number: int) -> tuple[Manifest, dict[str, bytes]]:
        with self._lock:
            manifest = self._manifest(number, self._repository.listed())
            return manifest, self._bytes(number, manifest.files)

    def _bytes(self, number: int, files: dict[str, str]) -> dict[str, bytes]:
        return {path: self._repository.target(f"release/{number}/{path}", sha256) for path, sha256 in files.items()}

    def _put(self, offer: Offer, *, staged: bool = False) -> Proposal:
        self._sweep()
        return self._proposals.put(Proposal(offer.id, offer, staged=staged))

    def _open(self, id: str) -> Proposal:
        self._sweep()
        return self._proposals.open(id)

    def _sweep(self) -> None:
        """Close what can no longer be completed (overtaken, or too old), and forget what is long closed."""
        for proposal in self._proposals.all():
            old = self._clock() - proposal.at > KEPT_US
            if proposal.state == "open":
                overtaken = proposal.kind == "release" and proposal.number <= self.current()
                if old or overtaken or not self._repository.fits(proposal.offer):
                    self._proposals.close(proposal, "superseded")
            elif old and proposal.state != "completing":
                self._proposals.drop(proposal)

    def _visible(self, proposal: Proposal) -> bool:
        if proposal.kind == "root":
            return self._repository.root_version() >= proposal.number
        listed = self._repository.listed().get(f"release/{proposal.number}/release.json")
        return listed == proposal.files["release.json"]

    def _carry_out(self, proposal: Proposal) -> None:
        ready = joined(proposal.offer, proposal.signatures)
        if proposal.kind == "root":
            self._repository.accept_root(ready)
            facts: Facts = RootChanged(proposal.number, proposal.completed_by, self._repository.signers())
        else:
            if not self._visible(proposal):
                files = _targets(proposal.number, self._bytes(proposal.number, proposal.files))
                self._repository.add(files, _models(proposal.manifest), ready)
            facts = ReleasePublished(proposal.number, proposal.completed_by, proposal.files, proposal.staged)
        self._hublog.append([Draft(facts)])
        self._proposals.close(proposal, "completed")
        self._sweep()

    def _refuse_unchanged(self, candidate: Candidate) -> None:
        number = self.current()
        if self._repository.people_are_due():
            return  # the same again, signed anew before it expires
        if number and candidate.same_as(self._manifest(number, self._repository.listed())):
            raise Conflict(
                "release.unchanged",
                f"the workspace says what release {number} says",
                advice="change something first; devices already have this",
            )

    def _refuse_too_many(self, facts: ReleasePublished) -> None:
        # The release's file list stands in one log entry; a little room is left for the entry's own fields.
        if len(msgspec.json.encode(facts)) > limits.ENTRY_BYTES - 1024:
            raise BadInput(
                "release.too-many-files",
                f"{len(facts.files)} files do not fit in one release",
                advice="remove prompt versions and playbooks that are no longer used",
            )


def _targets(number: int, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"release/{number}/{path}": data for path, data in files.items()}


def _models(manifest: Manifest) -> dict[str, tuple[int, str]]:
    return {name: listed for model in manifest.models for name, listed in model.targets.items()}


def _none(said: str) -> Unavailable:
    return Unavailable("release.none", said, advice="run `outrider hub release publish`")
