"""Faults to plant in the code under test, so that it is known that the harness finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

BUGS: dict[str, Callable[[], object]] = {}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """With the fault in; none where the name is empty."""
    yield
