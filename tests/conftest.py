"""What all tests share: property tests that find the same thing every time, however busy the machine is; and an
order in which workers end together."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# The clock is never what a property is about, and what chance finds belongs into a test of its own.
settings.register_profile(
    "outrider",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("outrider")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among workers, which are given whole files, those that may take longest begin: none is left alone with one."""
    if not hasattr(config, "workerinput"):
        return
    allowed: dict[object, float] = {}
    for item in items:
        mark = item.get_closest_marker("timeout")
        allowed[item.path] = max(allowed.get(item.path, 0.0), float(mark.args[0]) if mark else 0.0)
    items.sort(key=lambda item: -allowed[item.path])
