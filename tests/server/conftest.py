"""A hub's store in a temporary home, with a clock that a test moves."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.store import HubLog, Store, make_home


class Clock:
    """Microseconds since 1970 UTC; a test sets or steps it."""

    def __init__(self, now: int = 1_790_000_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        self.now += 1
        return self.now

    def step(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "hub"
    make_home(folder, "City of Example", secrets.token_bytes)
    return folder


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    opened = Store(home)
    yield opened
    opened.close()


@pytest.fixture
def hublog(store: Store, clock: Clock) -> HubLog:
    return HubLog(store, clock=clock, random=secrets.token_bytes)
