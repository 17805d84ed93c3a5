"""Publishing: workspace to signed release, its number, its place in the hub's log, and who is to run it.

A publish in order: read and check the workspace; note on disk what is about to be published; sign (the repository makes
it visible in one step at its end); append ``release.published`` to the hub's log; remove the note. A kill in between is
made good on the next start: if the release became visible it is logged then, else the note is dropped and its number
stays unused. The log may thus name a release twice (a kill between append and removal), never miss one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from server.releases import durable
from server.releases.keys import KeyFolder
from server.releases.repository import Repository
from server.releases.workspace import Candidate, read_workspace
from shared import limits
from shared.codec import canonical, hex_sha256, parse
from shared.entries import Draft, ReleasePublished
from shared.errors import BadInput, Conflict, Unavailable
from shared.keys import Envelope, SigningKey
from shared.release import Assignment, Manifest, Release, open_release, read_manifest, sign

# An assignment is made anew whenever a device asks. A day bounds how long a captured one could hold a device back.
ASSIGNMENT_US = 24 * 3600 * 1_000_000


class HubLog(Protocol):
    """What publishing needs of the hub's log."""

    def append(self, drafts: list[Draft], /) -> object:
        """Commit durably, or raise."""


class Releases:
    """The hub's releases. ``key`` signs assignments, ``clock()`` is microseconds since 1970 UTC.

    One process at a time, by the hub's lock; within it, any thread.
    """

    def __init__(self, home: Path, hublog: HubLog, *, key: SigningKey, clock: Callable[[], int]) -> None:
        self._workspace = home / "workspace"
        self._note = home / "repository" / "publishing.json"
        self._repository = Repository(home / "repository", KeyFolder(home / "keys" / "tuf"), clock)
        self._hublog = hublog
        self._key = key
        self._clock = clock
        self._lock = threading.RLock()

    def init_repository(self) -> None:
        """Keys and an empty, signed repository. Raises ``Conflict('release.repository-exists')``."""
        with self._lock:
            self._repository.create()

    # --- publishing ---------------------------------------------------------------------------------------------

    def publish(self, by: str) -> int:
        """Publish the workspace as the next release; ``by`` is the user. Returns its number.

        Raises ``BadInput`` (the workspace, with file, line and field), ``Conflict('release.unchanged')``,
        ``Conflict('release.model-changed')``, ``Unavailable`` or ``Tampered`` (keys or repository).
        """
        with self._lock:
            self.recover()
            candidate = read_workspace(self._workspace)
            self._refuse_unchanged(candidate)
            number = self._next_number()
            manifest = canonical(candidate.manifest(number, self._clock()))
            files = {"release.json": manifest, **candidate.files}
            facts = ReleasePublished(number, by, {path: hex_sha256(data) for path, data in files.items()})
            self._refuse_too_many(facts)
            durable.write(self._note, canonical(facts))
            self._repository.add(
                {f"release/{number}/{path}": data for path, data in files.items()},
                {model.name: (model.size, model.sha256) for model in candidate.models},
            )
            self._log(facts)
            return number

    def recover(self) -> None:
        """Make good what a kill in the middle of publishing left. ``publish`` and ``refresh_timestamp`` begin so."""
        with self._lock:
            if not self._note.exists():
                return
            facts = parse(self._note.read_bytes(), ReleasePublished, code="release.note", what=str(self._note))
            listed = self._repository.listed().get(f"release/{facts.release}/release.json")
            if listed == facts.files.get("release.json"):
                self._log(facts)
            else:
                durable.remove(self._note)

    def refresh_timestamp(self) -> bool:
        """Sign anew what has used a third of its life; True if anything was. Call it on start and every hour.

        It makes good an interrupted publish too, so that a hub has one thing to call.
        """
        with self._lock:
            self.recover()
            return self._repository.refresh()

    def renew_root(self) -> int:
        """Sign the next root, with two root keys back in the key folder; see ``Repository.renew_root``."""
        with self._lock:
            return self._repository.renew_root()

    # --- reading ------------------------------------------------------------------------------------------------

    def current(self) -> int:
        """The newest release's number; 0 where none is published yet."""
        return max(self._numbers(), default=0)

    def release(self, number: int) -> Release:
        """A published release, read back and checked. Raises ``Unavailable('release.none')`` for an unknown number."""
        with self._lock:
            listed = self._repository.listed()
            manifest = self._manifest(number, listed)
            files = {
                path: self._repository.target(f"release/{number}/{path}", sha256)
                for path, sha256 in manifest.files.items()
            }
        return open_release(canonical(manifest), files)

    def root_bytes(self) -> bytes:
        """The newest root.json: what a device is given to trust when it joins."""
        with self._lock:
            return self._repository.root_bytes()

    def minimum(self) -> dict[str, int]:
        """The oldest ``timestamp``, ``snapshot`` and ``targets`` versions that a device joining now may accept."""
        with self._lock:
            return self._repository.versions()

    def expiries(self) -> dict[str, int]:
        """When each role's signature ends (microseconds since 1970 UTC). Only ``root`` needs a person to renew it."""
        with self._lock:
            return self._repository.expiries()

    def assignment(self, device: str) -> Envelope:
        """The signed order to run the newest release. Raises ``Unavailable('release.none')`` before the first one."""
        number = self.current()
        if not number:
            raise _none("no release is published yet")
        now = self._clock()
        return sign(Assignment(device, number, now, now + ASSIGNMENT_US), self._key)

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

    def _refuse_unchanged(self, candidate: Candidate) -> None:
        number = self.current()
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

    def _log(self, facts: ReleasePublished) -> None:
        self._hublog.append([Draft(facts)])
        durable.remove(self._note)


def _none(said: str) -> Unavailable:
    return Unavailable("release.none", said, advice="run `outrider hub release publish`")
