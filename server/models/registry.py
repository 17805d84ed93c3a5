"""The registry: models by name. A name means its bytes for ever; other bytes need another name.

A file that was staged (``server.models.staging``) is moved among the repository's targets, under its own hash, and its
chunk list beside it; then its entry in the hub's log and its row are written together. A kill in between leaves files
that nothing names, which adding it again writes over. What devices may run is said by releases alone: ``use`` puts a
model into the workspace, for the next one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
from sqlalchemy import Connection, delete, insert, select

from server.bus import Bus
from server.models.staging import Staged, Staging
from server.releases import durable
from server.releases.workspace import MODELS as MODELS_FILE
from server.releases.workspace import read_models
from server.store import HubLog
from server.store.model_tables import DEVICE_MODELS, MODEL_SCORES, MODELS
from server.store.tables import DEVICES
from shared import limits
from shared.entries import Draft, ModelAdded, ModelRemoved, ModelScored, Written
from shared.errors import BadInput, Conflict, Unavailable
from shared.release import ModelRef, Release, SmokeCase

TOPIC = "models"
SOURCE = "hub:"  # what a release says of models that the hub hands out
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # what a device's own store takes
_WORD = re.compile(r"[a-z0-9][a-z0-9._@-]{0,39}")
_KIND: dict[str, Literal["language", "embedder"]] = {"gguf": "language", "onnx": "embedder"}
_GGUF, _ONNX = b"GGUF".hex(), "08"  # an ONNX file is a protobuf whose first field is its version


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What its owner says of a model. ``context`` is in tokens and ``min_ram_mb`` in MiB, 0 where not known."""

    name: str
    version: str = ""
    licence: str = ""
    context: int = 0
    min_ram_mb: int = 0
    source: str = ""
    smoke: list[SmokeCase] = []


class Score(msgspec.Struct, frozen=True):
    """The newest word on a set of cases. ``scores`` is permille by measure, ``at`` microseconds since 1970 UTC."""

    suite: str
    scores: dict[str, int]
    cases: int
    by: str
    at: int


class Use(msgspec.Struct, frozen=True):
    """A kind of model on one device: what it uses, and the last that failed there since (both may be empty)."""

    device: str
    name: str
    kind: str
    model: str
    sha256: str
    release: int
    refused: str
    refused_release: int
    refused_code: str
    refused_at: int


class ModelView(msgspec.Struct, frozen=True):
    """A model of the registry, with its newest scores. ``size`` is bytes."""

    name: str
    version: str
    kind: str
    format: str
    sha256: str
    size: int
    licence: str
    context: int
    min_ram_mb: int
    chunks: str
    smoke: list[SmokeCase]
    source: str
    by: str
    at: int
    scores: list[Score]

    @property
    def ref(self) -> ModelRef:
        """What a release says that permits it."""
        return ModelRef(
            name=self.name,
            kind=_KIND[self.format],
            sha256=self.sha256,
            size=self.size,
            source=SOURCE,
            version=self.version,
            licence=self.licence,
            format="gguf" if self.format == "gguf" else "onnx",
            context=self.context,
            min_ram_mb=self.min_ram_mb,
            chunks=self.chunks,
            smoke=self.smoke,
        )


class Published(Protocol):
    """What is asked of the hub's releases."""

    def current(self) -> int: ...

    def release(self, number: int) -> Release: ...


