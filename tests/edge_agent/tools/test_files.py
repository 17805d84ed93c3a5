"""Files: every tool keeps its promises; nothing leads outside; a kill at any point loses and doubles nothing."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_agent.tools import NotSent, Tool
from edge_agent.tools.build import Place
from edge_agent.tools.conformance import ToolContract
from edge_agent.tools.files import make
from edge_agent.tools.files.paths import OURS
from shared.actions import Action, Value
from shared.errors import BadInput, OutriderError, Refused, Unavailable

Snapshot = Callable[[Path], dict[str, Any]]


def act(tool: str, subject: str = "s", **arguments: Value) -> Action:
    return Action(f"site.{tool}", {name.rstrip("_"): value for name, value in arguments.items()}, subject)


class Site:
    """The tools of a table ``site`` over one root, and what stands outside of it."""

    def __init__(self, folder: Path, place: Place, **more: Any) -> None:
        self.root = folder / "pages"
        self.root.mkdir()
        self.place = place
        self.tools = {tool.name: tool for tool in make(place, {"roots": {"pages": str(self.root)}, **more})}

    async def do(self, action: Action) -> dict[str, Any]:
        return (await self.tools[action.tool].send(action, action.key)).details

    async def undo(self, action: Action, receipt: dict[str, Any]) -> dict[str, Any]:
        undo = self.tools[action.tool].undo(action, receipt)
        assert isinstance(undo, Action)
        return await self.do(undo)


@pytest.fixture
def site(tmp_path: Path, place: Callable[[str], Place]) -> Site:
    return Site(tmp_path, place("site"), max_bytes=100_000)


# --- promises -----------------------------------------------------------------------------------------------------


class FilesContract(ToolContract):
    """The hooks that all tools on files share; effects are counted by the kernel."""

    verb: str

    @pytest.fixture(autouse=True)
    def world(self, tmp_path: Path, place: Callable[[str], Place], watching: Any, snapshot: Snapshot) -> None:
        self.root = tmp_path / "pages"
        self.root.mkdir()
        self.place = place("site")
        self.snapshot = snapshot
        self.prepare()
        self.watch = watching(self.root)

    def prepare(self) -> None:
        for n in range(5):
            file = self.root / f"old-{n}.txt"
            file.write_text(f"former {n}")
            file.chmod(0o640)

    def all_tools(self) -> dict[str, Tool]:
        return {tool.name: tool for tool in make(self.place, {"roots": {"pages": str(self.root)}})}

    def make_tool(self) -> Tool:
        return self.all_tools()[f"site.{self.verb}"]

    def tool_named(self, name: str) -> Tool:
        return self.all_tools()[name]

    def at(self, action: Action) -> Path:
        path = action.arguments.get("to") or action.arguments["path"]
        return self.root / str(path).removeprefix("pages/")

    async def effects(self, action: Action | None) -> int:
        return int(self.watch.came(action and self.at(action).name))

    async def state(self) -> Any:
        return self.snapshot(self.root)

    async def spoil(self, action: Action) -> None:
        self.at(action).write_text("other")

    async def break_receiver(self) -> None:
        self.root.rename(self.root.parent / "away")

    async def mend_receiver(self) -> None:
        (self.root.parent / "away").rename(self.root)


class TestWriteNew(FilesContract):
    verb = "write"

    def good_action(self, n: int) -> Action:
        return act("write", path=f"pages/new-{n}.txt", text=f"text {n}", expected="nothing")


class TestWriteOver(FilesContract):
    verb = "write"

    def good_action(self, n: int) -> Action:
        return act("write", path=f"pages/old-{n}.txt", text=f"text {n}")


class TestWriteDeep(FilesContract):
    """Into folders that are not there: they are made, and the undo takes them away."""

    verb = "write"

    def good_action(self, n: int) -> Action:
        return act("write", path=f"pages/year-{n}/july/offer.txt", text=f"text {n}")

    async def effects(self, action: Action | None) -> int:
        names = [self.at(action).parent.parent.name] if action else [f"year-{n}" for n in range(5)]
        return sum((self.root / name / "july" / "offer.txt").exists() for name in names)


class TestMove(FilesContract):
    verb = "move"

    def good_action(self, n: int) -> Action:
        return act("move", from_=f"pages/old-{n}.txt", to=f"pages/moved-{n}.txt")


class TestTrash(FilesContract):
    verb = "trash"

    def good_action(self, n: int) -> Action:
        return act("trash", path=f"pages/old-{n}.txt")

    async def effects(self, action: Action | None) -> int:
        return int(self.watch.went(action and self.at(action).name))


class TestRestore(FilesContract):
    verb = "restore"

    def prepare(self) -> None:
        super().prepare()
        write = self.all_tools()["site.write"]
        self.written = [act("write", path=f"pages/old-{n}.txt", text=f"new {n}") for n in range(5)]
        for action in self.written:
            asyncio.run(write.send(action, action.key))

    def good_action(self, n: int) -> Action:
        return act("restore", entry=self.written[n].key)

    def at(self, action: Action) -> Path:
        n = [done.key for done in self.written].index(str(action.arguments["entry"]))
        return self.root / f"old-{n}.txt"


class TestRead(FilesContract):
    verb = "read"

    def good_action(self, n: int) -> Action:
        return act("read", path=f"pages/old-{n}.txt")


class TestList(FilesContract):
    verb = "list"

    def good_action(self, n: int) -> Action:
        return act("list", path="pages", after=f"old-{n}")


# --- what they do -------------------------------------------------------------------------------------------------


async def test_a_file_is_written_kept_moved_trashed_and_each_step_taken_back(site: Site, snapshot: Snapshot) -> None:
    file = site.root / "offer.txt"
    file.write_text("first\r\nline")
    file.chmod(0o604)
    os.utime(file, ns=(1, 1_700_000_000_123_456_789))
    done: list[tuple[Action, dict[str, Any], dict[str, Any]]] = []
    for action in (
        act("write", path="pages/offer.txt", text="second ä\n"),
        act("move", from_="pages/offer.txt", to="pages/2026/july/offer.txt"),
        act("trash", path="pages/2026/july/offer.txt"),
        act("write", path="pages/offer.txt", text="third"),
    ):
        before = snapshot(site.root)
        done.append((action, await site.do(action), before))
        assert snapshot(site.root) != before
    assert file.read_text() == "third"
    for action, receipt, before in reversed(done):
        await site.undo(action, receipt)
        assert snapshot(site.root) == before
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"first\r\nline", 0o604)


async def test_an_undo_can_be_undone(site: Site, snapshot: Snapshot) -> None:
    write = act("write", path="pages/a/b/c.txt", text="x")
    receipt = await site.do(write)
    after = snapshot(site.root)
    back = act("restore", entry=receipt["entry"])
    undone = await site.do(back)
    assert snapshot(site.root) == {}
    assert (await site.do(act("restore", entry=undone["entry"])))["restored"] == undone["entry"]
    assert snapshot(site.root) == after


async def test_folders_that_others_use_meanwhile_stay(site: Site) -> None:
    write = act("write", path="pages/a/b.txt", text="x")
    receipt = await site.do(write)
    (site.root / "a" / "other.txt").write_text("theirs")
    await site.undo(write, receipt)
    assert [path.name for path in (site.root / "a").iterdir()] == ["other.txt"]


async def test_what_somebody_changed_since_is_not_taken_back(site: Site) -> None:
    file = site.root / "a.txt"
    write = act("write", path="pages/a.txt", text="ours")
    receipt = await site.do(write)
    file.write_text("theirs")
    with pytest.raises(Refused) as caught:
        await site.undo(write, receipt)
    assert caught.value.code == "files.changed" and file.read_text() == "theirs"
    trash = act("trash", path="pages/a.txt")
    receipt = await site.do(trash)
    file.write_text("new")
    with pytest.raises(Refused) as caught:
        await site.undo(trash, receipt)
    assert caught.value.code == "files.exists" and file.read_text() == "new"
    with pytest.raises(Refused) as caught:
        await site.do(act("restore", entry="of nobody"))
    assert caught.value.code == "files.entry"


async def test_only_the_expected_content_is_replaced(site: Site) -> None:
    (site.root / "a.txt").write_text("theirs")
    for expected in ("nothing", "0" * 64):
        with pytest.raises(Refused) as caught:
            await site.do(act("write", path="pages/a.txt", text="ours", expected=expected))
        assert caught.value.code == "files.changed"
    sha = (await site.do(act("read", path="pages/a.txt")))["sha256"]
    await site.do(act("write", path="pages/a.txt", text="ours", expected=sha))
    assert (site.root / "a.txt").read_text() == "ours"
    with pytest.raises(Refused):
        await site.do(act("write", path="pages/not/there/b.txt", text="ours", expected=sha))
    assert not (site.root / "not").exists()  # it refused before any folder was made


async def test_a_move_never_replaces(site: Site, tmp_path: Path) -> None:
    (site.root / "a.txt").write_text("a")
    (site.root / "b.txt").write_text("b")
    for to in ("pages/b.txt", "pages/a.txt"):
        with pytest.raises(Refused) as caught:
            await site.do(act("move", from_="pages/a.txt", to=to))
        assert caught.value.code == "files.exists"
    with pytest.raises(Refused) as caught:
        await site.do(act("move", from_="pages/no.txt", to="pages/c.txt"))
    assert caught.value.code == "files.missing"
    assert ((site.root / "a.txt").read_text(), (site.root / "b.txt").read_text()) == ("a", "b")


async def test_a_move_to_another_disk_is_refused(tmp_path: Path, place: Callable[[str], Place]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        assert Path(other).stat().st_dev != tmp_path.stat().st_dev
        (tmp_path / "a.txt").write_text("a")
        tools = make(place("site"), {"roots": {"pages": str(tmp_path), "other": other}})
        action = act("move", from_="pages/a.txt", to="other/a.txt")
        with pytest.raises(Refused) as caught:
            await next(tool for tool in tools if tool.name == "site.move").send(action, action.key)
        assert caught.value.code == "files.other-disk"
        assert (tmp_path / "a.txt").exists() and not list(Path(other).iterdir())


async def test_what_is_written_into_the_replaced_file_at_the_last_moment_is_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that has the file open writes between our last look and the rename."""
    file = site.root / "log.txt"
    file.write_text("one")
    real = os.rename

    def late(*names: Any, **more: Any) -> None:
        if names[1] == "log.txt":
            with file.open("a") as other:
                other.write(" and two")
        real(*names, **more)

    monkeypatch.setattr(os, "rename", late)
    write = act("write", path="pages/log.txt", text="ours")
    receipt = await site.do(write)
    monkeypatch.undo()
    await site.undo(write, receipt)
    assert file.read_text() == "one and two"


