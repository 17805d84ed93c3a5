"""The tables of models: the registry, how good they are, and what each device uses."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field

from server.store.tables import Row, core


class ModelRow(Row, table=True):
    """A file in the registry, named for ever. Sizes are bytes, ``context`` is tokens, ``min_ram_mb`` MiB; 0 where not
    known. ``smoke`` is a JSON list of ``shared.release.SmokeCase``."""

    __tablename__ = "models"

    name: str = Field(primary_key=True)
    version: str
    kind: str
    format: str
    sha256: str
    size: int = Field(sa_type=BigInteger)
    licence: str
    context: int = Field(sa_type=BigInteger)
    min_ram_mb: int = Field(sa_type=BigInteger)
    chunks: str
    smoke: str
    source: str
    by: str
    at: int = Field(sa_type=BigInteger)


class ModelScoreRow(Row, table=True):
    """How a model did on a set of cases. ``scores`` is JSON: permille by measure."""

    __tablename__ = "model_scores"

    n: int | None = Field(default=None, primary_key=True)
    model: str = Field(index=True)
    sha256: str
    suite: str
    scores: str
    cases: int
    by: str
    at: int = Field(sa_type=BigInteger)


class DeviceModelRow(Row, table=True):
    """The model of a kind that a device uses, by its own log, and the last that failed there since; empty for none."""

    __tablename__ = "device_models"

    device: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    model: str = ""
    sha256: str = Field(default="", index=True)
    release: int = 0
    at: int = Field(default=0, sa_type=BigInteger)
    refused: str = ""
    refused_release: int = 0
    refused_code: str = ""
    refused_at: int = Field(default=0, sa_type=BigInteger)


MODELS, MODEL_SCORES, DEVICE_MODELS = core(ModelRow), core(ModelScoreRow), core(DeviceModelRow)
