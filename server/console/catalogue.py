"""What playbooks and policies call things: types of inputs, which of them are private, lanes and rules in words.

A run names the release it was opened under. Where that release cannot be opened any more, pages show values and ids as
they were recorded, and say so: wording is a kindness and must never keep a record from being read.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from server.console import formats
from shared.errors import OutriderError
from shared.playbook import Input, Playbook
from shared.policy import HOST_RULES
from shared.release import Release

if TYPE_CHECKING:
    from server.releases import Releases

_KEPT = 8  # opened releases


@dataclass(frozen=True)
class Wording:
    """The words of one playbook under one release, and the playbook. ``lost`` is why there are none, as a code."""

    inputs: dict[str, Input] = field(default_factory=dict)
    lanes: dict[str, str] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)
    value_input: str = ""
    lost: str = ""
    book: Playbook | None = None

    def kind(self, name: str) -> str:
        """The type of an input: text, cents or date."""
        known = self.inputs.get(name)
        return known.type if known else "text"

    @property
    def private(self) -> list[str]:
        return [name for name, known in self.inputs.items() if known.private]

    def ordered(self, values: dict[str, Any]) -> list[tuple[str, Any]]:
        """Values in the playbook's order; what it does not know comes last."""
        places = {name: place for place, name in enumerate(self.inputs)}
        return sorted(values.items(), key=lambda item: places.get(item[0], len(places)))

    def lane(self, lane_id: str) -> str:
        """A lane's label; its id where the playbook does not know it."""
        return self.lanes.get(lane_id, lane_id)

    def step(self, step_id: str) -> str:
        """A step's name in words: the playbook's where it has some."""
        base = formats.step_base(step_id)
        known = next((step for step in self.book.all_steps if step.id == base), None) if self.book else None
        return formats.step(step_id, known.label if known is not None else "")

    def rule(self, rule_id: str) -> str:
        return self.rules.get(rule_id) or HOST_RULES.get(rule_id, "")


class Catalogue:
    """Opened releases, the latest few kept: reading one back verifies every file of it."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases
        self._lock = threading.Lock()
        self._opened: dict[int, Release] = {}

    def wording(self, playbook: str, release: int | None = None) -> Wording:
        """The words of ``playbook`` under ``release``, or under the current one. Never raises for a lost release."""
        try:
            opened = self._release(release)
        except OutriderError as error:
            return Wording(lost=error.code)
        rules = {name: opened.policy.explain(name) for name in opened.policy.about}
        book = opened.playbooks.get(playbook)
        if book is None:
            return Wording(rules=rules)
        rules |= {rule.id: str(rule.then.get("reason", "")) for rule in book.rules}
        lanes = {lane.id: lane.label for lane in book.lanes}
        return Wording(dict(book.inputs), lanes, rules, book.value or "", book=book)

    def lanes(self) -> dict[str, str]:
        """The labels of all lanes of the current release, by id."""
        try:
            books = self._release(None).playbooks.values()
        except OutriderError:
            return {}
        return {lane.id: lane.label for book in books for lane in book.lanes}

    def _release(self, number: int | None) -> Release:
        number = self._releases.current() if number is None else number
        with self._lock:
            if number in self._opened:
                return self._opened[number]
        opened = self._releases.release(number)
        with self._lock:
            self._opened[number] = opened
            while len(self._opened) > _KEPT:
                del self._opened[min(self._opened)]
        return opened
