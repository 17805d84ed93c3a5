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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # tuf builds its __all__ from names mypy cannot follow
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from server.releases import ceremony, durable, expiry
from server.releases.keys import KeyFolder
from server.releases.state import HASHES, LIFETIME, LISTS, PATHS, RENEW_AFTER, State, payload, unsigned, version_of
from shared.codec import hex_sha256
from shared.errors import Conflict, OutriderError, Tampered, Unavailable
from shared.offer import Offer, Quorum

Payloads = dict[str, str]  # role to the exact bytes that are signed
Quorums = dict[str, list[Quorum]]
Ready = dict[str, Metadata[Any]]  # role to what people signed


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
        root, targets = ceremony.first(signers, self._keys)
        state = State(root, unsigned(Timestamp()), unsigned(Snapshot()), {role: unsigned(Targets()) for role in LISTS})
        state.lists["targets"] = Metadata(targets)
        ready: Ready = {"root": Metadata(root), "targets": Metadata(targets)}
        for held in ready.values():
            held.signed.expires = self._now() + LIFETIME["root"]
            for signer in signers:
                held.sign(signer, append=True)
        self._commit(state, set(LISTS), ready)

    def draft(self, files: dict[str, bytes], models: dict[str, tuple[int, str]]) -> tuple[Payloads, Quorums]:
        """Put ``files`` (target path to bytes) on disk, where no list leads to them yet; the lists that people must
        sign to have them and ``models`` (name to length and hex SHA-256) listed. None where the hub signs by itself.

        Raises ``Conflict('release.model-changed')``.
        """
        state = self._load()
        changed = self._list(state, files, models)
        for path, data in files.items():
            folder, _, name = path.rpartition("/")
            durable.write(self._targets / folder / f"{hex_sha256(data)}.{name}", data)
        payloads = {}
        for role in sorted(changed):
            if state.by_people(role):
                payloads[role] = self._next(role, state.lists[role].signed)
        return payloads, {role: [state.quorum(role)] for role in payloads}

    def add(self, files: dict[str, bytes], models: dict[str, tuple[int, str]], ready: Ready) -> None:
        """List what was drafted, all or none. ``ready`` are the lists that people signed."""
        state = self._load()
        self._commit(state, self._list(state, files, models), ready)

    def draft_root(self, change: ceremony.RootChange) -> tuple[Payloads, Quorums]:
        """The next root and the lists that must be signed with it; the hub's new keys wait in its key folder."""
        state = self._load()
        before = state.quorum("root"), {role: state.quorum(role) for role in PATHS}
        ceremony.apply(state, change, self._keys)
        payloads = {
            role: self._next(role, state.root if role == "root" else state.lists[role].signed)
            for role in ("root", "targets")
        }
        quorums = {"root": [before[0]], "targets": [state.quorum("targets")]}
        if state.quorum("root") != before[0]:
            quorums["root"].append(state.quorum("root"))
        for role in PATHS:
            # Who signs has changed: the list as it stands is not theirs.
            if state.by_people(role) and state.quorum(role) != before[1][role]:
                payloads[role] = self._next(role, state.lists[role].signed)
                quorums[role] = [state.quorum(role)]
        return payloads, quorums

    def accept_root(self, ready: Ready) -> None:
        """Bring a root that enough people signed into force. Done again after a kill, it ends what was begun."""
        root = cast("Root", ready["root"].signed)
        try:
            state = self._load(self._root(root.version - 1))
        except Tampered:
            if self._root().version != root.version:
                raise
            state = self._load()  # the timestamp was replaced before the kill
        if state.version("targets") < ready["targets"].signed.version:
            state.root = root
            state.lists["targets"] = ready["targets"]
            self._commit(state, ready.keys() & LISTS | {role for role in PATHS if not state.by_people(role)}, ready)
        self._keys.tidy(
            {
                role: state.delegator(role).get_delegated_role(role).keyids
                for role in (*PATHS, "snapshot", "timestamp")
                if not state.by_people(role)
            }
        )

    def fits(self, offer: Offer) -> bool:
        """Whether what an offer would have signed still follows what is in force."""
        state = self._load()
        for role, text in offer.payloads.items():
            if version_of(text) != state.version(role) + 1:
                return False
        return offer.kind == "root" or offer.quorums == {role: [state.quorum(role)] for role in offer.payloads}

    def by_people(self, role: str) -> bool:
        return self._load().by_people(role)

    def people_are_due(self) -> bool:
        """Whether people should sign the list of releases or of models anew, though nothing changed."""
        state = self._load()
        return any(state.by_people(role) and self._due(role, state.lists[role].signed) for role in PATHS)

    def refresh(self) -> bool:
        """Sign anew what has used a third of its life; True if anything was signed. Call it on start and hourly."""
        state = self._load()
        due = {role for role in LISTS if not state.by_people(role) and self._due(role, state.lists[role].signed)}
        renew = due or self._due("snapshot", state.snapshot.signed) or self._due("timestamp", state.timestamp.signed)
        if renew:
            self._commit(state, due, {}, snapshot=self._due("snapshot", state.snapshot.signed))
        return bool(renew)

    # --- reading ------------------------------------------------------------------------------------------------

    def root_version(self) -> int:
        return int(self._root().version)

    def root_bytes(self) -> bytes:
        return _read(self._metadata / f"{self._root().version}.root.json")

    def trust(self) -> dict[str, Any]:
        """See ``Releases.trust``."""
        state, now = self._load(), self._clock()
        told = state.told()
        for role, given in told.items():
            people = given["by_people"]
            names = [key["name"] or key["fingerprint"] for key in given["keys"]]
            given["level"] = expiry.level(role, given["ends_at"] - now, by_people=people)
            given["advice"] = expiry.advice(role, given["threshold"], names, by_people=people) if given["level"] else ""
        return {"version": state.root.version, "roles": told}

    def signers(self) -> dict[str, str]:
        """Role to how many of which fingerprints must sign for it."""
        told = self._load().told()
        return {
            role: f"{given['threshold']} of {' '.join(sorted(key['fingerprint'] for key in given['keys']))}"
            for role, given in told.items()
        }

    def versions(self) -> dict[str, int]:
        """The versions that a new device must not be shown less than."""
        state = self._load()
        return {
            "timestamp": state.timestamp.signed.version,
            "snapshot": state.snapshot.signed.version,
            "targets": state.lists["targets"].signed.version,
        }

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

    def _list(self, state: State, files: dict[str, bytes], models: dict[str, tuple[int, str]]) -> set[str]:
        """Put files and models into the lists; the roles whose lists changed."""
        changed = {"policy"}
        listed = state.lists["model"].signed.targets
        for name, (length, sha256) in models.items():
            path = f"models/{name}"
            if path not in listed:
                listed[path] = TargetFile(length, {"sha256": sha256}, path)
                changed.add("model")
            elif (listed[path].length, listed[path].hashes) != (length, {"sha256": sha256}):
                raise Conflict(
                    "release.model-changed",
                    f"an earlier release lists other bytes as the model {name!r}",
                    advice="give the new file a name of its own; devices may still run the old one",
                )
        for path, data in files.items():
            state.lists["policy"].signed.targets[path] = TargetFile.from_data(path, data, HASHES)
        if state.by_people("model") and self._due("model", state.lists["model"].signed):
            changed.add("model")
        return changed

    def _next(self, role: str, signed: Root | Targets) -> str:
        signed.version += 1
        signed.expires = self._now() + LIFETIME[role]
        return payload(signed)

    def _commit(self, state: State, changed: set[str], ready: Ready | None = None, *, snapshot: bool = True) -> None:
        """Sign and write: the changed lists, the snapshot, a new root, last the timestamp, which makes them visible.

        What people sign comes in ``ready``, and is checked before anything is written.
        """
        ready = ready or {}
        self._check(state, ready)
        state.lists |= {role: held for role, held in ready.items() if role in LISTS}
        for role in LISTS:
            if role in changed:
                held = state.lists[role]
                data = ready[role].to_bytes() if role in ready else self._sign(role, held, state.delegator(role))
                durable.write(self._metadata / f"{held.signed.version}.{role}.json", data)
                state.snapshot.signed.meta[f"{role}.json"] = MetaFile.from_data(held.signed.version, data, HASHES)
        if changed or snapshot:
            data = self._sign("snapshot", state.snapshot, state.root)
            version = state.snapshot.signed.version
            durable.write(self._metadata / f"{version}.snapshot.json", data)
            state.timestamp.signed.snapshot_meta = MetaFile.from_data(version, data, HASHES)
        data = self._sign("timestamp", state.timestamp, state.root)
        if "root" in ready:
            durable.write(self._metadata / f"{state.root.version}.root.json", ready["root"].to_bytes())
        durable.write(self._metadata / "timestamp.json", data)

    def _check(self, state: State, ready: Ready) -> None:
        """That enough of the right people signed each: their files lay on this disk since they were judged."""
        try:
            for role, held in ready.items():
                if role == "root" and held.signed.version > 1:
                    self._root(held.signed.version - 1).verify_delegate(role, held.signed_bytes, held.signatures)
                delegator = ready["targets"].signed if role in PATHS and "targets" in ready else state.delegator(role)
                delegator.verify_delegate(role, held.signed_bytes, held.signatures)
        except (RepositoryError, ValueError) as error:
            raise _damaged(f"too few of the right people have signed: {error}") from error

    def _sign(self, role: str, held: Metadata[Any], delegator: Root | Targets) -> bytes:
        held.signed.version += 1
        held.signed.expires = self._now() + LIFETIME[role]
        held.sign(self._keys.signer(role, delegator.get_delegated_role(role).keyids))
        return held.to_bytes()

    def _load(self, root: Root | None = None) -> State:
        """Everything the timestamp leads to, verified from the root down; not its expiry, which is renewed here."""
        root = root or self._root()
        lists, snapshot, timestamp = self._unchecked()
        state = State(root, timestamp, snapshot, lists)
        try:
            root.verify_delegate("timestamp", timestamp.signed_bytes, timestamp.signatures)
            root.verify_delegate("snapshot", snapshot.signed_bytes, snapshot.signatures)
            for role, held in lists.items():
                state.delegator(role).verify_delegate(role, held.signed_bytes, held.signatures)
        except (RepositoryError, ValueError) as error:
            raise _damaged(f"the repository's own signatures do not hold: {error}") from error
        return state

    def _unchecked(self) -> tuple[dict[str, Metadata[Targets]], Metadata[Snapshot], Metadata[Timestamp]]:
        timestamp = cast("Metadata[Timestamp]", self._metadata_file("timestamp.json", Timestamp))
        version = timestamp.signed.snapshot_meta.version
        snapshot = cast("Metadata[Snapshot]", self._metadata_file(f"{version}.snapshot.json", Snapshot))
        lists = {}
        for role in LISTS:
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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(f"cannot read {path}: {error.strerror}") from error


def _damaged(said: str) -> OutriderError:
    return Tampered(
        "release.damaged", said, advice="restore the repository folder from the backup; do not sign over it"
    )
