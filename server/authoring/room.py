"""Authoring: the one workspace that releases are made of, from the first edit to the signed release.

Everybody who signed in may read and comment. Who may ``author`` (the roles below) saves versions, restores old ones,
signs off what somebody else saved, and publishes the newest version once enough people have signed it off. What is
published is exactly that version: signatures are on its digest, and the release lists the same hashes.

HOME/workspace is one way in among others: what stands there becomes a version before it is published.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
from sqlalchemy import select

from server.authoring import checking
from server.authoring.drafts import EDIT, FOLDER, PUSH, RESTORE, Drafts, Version
from server.authoring.findings import Finding, Known
from server.bus import Bus
from server.releases import Releases
from server.releases.workspace import MODELS, PEERS, read_files, read_folder
from server.store import HubLog
from server.store.tables import HUB_ENTRIES
from shared.codec import digest, hex_sha256
from shared.entries import ReleasePublished, ReleasePublishedV1, read
from shared.errors import BadInput, Conflict, OutriderError, Refused

AUTHORS = ("release", "admin")
TOPIC = "workspace"  # where the bus tells that there is something new
_REMEMBERED = 16  # checks, each of some findings


class Person(Protocol):
    """What is asked of those who sign in."""

    @property
    def name(self) -> str: ...

    @property
    def roles(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Published:
    """``release`` is the number; ``proposal`` is not empty while people's keys must still sign it."""

    release: int
    proposal: str = ""


@dataclass(frozen=True)
class Release:
    """A release as the hub's log tells of it. ``at`` is microseconds since 1970 UTC; ``files`` maps paths to hashes."""

    number: int
    by: str
    at: int
    staged: bool
    files: dict[str, str]


