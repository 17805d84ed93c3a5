"""What all tests share: property tests that find the same thing every time, however busy the machine is."""

from __future__ import annotations

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
