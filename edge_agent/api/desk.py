"""What the running agent offers to programs on its computer. The app implements it, the routes ask it.

Everything is JSON-plain: dicts, lists, text, integers, booleans, None; times in microseconds since 1970 UTC. What
cannot be done is raised as one of our errors; a code that ends in ``unknown`` becomes 404.
"""

from __future__ import annotations

from typing import Any, Protocol


class Desk(Protocol):
    """Guarded like everything else: whatever changes something opens a run or is recorded as a person's act."""

    def tools(self) -> list[dict[str, Any]]:
        """``name``, ``about``, ``effect``, ``risk``, ``arguments`` (a JSON schema) of each tool offered here."""
        ...

    async def act(self, tool: str, arguments: dict[str, Any], subject: str, *, client: str, key: str) -> str:
        """Open a guarded run for one action that an assistant asks for; the run's id. The same client and key are the
        same run, however often they come."""
        ...

    async def start(self, playbook: str, inputs: dict[str, Any], *, by: str, dry_run: bool = False) -> str:
        """Start a playbook by hand; the run's id."""
        ...

    def status(self) -> dict[str, Any]:
        """Who this device is, its hub and whether it is linked, the release and the lease in force, the log, how many
        runs and questions are open, and the latest troubles."""
        ...

    def runs(self, limit: int) -> list[dict[str, Any]]:
        """The runs that are open or failed, and of the others the newest, newest first; ``limit`` in all."""
        ...

    def run(self, run_id: str) -> dict[str, Any]:
        """Inputs, status, steps with their receipts, outcome, what it waits for, and the orders that fit it now."""
        ...

    async def wait(self, run_id: str, timeout_s: float) -> dict[str, Any]:
        """The same, once it is closed or waits for a person, or the time is over."""
        ...

    async def order(self, run_id: str, order: str, *, by: str, reason: str, step: str = "") -> None:
        """Pause, resume, cancel, retry or dismiss a run, or settle one of its steps."""
        ...

    def approvals(self) -> list[dict[str, Any]]:
        """The open questions, the oldest first."""
        ...

    async def answer(self, approval: str, answer: str, *, by: str, reason: str) -> None:
        """Answer a question here, which only works where policy lets it."""
        ...

    async def event(self, name: str, key: str, payload: dict[str, Any]) -> int:
        """Something happened outside; how many runs were opened or woken. A key that came before opens nothing."""
        ...

    def metrics(self) -> str:
        """Prometheus text."""
        ...
