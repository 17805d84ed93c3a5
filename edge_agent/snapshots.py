"""The fold of the device's log without folding all of it: from the newest snapshot, and what came after.

A snapshot is a cache. One that another version of this software made, or that does not fit the log, is passed over, and
the log is folded from its beginning.
"""

from __future__ import annotations

from edge_agent.journal import Journal, LogReader
from shared.runs import Device, fold_version, load, save

_EVERY = 8192  # entries between two snapshots; as many are folded in a quarter of a second


def open_fold(log: LogReader) -> Device:
    """What the log comes to."""
    kept = log.snapshot(fold_version())
    device = (load(kept[1]) if kept is not None else None) or Device()
    for entry in log.entries(device.size):
        device.fold(entry)
    device.synced(log.cosigned_size())
    return device


class Snapshots:
    """Opens the fold of one log, and writes it down from time to time."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._size = 0

    def open(self) -> Device:
        device = open_fold(self._journal)
        self._size = device.size
        return device

    def committed(self, device: Device) -> None:
        """Entries were folded; write the fold down where enough of them were. More open runs make a larger snapshot,
        so they make it rarer."""
        if device.size - self._size >= max(_EVERY, 8 * len(device.runs)):
            self._size = device.size
            self._journal.keep_snapshot(device.size, fold_version(), save(device))
