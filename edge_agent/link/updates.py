"""Releases on the device: fetched through TUF, installed whole, verified again whenever they are used.

What stands on disk, below the agent's home:

    trust/enrolment.json    the TUF root and minimum versions from joining: where all trust starts
    trust/metadata-ID/      python-tuf's own cache, one per enrolment: what it saw last, so nothing older is accepted
    trust/proof.json        the signed metadata of the last complete fetch, and when that was
    trust/clock.json        the highest time at which metadata was found valid
    releases/N/             the files of release N

The cache and the proof are two things on purpose. The cache moves on with every answer of the hub, even when the
fetch then fails half-way, because it guards against rollback. The proof changes only in one rename after a fetch
was complete, because the release in force must stay usable when the next one cannot be had.

Offline, ``cached`` walks the proof from the enrolment root through every signature and hash, just as if a hub had
served it. Signatures expire (the timestamp's within days) and a device may be away longer. So the proof is
judged as of the moment it was fetched, and that moment may lie at most ``OFFLINE_DAYS`` back. That is longer than any
lease: the lease bounds what may be *done*, this bounds how long old *rules* may be trusted at all.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from tuf.api.exceptions import DownloadHTTPError, LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import Metadata, Root, TargetFile  # type: ignore[attr-defined]  # exported, but mypy cannot see
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig  # type: ignore[attr-defined]  # the same

from edge_agent.identity import sync_folder, write_file
from edge_agent.link.fetcher import HttpFetcher
from edge_agent.link.tuf_errors import as_ours, mismatch, rollback
from shared import limits
from shared.codec import hex_sha256, parse
from shared.errors import BadInput, Refused, Tampered, Unavailable
from shared.release import Manifest, Release, read_manifest

OFFLINE_DAYS = 30
_DAY_US = 24 * 3600 * 1_000_000
_SKEW_US = limits.CLOCK_SKEW_SECONDS * 1_000_000
_CONFIG = UpdaterConfig(max_root_rotations=64, max_delegations=8)
_MINIMUM = ("timestamp", "snapshot", "targets")
_ROLES = (*_MINIMUM, "policy", "model")
T = TypeVar("T")


class _Enrolment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    root: str
    minimum: dict[str, int]


class _Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``at``: microseconds since 1970 UTC. ``roots`` are those after the enrolment's, by version; ``roles`` by name."""

    at: int
    roots: dict[int, str]
    roles: dict[str, str]


class _Clock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    highest: int


