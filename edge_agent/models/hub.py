"""Models that the hub itself hands out: the file of a release whose source is ``hub:``.

The bytes lie among the repository's targets, under their own hash. What was fetched before a break is kept and the next
try asks for the rest only. Nothing is believed but the release's hash: a file that does not have it is thrown away
whole.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import urllib3

from edge_agent.models.fetch import Progress, Report, _silent
from edge_agent.models.store import BLOCK, Installed, ModelStore, disk_error, file_sha256
from shared.errors import Tampered, Unavailable
from shared.release import ModelRef

SOURCE = "hub:"
_CONNECT_S, _GAP_S = 10.0, 20.0
_LEAST_BYTES_S = 16 * 1024  # a sender slower than that over the whole file is given up on
_AGAIN = "it goes on where it stopped when the agent tries again"


def add_from_hub(store: ModelStore, hub: str, model: ModelRef, *, report: Report = _silent) -> Installed:
    """Fetch the model from the hub at the base URL ``hub`` and register it.

    Raises ``Unavailable('model.fetch' | 'model.disk')``, ``Tampered('model.hash')``, ``Conflict('model.locked')``.
    """
    name = f"{model.sha256}.{model.name}"
    with store.installing():  # one fetch at a time, so that no two write the same part
        part = store.folder / f".part-{model.sha256}"
        try:
            _fetch(f"{hub.rstrip('/')}/tuf/targets/models/{name}", part, model, report)
            found = file_sha256(part)
            if found != model.sha256:
                part.unlink()
                raise Tampered(
                    "model.hash",
                    f"the hub's file of {model.name} has the hash {found[:16]}…, not {model.sha256[:16]}…",
                    advice="tell the administrator; nothing of it was kept",
                )
        except OSError as error:
            raise disk_error(error, store.folder) from error
        row = Installed(
            name=model.name,
            kind=model.kind,
            format="onnx" if model.kind == "embedder" else "gguf",
            sha256=model.sha256,
            size=model.size,
            source=SOURCE,
        )
        return store.register(row, part)


def _fetch(url: str, part: Path, model: ModelRef, report: Report) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have > model.size:
        part.unlink()
        have = 0
    if have == model.size:
        return
    pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=_CONNECT_S, read=_GAP_S))
    # Identity: an answer must not be able to grow after it was counted.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        answer = pool.request("GET", url, preload_content=False, redirect=False, headers=headers)
        try:
            if answer.status not in (200, 206):
                raise _failed(model, f"it answered with status {answer.status}")
            _take(answer, part, have if answer.status == 206 else 0, model, report)
        finally:
            answer.close()
    except urllib3.exceptions.HTTPError as error:
        raise _failed(model, str(error)) from error
    finally:
        pool.clear()


def _take(answer: urllib3.BaseHTTPResponse, part: Path, have: int, model: ModelRef, report: Report) -> None:
    deadline = time.monotonic() + _GAP_S + model.size / _LEAST_BYTES_S
    with part.open("ab" if have else "wb") as sink:
        # read1 returns what has come; read would wait for a full block and could be dripped on past the deadline.
        while block := answer.read1(BLOCK, decode_content=False):
            have += len(block)
            if have > model.size:
                sink.truncate(0)
                raise _failed(model, "it sent more than the release says")
            sink.write(block)
            report(Progress("download", have, model.size))
            if time.monotonic() > deadline:
                raise _failed(model, "it sent too slowly")
        sink.flush()
        os.fsync(sink.fileno())
    if have < model.size:
        raise _failed(model, f"it broke off after {have} of {model.size} bytes")


def _failed(model: ModelRef, said: str) -> Unavailable:
    return Unavailable("model.fetch", f"{model.name} could not be fetched from the hub: {said[:200]}", advice=_AGAIN)
