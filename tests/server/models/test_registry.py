"""The registry over a real store, log and repository folder; what devices use comes from their own logs."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import msgspec
import pytest

from server.bus import Bus
from server.models import About, ModelOrder, Models, Staged, carry_out
from server.store import HubLog
from shared import limits
from shared.chunks import read_list
from shared.entries import Draft, Facts, ModelAdded, ModelRefused, ModelRemoved, ModelScored, ModelTaken, read
from shared.errors import BadInput, Conflict, Unavailable
from shared.release import ModelRef, SmokeCase
from tests.server.conftest import Rooms

DATA = b"GGUF" + bytes(range(256)) * 10_000
ONNX = b"\x08\x07" + bytes(5000)
CASE = SmokeCase(given="One, two,", answer=" three", others=[" house"])


class Release:
    def __init__(self, permits: str) -> None:
        self.permits = permits

    def permitted(self, sha256: str) -> object | None:
        return sha256 if sha256 == self.permits else None


class Published:
    """Releases of which the newest permits one model."""

    permits = ""

    def current(self) -> int:
        return 3

    def release(self, number: int) -> Release:
        assert number == 3
        return Release(self.permits)


@pytest.fixture
def published() -> Published:
    return Published()


@pytest.fixture
def models(hublog: HubLog, published: Published) -> Models:
    (hublog.home / "workspace").mkdir(exist_ok=True)
    return Models(hublog, Bus(), published, limit=4_000_000)  # type: ignore[arg-type] # all that is asked of releases


def stage(models: Models, data: bytes = DATA) -> Staged:
    with models.staging.receiving() as receiver:
        receiver.pour(io.BytesIO(data))
        return receiver.done()


def added(models: Models, name: str = "letters-1", data: bytes = DATA) -> str:
    return models.add(stage(models, data), About(name=name), "mara").sha256


def facts(hublog: HubLog) -> list[Facts]:
    return [read(data).facts for _, data in hublog.entries()][1:]


def test_a_staged_file_becomes_a_model_that_devices_can_fetch(models: Models, hublog: HubLog) -> None:
    about = About("letters-1", version="2.1", licence="MIT", context=2048, min_ram_mb=300, smoke=[CASE])
    made = models.add(stage(models), about, "mara")
    sha256 = hashlib.sha256(DATA).hexdigest()
    assert (made.kind, made.format, made.sha256, made.size, made.by) == ("language", "gguf", sha256, len(DATA), "mara")
    folder = hublog.home / "repository" / "targets" / "models"
    listed = (folder / f"{made.chunks}.letters-1.chunks").read_bytes()
    hashes = read_list(listed, len(DATA), made.chunks)
    step = limits.MODEL_CHUNK_BYTES
    assert hashes == [hashlib.sha256(DATA[at : at + step]).digest() for at in range(0, len(DATA), step)]
    assert (folder / f"{sha256}.letters-1").read_bytes() == DATA
    assert facts(hublog) == [
        ModelAdded("letters-1", "2.1", "language", "gguf", sha256, len(DATA), "MIT", made.chunks, "mara")
    ]
    assert made.ref.targets == {
        "letters-1": (len(DATA), sha256),
        "letters-1.chunks": (len(listed), made.chunks),
    }
    assert (made.ref.smoke, made.ref.min_ram_mb, made.ref.source) == ([CASE], 300, "hub:")
    assert list((hublog.home / "repository" / "incoming").iterdir()) == []


def test_a_name_means_its_bytes_for_ever(models: Models, hublog: HubLog) -> None:
    first = added(models)
    assert added(models) == first
    with pytest.raises(Conflict) as caught:
        added(models, data=DATA[:-1])
    assert caught.value.code == "model.name-taken"
    assert added(models, "letters-2", DATA[:-1]) != first
    assert [model.name for model in models.list()] == ["letters-1", "letters-2"]
    assert len(facts(hublog)) == 2


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("Letters", DATA, "model.name"),
        ("../x", DATA, "model.name"),
        ("x.chunks", DATA, "model.name"),
        ("letters", b"PK\x03\x04", "model.format"),
    ],
)
def test_what_is_no_model_is_refused_and_gone(
    models: Models, hublog: HubLog, name: str, data: bytes, code: str
) -> None:
    with pytest.raises(BadInput) as caught:
        added(models, name, data)
    assert caught.value.code == code
    assert models.list() == []
    assert list((hublog.home / "repository" / "incoming").iterdir()) == []


@pytest.mark.parametrize("about", [About("x", version="a" * 65), About("x", context=-1), About("x", smoke=[CASE] * 33)])
def test_what_is_said_of_it_is_bounded(models: Models, about: About) -> None:
    with pytest.raises(BadInput) as caught:
        models.add(stage(models), about, "mara")
    assert caught.value.code == "model.about"


def test_only_what_came_in_whole_and_within_the_limit_is_taken(models: Models, hublog: HubLog) -> None:
    staged = stage(models)
    models.staging.drop(staged)
    with pytest.raises(BadInput) as caught:
        models.add(staged, About("letters"), "mara")
    assert caught.value.code == "model.staged"
    with pytest.raises(BadInput) as caught:
        stage(models, bytes(4_000_001))
    assert caught.value.code == "model.too-large"
    with pytest.raises(Unavailable), models.staging.receiving() as receiver:
        receiver.write(b"GGUF")
        raise OSError(28, "No space left on device")
    assert list((hublog.home / "repository" / "incoming").iterdir()) == []


def test_scores_are_kept_and_the_newest_of_a_suite_is_shown(models: Models, hublog: HubLog) -> None:
    sha256 = added(models)
    models.score("letters-1", "queries", {"ndcg": 800}, 200, "mara")
    made = models.score("letters-1", "queries", {"ndcg": 947, "recall": 981}, 240, "mara")
    assert [(score.suite, score.scores, score.cases) for score in made.scores] == [
        ("queries", {"ndcg": 947, "recall": 981}, 240)
    ]
    assert facts(hublog)[-1] == ModelScored("letters-1", sha256, "queries", {"ndcg": 947, "recall": 981}, 240, "mara")
    for name, suite, scores, cases, code in (
        ("other", "queries", {"ndcg": 1}, 1, "model.unknown"),
        ("letters-1", "Big Suite", {"ndcg": 1}, 1, "model.score"),
        ("letters-1", "queries", {"ndcg": 1001}, 1, "model.score"),
        ("letters-1", "queries", {}, 1, "model.score"),
    ):
        with pytest.raises(BadInput) as caught:
            models.score(name, suite, scores, cases, "mara")
        assert caught.value.code == code


def test_use_takes_the_place_of_the_one_of_its_kind_in_the_workspace(models: Models, hublog: HubLog) -> None:
    from server.releases.workspace import read_models

    path = hublog.home / "workspace" / "models.json"
    added(models)
    added(models, "letters-2", DATA[:-1])
    added(models, "words-1", ONNX)

    def named() -> list[str]:
        return [model.name for model in read_models(path.read_bytes())]

    models.use("letters-1")
    models.use("words-1")
    assert named() == ["letters-1", "words-1"]
    models.use("letters-2")
    assert named() == ["letters-2", "words-1"]
    assert models.use("letters-2") == models.get("letters-2").ref == read_models(path.read_bytes())[0]


def test_what_is_in_use_is_not_removed(models: Models, rooms: Rooms, published: Published) -> None:
    hublog = rooms.hublog
    sha256 = added(models)
    published.permits = sha256
    with pytest.raises(Conflict) as caught:
        models.remove("letters-1", "mara")
    assert caught.value.code == "model.in-use"
    published.permits = ""
    device = rooms.join()
    device.add(Draft(ModelTaken("language", "letters-1", sha256, 3)))
    rooms.sync(device)
    with pytest.raises(Conflict, match="front desk"):
        models.remove("letters-1", "mara")
    device.add(Draft(ModelTaken("language", "letters-2", "00" * 32, 4)))
    rooms.sync(device)
    models.remove("letters-1", "mara")
    assert models.list() == []
    assert facts(hublog)[-1] == ModelRemoved("letters-1", sha256, "mara")
    assert list((hublog.home / "repository" / "targets" / "models").iterdir()) == []


def test_what_devices_use_and_refuse_is_told_by_their_logs(models: Models, rooms: Rooms) -> None:
    device = rooms.join()
    device.add(Draft(ModelTaken("embedder", "words-1", "11" * 32, 3)))
    device.add(Draft(ModelTaken("language", "letters-1", "22" * 32, 3)))
    rooms.sync(device)
    device.add(Draft(ModelRefused("embedder", "words-2", "33" * 32, 4, "model.smoke", "11" * 32)))
    rooms.sync(device)
    embedder, language = models.uses()
    assert (embedder.model, embedder.release, embedder.refused, embedder.refused_code) == (
        "words-1", 3, "words-2", "model.smoke",
    )  # fmt: skip
    assert (language.model, language.refused) == ("letters-1", "")
    device.add(Draft(ModelTaken("embedder", "words-3", "44" * 32, 5)))
    rooms.sync(device)
    assert [(use.model, use.refused) for use in models.uses()] == [("words-3", ""), ("letters-1", "")]


def test_orders(models: Models) -> None:
    made = carry_out(models, ModelOrder("add", staged=stage(models), about=About("letters-1")), "operator")
    assert made["name"] == "letters-1"
    carry_out(models, ModelOrder("score", name="letters-1", suite="s", scores={"right": 900}, cases=10), "operator")
    told = carry_out(models, ModelOrder("list"), "operator")
    assert [model["scores"][0]["scores"] for model in told["models"]] == [{"right": 900}]
    assert told["devices"] == []
    assert carry_out(models, ModelOrder("use", name="letters-1"), "operator")["source"] == "hub:"
    assert carry_out(models, ModelOrder("remove", name="letters-1"), "operator") == {"name": "letters-1"}
    for order in (ModelOrder("burn"), ModelOrder("add")):
        with pytest.raises(BadInput) as caught:
            carry_out(models, order, "operator")
        assert caught.value.code == "model.order"


def test_an_order_cannot_name_files_elsewhere() -> None:
    for sha256, chunks in (("../../keys/hub", "00" * 32), ("00" * 32, "../x")):
        order = {"act": "add", "staged": {"id": "inc_x", "sha256": sha256, "size": 1, "chunks": chunks, "head": ""}}
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(order, ModelOrder)


def test_a_release_reference_of_before_has_the_bytes_it_had(tmp_path: Path) -> None:
    from shared.codec import canonical

    old = ModelRef(name="m", kind="embedder", sha256="00" * 32, size=1, source="pypi:x")
    assert canonical(old) == (
        b'{"kind":"embedder","name":"m","sha256":"' + b"00" * 32 + b'","size":1,"source":"pypi:x"}'
    )