class Models:
    """The registry of one hub. ``limit`` is the largest file it takes, in bytes."""

    def __init__(self, hublog: HubLog, bus: Bus, releases: Published, *, limit: int) -> None:
        self._log, self._store, self._bus, self._releases = hublog, hublog.store, bus, releases
        self.staging = Staging(hublog.home, limit)
        self._files = hublog.home / "repository" / "targets" / "models"
        self._workspace = hublog.home / "workspace"

    # --- looking ------------------------------------------------------------------------------------------------

    def list(self) -> list[ModelView]:
        """All models, by kind and name."""
        with self._store.read() as conn:
            rows = conn.execute(select(MODELS).order_by(MODELS.c.kind, MODELS.c.name)).all()
            scores = conn.execute(select(MODEL_SCORES).order_by(MODEL_SCORES.c.n)).all()
        newest: dict[str, dict[str, Score]] = {}
        for row in scores:
            made = Score(row.suite, json.loads(row.scores), row.cases, row.by, row.at)
            newest.setdefault(row.model, {})[row.suite] = made
        return [_view(row, [*newest.get(row.name, {}).values()]) for row in rows]

    def get(self, name: str) -> ModelView:
        """Raises ``BadInput('model.unknown')``."""
        found = next((model for model in self.list() if model.name == name), None)
        if found is None:
            raise BadInput("model.unknown", f"no model is called {name[:64]!r}", advice="see outrider hub model list")
        return found

    def uses(self) -> Sequence[Use]:
        """What active devices use and what failed on them, by device and kind."""
        devices, models = DEVICES.c, DEVICE_MODELS.c
        names = [each for each in Use.__struct_fields__ if each not in ("device", "name")]
        query = (
            select(models.device, devices.name, *(getattr(models, each) for each in names))
            .join(DEVICES, devices.id == models.device)
            .where(devices.state == "active")
            .order_by(devices.name, devices.id, models.kind)
        )
        with self._store.read() as conn:
            return [Use(*row) for row in conn.execute(query)]

    # --- changing -----------------------------------------------------------------------------------------------

    def add(self, staged: Staged, about: About, by: str) -> ModelView:
        """Name a staged file; the same bytes under the same name again change nothing.

        Raises ``BadInput('model.name' | 'model.about' | 'model.format' | 'model.staged')`` and
        ``Conflict('model.name-taken')``.
        """
        try:
            format_ = _check(staged, about)
            path, listed = self.staging.places(staged)
            known = next((model for model in self.list() if model.name == about.name), None)
            if known is not None and known.sha256 == staged.sha256:
                return known
            if known is not None:
                raise _taken(about.name)
            self._land(path, self._files / f"{staged.sha256}.{about.name}")
            self._land(listed, self._files / f"{staged.chunks}.{about.name}.chunks")
        finally:
            self.staging.drop(staged)
        self._insert(staged, about, format_, by)
        return self.get(about.name)

    def _insert(self, staged: Staged, about: About, format_: Literal["gguf", "onnx"], by: str) -> None:
        row = msgspec.structs.asdict(about) | {
            "kind": _KIND[format_],
            "format": format_,
            "sha256": staged.sha256,
            "size": staged.size,
            "chunks": staged.chunks,
            "smoke": msgspec.json.encode(about.smoke).decode(),
            "by": by,
        }

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            if conn.execute(select(MODELS.c.name).where(MODELS.c.name == about.name)).scalar() is not None:
                raise _taken(about.name)  # by another, a moment ago
            conn.execute(insert(MODELS), [row | {"at": written[0].entry.at}])

        facts = ModelAdded(
            model=about.name,
            version=about.version,
            kind=_KIND[format_],
            format=format_,
            sha256=staged.sha256,
            size=staged.size,
            licence=about.licence,
            chunks=staged.chunks,
            by=by,
        )
        self._write(facts, rows)

    def score(self, name: str, suite: str, scores: dict[str, int], cases: int, by: str) -> ModelView:
        """Record how it did on a set of cases. Raises ``BadInput('model.unknown' | 'model.score')``."""
        model = self.get(name)
        if not _WORD.fullmatch(suite) or not scores or len(scores) > 16 or not 1 <= cases <= 10**9:
            raise BadInput("model.score", "a score names its set of cases and how many", advice="correct it")
        if not all(_WORD.fullmatch(measure) and 0 <= value <= 1000 for measure, value in scores.items()):
            raise BadInput("model.score", "a score is permille by measure", advice="give 947 for 0.947")
        row: dict[str, Any] = {"model": name, "sha256": model.sha256, "suite": suite, "cases": cases, "by": by}

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            conn.execute(insert(MODEL_SCORES), [row | {"scores": json.dumps(scores), "at": written[0].entry.at}])

        self._write(ModelScored(name, model.sha256, suite, scores, cases, by), rows)
        return self.get(name)

    def remove(self, name: str, by: str) -> None:
        """Take a model out of the registry, its file too. Raises ``Conflict('model.in-use')`` while the newest release
        lists it or a device uses it, ``BadInput('model.unknown')``."""
        model = self.get(name)
        number = self._releases.current()
        used = [use.name for use in self.uses() if use.sha256 == model.sha256]
        if number and self._releases.release(number).permitted(model.sha256) is not None:
            used.append(f"release {number}")
        if used:
            raise Conflict(
                "model.in-use",
                f"{name} is in use: {', '.join(used[:3])}{' and others' if len(used) > 3 else ''}",
                advice="publish a release without it, and wait until devices have it",
            )

        def rows(conn: Connection, _written: Sequence[Written]) -> None:
            conn.execute(delete(MODELS).where(MODELS.c.name == name))
            conn.execute(delete(MODEL_SCORES).where(MODEL_SCORES.c.model == name))

        self._write(ModelRemoved(name, model.sha256, by), rows)
        durable.remove(self._files / f"{model.sha256}.{name}")
        durable.remove(self._files / f"{model.chunks}.{name}.chunks")

    def use(self, name: str) -> ModelRef:
        """Name it in the workspace as the model of its kind, in place of the one that is; devices are told to use it
        by the next release. Raises ``BadInput('model.unknown' | 'release.workspace' | 'release.models')``."""
        ref = self.get(name).ref
        if not self._workspace.is_dir():
            raise BadInput("release.workspace", "this hub has no workspace", advice="run `outrider hub init`")
        path = self._workspace / MODELS_FILE
        durable.write(path, naming(path.read_bytes() if path.exists() else None, ref))
        return ref

    # --- within -------------------------------------------------------------------------------------------------

    def _land(self, path: Path, to: Path) -> None:
        try:
            durable.make_folder(to.parent)
            path.chmod(0o644)
            durable.rename(path, to)
        except OSError as error:
            raise Unavailable("disk.write", f"{to}: {error.strerror}", advice="free space, check its owner") from error

    def _write(self, facts: ModelAdded | ModelScored | ModelRemoved, rows: Any) -> None:
        self._log.append([Draft(facts)], rows)
        self._bus.publish(TOPIC, {"model": facts.model})


