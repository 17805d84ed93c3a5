"""Worlds with legal holds, with roles of single devices, and with a hub on PostgreSQL, short: they converge, and faults
that only show there are found. Long: ``python -m tests.system.converge --wide [--postgres]``."""

from __future__ import annotations

import pytest

from tests.system.converge import Kind, run

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_holds_are_kept_and_everybody_agrees_all_the_same() -> None:
    found, counts = run(12, kind=Kind(wide=True))
    assert found == []
    for what, least in (("held", 12), ("forgotten", 8), ("kills", 12)):
        assert counts[what] > least, f"too little happened: {counts}"


def test_a_hub_on_postgresql_does_the_same() -> None:
    found, counts = run(3, first=3, kind=Kind(wide=True, postgres=True))
    assert found == []
    for what in ("acknowledged", "forgotten", "held", "kills"):
        assert counts[what] > 0, f"too little happened: {counts}"


@pytest.mark.parametrize(("bug", "first"), [("ignores-holds", 10), ("tells-nobody", 1), ("shares-its-own", 1)])
def test_a_planted_fault_is_found(bug: str, first: int) -> None:
    """From a seed on that is not far before one that shows it: other schedules may need other seeds."""
    assert run(60, first=first, kind=Kind(bug=bug, wide=True))[0], "the harness cannot find this fault any more"
