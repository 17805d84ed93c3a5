"""What a release contains, and the authority lent with it. Spec page: ``shared/spec/release.md``.

TUF says which files are authentic and who may publish them. Above it stand three small messages that the hub signs:
the *assignment* (which release this device should run now), the *lease* (what it may do, how much and for how long) and
the *answer* to an approval. Each is a signed envelope with a purpose of its own.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec

from shared import chunks, limits
from shared import playbook as playbooks
from shared.actions import Arguments
from shared.codec import canonical, parse
from shared.errors import BadInput, Refused
from shared.facts import Switch
from shared.keys import Envelope, PublicKey, SigningKey, seal, unseal
from shared.memory.rules import MemoryRules, read_rules
from shared.playbook import Playbook, PlaybookStep
from shared.policy import Policy
from shared.triage.setup import Setup, prepare


class _Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the messages the hub signs."""


S = TypeVar("S", bound=_Signed)


class Assignment(_Signed, frozen=True):
    """Which release a device should run. Times are microseconds since 1970 UTC."""

    device: str
    release: int
    issued_at: int
    expires_at: int


class Lease(_Signed, frozen=True):
    """Authority lent to one device: until ``expires_at``, for ``actions`` and ``value_cents`` between two syncs."""

    lease: str
    device: str
    issued_at: int
    expires_at: int
    actions: int
    value_cents: int


class Answer(_Signed, frozen=True, omit_defaults=True):
    """A person's answer to an approval. ``action`` is the digest that was asked about; a correction names the digest
    and the arguments of the action that is to be done in its place. Until ``similar_until`` a yes covers actions like
    this one as well; where it does not it is left out, and the bytes are those of before there was such a thing."""

    approval: str
    device: str
    run: str
    action: str
    answer: str
    by: str
    role: str
    at: int
    reason: str
    corrected: str
    arguments: Arguments | None
    similar_until: int = 0


class Order(_Signed, frozen=True):
    """A person's order about a run, or about one step of it; see ``shared.runs.fold`` for the orders there are."""

    id: str
    device: str
    run: str
    step: str
    order: str
    by: str
    role: str
    at: int
    reason: str


class Revocation(_Signed, frozen=True):
    """The device is no longer one of the hub's: it must stop acting."""

    device: str
    at: int
    code: str


class Stop(_Signed, frozen=True):
    """All the stops in force for one device, under a version that rises: whoever was away learns what is so now,
    whatever was missed. One with a smaller version than the one that is held is old news, or somebody's replay."""

    device: str
    at: int
    version: int
    switches: list[Switch]


class Replay(_Signed, frozen=True):
    """Try ``release`` on at most ``sample`` of this device's own closed runs, and write down the scores alone. After
    ``expires_at`` nobody waits for them."""

    id: str
    device: str
    release: int
    sample: int
    expires_at: int


class Ticket(_Signed, frozen=True):
    """``asker`` may have the model with this hash from ``device``, which listens at ``address``, until ``expires_at``.
    The keys are their link keys in base64: by these the two know each other."""

    device: str
    key: str
    address: str
    asker: str
    asker_key: str
    sha256: str
    expires_at: int


PURPOSES: dict[type[_Signed], str] = {
    Assignment: "assignment",
    Lease: "lease",
    Answer: "answer",
    Order: "order",
    Revocation: "revocation",
    Stop: "stop",
    Replay: "replay",
    Ticket: "ticket",
}


def sign(message: _Signed, key: SigningKey) -> Envelope:
    return seal(PURPOSES[type(message)], canonical(message), key)


def open_signed(envelope: Envelope, kind: type[S], key: PublicKey, device: str) -> S:
    """The message in an envelope, if the hub signed it for this purpose and this device."""
    purpose = PURPOSES[kind]
    message = parse(unseal(envelope, purpose, key), kind, code="signed.form", what=f"the {purpose}")
    if getattr(message, "device", None) != device:
        raise Refused(
            "signed.device",
            f"this {purpose} is for another device",
            advice="the hub must issue one for this device",
        )
    return message


