"""The page of the registry: models added by a form, named for the next release, removed; what devices say of them."""

from __future__ import annotations

import hashlib
import io
import json

import httpx
import pytest

from server.models import About
from shared.entries import ModelRefused, ModelTaken
from shared.release import SmokeCase
from tests.server.console.conftest import session_csrf, signed_in
from tests.server.console.sample_hub import LENA, MARIA, OMAR, SampleHub

DATA = b"GGUF" + bytes(range(256)) * 1000
SHA = hashlib.sha256(DATA).hexdigest()


def some_models(hub: SampleHub) -> None:
    """Three models, two of them on the desk's device, one of which failed there."""
    found = {}
    for name, data, about in (
        ("letters-1", DATA, {"version": "1.0", "licence": "Apache-2.0", "context": 8192, "min_ram_mb": 300}),
        ("words-1", b"\x08\x07" + bytes(5000), {"licence": "MIT"}),
        ("words-2", b"\x08\x07" + bytes(6000), {"smoke": [SmokeCase("roof", "shingles", ["tax"])]}),
    ):
        with hub.models.staging.receiving() as receiver:
            receiver.pour(io.BytesIO(data))
            staged = receiver.done()
        found[name] = hub.models.add(staged, About(name=name, **about), "maria").sha256
    hub.models.score("words-1", "questions", {"ndcg": 947, "recall": 981}, 240, "maria")
    desk = hub.desk
    assert desk is not None
    desk.write(ModelTaken("language", "letters-1", found["letters-1"], 1))
    desk.write(ModelTaken("embedder", "words-1", found["words-1"], 1))
    desk.write(ModelRefused("embedder", "words-2", found["words-2"], 1, "model.smoke", found["words-1"]))
    desk.sync()


def add(client: httpx.Client, data: bytes = DATA, **fields: str) -> httpx.Response:
    given = {"csrf": session_csrf(client), "name": "letters-1", **fields}
    return client.post("/models/add", data=given, files={"file": ("model.gguf", data)})


def act(client: httpx.Client, name: str, what: str) -> httpx.Response:
    return client.post("/models", data={"csrf": session_csrf(client), "name": name, "act": what})


def test_an_empty_registry_says_what_to_do(hub: SampleHub) -> None:
    assert "outrider hub model add" in signed_in(hub, MARIA).get("/models").text
    reader = signed_in(hub, LENA).get("/models").text
    assert "Ask an administrator" in reader and 'type="file"' not in reader


def test_a_file_is_added_named_for_the_next_release_and_removed(hub: SampleHub) -> None:
    hub.authoring.begin()
    client = signed_in(hub, MARIA)
    assert add(client, version="1.0", licence="MIT", context="2048").status_code == 303
    (made,) = hub.models.list()
    assert (made.sha256, made.version, made.context, made.by) == (SHA, "1.0", 2048, "maria")
    page = client.get("/models").text
    assert "letters-1" in page and "version 1.0" in page and "In the next release" not in page
    assert act(client, "letters-1", "use").status_code == 303
    version = hub.authoring.drafts.newest()
    assert version is not None
    (named,) = json.loads(hub.authoring.drafts.files(version)["models.json"])
    assert (named["name"], named["sha256"], named["source"], named["chunks"]) == ("letters-1", SHA, "hub:", made.chunks)
    assert "in the workspace" in client.get("/models").text
    assert act(client, "letters-1", "remove").status_code == 303
    assert hub.models.list() == []


def test_what_is_not_added(hub: SampleHub) -> None:
    client = signed_in(hub, MARIA)
    for data, fields, code in (
        (DATA, {"name": "Letters"}, "model.name"),
        (DATA, {"context": "many"}, "model.about"),
        (b"PK", {}, "model.format"),
        (bytes(1_000_001), {}, "model.too-large"),
        (DATA, {"version": "x" * 70_000}, "console.form"),
        (DATA, {"csrf": "other"}, "console.csrf"),
    ):
        answer = add(client, data, **fields)
        assert answer.status_code >= 400 and code in answer.text, code
    token = session_csrf(client)
    for fields in ({"csrf": token}, {"csrf": token, "name": "x", "file": "no file"}):
        assert "console.form" in client.post("/models/add", data=fields).text
    boundary = {"content-type": "multipart/form-data; boundary=x"}
    assert "console.form" in client.post("/models/add", content=b"--y\r\nodd", headers=boundary).text
    assert hub.models.list() == []
    assert list((hub.store.home / "repository" / "incoming").iterdir()) == []


@pytest.mark.parametrize("who", [OMAR, LENA])
def test_only_administrators_add_and_remove(hub: SampleHub, who: tuple[str, str]) -> None:
    hub.authoring.begin()
    client = signed_in(hub, who)
    assert add(client).status_code == 403
    assert add(signed_in(hub, MARIA)).status_code == 303
    for what in ("use", "remove"):
        assert act(client, "letters-1", what).status_code == 403
    assert len(hub.models.list()) == 1


def test_what_devices_use_and_refuse_is_shown(busy: SampleHub) -> None:
    some_models(busy)
    client = signed_in(busy, MARIA)
    page = client.get("/models").text
    assert "refused words-2" in page and "model.smoke" in page and "words-1 stays in use" in page
    assert "ndcg 94.7" in page or "ndcg 95" in page
    assert 'aria-label="Remove: words-2"' in page and 'aria-label="Remove: words-1"' not in page
    assert "model.in-use" in act(client, "words-1", "remove").text
    assert "model.unknown" in act(client, "nobody", "remove").text
