"""A room of authoring over real releases, with the starter's workspace in its folder, and a few people."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import pytest

from server.authoring import Authoring
from server.bus import Bus
from server.releases import Releases
from server.releases.workspace import read_folder
from server.store import HubLog
from server.users import User
from tests.server.conftest import Clock

STARTER = Path(str(resources.files("server"))) / "starter" / "permits"
MARA, OTTO, ILSE = User("mara", ("release", "clerk"), 0), User("otto", ("admin",), 0), User("ilse", ("clerk",), 0)


@dataclass
class Desk:
    """The room, what it stands on, and the files it began with."""

    room: Authoring
    releases: Releases
    hublog: HubLog
    bus: Bus
    files: dict[str, bytes] = field(default_factory=lambda: read_folder(STARTER))

    def change(self, path: str, old: str, new: str) -> bytes:
        """The file of the newest version with one thing changed; saved by Mara."""
        newest = self.room.need()
        text = self.room.drafts.files(newest)[path].decode()
        assert text.count(old) == 1, old
        data = text.replace(old, new).encode()
        self.room.edit(path, data, base=newest.version, by=MARA)
        return data


@pytest.fixture
def make_desk(hublog: HubLog, home: Path, clock: Clock) -> Callable[..., Desk]:
    def make(**settings: int) -> Desk:
        releases = Releases(home, hublog, clock=clock)
        if not (home / "repository").exists():
            releases.init_repository()
            shutil.copytree(STARTER, home / "workspace")
        bus = Bus()
        room = Authoring(
            hublog,
            bus,
            releases,
            home / "workspace",
            people=lambda: [MARA, OTTO, ILSE],
            devices=lambda: ["d-counter"],
            **settings,
        )
        room.begin()
        return Desk(room, releases, hublog, bus)

    return make


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    return make_desk()