# --- the contents of a release -----------------------------------------------------------------------------------


# \Z and not $, which would let a newline end a name. At most one folder deep: the policy role is delegated no more.
ReleasePath = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_.@-]{0,99}(/[a-z0-9][a-z0-9_.@-]{0,99})?\Z")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
ModelName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}\Z")]
ModelKind = Literal["language", "embedder"]


class SmokeCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model must get right before it is used: to an embedder ``given`` is nearer to ``answer`` than to any of
    ``others``; a language model finds ``answer`` likelier after ``given`` than any of them."""

    given: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
    answer: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
    others: Annotated[list[str], msgspec.Meta(min_length=1, max_length=8)]


class ModelRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model a release permits: a device runs no other bytes. ``source`` is how a device may obtain it, ``chunks`` the
    SHA-256 of its chunk list (``shared.chunks``). What is not known of it is left out, and so are the bytes of before
    there was such a thing. ``min_ram_mb`` is the least memory a device must have, in MiB; ``context`` is in tokens."""

    name: ModelName
    kind: ModelKind
    sha256: Sha256
    size: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    source: str
    version: Annotated[str, msgspec.Meta(max_length=64)] = ""
    licence: Annotated[str, msgspec.Meta(max_length=64)] = ""
    format: Literal["", "gguf", "onnx", "table"] = ""
    context: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0
    min_ram_mb: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0
    chunks: Sha256 | Literal[""] = ""
    smoke: Annotated[list[SmokeCase], msgspec.Meta(max_length=limits.SMOKE_CASES)] = []

    @property
    def targets(self) -> dict[str, tuple[int, str]]:
        """What TUF lists of it below ``models/``: lengths and SHA-256 by name."""
        own = {self.name: (self.size, self.sha256)}
        return own | {f"{self.name}.chunks": (chunks.list_bytes(self.size), self.chunks)} if self.chunks else own


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``release.json``: the list of everything a release is. Paths are TUF target paths below the release's folder.
    What is not there is left out, so that a release without it has the bytes it had before there was such a thing."""

    release: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    made_at: int
    policy: ReleasePath
    schema: ReleasePath
    playbooks: dict[str, ReleasePath]
    prompts: dict[str, ReleasePath]
    models: list[ModelRef]
    files: dict[ReleasePath, Sha256]
    memory: ReleasePath | None = None  # the rules of memory; none: the defaults
    peers: bool = False  # devices may hand models to each other


class Release:
    """A release opened and checked as a whole: it is used entirely, or not at all."""

    def __init__(self, manifest: Manifest, files: dict[str, bytes], *, new: bool = False) -> None:
        """``files`` maps release paths to bytes, already verified. ``new`` is one that is about to be published: it is
        held to all that this version of the software knows of, while one that is in force must go on being read, or its
        runs were stranded. Raises ``BadInput`` naming file, line and field."""
        self.manifest = manifest
        self.number = manifest.release
        policy, schema = _text(files, manifest.policy), _text(files, manifest.schema)
        self.policy = Policy(policy, schema, where=manifest.policy, new=new)
        self.playbooks = {
            name: playbooks.load(_text(files, path), path, new=new) for name, path in sorted(manifest.playbooks.items())
        }
        self.prompts = {name: _text(files, path) for name, path in sorted(manifest.prompts.items())}
        self.memory = read_rules(_text(files, manifest.memory), manifest.memory) if manifest.memory else MemoryRules()
        named = {
            manifest.policy,
            manifest.schema,
            manifest.memory,
            *manifest.playbooks.values(),
            *manifest.prompts.values(),
        }
        self.beside = {
            path: data for path, data in files.items() if path not in named
        }  # carried along, as golden cases
        self.setups: dict[tuple[str, str], Setup] = {}  # of each playbook's steps, by their names
        self._check()

    def _check(self) -> None:
        names = [model.name for model in self.manifest.models]
        for number, model in enumerate(names):
            if model in names[:number]:
                raise BadInput(
                    "release.model-twice",
                    f"two models are named {model!r}",
                    advice="remove one",
                    where=f"models[{number}]",
                )
        for name, book in self.playbooks.items():
            path = self.manifest.playbooks[name]
            if book.playbook != name:
                raise BadInput(
                    "release.playbook-name", f"{path} calls itself {book.playbook!r}", advice="rename one", where=path
                )
            for step in book.all_steps:
                if step.prompt is not None and step.prompt not in self.prompts:
                    raise BadInput(
                        "release.prompt", f"step {step.id} needs the prompt {step.prompt}", advice="add it", where=path
                    )
                if step.planner == "triage":
                    self.setups[name, step.id] = self._prepare(book, step, path)
                if step.run is not None:
                    self._check_child(name, step, path)

    def _check_child(self, name: str, step: PlaybookStep, path: str) -> None:
        child = self.playbooks.get(step.run or "")
        if child is None:
            raise BadInput(
                "release.playbook", f"step {step.id} runs {step.run!r}, which is not in it", advice="add it", where=path
            )
        unknown = [given for given in step.inputs if given not in child.inputs]
        missing = [known for known, part in child.inputs.items() if part.required and known not in step.inputs]
        said = ""
        if child.trigger.assistant:
            said = "which only an assistant can start"
        elif unknown:
            said = f"which has no input {unknown[0]!r}"
        elif missing:
            said = f"which needs the input {missing[0]!r}"
        elif name in self._run_by(child):
            said = "which in turn runs this one, for ever"
        if said:
            where = f"{path}: {step.id}"
            advice = "correct the step, or the playbook it runs"
            raise BadInput("release.child", f"step {step.id} runs {step.run!r}, {said}", advice=advice, where=where)

    def _run_by(self, book: Playbook) -> set[str]:
        """The playbooks that a run of this one may come to, itself included."""
        found: set[str] = set()
        left = [book.playbook]
        while left:
            one = left.pop()
            if one not in found and one in self.playbooks:
                found.add(one)
                left.extend(step.run for step in self.playbooks[one].all_steps if step.run is not None)
        return found

    def _prepare(self, book: Playbook, step: PlaybookStep, path: str) -> Setup:
        try:
            return prepare(book, step.id, self.prompts.get(step.prompt) if step.prompt else None)
        except BadInput as error:
            place = self.manifest.prompts.get(error.where) or (f"{path}: {error.where}" if error.where else path)
            raise BadInput(error.code, error.message, advice=error.advice, where=place) from error

    @property
    def tools(self) -> set[str]:
        """Names of the tools that its playbooks use. Assistants may use others that a device has."""
        steps = [step for book in self.playbooks.values() for step in book.all_steps]
        return {tool for step in steps for tool in (*step.tools, step.tool) if tool}

    def permitted(self, sha256: str) -> ModelRef | None:
        """The model with these bytes, if this release permits it."""
        return next((model for model in self.manifest.models if model.sha256 == sha256), None)


def _text(files: dict[str, bytes], path: str) -> str:
    data = files.get(path)
    if data is None:
        raise BadInput("release.file", f"the release lacks {path}", advice="publish it again, whole", where=path)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadInput("release.encoding", f"{path} is not UTF-8", advice="save it as UTF-8", where=path) from error


def read_manifest(data: bytes) -> Manifest:
    """Parse ``release.json``. Its paths are safe to join to a folder. Raises ``BadInput('release.form')``."""
    return parse(data, Manifest, code="release.form", what="release.json")


def open_release(manifest: bytes, files: dict[str, bytes]) -> Release:
    """Parse ``release.json`` and all it names. The caller has verified every file against TUF."""
    return Release(read_manifest(manifest), files)
