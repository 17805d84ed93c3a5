"""The local API and the panel, for as long as the agent runs. An agent whose port is taken works on without them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge_agent.config import Config, Home, now_us
from edge_agent.desk import Counter
from edge_agent.panel.given import Given
from edge_agent.secrets import Secrets
from edge_agent.talk import Talk
from shared.errors import OutriderError

_PORT_S = 30.0  # before a port that was taken is tried again


async def serve_local(
    home: Home, config: Config, counter: Counter, given: Given, talk: Talk, trouble: Callable[[OutriderError], None]
) -> None:
    """Until cancelled."""
    from edge_agent.api.server import serve  # some megabytes, and some time that the log need not wait for
    from edge_agent.panel.entrance import Panel

    secrets = Secrets(home.secrets)
    panel = Panel(given)
    while True:
        try:
            await serve(
                counter,
                home.root,
                port=config.api_port,
                hook_secret=secrets.get,
                now=now_us,
                open_metrics=config.open_metrics,
                talk=talk,
                panel=panel,
            )
        except OutriderError as error:
            trouble(error)
        await asyncio.sleep(_PORT_S)
