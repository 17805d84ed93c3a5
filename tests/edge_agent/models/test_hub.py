"""Fetching from a hub: a real HTTP server that can be cut off, lie, or send too much."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_agent.models.hub import add_from_hub
from edge_agent.models.obtain import obtain
from edge_agent.models.store import ModelStore
from shared.codec import hex_sha256
from shared.errors import Tampered, Unavailable
from shared.release import ModelRef

DATA = bytes(range(256)) * 20_000


class Server(ThreadingHTTPServer):
    data, cut, ranges, status = DATA, 0, True, 0
    asked: list[tuple[str, str]]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        given = self.headers.get("Range", "")
        server.asked.append((self.path, given))
        start = int(given.removeprefix("bytes=").rstrip("-")) if given and server.ranges else 0
        body = server.data[start:]
        self.send_response(server.status or (206 if start else 200))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cut - start] if server.cut else body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.asked = []
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/"


def ref(data: bytes = DATA) -> ModelRef:
    return ModelRef(name="team", kind="embedder", sha256=hex_sha256(data), size=len(data), source="hub:")


def test_a_model_of_the_hub_is_obtained_and_registered(server: Server, tmp_path: Path) -> None:
    row = obtain(tmp_path, ref(), None, hub=url(server))
    assert (row.name, row.kind, row.format, row.source) == ("team", "embedder", "onnx", "hub:")
    assert ModelStore(tmp_path).path_for(ref().sha256).read_bytes() == DATA
    assert server.asked == [(f"/tuf/targets/models/{ref().sha256}.team", "")]
    assert obtain(tmp_path, ref(), None, hub=url(server)) == row
    assert len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_what_was_cut_off_goes_on_where_it_stopped(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.cut, server.ranges = 1_000_000, ranges
    with pytest.raises(Unavailable) as caught:
        add_from_hub(ModelStore(tmp_path), url(server), ref())
    assert caught.value.code == "model.fetch"
    assert ModelStore(tmp_path).installed() == ()
    server.cut = 0
    add_from_hub(ModelStore(tmp_path), url(server), ref())
    assert ModelStore(tmp_path).path_for(ref().sha256).read_bytes() == DATA
    assert server.asked[1][1] == "bytes=1000000-"
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        f"{ref().sha256}.onnx", "lock", "models.json",
    ]  # fmt: skip


def test_other_bytes_are_thrown_away_whole(server: Server, tmp_path: Path) -> None:
    server.data = DATA[::-1]
    with pytest.raises(Tampered) as caught:
        add_from_hub(ModelStore(tmp_path), url(server), ref())
    assert caught.value.code == "model.hash"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["lock"]


def test_more_bytes_than_the_release_says_are_not_kept(server: Server, tmp_path: Path) -> None:
    server.data = DATA * 2
    with pytest.raises(Unavailable) as caught:
        add_from_hub(ModelStore(tmp_path), url(server), ref())
    assert caught.value.code == "model.fetch"
    assert (tmp_path / "models" / f".part-{ref().sha256}").stat().st_size == 0


@pytest.mark.parametrize("status", [301, 404, 500])
def test_a_hub_that_does_not_have_it_is_unavailable(server: Server, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(Unavailable) as caught:
        add_from_hub(ModelStore(tmp_path), url(server), ref())
    assert caught.value.code == "model.fetch"
    assert str(status) in caught.value.message


def test_no_hub_is_unavailable(tmp_path: Path) -> None:
    for hub, code in (("http://127.0.0.1:9", "model.fetch"), ("", "model.no-source")):
        with pytest.raises(Unavailable) as caught:
            obtain(tmp_path, ref(), None, hub=hub)
        assert caught.value.code == code
