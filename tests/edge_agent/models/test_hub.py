"""Fetching from a hub that is cut off, lies, or sends too much: a real server; ``test_download`` has a real hub."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_agent.models.fetch import Progress
from edge_agent.models.hub import add_from_hub
from edge_agent.models.obtain import obtain
from edge_agent.models.store import ModelStore
from shared import limits
from shared.codec import hex_sha256
from shared.errors import Tampered, Unavailable
from shared.release import ModelRef

DATA = bytes(range(256)) * 20_000
CHUNK = limits.MODEL_CHUNK_BYTES
LIST = b"".join(sha256(DATA[place : place + CHUNK]).digest() for place in range(0, len(DATA), CHUNK))


class Server(ThreadingHTTPServer):
    """``cut`` is where each answer breaks off, counted in the file; the byte at ``bad_at`` is wrong ``bad`` times."""

    data, cut, ranges, status, bad, bad_at = DATA, 0, True, 0, 0, 0
    asked: list[tuple[str, str]]

    def handle_error(self, *args: object) -> None:
        """An agent that hangs up is no error."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        given = self.headers.get("Range", "")
        server.asked.append((self.path, given))
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", given if server.ranges else "")
        start, end = (int(found[1]), int(found[2]) + 1) if found else (0, len(server.data))
        body = bytearray(server.data[start:end])
        if self.path.endswith(".chunks"):
            start, body = 0, bytearray(LIST)
        elif server.bad and start <= server.bad_at < end:
            server.bad -= 1
            body[server.bad_at - start] ^= 1
        self.send_response(server.status or (206 if found else 200))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = server.cut and not self.path.endswith(".chunks")
        self.wfile.write(body[: max(0, server.cut - start)] if cut else body)

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


def ref(data: bytes = DATA, chunks: str = "") -> ModelRef:
    sha256 = hex_sha256(data)
    return ModelRef(name="team", kind="embedder", sha256=sha256, size=len(data), source="hub:", chunks=chunks)


def chunked() -> ModelRef:
    return ref(chunks=hex_sha256(LIST))


def asked(server: Server) -> list[str]:
    """The ranges that were asked for of the file."""
    return [given for path, given in server.asked if not path.endswith(".chunks")]


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
    assert server.asked[1][1] == f"bytes=1000000-{len(DATA) - 1}"
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        f"{ref().sha256}.onnx", "lock", "models.json",
    ]  # fmt: skip


def test_other_bytes_are_thrown_away_whole(server: Server, tmp_path: Path) -> None:
    server.data = DATA[::-1]
    with pytest.raises(Tampered) as caught:
        add_from_hub(ModelStore(tmp_path), url(server), ref())
    assert caught.value.code == "model.hash"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["lock"]


def test_more_bytes_than_the_release_says_are_not_taken(server: Server, tmp_path: Path) -> None:
    server.data = DATA * 2
    add_from_hub(ModelStore(tmp_path), url(server), ref())
    assert ModelStore(tmp_path).path_for(ref().sha256).read_bytes() == DATA


def test_a_damaged_chunk_is_fetched_again_and_not_the_file(server: Server, tmp_path: Path) -> None:
    server.bad, server.bad_at = 1, 2 * CHUNK + 5
    add_from_hub(ModelStore(tmp_path), url(server), chunked())
    assert ModelStore(tmp_path).path_for(ref().sha256).read_bytes() == DATA
    assert asked(server) == [
        "", f"bytes={2 * CHUNK}-{3 * CHUNK - 1}", f"bytes={3 * CHUNK}-{len(DATA) - 1}",
    ]  # fmt: skip


def test_a_chunk_that_is_always_damaged_is_given_up_and_the_others_are_kept(server: Server, tmp_path: Path) -> None:
    server.bad, server.bad_at = 3, 2 * CHUNK + 5
    with pytest.raises(Tampered) as caught:
        add_from_hub(ModelStore(tmp_path), url(server), chunked())
    assert caught.value.code == "model.chunk"
    assert ModelStore(tmp_path).installed() == ()
    assert (tmp_path / "models" / f".part-{ref().sha256}").read_bytes() == DATA[: 2 * CHUNK]
    add_from_hub(ModelStore(tmp_path), url(server), chunked())
    assert asked(server)[-1] == f"bytes={2 * CHUNK}-{len(DATA) - 1}"


@pytest.mark.parametrize("ranges", [True, False])
def test_what_breaks_after_a_chunk_is_taken_up_again_at_once(server: Server, tmp_path: Path, ranges: bool) -> None:
    cuts = iter([CHUNK + 1, 2 * CHUNK + 7, 3 * CHUNK + 9, 0, 0])
    server.ranges = ranges

    def report(_: Progress) -> None:
        server.cut = next(cuts) if server.cut and len(asked(server)) > len(seen) else server.cut
        seen[:] = asked(server)

    seen: list[str] = []
    server.cut = next(cuts)
    add_from_hub(ModelStore(tmp_path), url(server), chunked(), report=report)
    assert ModelStore(tmp_path).path_for(ref().sha256).read_bytes() == DATA
    assert len(asked(server)) >= 3


def test_what_rotted_on_the_disk_is_mended_in_its_place(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "models" / f".part-{ref().sha256}"
    part.parent.mkdir()
    part.write_bytes(DATA[:CHUNK] + bytes(CHUNK) + DATA[2 * CHUNK :])
    add_from_hub(ModelStore(tmp_path), url(server), chunked())
    assert ModelStore(tmp_path).path_for(ref().sha256).read_bytes() == DATA
    assert asked(server) == [f"bytes={CHUNK}-{2 * CHUNK - 1}"]


def test_another_chunk_list_is_not_believed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Tampered) as caught:
        add_from_hub(ModelStore(tmp_path), url(server), ref(chunks="ab" * 32))
    assert caught.value.code == "chunks.hash"
    assert asked(server) == []


def test_a_rate_is_kept_and_a_fetch_can_be_broken_off(server: Server, tmp_path: Path) -> None:
    began = time.monotonic()

    def report(now: Progress) -> None:
        if now.done > 300_000:
            raise Unavailable("test.enough", "enough", advice="")

    with pytest.raises(Unavailable) as caught:
        add_from_hub(ModelStore(tmp_path), url(server), chunked(), rate_kb=500, report=report)
    assert caught.value.code == "test.enough"
    assert time.monotonic() - began > 300_000 / (500 * 1024) - 0.3
    kept = (tmp_path / "models" / f".part-{ref().sha256}").read_bytes()
    assert kept == DATA[: len(kept)] != b""


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