async def test_sizes_texts_and_kinds_are_bounded(site: Site) -> None:
    (site.root / "large.bin").write_bytes(b"x" * 100_001)
    (site.root / "latin.txt").write_bytes(b"caf\xe9")
    for action, code in [
        (act("write", path="pages/a.txt", text="x" * 100_001), "files.too-large"),
        (act("write", path="pages/large.bin", text="x"), "files.too-large"),
        (act("trash", path="pages/large.bin"), "files.too-large"),
        (act("read", path="pages/large.bin"), "files.too-large"),
        (act("read", path="pages/latin.txt"), "files.not-text"),
        (act("read", path="pages/none.txt"), "files.missing"),
        (act("trash", path="pages/none.txt"), "files.missing"),
        (act("list", path="pages/none"), "files.missing"),
        (act("list", path="pages/latin.txt"), "files.plain"),
    ]:
        with pytest.raises(Refused) as caught:
            await site.do(action)
        assert caught.value.code == code
    with pytest.raises(BadInput) as bad:
        await site.tools["site.write"].send(act("write", path="pages/a.txt", text="\ud800"), "key")
    assert bad.value.code == "files.text"
    await site.do(act("move", from_="pages/large.bin", to="pages/moved.bin"))  # a move copies nothing
    assert {path.name for path in site.root.iterdir()} == {"latin.txt", "moved.bin"}


