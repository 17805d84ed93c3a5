"""Which of a release's models this computer runs."""

from __future__ import annotations

import os
from collections.abc import Iterable

from edge_agent.models.catalogue import KNOWN, USUAL, Format, Kind
from edge_agent.models.worker import runtime_missing
from shared.release import ModelRef


def fitting(models: Iterable[ModelRef], kind: Kind) -> ModelRef | None:
    """The first of its kind whose runtime is installed here and whose least memory this computer has; where there is
    none, the first, so that what it lacks is told. A release that lists a light model after a heavy one so serves both
    kinds of computers."""
    mine = [model for model in models if model.kind == kind]
    return next((model for model in mine if _runs(model)), mine[0] if mine else None)


def form(model: ModelRef) -> Format:
    """The format of a model's file: what the release says, else the catalogue of a known one, else what is usual."""
    known = next((known.format for known in KNOWN if known.sha256 == model.sha256), USUAL[model.kind])
    return model.format or known


def _runs(model: ModelRef) -> bool:
    return runtime_missing(form(model)) is None and model.min_ram_mb <= memory_mb()


def memory_mb() -> int:
    """What memory this computer has, in MiB; where the system does not say, as much as any model wants."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    except (AttributeError, OSError, ValueError):
        return 2**31
