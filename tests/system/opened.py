"""The judging of changes, in this process and once per question: thousands of worlds cannot each have workers.

It is ``judge``, the very function that the workers run. What is given away is the worker's limits alone, which have
tests of their own."""

from __future__ import annotations

from collections.abc import Sequence

from shared.memory.scratch import judge
from shared.memory.verdict import Task, Verdict


class Opened:
    """Stands in for ``Bench`` at devices and hub."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes, tuple[bytes, ...]], Verdict] = {}

    def batch(self, tasks: Sequence[Task], /) -> list[Verdict]:
        return [self._one(task) for task in tasks]

    def _one(self, task: Task) -> Verdict:
        key = (task.item, task.base, tuple(task.chunks))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = judge(task)
        return found

    def close(self) -> None:
        self._known.clear()
