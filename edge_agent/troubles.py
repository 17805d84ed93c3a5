"""What went wrong lately, for people: the latest problem of each code."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from edge_agent.config import now_us
from shared.errors import OutriderError


class Troubles:
    """The latest problem of each code, newest last: what ``agent status`` shows."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def add(self, error: OutriderError) -> None:
        self._kept.pop(error.code, None)
        said = {"code": error.code, "message": error.message, "advice": error.advice, "at": now_us()}
        self._kept[error.code] = said
        while len(self._kept) > 20:
            self._kept.popitem(last=False)

    def clear(self, *prefixes: str) -> None:
        """Forget problems that are mended, by the beginnings of their codes."""
        for code in [code for code in self._kept if code.startswith(prefixes)]:
            del self._kept[code]

    def list(self) -> list[dict[str, Any]]:
        return [*self._kept.values()]
