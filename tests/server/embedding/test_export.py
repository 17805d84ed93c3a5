"""From sentence-transformers to the devices and back: exported, published, judged, and run by the agent's own code."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.models.embedder import Embedder
from edge_agent.models.obtain import obtain
from edge_agent.models.store import ModelStore
from server.embedding.checking import check
from server.embedding.evaluate import judged
from server.embedding.folder import describe
from shared.codec import hex_sha256
from shared.errors import BadInput
from shared.memory.vector import Embedding
from shared.release import ModelRef
from tests.server.embedding.items import QUESTIONS, TEXTS

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]  # loading torch takes a minute on a busy machine

Hub = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Hub:
    home = tmp_path_factory.mktemp("hub") / "home"
    environment = os.environ | {"OUTRIDER_HUB_HOME": str(home), "OUTRIDER_HUB_EMBEDDER": str(model_folder)}

    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "server", *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=240, env=environment)

    made = run("init", "--user", "clara", "--password-stdin", stdin="correct horse battery\n")
    assert made.returncode == 0, made.stderr
    return run


@pytest.fixture(scope="module")
def exported(hub: Hub) -> dict[str, Any]:
    done = hub("embedder", "export", "--name", "team-minilm", "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_an_export_is_small_faithful_and_named_by_its_hash(exported: dict[str, Any], model_folder: Path) -> None:
    path = Path(exported["path"])
    assert exported["sha256"] == hex_sha256(path.read_bytes())
    assert exported["size"] == path.stat().st_size < 30_000_000
    assert exported["model"] == describe(model_folder).id
    assert (exported["width"], exported["positions"]) == (384, 256)
    assert exported["cosine_mean"] >= 980
    assert exported["cosine_least"] >= 950
    assert [one.name for one in path.parent.iterdir()] == ["team-minilm.onnx"]


def test_the_agents_embedder_agrees_with_sentence_transformers(
    exported: dict[str, Any], published: dict[str, Embedding]
) -> None:
    mine = Embedder(Path(exported["path"])).embed(tuple(published))
    theirs = list(published.values())
    assert mine is not None
    cosines = [one.similarity(other) for one, other in zip(mine, theirs, strict=True)]
    assert min(cosines) >= 980, dict(zip(published, cosines, strict=True))
    # What is told apart at the hub is told apart on the device.
    for place in range(1, len(theirs)):
        assert abs(_near(mine, 0, place) - _near(theirs, 0, place)) <= 40


def _near(vectors: Any, one: int, other: int) -> int:
    first: Embedding = vectors[one]
    return first.similarity(vectors[other])


def test_candidates_are_judged_side_by_side_and_the_scores_kept(
    hub: Hub, exported: dict[str, Any], artefact: Path, tmp_path: Path
) -> None:
    (tmp_path / "texts.jsonl").write_text(
        "\n".join(json.dumps({"id": name, "text": text}) for name, text in TEXTS.items())
    )
    (tmp_path / "judged.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    given = ["--queries", str(tmp_path / "judged.jsonl"), "--texts", str(tmp_path / "texts.jsonl")]
    candidates = ["--candidate", exported["path"], "--candidate", str(artefact)]
    done = hub("embedder", "evaluate", *given, *candidates, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["questions"], told["texts"]) == (6, 9)
    words, mine, catalogued = told["scores"]
    assert words["name"] == "words"
    assert mine["model"] == exported["sha256"]
    for score in (mine, catalogued):
        assert score["ndcg"] > words["ndcg"]
        assert score["mixed_ndcg"] > words["ndcg"]
        assert score["recall"] == 1000
        assert score["query_us"] > 0 < score["texts_s"]
    kept = Path(exported["path"]).with_name("evaluations.jsonl")
    assert [json.loads(line) for line in kept.read_text().splitlines()] == [told]
    assert "photovoltaic" not in kept.read_text()
    kept.unlink()


def test_what_is_published_is_in_the_release_and_among_the_targets(hub: Hub, exported: dict[str, Any]) -> None:
    done = hub("model", "add", exported["path"], "--name", "team-minilm", "--use", "--json")
    assert done.returncode == 0, done.stderr
    home = Path(exported["path"]).parent.parent
    listed = json.loads((home / "workspace" / "models.json").read_text())
    assert [one["name"] for one in listed if one["kind"] == "embedder"] == ["team-minilm"]
    assert json.loads(done.stdout)["sha256"] == exported["sha256"]
    target = home / "repository" / "targets" / "models" / f"{exported['sha256']}.team-minilm"
    assert hex_sha256(target.read_bytes()) == exported["sha256"]
    published = hub("release", "publish", "--json")
    assert published.returncode == 0, published.stderr
    metadata = "".join(path.read_text() for path in (home / "repository" / "metadata").glob("*.model.json"))
    assert "models/team-minilm" in metadata
    assert exported["sha256"] in metadata


def test_a_device_obtains_it_from_the_running_hub_and_embeds_with_it(
    hub: Hub, exported: dict[str, Any], published: dict[str, Embedding], tmp_path: Path
) -> None:
    home = Path(exported["path"]).parent.parent
    listed = json.loads((home / "workspace" / "models.json").read_text())
    model = msgspec.convert(next(one for one in listed if one["name"] == "team-minilm"), ModelRef)
    command = [sys.executable, "-m", "server", "run", "--home", str(home), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            address = running.stdout.readline().split()[-1]
            # As if a first try had been cut off: the hub answers for the rest alone.
            (tmp_path / "models").mkdir()
            (tmp_path / "models" / f".part-{model.sha256}").write_bytes(Path(exported["path"]).read_bytes()[:9_999_999])
            row = obtain(tmp_path, model, None, hub=address)
        finally:
            running.kill()
    assert (row.kind, row.format, row.sha256) == ("embedder", "onnx", exported["sha256"])
    text = next(iter(published))
    mine = Embedder(ModelStore(tmp_path).path_for(row.sha256)).embed((text,))
    assert mine is not None
    assert mine[0].similarity(published[text]) >= 980


def test_an_export_of_nothing_says_why(hub: Hub) -> None:
    done = hub("embedder", "export", "--model", "/nowhere")
    assert done.returncode == 1
    assert "[embedder.none]" in done.stderr


def test_only_an_artefact_that_loads_is_taken(tmp_path: Path) -> None:
    (tmp_path / "odd.onnx").write_bytes(b"not a graph")
    for path in (tmp_path / "odd.onnx", tmp_path / "none.onnx", tmp_path):
        with pytest.raises(BadInput) as caught:
            check(path)
        assert caught.value.code == "embedder.artefact"
    assert [one.name for one in tmp_path.iterdir()] == ["odd.onnx"]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{",
        '{"query": "x"}',
        '{"query": " ", "relevant": ["a"]}',
        '{"query": "x", "relevant": []}',
        '{"query": "x", "relevant": ["mem_none"]}',
        "",
    ],
)
def test_questions_that_are_not_judged_are_refused_with_their_place(line: str, tmp_path: Path) -> None:
    (tmp_path / "judged.jsonl").write_text(line)
    with pytest.raises(BadInput) as caught:
        judged(tmp_path / "judged.jsonl", {"a": "text"})
    assert caught.value.code == "embedder.judged"
    assert "judged.jsonl" in caught.value.where


def test_a_hub_without_the_extra_says_what_to_install(model_folder: Path, tmp_path: Path) -> None:
    """The worker with the packages out of sight, as where they were never installed."""
    program = (
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'sentence_transformers', 'onnxruntime', 'numpy'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "from server.embedding.worker import main\n"
        "raise SystemExit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(model_folder)], input=b"", capture_output=True)
    assert done.returncode == 1
    assert b"embedder.missing" in done.stdout
    assert b"outrider[hub-embeddings]" in done.stdout


async def test_the_hubs_process_never_loads_the_model_itself() -> None:
    program = (
        "import sys, server.app, server.embedding.index, server.embedding.commands, server.embedding.evaluate\n"
        "heavy = {'torch', 'sentence_transformers', 'transformers', 'onnxruntime', 'onnx'} & set(sys.modules)\n"
        "raise SystemExit(str(heavy) if heavy else 0)\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await process.wait() == 0