def naming(models: bytes | None, ref: ModelRef) -> bytes:
    """A workspace's ``models.json`` that names a model in place of the one of its kind. Raises
    ``BadInput('release.models')``."""
    listed = read_models(models)
    place = next((n for n, one in enumerate(listed) if one.kind == ref.kind), len(listed))
    kept = [one for n, one in enumerate(listed) if n != place and one.name != ref.name]
    return msgspec.json.format(msgspec.json.encode([*kept[:place], ref, *kept[place:]]), indent=2) + b"\n"


def _check(staged: Staged, about: About) -> Literal["gguf", "onnx"]:
    """The file's format, by its first bytes."""
    if not _NAME.fullmatch(about.name) or about.name.endswith(".chunks"):
        raise BadInput(
            "model.name",
            f"{about.name[:80]!r} cannot name a model",
            advice="use up to 64 small letters, digits, dots, dashes and underscores, a letter or digit first",
        )
    texts = (about.version, about.licence)
    if any(len(text) > 64 or not text.isprintable() for text in texts) or len(about.source) > 300:
        raise BadInput("model.about", "version and licence are a few words", advice="shorten them")
    numbers_fit = 0 <= about.context < 2**31 and 0 <= about.min_ram_mb < 2**31
    if not numbers_fit or len(about.smoke) > limits.SMOKE_CASES:
        advice = f"correct the numbers; at most {limits.SMOKE_CASES} smoke cases"
        raise BadInput("model.about", "what is said of the model does not fit", advice=advice)
    if staged.head.startswith(_GGUF):
        return "gguf"
    if staged.head.startswith(_ONNX):
        return "onnx"
    raise BadInput("model.format", "the file is neither GGUF nor ONNX", advice="give a .gguf or .onnx model file")


def _taken(name: str) -> Conflict:
    advice = "give the new file a name of its own, such as one with its version"
    return Conflict("model.name-taken", f"{name!r} is a model with other bytes", advice=advice)


def _view(row: Any, scores: Sequence[Score]) -> ModelView:
    known = dict(row._mapping)
    known["smoke"] = msgspec.json.decode(known["smoke"], type=list[SmokeCase])
    return ModelView(**known, scores=list(scores))
