"""What a check says."""

from __future__ import annotations

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One line of the report. ``fail``: the agent cannot work, or something is exposed or changed. ``warn``: it works
    with less. ``advice`` is empty where the status is ``ok``."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    advice: str = ""