async def test_reading_goes_on_where_it_stopped(site: Site) -> None:
    text = "".join(f"line {n} ä\n" for n in range(4_000))
    (site.root / "long.txt").write_text(text)
    pieces, offset = [], 0
    while offset is not None:
        told = await site.do(act("read", path="pages/long.txt", offset=offset))
        pieces.append(told["text"])
        offset = told["next_offset"]
    assert len(pieces) > 1 and "".join(pieces) == text
    with pytest.raises(BadInput):
        await site.do(act("read", path="pages/long.txt", offset=-1))


async def test_a_folder_is_listed_in_pieces(site: Site) -> None:
    for n in range(320):
        (site.root / f"f-{n:03}.txt").write_text("x")
    (site.root / "sub").mkdir()
    (site.root / f"{OURS}passing").write_text("on its way")
    (site.root / "link").symlink_to("/etc")
    Path(os.fsdecode(os.fsencode(site.root) + b"/\xff")).write_text("no text")
    first = await site.do(act("list", path="pages"))
    rest = await site.do(act("list", path="pages", after=first["entries"][-1]["name"]))
    entries = first["entries"] + rest["entries"]
    assert (first["more"], rest["more"], first["unsayable"]) == (True, False, 1)
    assert [entry["kind"] for entry in entries] == ["file"] * 320 + ["other", "folder"]
    assert entries[0]["bytes"] == 1 and entries[0]["modified_us"] > 1_600_000_000_000_000


