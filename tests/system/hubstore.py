"""Where the hub of a ``World`` keeps its rows, and how it dies there: SQLite in its own folder, or a PostgreSQL.

A hub on SQLite that is killed comes back from a copy of its files, made at that statement. One on PostgreSQL is a
client whose connection breaks there: what was not committed is rolled back, and the database lives on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.postgres import Postgres
from tests.system.image import Image, copy


class Killed(BaseException):
    """The hub dies at this statement. No ``except Exception`` of the code under test may stop it."""


class OnDisk:
    """``hub.db`` in the hub's folder."""

    url: str | None = None

    def __init__(self, home: Path) -> None:
        self._home = home

    def dying(self, left: int) -> Image:
        return Image(self._home, self._home.with_name("hub.image"), left)

    def reborn(self, close: Callable[[], None]) -> None:
        """After a kill between two messages: the files as they are, the write-ahead log unfolded, which closing would
        fold."""
        to = self._home.with_name("hub.image")
        copy(self._home, to)
        close()
        shutil.rmtree(self._home)
        to.rename(self._home)

    def files(self) -> Iterator[Path]:
        return iter(())  # they are in the hub's folder

    def close(self) -> None:
        pass


class Countdown:
    """Raises ``Killed`` at statement number ``left``."""

    def __init__(self, left: int) -> None:
        self._left = left
        self.taken = False

    def statement(self, _sql: str) -> None:
        self._left -= 1
        if self._left == 0:
            self.taken = True
            raise Killed

    def put_back(self) -> None:
        pass


class OnPostgres:
    """A database of its own on a server, as a copy of another or empty."""

    def __init__(self, server: Postgres, name: str, template: str = "template1") -> None:
        self._server, self._name = server, name
        server.query(f"CREATE DATABASE {name} TEMPLATE {template}")
        self.url: str | None = f"postgresql+pg8000://{server.user}:{server.password}@{server.host}:{server.port}/{name}"

    def dying(self, left: int) -> Countdown:
        return Countdown(left)

    def reborn(self, close: Callable[[], None]) -> None:
        close()

    def files(self) -> Iterator[Path]:
        """Of the tables, what is about them included; not the server's write-ahead log, which ages out."""
        return (path for path in sorted(self._server.files(self._name).iterdir()) if path.is_file())

    def close(self) -> None:
        self._server.query(f"DROP DATABASE {self._name} WITH (FORCE)")
