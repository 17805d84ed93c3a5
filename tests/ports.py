"""A port of loopback for servers that come and go: nobody else on this computer gets it meanwhile.

A port that was asked for and let go again is anybody's: another test's server may have it before ours listens there,
and a client that connects somewhere may have it as its own end. While it is held, connecting to it is refused as long
as no server listens, and a server that sets SO_REUSEADDR, as all of ours do, may listen and leave as often as it likes.
"""

from __future__ import annotations

import socket


class Port:
    """Held from its making until ``close``."""

    def __init__(self) -> None:
        self._held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.number: int = self._held.getsockname()[1]

    def close(self) -> None:
        self._held.close()

    def __enter__(self) -> Port:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
