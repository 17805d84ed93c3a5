"""``outrider agent run``: the agent as a process that stays, started with as little in memory as it needs.

Apart from the other commands because of what they cost: the command-line library and what it brings along take 10 MB
and a tenth of a second. A process that runs all day beside its user's own work should not keep them, so
``shared.command`` comes straight here when no more than a home is given.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from edge_agent.app import Agent
from edge_agent.config import read_config


def serve(home: str | None) -> None:
    """Work in ``home`` until SIGTERM or SIGINT; ``None`` leaves the choice to the settings."""
    asyncio.run(_work(None if home is None else Path(home)))


async def _work(home: Path | None) -> None:
    started = time.monotonic()
    worker = Agent(read_config(os.environ, home=home))
    task = asyncio.create_task(worker.run())
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, task.cancel)
    print(f"agent ready in {time.monotonic() - started:.2f} s: {worker.identity.device}", flush=True)
    try:
        await task
    except asyncio.CancelledError:
        print("agent stopped", flush=True)
