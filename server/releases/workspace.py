"""The workspace: the files people edit, read into one candidate release.

    FOLDER/
      policy.cedar            the rules
      schema.cedarschema      what the rules may speak of
      playbooks/NAME.yaml     one playbook each, named as it calls itself
      playbooks/NAME.cases.yaml  its golden cases (``shared.replay.golden``)
      prompts/NAME@N.txt      prompt templates by version
      models.json             the models the release permits: a list of ``shared.release.ModelRef``
      memory.yaml             how long memory items live and what of them may leave (``shared.memory.rules``)
      peers.yaml              ``models: true`` where devices may hand models to each other

Other files at the top are left alone (notes, a licence). Inside ``playbooks`` and ``prompts`` a file whose name does
not fit is refused rather than passed over: a playbook saved as ``.yml`` must not be left out in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import msgspec

from shared import limits, plainyaml
from shared.codec import canonical, hex_sha256, parse
from shared.errors import BadInput
from shared.release import Manifest, ModelRef, Release
from shared.replay.golden import cases_of, refuse_failing

_TOP = "policy.cedar", "schema.cedarschema", "models.json", "memory.yaml", "peers.yaml"
POLICY, SCHEMA, MODELS, MEMORY, PEERS = _TOP
_ROOMS = ("playbooks/", "prompts/")
_WITHIN = re.compile(r"(?:playbooks|prompts)/[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}")
_PLAYBOOK = re.compile(r"([a-z][a-z0-9_-]{0,63})\.yaml")
_PROMPT = re.compile(r"([a-z][a-z0-9-]{0,63}@[1-9][0-9]{0,5})\.txt")


class Sharing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``peers.yaml``: what devices may hand to each other."""

    models: bool


class Candidate(msgspec.Struct, frozen=True):
    """A release that holds together and has no number yet. ``files`` maps paths to bytes, without release.json."""

    files: dict[str, bytes]
    playbooks: dict[str, str]
    prompts: dict[str, str]
    models: list[ModelRef]
    peers: bool = False

    @property
    def hashes(self) -> dict[str, str]:
        return {path: hex_sha256(data) for path, data in self.files.items()}

    def manifest(self, number: int, made_at: int) -> Manifest:
        """``release.json`` for this candidate under ``number``. ``made_at`` is microseconds since 1970 UTC."""
        return Manifest(
            release=number,
            made_at=made_at,
            policy=POLICY,
            schema=SCHEMA,
            playbooks=self.playbooks,
            prompts=self.prompts,
            models=self.models,
            files=self.hashes,
            memory=MEMORY if MEMORY in self.files else None,
            peers=self.peers,
        )

    def same_as(self, manifest: Manifest) -> bool:
        """Whether a release with this manifest says exactly what this candidate says."""
        return canonical(self.manifest(manifest.release, manifest.made_at)) == canonical(manifest)


def belongs(path: str) -> bool:
    """Whether a file of this path is part of a workspace, well named or not. It is safe to join to a folder."""
    return path in _TOP or _WITHIN.fullmatch(path) is not None


def read_folder(folder: Path) -> dict[str, bytes]:
    """The files of a workspace that lie in a folder, by path; what does not belong to one is passed over.

    Raises ``BadInput('release.workspace' | 'release.stray-file' | 'release.file-too-large')``.
    """
    paths = [path for path in _TOP if (folder / path).exists()]
    for room in _ROOMS:
        found = sorted((folder / room).iterdir()) if (folder / room).is_dir() else []
        paths += [f"{room}{entry.name}" for entry in found if not entry.name.startswith(".")]
    for path in paths:
        if not belongs(path):
            raise _stray(path, "NAME.yaml or NAME@N.txt")
    return {path: _read(folder, path) for path in paths}


def read_files(files: Mapping[str, bytes]) -> Candidate:
    """Check the files of a workspace as a whole.

    Raises ``BadInput`` naming file, line and field: ``release.workspace``, ``release.stray-file``, ``release.models``,
    ``release.peers`` and whatever policy, playbook, release and golden cases themselves refuse.
    """
    for path in (POLICY, SCHEMA):
        if path not in files:
            raise BadInput("release.workspace", f"there is no {path}", advice="put the file there", where=path)
    cases = cases_of(files).values()
    playbooks = dict(_named(files.keys() - cases, "playbooks/", _PLAYBOOK, "NAME.yaml"))
    prompts = dict(_named(files.keys(), "prompts/", _PROMPT, "NAME@N.txt"))
    listed = [
        POLICY,
        SCHEMA,
        *sorted([*playbooks.values(), *cases, *prompts.values()]),
        *([MEMORY] if MEMORY in files else []),
    ]
    kept = {path: files[path] for path in listed}
    candidate = Candidate(kept, playbooks, prompts, read_models(files.get(MODELS)), read_peers(files.get(PEERS)))
    refuse_failing(Release(candidate.manifest(1, 0), kept, new=True), kept)
    return candidate


def read_workspace(folder: Path) -> Candidate:
    """Read and check the workspace in a folder. Raises what ``read_folder`` and ``read_files`` raise."""
    return read_files(read_folder(folder))


def _named(files: Set[str], room: str, pattern: re.Pattern[str], form: str) -> Iterator[tuple[str, str]]:
    for path in sorted(path for path in files if path.startswith(room)):
        fits = pattern.fullmatch(path.removeprefix(room))
        if fits is None:
            raise _stray(path, form)
        yield fits.group(1), path


def _stray(path: str, form: str) -> BadInput:
    return BadInput(
        "release.stray-file",
        f"{path.rpartition('/')[2]!r} is not a file named {form}",
        advice="rename it, or move it out of the workspace",
        where=path,
    )


def _read(folder: Path, path: str) -> bytes:
    try:
        with (folder / path).open("rb") as file:
            data = file.read(limits.RELEASE_FILE_BYTES + 1)
    except IsADirectoryError as error:
        raise _stray(path, "NAME.yaml or NAME@N.txt") from error
    except OSError as error:
        raise BadInput(
            "release.workspace",
            f"cannot read {path}: {error.strerror or type(error).__name__}",
            advice=f"the workspace is {folder}; put the file there and make it readable",
            where=path,
        ) from error
    if len(data) > limits.RELEASE_FILE_BYTES:
        raise BadInput(
            "release.file-too-large",
            f"{path} has more than {limits.RELEASE_FILE_BYTES} bytes",
            advice="keep data out of the release: cases and notes belong in memory",
            where=path,
        )
    return data


def read_models(data: bytes | None) -> list[ModelRef]:
    """The models that ``models.json`` lists; none without it. Raises ``BadInput('release.models')``."""
    if data is None:
        return []
    try:
        return parse(data, list[ModelRef], code="release.models", what=MODELS)
    except BadInput as error:
        raise BadInput(
            error.code, error.message, advice="see the models section of the release page", where=MODELS
        ) from error


def read_peers(data: bytes | None) -> bool:
    """Whether devices may hand models to each other: what ``peers.yaml`` says, no without it. Raises
    ``BadInput('release.peers')``."""
    if data is None:
        return False
    try:
        source = plainyaml.read(data.decode(), PEERS, _unfit)
    except UnicodeDecodeError as error:
        raise _unfit("it is not UTF-8", PEERS) from error
    return plainyaml.fit(source, Sharing, lambda path, said: _unfit(said, source.place(path)), _unfit).models


def _unfit(said: str, where: str) -> BadInput:
    return BadInput("release.peers", f"{PEERS}: {said}", advice="write `models: true`, or `models: false`", where=where)
