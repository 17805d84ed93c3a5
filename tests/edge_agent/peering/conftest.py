"""A device that has the model, listening, and one that wants it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge_agent.peering.kit import Listening, Member


@pytest.fixture
def asker(tmp_path: Path) -> Member:
    return Member(tmp_path, "d-asker")


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    peer = Member(tmp_path, "d-peer")
    peer.has()
    made = Listening(peer)
    yield made
    made.stop()
