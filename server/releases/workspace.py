"""The workspace: the folder people edit, read into one candidate release.

    HOME/workspace/
      policy.cedar            the rules
      schema.cedarschema      what the rules may speak of
      playbooks/NAME.yaml     one playbook each, named as it calls itself
      prompts/NAME@N.txt      prompt templates by version
      models.json             the models the release permits: a list of ``shared.release.ModelRef``
      memory.yaml             how long memory items live and what of them may leave (``shared.memory.rules``)

Other files at the top are left alone (notes, a licence). Inside ``playbooks`` and ``prompts`` a file whose name does
not fit is refused rather than passed over: a playbook saved as ``.yml`` must not be left out in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from shared import limits
from shared.codec import canonical, hex_sha256, parse
from shared.errors import BadInput
from shared.release import Manifest, ModelRef, Release

POLICY, SCHEMA, MODELS, MEMORY = "policy.cedar", "schema.cedarschema", "models.json", "memory.yaml"
_PLAYBOOK = re.compile(r"([a-z][a-z0-9_-]{0,63})\.yaml")
_PROMPT = re.compile(r"([a-z][a-z0-9-]{0,63}@[1-9][0-9]{0,5})\.txt")


class Candidate(msgspec.Struct, frozen=True):
    """A release that holds together and has no number yet. ``files`` maps paths to bytes, without release.json."""

    files: dict[str, bytes]
    playbooks: dict[str, str]
    prompts: dict[str, str]
    models: list[ModelRef]

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
        )

    def same_as(self, manifest: Manifest) -> bool:
        """Whether a release with this manifest says exactly what this candidate says."""
        return canonical(self.manifest(manifest.release, manifest.made_at)) == canonical(manifest)


def read_workspace(folder: Path) -> Candidate:
    """Read and check the whole workspace.

    Raises ``BadInput`` naming file, line and field: ``release.workspace``, ``release.stray-file``,
    ``release.file-too-large``, ``release.models`` and whatever policy, playbook and release themselves refuse.
    """
    files = {path: _read(folder, path) for path in (POLICY, SCHEMA)}
    playbooks = dict(_named(folder, "playbooks", _PLAYBOOK, "NAME.yaml"))
    prompts = dict(_named(folder, "prompts", _PROMPT, "NAME@N.txt"))
    files |= {path: _read(folder, path) for path in sorted([*playbooks.values(), *prompts.values()])}
    if (folder / MEMORY).exists():
        files[MEMORY] = _read(folder, MEMORY)
    candidate = Candidate(files, playbooks, prompts, _models(folder))
    Release(candidate.manifest(1, 0), files, new=True)
    return candidate


def _named(folder: Path, kind: str, pattern: re.Pattern[str], form: str) -> Iterator[tuple[str, str]]:
    room = folder / kind
    for path in sorted(room.iterdir()) if room.is_dir() else []:
        if path.name.startswith("."):
            continue
        fits = pattern.fullmatch(path.name)
        if fits is None or not path.is_file():
            raise BadInput(
                "release.stray-file",
                f"{path.name!r} is not a file named {form}",
                advice="rename it, or move it out of the workspace",
                where=f"{kind}/{path.name}",
            )
        yield fits.group(1), f"{kind}/{path.name}"


def _read(folder: Path, path: str) -> bytes:
    try:
        with (folder / path).open("rb") as file:
            data = file.read(limits.RELEASE_FILE_BYTES + 1)
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


def _models(folder: Path) -> list[ModelRef]:
    if not (folder / MODELS).exists():
        return []
    try:
        return parse(_read(folder, MODELS), list[ModelRef], code="release.models", what=MODELS)
    except BadInput as error:
        raise BadInput(
            error.code, error.message, advice="see the models section of the release page", where=MODELS
        ) from error