async def test_a_disk_that_takes_no_more_leaves_all_as_it_was(tmp_path: Path) -> None:
    """The kernel itself refuses to let a file grow: what was there stands, and nothing is left behind."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "a.txt").write_text("former")
    script = """
import asyncio, resource, sys
from pathlib import Path
from edge_agent.tools import NotSent
from edge_agent.tools.build import Place
from edge_agent.tools.files import make
from shared.actions import Action

home = Path(sys.argv[1])
place = Place("site", home / "state", str, lambda: 1)
tools = {t.name: t for t in make(place, {"roots": {"pages": str(home / "pages")}})}
small = Action("site.write", {"path": "pages/b.txt", "text": "x"}, "s")
asyncio.run(tools["site.write"].send(small, small.key))  # the ledger has its pages now
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
action = Action("site.write", {"path": "pages/a.txt", "text": "x" * 1_000_000}, "s")
try:
    asyncio.run(tools["site.write"].send(action, action.key))
except NotSent as error:
    print(error.code)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("files.unreachable", "")
    assert {path.name: path.read_text() for path in (tmp_path / "pages").iterdir()} == {"a.txt": "former", "b.txt": "x"}


async def test_without_its_ledger_nothing_is_done(site: Site) -> None:
    site.place.state.parent.mkdir(parents=True)
    site.place.state.write_text("a file where the folder should be")
    for action in (act("write", path="pages/a.txt", text="x"), act("restore", entry="x")):
        with pytest.raises(NotSent) as caught:
            await site.do(action)
        assert caught.value.code == "files.ledger"
        with pytest.raises(Unavailable):
            await site.tools[action.tool].ask(action.key, action)
    assert not list(site.root.iterdir())


async def test_a_damaged_ledger_is_told(site: Site) -> None:
    site.place.state.mkdir(parents=True)
    (site.place.state / "changes.sqlite3").write_bytes(b"not a database" * 1000)
    action = act("write", path="pages/a.txt", text="x")
    with pytest.raises(NotSent) as caught:
        await site.do(action)
    assert caught.value.code == "files.ledger" and not list(site.root.iterdir())


async def test_content_that_is_kept_no_more_cannot_come_back(site: Site) -> None:
    (site.root / "a.txt").write_text("former")
    write = act("write", path="pages/a.txt", text="x")
    receipt = await site.do(write)
    kept = next((site.place.state / "kept").iterdir())
    for spoil in (lambda: kept.write_bytes(b"tampered"), kept.unlink):
        spoil()
        with pytest.raises(Refused) as caught:
            await site.undo(write, receipt)
        assert caught.value.code == "files.kept"
    assert (site.root / "a.txt").read_text() == "x"