class Authoring:
    """``people`` and ``devices`` give what the hub knows now; ``sign_offs`` people other than whoever saved a version
    must sign it off before it is published."""

    def __init__(
        self,
        hublog: HubLog,
        bus: Bus,
        releases: Releases,
        folder: Path,
        *,
        people: Callable[[], Iterable[Person]],
        devices: Callable[[], Iterable[str]],
        sign_offs: int = 0,
    ) -> None:
        self.drafts = Drafts(hublog)
        self.folder = folder
        self.sign_offs = sign_offs
        self._store = hublog.store
        self._bus = bus
        self._releases = releases
        self._people = people
        self._devices = devices
        self._lock = threading.Lock()
        self._checked: dict[str, list[Finding]] = {}

    # --- reading ------------------------------------------------------------------------------------------------

    def need(self) -> Version:
        """The newest version. Raises ``BadInput('draft.none')`` before the first."""
        newest = self.drafts.newest()
        if newest is None:
            raise BadInput("draft.none", "the workspace has no version yet", advice="take in the folder, or push one")
        return newest

    def release_files(self, number: int) -> dict[str, bytes]:
        """The workspace that a release was made of; put together from the release where it had no version. No files
        for number 0. Raises ``Unavailable('release.none')``."""
        if not number:
            return {}
        version = self.drafts.of_release(number)
        if version is not None:
            return self.drafts.files(version)
        files = self._releases.files(number)
        manifest = self._releases.release(number).manifest
        if manifest.models:
            files[MODELS] = json.dumps(msgspec.to_builtins(manifest.models), indent=2).encode() + b"\n"
        if manifest.peers:
            files[PEERS] = b"models: true\n"
        return files

    def check(self, files: Mapping[str, bytes]) -> list[Finding]:
        """What is wrong with these files, and what to look at again; errors first."""
        running = self._releases.current()
        known = Known(
            roles=frozenset(role for person in self._people() for role in person.roles),
            devices=frozenset(self._devices()),
        )
        key = digest([_hashes(files), sorted(known.roles or ()), sorted(known.devices or ()), running])
        with self._lock:
            found = self._checked.get(key)
        if found is None:
            found = checking.check(files, msgspec.structs.replace(known, running=self.release_files(running)))
            with self._lock:
                self._checked[key] = found
                while len(self._checked) > _REMEMBERED:
                    del self._checked[next(iter(self._checked))]
        return found

    def lacking(self, version: Version) -> int:
        """How many people must still sign a version off."""
        return max(0, self.sign_offs - len([name for name in version.signers if name != version.by]))

    def published(self, limit: int = -1) -> list[Release]:
        """The releases of this hub, the newest first, as its log tells of them."""
        asked = select(HUB_ENTRIES.c.data).where(HUB_ENTRIES.c.type == "release.published")
        with self._store.read() as conn:
            rows = conn.execute(asked.order_by(HUB_ENTRIES.c.seq.desc())).scalars().all()
        found: dict[int, Release] = {}
        for entry in map(read, map(bytes, rows)):
            facts = entry.facts
            assert isinstance(facts, ReleasePublishedV1)
            staged = isinstance(facts, ReleasePublished) and facts.staged
            found[facts.release] = Release(facts.release, facts.by, entry.at, staged, dict(facts.files))
        newest_first = sorted(found.values(), key=lambda one: -one.number)
        return newest_first[:limit] if limit >= 0 else newest_first

    # --- saving -------------------------------------------------------------------------------------------------

    def edit(self, path: str, data: bytes | None, *, base: int, by: Person, note: str = "") -> Version:
        """Save one file, or with ``None`` remove it, as it was changed from version ``base``. What others saved of
        other files meanwhile stays. Raises what ``Drafts.save`` raises, ``Refused('draft.role')``."""
        _may(by)
        with self._store.writing:
            newest, files = self.need(), {}
            if newest.version != base and newest.files.get(path) != self.drafts.get(base).files.get(path):
                raise Conflict(
                    "draft.moved",
                    f"{newest.by} has changed {path} meanwhile, in version {newest.version}",
                    advice="your text is still here: compare, and save again on top of theirs",
                    where=path,
                )
            files = self.drafts.files(newest)
            if data is None:
                files.pop(path, None)
            else:
                files[path] = data
            return self._save(files, by=by.name, origin=EDIT, base=newest.version, note=note)

    def push(
        self, files: Mapping[str, bytes], *, base: int, by: Person, note: str = "", replace: bool = False
    ) -> Version:
        """Save a whole folder that was pulled at version ``base``; with ``replace``, whatever came meanwhile. The same
        files again are no new version."""
        _may(by)
        with self._store.writing:
            newest = self.drafts.newest()
            if newest is not None and newest.files == _hashes(files):
                return newest
            base = newest.version if replace and newest is not None else base
            return self._save(files, by=by.name, origin=PUSH, base=base, note=note)

    def restore(self, version: int, *, by: Person) -> Version:
        """Save an old version's files as the newest."""
        _may(by)
        with self._store.writing:
            files, newest = self.drafts.files(self.drafts.get(version)), self.need()
            note = f"as in version {version}"
            return self._save(files, by=by.name, origin=RESTORE, base=newest.version, source=version, note=note)

    def restore_release(self, number: int, *, by: Person) -> Version:
        """Likewise the files that a release was made of."""
        _may(by)
        with self._store.writing:
            files, newest, source = self.release_files(number), self.drafts.newest(), self.drafts.of_release(number)
            base, old = newest.version if newest else 0, source.version if source else 0
            note = f"as in release {number}"
            return self._save(files, by=by.name, origin=RESTORE, base=base, source=old, note=note)

    def take_folder(self, by: str) -> Version:
        """The version that HOME/workspace is; a new one where it was changed there. What was saved elsewhere since the
        folder was taken in is not undone: ``Conflict('draft.elsewhere')``. Raises what ``read_folder`` raises."""
        with self._store.writing:
            files, newest = read_folder(self.folder), self.drafts.newest()
            same = self.drafts.like(digest(_hashes(files)))
            if newest is not None and same is not None and same.version == newest.version:
                return newest
            if newest is not None and newest.origin != FOLDER:
                raise Conflict(
                    "draft.elsewhere",
                    f"{newest.by} has saved version {newest.version} elsewhere; the folder does not have it",
                    advice="make the change in the console and publish there; or bring the folder up to date "
                    "(`outrider release pull`), make it again (for a model: `outrider hub model use`) and publish",
                    where=str(self.folder),
                )
            return self._save(files, by=by, origin=FOLDER, base=newest.version if newest else 0)

    def bring_folder(self, *, by: Person) -> Version:
        """Save what stands in HOME/workspace as the newest version, whatever that is now."""
        _may(by)
        with self._store.writing:
            newest = self.drafts.newest()
            return self._save(read_folder(self.folder), by=by.name, origin=FOLDER, base=newest.version if newest else 0)

    def begin(self) -> None:
        """Take the folder in where there is no version yet, so that a hub has something to show and to go back to."""
        if self.drafts.newest() is not None or not self.folder.is_dir():
            return
        first, running = self.take_folder("hub"), self._releases.current()
        try:
            candidate = read_files(self.drafts.files(first))
            if running and candidate.same_as(self._releases.release(running).manifest):
                self.drafts.put_forward(first, running, "")  # it was published before there were versions
        except BadInput:  # it is under way: its findings stand in the console
            return

    def _save(
        self, files: Mapping[str, bytes], *, by: str, origin: str, base: int, source: int = 0, note: str = ""
    ) -> Version:
        saved = self.drafts.save(files, by=by, origin=origin, base=base, source=source, note=note)
        self._bus.publish(TOPIC, {"version": saved.version})
        return saved

    # --- deciding -----------------------------------------------------------------------------------------------

    def comment(self, version: int, *, by: Person, text: str, path: str = "", line: int = 0) -> None:
        self.drafts.comment(self.drafts.get(version), by.name, text, path, line)
        self._bus.publish(TOPIC, {"version": version})

    def sign(self, version: int, *, by: Person) -> Version:
        """Sign the newest version off. Raises ``Refused('draft.role' | 'draft.own')``, ``Conflict('draft.moved' |
        'draft.signed')``, and what keeps it from being published."""
        _may(by)
        with self._store.writing:
            newest = self._newest(version)
            if newest.by == by.name:
                raise Refused("draft.own", "you saved this version yourself", advice="ask somebody else to look at it")
            read_files(self.drafts.files(newest))
            self.drafts.sign(newest, by.name)
        self._bus.publish(TOPIC, {"version": version})
        return self.drafts.get(version)

    def publish(self, version: int, *, by: Person, staged: bool = False) -> Published:
        """Publish the newest version. Raises ``Refused('draft.role' | 'draft.unsigned')``, ``Conflict('draft.moved')``
        and what ``read_files`` and ``Releases.propose`` and ``complete`` raise."""
        _may(by)
        return self._publish(version, by.name, staged)

    def publish_folder(self, by: str, *, staged: bool = False) -> Published:
        """Take HOME/workspace in and publish it: what `outrider hub release publish` does."""
        return self._publish(self.take_folder(by).version, by, staged)

    def _publish(self, version: int, by: str, staged: bool) -> Published:
        newest = self._newest(version)
        lacking = self.lacking(newest)
        if lacking:
            people = "one more person" if lacking == 1 else f"{lacking} more people"
            raise Refused(
                "draft.unsigned",
                f"{people} must sign version {version} off first",
                advice="ask somebody who did not save it, in the console under Releases",
            )
        candidate = read_files(self.drafts.files(newest))
        proposal = self._releases.propose(candidate, by, staged=staged)
        self.drafts.put_forward(newest, proposal.number, proposal.id)
        if proposal.missing:
            return Published(proposal.number, proposal.id)
        return Published(self._complete(proposal.id, by))

    def complete(self, proposal: str, *, by: Person) -> int:
        """Bring into force what people have signed; the number of the release, or the root's version. Raises what
        ``Releases.complete`` raises, ``Refused('draft.role')``."""
        _may(by)
        return self._complete(proposal, by.name)

    def _complete(self, proposal: str, by: str) -> int:
        number = self._releases.complete(proposal, by)
        self._bus.publish("releases", {"release": number})
        self._bus.publish(TOPIC, {"release": number})
        return number

    def _newest(self, version: int) -> Version:
        newest = self.need()
        if newest.version != version:
            raise Conflict(
                "draft.moved",
                f"{newest.by} has saved version {newest.version} meanwhile",
                advice="look at that one; restore this one if it is what you want",
            )
        return newest

    def folder_differs(self) -> bool:
        """Whether HOME/workspace has something that no version has."""
        try:
            return self.drafts.like(digest(_hashes(read_folder(self.folder)))) is None
        except OutriderError:  # it is not there, or holds what could not be taken in
            return False


def may_author(roles: Sequence[str]) -> bool:
    return bool(set(AUTHORS) & set(roles))


def _may(person: Person) -> None:
    if not may_author(person.roles):
        raise Refused("draft.role", f"only {' or '.join(AUTHORS)} may do this", advice="ask somebody with that role")


def _hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    return {path: hex_sha256(data) for path, data in sorted(files.items())}
