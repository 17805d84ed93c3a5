"""What hub and devices write of models: which there are, how good they are, which a device uses and which it would not.

The first three are the hub's, the last two a device's.
"""

from __future__ import annotations

from shared.facts.base import Facts


class ModelAdded(Facts, frozen=True):
    """A file came into the hub's registry. ``model`` is its name, which means these bytes for ever; ``chunks`` is the
    SHA-256 of its chunk list."""

    model: str
    version: str
    kind: str
    format: str
    sha256: str
    size: int
    licence: str
    chunks: str
    by: str


class ModelScored(Facts, frozen=True):
    """How a model did on a set of cases: permille by measure."""

    model: str
    sha256: str
    suite: str
    scores: dict[str, int]
    cases: int
    by: str


class ModelRemoved(Facts, frozen=True):
    """A file left the registry. What releases say of it stands; a device that lacks it can no longer fetch it."""

    model: str
    sha256: str
    by: str


class ModelTaken(Facts, frozen=True):
    """The device uses this model from here on: its bytes are those that the release lists, it loads, and it passes its
    smoke cases."""

    kind: str
    model: str
    sha256: str
    release: int


class ModelRefused(Facts, frozen=True):
    """A model that a release assigns failed and is not used. ``kept`` is the SHA-256 of the one that stays in its
    place, empty for none."""

    kind: str
    model: str
    sha256: str
    release: int
    code: str
    kept: str