class Updates:
    """The device's releases. One thread at a time; ``now`` is microseconds since 1970 UTC.

    ``fetcher`` is TUF's own seam for downloads; by default plain HTTP to the hub.
    """

    def __init__(self, home: Path, hub_url: str, *, fetcher: FetcherInterface | None = None) -> None:
        self._trust = home / "trust"
        self._releases = home / "releases"
        self._url = hub_url.rstrip("/")
        self._fetcher = fetcher

    def install_root(self, root: bytes, minimum: dict[str, int]) -> None:
        """Fix what all trust starts from; called on joining, with what the hub's signed answer held.

        Raises ``Tampered('release.root')`` if it is not a root signed by its own keys. Joining again starts a cache of
        its own; the files of installed releases stay and are believed only as far as the new root vouches for them.
        """
        unknown = set(minimum) - set(_MINIMUM)
        if unknown:
            raise BadInput(
                "release.minimum", f"no role {min(unknown)!r} has a minimum version", advice="update this software"
            )
        with tempfile.TemporaryDirectory() as scratch:
            try:
                Updater(scratch, self._url, bootstrap=root, fetcher=_Recorded({}))
                enrolment = _Enrolment(root.decode(), minimum)
            except (RepositoryError, UnicodeDecodeError) as error:
                raise Tampered(
                    "release.root", "the hub's root of trust does not verify", advice="ask the hub for a new token"
                ) from error
        self._trust.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._trust / "enrolment.json"
        if path.exists() and self._enrolment().root != enrolment.root:
            (self._trust / "proof.json").unlink(missing_ok=True)  # it starts from another root
        write_file(path, msgspec.json.encode(enrolment))

    def fetch(self, number: int, now: int) -> Release:
        """Ask the hub what is authentic now, and install release ``number``. What was installed before stays.

        Raises ``Unavailable`` (``release.unreachable``, ``.slow``, ``.incomplete``, ``disk.write``: try again),
        ``Refused`` (``release.expired``, ``.clock``, ``.unlisted``) or ``Tampered`` (``release.tampered``,
        ``.rollback``, ``.unsigned``, ``.endless``, ``.mismatch``: tell the administrator), ``BadInput`` (its contents).
        """
        enrolment = self._enrolment()
        self._check_clock(now)
        with as_ours(), self._downloads() as fetcher:
            updater = self._updater(enrolment, self._cache(enrolment), fetcher, now)
            updater.refresh()
            self._check_minimum(enrolment, self._cache(enrolment))
            release = self._installed(updater, number) or self._install(updater, number)
            proof = self._proof_of(enrolment, now)
        write_file(self._trust / "proof.json", msgspec.json.encode(proof))
        self._record_clock(now)
        return release

    def confirmed_at(self) -> int:
        """When the hub last confirmed the rules (microseconds since 1970 UTC), or 0.

        ``fetch`` of the release in force confirms it again, at two requests; do so daily while the hub can be reached,
        or ``OFFLINE_DAYS`` will run out on a device that was never away.
        """
        return self._proof().at if (self._trust / "proof.json").exists() else 0

    def check_root(self, now: int) -> None:
        """Whether the root that this device trusts still lasts: without a next one it can take nothing new. Raises
        ``Unavailable('release.root-ending')`` a month before, if the hub had no newer one so far."""
        ends = int(self._newest_root().expires.timestamp())
        if ends - now // 1_000_000 < limits.EXPIRY_WARN_DAYS[0] * _DAY_US // 1_000_000:
            raise Unavailable(
                "release.root-ending",
                f"the root of trust ends on {datetime.fromtimestamp(ends, UTC):%Y-%m-%d}",
                advice="tell the hub's administrator: the holders of its root keys sign the next one, as "
                "`outrider hub root show` says",
            )

    def cached(self, number: int, now: int) -> Release:
        """Release ``number`` as installed, verified again from the root down without the hub.

        Raises ``Unavailable('release.not-installed')``, ``Refused('release.offline-too-long' | 'release.clock')`` or
        ``Tampered``.
        """
        enrolment = self._enrolment()
        self._check_clock(now)
        proof = self._proof()
        if now - proof.at > OFFLINE_DAYS * _DAY_US:
            raise Refused(
                "release.offline-too-long",
                f"the rules were last confirmed more than {OFFLINE_DAYS} days ago",
                advice="connect this device to its hub once",
            )
        if not (self._releases / str(number)).is_dir():
            raise Unavailable(
                "release.not-installed", f"release {number} is not on this device", advice="connect to the hub"
            )
        with tempfile.TemporaryDirectory() as scratch, as_ours():
            updater = self._updater(enrolment, Path(scratch), _Recorded(_served(proof)), proof.at)
            updater.refresh()
            self._check_minimum(enrolment, Path(scratch))
            release = self._read(updater, number)
        self._record_clock(now)
        return release

    @contextlib.contextmanager
    def _downloads(self) -> Iterator[FetcherInterface]:
        if self._fetcher is not None:
            yield self._fetcher
            return
        with contextlib.closing(HttpFetcher()) as fetcher:
            yield fetcher

    # --- what TUF vouches for -----------------------------------------------------------------------------------

    def _updater(self, enrolment: _Enrolment, cache: Path, fetcher: FetcherInterface, now: int) -> Updater:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        updater = Updater(
            str(cache),
            f"{self._url}/tuf/metadata/",
            target_base_url=f"{self._url}/tuf/targets/",
            fetcher=fetcher,
            config=_CONFIG,
            bootstrap=enrolment.root.encode(),
        )
        # The one private name used here. TUF fixes its reference time when it is made; ours is passed in, and has been
        # checked against the highest time seen. Should the name go, this stops rather than judge by another clock.
        trusted = updater._trusted_set
        assert hasattr(trusted, "reference_time")
        trusted.reference_time = datetime.fromtimestamp(now // 1_000_000, UTC)
        return updater

    def _listed(self, updater: Updater, number: int, path: str, sha256: str | None) -> TargetFile:
        """TUF's own word on a file of a release, which must also be what the manifest says."""
        info = updater.get_targetinfo(f"release/{number}/{path}")
        if info is None:
            raise Refused(
                "release.unlisted",
                f"nobody with the right to do so has published {path} of release {number}",
                advice="publish it at the hub; if it was published, tell the administrator",
            )
        if sha256 is not None and info.hashes.get("sha256") != sha256:
            raise mismatch(f"{path} of release {number}")
        if info.length > limits.RELEASE_FILE_BYTES:
            raise Tampered(
                "release.endless",
                f"{path} of release {number} is said to have {info.length} bytes",
                advice="tell the administrator: no honest release has such a file",
            )
        return info

    def _check_models(self, updater: Updater, manifest: Manifest) -> None:
        """A model counts only if the model role lists it under its name with the same length and hash."""
        # Asked even where there is no model, so that the role's current metadata is in the cache and goes in the proof.
        updater.get_targetinfo("models/-")
        listed = [part for model in manifest.models for part in model.targets.items()]
        for name, wanted in listed:
            info = updater.get_targetinfo(f"models/{name}")
            if info is None or (info.length, info.hashes.get("sha256")) != wanted:
                raise mismatch(f"the model {name}")

    def _check_minimum(self, enrolment: _Enrolment, cache: Path) -> None:
        """An old repository may still be unexpired; a device that never saw a newer one knows only by this."""
        for role, least in sorted(enrolment.minimum.items()):
            found = Metadata[Any].from_bytes((cache / f"{role}.json").read_bytes()).signed.version
            if found < least:
                raise rollback(f"{role} has version {found}, and {least} was current when this device joined")

    # --- installing ---------------------------------------------------------------------------------------------

    def _install(self, updater: Updater, number: int) -> Release:
        """Put release ``number`` in place by one rename, from files already here where they are right."""
        self._releases.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self._releases.glob(".incoming-*"):
            shutil.rmtree(left)
        place = self._releases / str(number)
        incoming = self._releases / f".incoming-{number}"
        incoming.mkdir(mode=0o700)
        manifest = read_manifest(self._take(updater, number, "release.json", None, incoming))
        if manifest.release != number:
            raise mismatch(f"the manifest of release {number}")
        self._check_models(updater, manifest)
        files = {path: self._take(updater, number, path, sha256, incoming) for path, sha256 in manifest.files.items()}
        release = Release(manifest, files)
        for folder in [incoming, *(each for each in incoming.rglob("*") if each.is_dir())]:
            sync_folder(folder)
        if place.exists():
            # The same number, hence the same signed bytes: only damage can differ. A kill between these two
            # lines leaves no release N; it is fetched again, as it would have been for the damage.
            place.rename(self._releases / f".incoming-{number}-old")
        incoming.rename(place)
        sync_folder(self._releases)
        shutil.rmtree(self._releases / f".incoming-{number}-old", ignore_errors=True)
        return release

    def _take(self, updater: Updater, number: int, path: str, sha256: str | None, incoming: Path) -> bytes:
        """One verified file of a release, from this disk if it is here already, else from the hub; written durably."""
        info = self._listed(updater, number, path, sha256)
        data = _if_right(info, self._releases / str(number) / path)
        target = incoming / path
        target.parent.mkdir(exist_ok=True, mode=0o700)
        if data is None:
            updater.download_target(info, str(target))
            data = target.read_bytes()
        write_file(target, data)
        return data

    def _installed(self, updater: Updater, number: int) -> Release | None:
        """The release as it is on disk, if it is there and whole: then there is nothing to replace."""
        try:
            return self._read(updater, number)
        except Tampered:
            return None

    def _read(self, updater: Updater, number: int) -> Release:
        """An installed release, every file of it as TUF vouches for it."""
        folder = self._releases / str(number)

        def verified(path: str, sha256: str | None) -> bytes:
            data = _if_right(self._listed(updater, number, path, sha256), folder / path)
            if data is None:
                raise Tampered(
                    "release.tampered",
                    f"{path} of release {number} was changed on this device, or is missing",
                    advice="connect to the hub, which repairs it; then find out who changed it",
                    where=str(folder / path),
                )
            return data

        manifest = read_manifest(verified("release.json", None))
        if manifest.release != number:
            raise mismatch(f"the manifest of release {number}")
        self._check_models(updater, manifest)
        return Release(manifest, {path: verified(path, sha256) for path, sha256 in manifest.files.items()})

    # --- what is kept -------------------------------------------------------------------------------------------

    def _enrolment(self) -> _Enrolment:
        return _load(self._trust / "enrolment.json", _Enrolment, "join a hub first: `outrider agent join URL TOKEN`")

    def _newest_root(self) -> Root:
        """Of the last complete fetch; before the first, the enrolment's."""
        roots = self._proof().roots if (self._trust / "proof.json").exists() else {}
        newest = roots[max(roots)] if roots else self._enrolment().root
        return Metadata[Root].from_bytes(newest.encode()).signed

    def _cache(self, enrolment: _Enrolment) -> Path:
        return self._trust / f"metadata-{hex_sha256(enrolment.root.encode())[:16]}"

    def _proof(self) -> _Proof:
        return _load(self._trust / "proof.json", _Proof, "connect to the hub once")

    def _proof_of(self, enrolment: _Enrolment, now: int) -> _Proof:
        cache = self._cache(enrolment)
        start = Metadata[Any].from_bytes(enrolment.root.encode()).signed.version
        roots = {int(path.name.split(".")[0]): path.read_text() for path in cache.glob("root_history/*.root.json")}
        return _Proof(
            now,
            {version: text for version, text in roots.items() if version > start},
            {role: (cache / f"{role}.json").read_text() for role in _ROLES if (cache / f"{role}.json").exists()},
        )

    def _check_clock(self, now: int) -> None:
        path = self._trust / "clock.json"
        if path.exists() and now < _load(path, _Clock, "connect to the hub").highest - _SKEW_US:
            raise Refused(
                "release.clock",
                "this device's clock stands before a time at which it was already in use",
                advice="set the clock right: what has expired must not be made to look fresh",
            )

    def _record_clock(self, now: int) -> None:
        """Only after a success: that bounds ``now`` by what was signed, so a clock far ahead cannot lock the device."""
        path = self._trust / "clock.json"
        if not path.exists() or _load(path, _Clock, "connect to the hub").highest < now:
            write_file(path, msgspec.json.encode(_Clock(now)))


class _Recorded(FetcherInterface):
    """Serves recorded metadata by file name, and 404 for all else."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rsplit("/", 1)[1]
        if name not in self._files:
            raise DownloadHTTPError(f"{name} was not recorded", 404)
        return iter([self._files[name]])


def _served(proof: _Proof) -> dict[str, bytes]:
    """The proof under the names a hub would serve it by."""
    files = {f"{version}.root.json": text.encode() for version, text in proof.roots.items()}
    for role, text in proof.roles.items():
        version = Metadata[Any].from_bytes(text.encode()).signed.version
        files["timestamp.json" if role == "timestamp" else f"{version}.{role}.json"] = text.encode()
    return files


def _if_right(info: TargetFile, path: Path) -> bytes | None:
    """The file's bytes, if they are there and are what TUF lists."""
    try:
        with path.open("rb") as file:
            data = file.read(info.length + 1)
        info.verify_length_and_hashes(data)
    except (OSError, LengthOrHashMismatchError):
        return None
    return data


def _load(path: Path, kind: type[T], advice: str) -> T:
    try:
        return parse(path.read_bytes(), kind, code="release.trust", what=str(path))
    except FileNotFoundError as error:
        raise Unavailable("release.no-trust", f"{path} is missing", advice=advice, where=str(path)) from error
