"""The servers of ``push.py`` and ``kill_switch.py``, told by lines of standard input what to do: ``notice`` to
everybody, or ``press`` and ``release``; each answers with the nanoseconds at which it began, by the clock that all
processes share.

``hub HOME`` is the hub as ``outrider hub run`` serves it. ``bare TEXT`` is the ``websockets`` library alone, on uvloop,
and broadcasts that text.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def hub(home: str) -> None:
    from server import serving
    from server.app import Hub, open_hub
    from server.config import HubConfig

    def obey(opened: Hub) -> None:
        pressed, version = "", 0
        for line in sys.stdin:
            began = time.perf_counter_ns()
            match line.strip():
                case "notice":
                    opened.bus.publish("releases", {"release": 1})
                case "press":
                    pressed = opened.switches.press("fleet", by="bench", reason="drill").id
                    version = opened.hublog.size
                case "release":
                    opened.switches.release(pressed, by="bench")
                    version = opened.hublog.size
            print(json.dumps({"began": began, "done": time.perf_counter_ns(), "version": version}), flush=True)
        server.should_exit = True

    config = HubConfig(home=Path(home), port=0)
    with open_hub(config) as opened, serving.listen(config) as bound:
        port = bound.getsockname()[1]
        server = serving.make_server(opened, bound, lambda _: print(f"127.0.0.1:{port}", flush=True))
        threading.Thread(target=obey, args=(opened,), daemon=True).start()
        server.run(sockets=[bound])


async def bare(text: str) -> None:
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    connections: set[ServerConnection] = set()

    async def attend(connection: ServerConnection) -> None:
        connections.add(connection)
        try:
            await connection.wait_closed()
        finally:
            connections.discard(connection)

    async with serve(attend, "127.0.0.1", 0, compression=None, ping_interval=20, backlog=4096) as server:
        print(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while await reader.readline():
            began = time.perf_counter_ns()
            broadcast(connections, text)
            print(json.dumps({"began": began, "done": time.perf_counter_ns()}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "hub":
        hub(sys.argv[2])
    else:
        import uvloop

        uvloop.run(bare(sys.argv[2]))
