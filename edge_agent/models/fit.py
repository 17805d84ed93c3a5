"""Which of a release's models this computer runs."""

from __future__ import annotations

from collections.abc import Iterable

from edge_agent.models.catalogue import KNOWN, USUAL, Format, Kind
from edge_agent.models.worker import runtime_missing
from shared.release import ModelRef


def fitting(models: Iterable[ModelRef], kind: Kind) -> ModelRef | None:
    """The first of its kind whose runtime is installed here; where there is none, the first, so that its absence is
    told. A release that lists a light model after a heavy one so serves both kinds of computers."""
    mine = [model for model in models if model.kind == kind]
    return next((model for model in mine if runtime_missing(form(model)) is None), mine[0] if mine else None)


def form(model: ModelRef) -> Format:
    """The format of a model's file: of a known one what the catalogue says, else what is usual for its kind."""
    return next((known.format for known in KNOWN if known.sha256 == model.sha256), USUAL[model.kind])