@pytest.mark.parametrize(
    ("given_", "code"),
    [
        ({}, "tools.setting"),
        ({"roots": {}}, "files.roots"),
        ({"roots": {"pages": "relative"}}, "files.roots"),
        ({"roots": {"Pages": "/srv"}}, "files.roots"),
        ({"roots": {"a/b": "/srv"}}, "files.roots"),
        ({"roots": {"pages": "/srv"}, "max_bytes": "10"}, "tools.setting"),
        ({"roots": {"pages": "/srv"}, "follow_links": True}, "tools.setting"),
    ],
)
def test_wrong_settings_give_no_tools(given_: dict[str, Any], code: str, place: Callable[[str], Place]) -> None:
    with pytest.raises(BadInput) as caught:
        make(place("site"), given_)
    assert caught.value.code == code and "site" in caught.value.where


# --- nothing leads outside ----------------------------------------------------------------------------------------

HIDDEN = "what stands outside"


def lay_traps(folder: Path) -> tuple[Path, Path]:
    """A root with links, a pipe and a socket in it, and what they lead to outside."""
    root, outside = folder / "pages", folder / "outside"
    for path in (root / "plain" / "deep", outside / "deep"):
        path.mkdir(parents=True)
    for path in (outside / "secret.txt", outside / "deep" / "secret.txt"):
        path.write_text(HIDDEN)
    (root / "plain" / "file.txt").write_text("inside")
    (root / "out").symlink_to(outside)
    (root / "secret.txt").symlink_to(outside / "secret.txt")
    (root / "plain" / "up").symlink_to("../..")
    (root / "plain" / "new.txt").symlink_to(outside / "not-yet.txt")
    (root / "loop").symlink_to("loop")
    (root / "self").symlink_to(root)
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket"))
    return root, outside


