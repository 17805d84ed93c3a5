"""What all facts are, and those of both logs."""

from __future__ import annotations

import msgspec


class Facts(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Base of the facts of every entry type. Values like these make no cycles, so the collector need not look at them:
    an agent with thousands of open runs has hundreds of thousands."""


class ItemRef(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A memory item as it was when it was used."""

    id: str
    sha256: str


class Switch(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A stop that is in force: for a ``device``, a ``playbook``, a ``tool`` or the whole ``fleet``, whose ``name`` is
    empty. ``by`` is who pressed it, ``at`` when (microseconds since 1970 UTC), ``reason_code`` why."""

    id: str
    kind: str
    name: str
    by: str
    at: int
    reason_code: str

    def covers(self, playbook: str, tool: str) -> bool:
        """Whether it stops this tool in a run of this playbook, on a device that it was sent to."""
        return self.kind in ("fleet", "device") or self.name == {"playbook": playbook, "tool": tool}.get(self.kind)


class LogOpened(Facts, frozen=True):
    """First entry of every log: whose it is and which key signs its checkpoints."""

    origin: str
    key: str
    software: str


class ClockStepped(Facts, frozen=True):
    """The machine's clock stood before the newest entry's time; entries go on from that time."""

    behind_us: int
