"""The sample hub of the console's tests."""

from __future__ import annotations

from tests.server.console.conftest import blank, hub, morning

__all__ = ["blank", "hub", "morning"]