PARTS = [
    "..", ".", "", " ", "out", "secret.txt", "plain", "deep", "up", "outside", "file.txt", "new.txt", "not-yet.txt",
    "loop", "self", "pipe", "socket", "pages", "con", "NUL.txt", "a:b", "..\\..\\outside", "a\0b", "%2e%2e", "．．",
    "\u202etxt.exe", "etc", "passwd", "proc", "fd", "x" * 300, "....", "~", f"{OURS}x",
]  # fmt: skip
paths = st.builds(
    lambda root, parts: "/".join([root, *parts]),
    st.sampled_from(["pages", "", "..", "outside", "/", "pages/", "/etc"]),
    st.lists(st.sampled_from(PARTS) | st.text(max_size=8), max_size=6),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(verb=st.sampled_from(["write", "move", "trash", "read", "list"]), one=paths, two=paths)
@example("write", "pages/out/deep/secret.txt", "pages/x")
@example("write", "pages/plain/new.txt", "pages/x")
@example("move", "pages/plain/file.txt", "pages/out/file.txt")
@example("move", "pages/secret.txt", "pages/mine.txt")
@example("move", "pages/out/secret.txt", "pages/mine.txt")
@example("trash", "pages/secret.txt", "pages/x")
@example("read", "pages/self/out/secret.txt", "pages/x")
@example("read", "pages/pipe", "pages/x")
@example("list", "pages/out", "pages/x")
def test_no_path_leads_outside(snapshot: Snapshot, verb: str, one: str, two: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root, outside = lay_traps(folder)
        before = snapshot(outside)
        place = Place("site", folder / "state", str, lambda: 1)
        tools = {tool.name: tool for tool in make(place, {"roots": {"pages": str(root)}})}
        action = {
            "write": act("write", path=one, text="ours"),
            "move": act("move", from_=one, to=two),
        }.get(verb, act(verb, path=one))
        told: dict[str, Any] = {}
        with suppress(OutriderError):
            told = asyncio.run(tools[action.tool].send(action, "key")).details
        assert HIDDEN not in json.dumps(told) and "not-yet" not in json.dumps(told.get("entries", ""))
        assert snapshot(outside) == before
        assert sorted(path.name for path in folder.iterdir()) in (
            ["outside", "pages"], ["outside", "pages", "state"],
        )  # fmt: skip
        assert not any(path.name.startswith(OURS) for path in folder.rglob("*"))


@pytest.mark.parametrize("verb", ["write", "trash", "read", "move"])
def test_a_folder_that_turns_into_a_link_meanwhile_leads_nowhere(verb: str, site: Site, tmp_path: Path) -> None:
    """Another process swaps a folder for a link to the outside, as fast as it can, while the tools work in it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text(HIDDEN)
    inner, link = site.root / "inner", site.root / "link"
    inner.mkdir()
    link.symlink_to(outside)
    over = threading.Event()

    def swap() -> None:
        exchange, here = ctypes.CDLL(None).renameat2, -100
        while not over.is_set():
            assert exchange(here, os.fsencode(inner), here, os.fsencode(link), 2) == 0  # both names, at once

    swapper = threading.Thread(target=swap)
    swapper.start()
    outcomes: set[str] = set()
    begun = time.monotonic()
    try:
        for n in range(1_000_000):
            spent = time.monotonic() - begun
            if spent > 60 or (spent > 1 and "files.plain" in outcomes):
                break
            (site.root / "from.txt").write_text("inside")
            action = {
                "write": act("write", str(n), path="pages/inner/a.txt", text="ours"),
                "move": act("move", str(n), from_="pages/from.txt", to="pages/inner/a.txt"),
            }.get(verb, act(verb, str(n), path="pages/inner/a.txt"))
            try:
                told = asyncio.run(site.tools[action.tool].send(action, action.key)).details
                assert HIDDEN not in json.dumps(told)
                outcomes.add("done")
            except OutriderError as error:
                outcomes.add(error.code)
            assert [path.name for path in outside.iterdir()] == ["a.txt"] and (outside / "a.txt").read_text() == HIDDEN
    finally:
        over.set()
        swapper.join()
    assert "files.plain" in outcomes  # it did meet the link


# --- doubt --------------------------------------------------------------------------------------------------------


async def test_an_error_of_the_disk_is_looked_into(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rename failed, or so it is said: the key is answered for from what stands on the disk."""
    file = site.root / "a.txt"
    file.write_text("former")
    real = os.rename
    for subject, happened in (("one", False), ("two", True)):

        def failing(*names: Any, happened: bool = happened, **more: Any) -> None:
            if names[1] != "a.txt":
                return real(*names, **more)
            if happened:
                real(*names, **more)
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "rename", failing)
        action = act("write", subject, path="pages/a.txt", text=f"by {subject}")
        with pytest.raises(Unavailable) as caught:
            await site.do(action)
        assert caught.value.code == "files.doubt" and not isinstance(caught.value, NotSent)
        monkeypatch.undo()
        for _ in range(2):
            assert (await site.tools["site.write"].ask(action.key, action) is not None) == happened
        assert [path.name for path in site.root.iterdir()] == ["a.txt"]
        assert (await site.do(action))["entry"] == action.key and file.read_text() == f"by {subject}"


async def test_what_nobody_can_tell_any_more_is_left_to_a_person(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    file = site.root / "a.txt"
    file.write_text("former")
    real = os.rename

    def failing(*names: Any, **more: Any) -> None:
        real(*names, **more)
        if names[1] == "a.txt":
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "rename", failing)
    action = act("write", path="pages/a.txt", text="ours")
    with pytest.raises(Unavailable):
        await site.do(action)
    monkeypatch.undo()
    (site.root / "new").write_text("theirs")
    (site.root / "new").rename(file)  # somebody replaced it before anybody asked
    for ask in (site.tools["site.write"].ask(action.key, action), site.do(action)):
        with pytest.raises(Unavailable) as caught:
            await ask
        assert caught.value.code == "files.doubt" and not isinstance(caught.value, NotSent)
    assert file.read_text() == "theirs"


# --- a kill at any point ------------------------------------------------------------------------------------------

CRASHER = Path(__file__).with_name("crasher.py")


@pytest.mark.parametrize(
    "case", ["append", "write-new", "write-over", "write-deep", "move", "trash", "restore-new", "restore-old"]
)
def test_a_kill_at_any_point_loses_nothing_and_doubles_nothing(case: str, tmp_path: Path) -> None:
    """See ``crasher.py``: each point is a process killed with SIGKILL, and what a new one makes of it."""
    done = subprocess.run(
        [sys.executable, str(CRASHER), case, str(tmp_path)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    points = json.loads(done.stdout)
    assert len(points) >= 8
    assert {point["asked"] for point in points} == {"never", "done"}  # both sides of the effect were met
    for point in points:
        assert point["wrong"] == [], point
