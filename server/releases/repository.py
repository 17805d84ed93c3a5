"""The signed TUF repository: ``HOME/repository/{metadata,targets}``, served as static files.

Nothing that a client can reach is ever overwritten, except ``timestamp.json``. Metadata files carry their version in
their name and targets their hash (TUF calls this consistent snapshots). A change writes the targets, then the role that
lists them, then the snapshot, each durably, and last of all replaces the timestamp by a rename. Until that rename
every reader, and this class after a crash, sees the repository as it was; files of an interrupted change are
unreachable, and the next change writes over them. There is nothing to repair.

Who signs what: root (2 of 3) names the keys; ``targets`` delegates ``release/...`` to ``policy`` and ``models/*`` to
``model``. Before anything is signed again, what is on disk is verified against the root, so that a file edited behind
the hub's back is not given a good signature.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # tuf builds its __all__ from names mypy cannot follow
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from server.releases import durable
from server.releases.keys import ROOT_THRESHOLD, KeyFolder
from shared.codec import hex_sha256
from shared.errors import Conflict, OutriderError, Refused, Tampered, Unavailable

# How long each role's signature holds. The timestamp is what stops a device from being shown an old repository as if
# it were new, so it is the short one. A week, renewed by the running hub when a third is used: a hub that stands still
# over a long weekend strands nobody, and a frozen copy is found out within a week. The others are renewed in the same
# way and only bound how long a stolen key is useful; the root needs people with keys in their hands, hence years.
LIFETIME = {
    "timestamp": timedelta(days=7),
    "snapshot": timedelta(days=30),
    "targets": timedelta(days=365),
    "policy": timedelta(days=365),
    "model": timedelta(days=365),
    "root": timedelta(days=3 * 365),
}
RENEW_AFTER = 1 / 3

# TUF's wildcard does not cross a slash: files of a release stand directly in its folder or one folder below.
PATHS = {"policy": ["release/*/*", "release/*/*/*"], "model": ["models/*"]}
_HASHES = ["sha256"]
_LISTS = ("targets", "policy", "model")


class Repository:
    """Reads and extends one repository. One process at a time: the caller holds the hub's lock.

    ``clock()`` is microseconds since 1970 UTC.
    """

    def __init__(self, folder: Path, keys: KeyFolder, clock: Callable[[], int]) -> None:
        self._metadata = folder / "metadata"
        self._targets = folder / "targets"
        self._keys = keys
        self._clock = clock
        self._seen: tuple[bytes, dict[str, str]] = (b"", {})

    # --- making and changing ------------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        return (self._metadata / "timestamp.json").exists()

    def create(self) -> None:
        """Make keys and an empty repository. After an interrupted attempt it goes on with the keys that are there."""
        if self.exists:
            raise Conflict(
                "release.repository-exists",
                "the repository exists already",
                advice="publish into it, or use another home",
            )
        self._keys.make_all()
        signers = self._keys.root_signers()
        root = self._make_root(1, {signer.public_key.keyid: signer.public_key for signer in signers})
        self._sign_root(root, signers)
        lists = {role: _unsigned(Targets()) for role in _LISTS}
        lists["targets"].signed.delegations = self._delegations()
        state = _State(root, _unsigned(Timestamp()), _unsigned(Snapshot()), lists)
        self._commit(state, set(_LISTS))

    def add(self, files: dict[str, bytes], models: dict[str, tuple[int, str]]) -> None:
        """List ``files`` (target path to bytes) and ``models`` (name to length and hex SHA-256), all or none."""
        state = self._load()
        changed = {"policy"}
        for name, (length, sha256) in models.items():
            path = f"models/{name}"
            held = state.lists["model"].signed.targets.get(path)
            if held is not None and (held.length, held.hashes) != (length, {"sha256": sha256}):
                raise Conflict(
                    "release.model-changed",
                    f"an earlier release lists other bytes as the model {name!r}",
                    advice="give the new file a name of its own; devices may still run the old one",
                )
            if held is None:
                state.lists["model"].signed.targets[path] = TargetFile(length, {"sha256": sha256}, path)
                changed.add("model")
        for path, data in files.items():
            folder, _, name = path.rpartition("/")
            durable.write(self._targets / folder / f"{hex_sha256(data)}.{name}", data)
            state.lists["policy"].signed.targets[path] = TargetFile.from_data(path, data, _HASHES)
        self._commit(state, changed)

    def refresh(self) -> bool:
        """Sign anew what has used a third of its life; True if anything was signed. Call it on start and hourly."""
        state = self._load()
        due = {role for role in _LISTS if self._due(role, state.lists[role].signed)}
        renew = due or self._due("snapshot", state.snapshot.signed) or self._due("timestamp", state.timestamp.signed)
        if renew:
            self._commit(state, due, snapshot=self._due("snapshot", state.snapshot.signed))
        return bool(renew)

    def renew_root(self) -> int:
        """Sign the next root with the root keys in the key folder; other keys found there take effect. The new version.

        Raises ``Refused('release.root-offline')`` unless two of the present root's keys are in the folder.
        """
        newest = self._root()
        state = self._last_sound(newest.version)
        signers = [s for s in self._keys.root_signers() if s.public_key.keyid in newest.roles["root"].keyids]
        if len(signers) < ROOT_THRESHOLD:
            raise Refused(
                "release.root-offline",
                f"{ROOT_THRESHOLD} root keys are needed in {self._keys.folder}",
                advice="bring two root keys back to the folder, renew, and take them away again",
            )
        root_keys = {keyid: newest.keys[keyid] for keyid in newest.roles["root"].keyids}
        state.root = self._make_root(newest.version + 1, root_keys)
        state.lists["targets"].signed.delegations = self._delegations()
        self._sign_root(state.root, signers)
        self._commit(state, set(_LISTS))
        return int(state.root.version)

    # --- reading ------------------------------------------------------------------------------------------------

    def root_bytes(self) -> bytes:
        return _read(self._metadata / f"{self._root().version}.root.json")

    def versions(self) -> dict[str, int]:
        """The versions that a new device must not be shown less than."""
        state = self._load()
        return {
            "timestamp": state.timestamp.signed.version,
            "snapshot": state.snapshot.signed.version,
            "targets": state.lists["targets"].signed.version,
        }

    def expiries(self) -> dict[str, int]:
        """When each role's signature ends, in microseconds since 1970 UTC."""
        state = self._load()
        signed: dict[str, Signed] = {role: held.signed for role, held in state.lists.items()}
        signed |= {"root": state.root, "snapshot": state.snapshot.signed, "timestamp": state.timestamp.signed}
        return {role: int(each.expires.timestamp()) * 1_000_000 for role, each in signed.items()}

    def listed(self) -> dict[str, str]:
        """Every target path of the policy role, with its hex SHA-256. Read once for each timestamp."""
        path = self._metadata / "timestamp.json"
        stamp = _read(path) if path.exists() else b""
        if not stamp or self._seen[0] != stamp:
            targets = self._load().lists["policy"].signed.targets
            self._seen = (stamp, {path: file.hashes["sha256"] for path, file in targets.items()})
        return self._seen[1]

    def folders(self) -> list[str]:
        """Names below ``release/`` on disk, those of interrupted changes included."""
        room = self._targets / "release"
        return [path.name for path in room.iterdir()] if room.is_dir() else []

    def target(self, path: str, sha256: str) -> bytes:
        """The bytes of a listed target, checked again: disks rot, and people edit."""
        folder, _, name = path.rpartition("/")
        data = _read(self._targets / folder / f"{sha256}.{name}")
        if hex_sha256(data) != sha256:
            raise _damaged(f"{path} no longer has the bytes that were signed")
        return data

    # --- within -------------------------------------------------------------------------------------------------

    def _commit(self, state: _State, changed: set[str], *, snapshot: bool = True) -> None:
        """Sign and write: the changed lists, the snapshot, and last the timestamp, which makes them visible."""
        for role in _LISTS:
            if role in changed:
                held = state.lists[role]
                data = self._sign(role, held, state.delegator(role))
                durable.write(self._metadata / f"{held.signed.version}.{role}.json", data)
                state.snapshot.signed.meta[f"{role}.json"] = MetaFile.from_data(held.signed.version, data, _HASHES)
        if changed or snapshot:
            data = self._sign("snapshot", state.snapshot, state.root)
            version = state.snapshot.signed.version
            durable.write(self._metadata / f"{version}.snapshot.json", data)
            state.timestamp.signed.snapshot_meta = MetaFile.from_data(version, data, _HASHES)
        data = self._sign("timestamp", state.timestamp, state.root)
        durable.write(self._metadata / "timestamp.json", data)

    def _sign(self, role: str, held: Metadata[Any], delegator: Root | Targets) -> bytes:
        held.signed.version += 1
        held.signed.expires = self._now() + LIFETIME[role]
        held.sign(self._keys.signer(role))
        try:
            delegator.verify_delegate(role, held.signed_bytes, held.signatures)
        except (RepositoryError, ValueError) as error:
            raise Unavailable(
                "release.key-wrong",
                f"{role}.key is not the key that the repository names",
                advice="restore the right key file from the backup",
            ) from error
        return held.to_bytes()

    def _sign_root(self, root: Root, signers: list[Any]) -> None:
        root.expires = self._now() + LIFETIME["root"]
        held = Metadata(root)
        for signer in signers:
            held.sign(signer, append=True)
        root.verify_delegate("root", held.signed_bytes, held.signatures)
        durable.write(self._metadata / f"{root.version}.root.json", held.to_bytes())

    def _make_root(self, version: int, root_keys: dict[str, Key]) -> Root:
        root = Root(version=version, consistent_snapshot=True)
        for key in root_keys.values():
            root.add_key(key, "root")
        root.roles["root"].threshold = ROOT_THRESHOLD
        for role in ("targets", "snapshot", "timestamp"):
            root.add_key(self._keys.signer(role).public_key, role)
        return root

    def _delegations(self) -> Delegations:
        keys = {role: self._keys.signer(role).public_key for role in PATHS}
        # Terminating: about what one role may publish, no role after it is asked.
        roles = {
            role: DelegatedRole(role, [keys[role].keyid], threshold=1, terminating=True, paths=list(paths))
            for role, paths in PATHS.items()
        }
        return Delegations(keys={key.keyid: key for key in keys.values()}, roles=roles)

    def _load(self, root: Root | None = None) -> _State:
        """Everything the timestamp leads to, verified from the root down; not its expiry, which is renewed here."""
        root = root or self._root()
        lists, snapshot, timestamp = self._unchecked()
        state = _State(root, timestamp, snapshot, lists)
        try:
            root.verify_delegate("timestamp", timestamp.signed_bytes, timestamp.signatures)
            root.verify_delegate("snapshot", snapshot.signed_bytes, snapshot.signatures)
            for role, held in lists.items():
                state.delegator(role).verify_delegate(role, held.signed_bytes, held.signatures)
        except (RepositoryError, ValueError) as error:
            raise _damaged(f"the repository's own signatures do not hold: {error}") from error
        return state

    def _last_sound(self, newest: int) -> _State:
        """The state under the newest root that vouches for it: a renewal cut short may leave a root that does not."""
        for version in range(newest, 1, -1):
            try:
                return self._load(self._root(version))
            except Tampered:
                continue
        return self._load(self._root(1))

    def _unchecked(self) -> tuple[dict[str, Metadata[Targets]], Metadata[Snapshot], Metadata[Timestamp]]:
        timestamp = cast("Metadata[Timestamp]", self._metadata_file("timestamp.json", Timestamp))
        version = timestamp.signed.snapshot_meta.version
        snapshot = cast("Metadata[Snapshot]", self._metadata_file(f"{version}.snapshot.json", Snapshot))
        lists = {}
        for role in _LISTS:
            meta = snapshot.signed.meta.get(f"{role}.json")
            if meta is None:
                raise _damaged(f"the snapshot does not list {role}")
            lists[role] = cast("Metadata[Targets]", self._metadata_file(f"{meta.version}.{role}.json", Targets))
        return lists, snapshot, timestamp

    def _root(self, version: int = 0) -> Root:
        """The root of this version, or the newest."""
        numbers = (
            [version] if version else [int(path.name.split(".")[0]) for path in self._metadata.glob("*.root.json")]
        )
        if not numbers:
            raise Unavailable(
                "release.no-repository",
                f"there is no repository in {self._metadata.parent}",
                advice="run `outrider hub init`",
            )
        held = self._metadata_file(f"{max(numbers)}.root.json", Root)
        try:
            held.signed.verify_delegate("root", held.signed_bytes, held.signatures)
        except RepositoryError as error:
            raise _damaged("the root's own signatures do not hold") from error
        return cast("Root", held.signed)

    def _metadata_file(self, name: str, kind: type[Signed]) -> Metadata[Any]:
        try:
            held: Metadata[Any] = Metadata.from_bytes(_read(self._metadata / name))
        except RepositoryError as error:
            raise _damaged(f"{name} does not parse") from error
        if not isinstance(held.signed, kind):
            raise _damaged(f"{name} is of another kind")
        return held

    def _due(self, role: str, signed: Signed) -> bool:
        return self._now() >= signed.expires - LIFETIME[role] * (1 - RENEW_AFTER)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() // 1_000_000, UTC)


class _State:
    """The repository as the timestamp shows it, in memory, to be changed and committed."""

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
        return self.root if role == "targets" else self.lists["targets"].signed


def _unsigned(signed: Signed) -> Metadata[Any]:
    """New metadata before its first signing, which makes it version 1."""
    signed.version = 0
    return Metadata(signed)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(f"cannot read {path}: {error.strerror}") from error


def _damaged(said: str) -> OutriderError:
    return Tampered(
        "release.damaged", said, advice="restore the repository folder from the backup; do not sign over it"
    )
