"""A question as the console shows it. Times are microseconds since 1970 UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from shared.release import Release

APPROVE, DENY, CORRECT = "approve", "deny", "correct"
CONFIRM = "person.confirm"  # the tool of a question that is all there is to its step


class Library(Protocol):
    """Where releases are read; ``releases`` provides it."""

    def release(self, number: int, /) -> Release: ...


@dataclass(frozen=True)
class AnswerView:
    """One person's answer. ``place`` is ``hub``, or ``local`` for one given at the device; ``applied`` says that the
    device's log has it. Until ``similar_until`` it covers actions like the one asked about."""

    by: str
    answer: str
    at: int
    reason: str
    place: str
    similar_until: int
    applied: bool


@dataclass(frozen=True)
class ApprovalView:
    """``confidence`` is permille. ``rules`` are the ids that decided, with what their author says of them; ``lanes``
    the ids and labels a correction may name. ``needed`` different people must approve; ``roles`` may answer now, after
    ``level`` escalations, and ``next_roles`` too from ``escalates_at`` on (0: never). One yes may cover others like it
    for ``similar_s`` seconds. What stood in an erased body is empty. ``run`` is the run's name, ``run_id`` what
    ``Record.run`` finds it by. ``by``, ``answer`` and what belongs to it are of the answer that settled the question;
    ``answers`` are all."""

    id: str
    device: str
    device_name: str
    run: str
    run_id: str
    playbook: str
    step: str
    tool: str
    arguments: dict[str, Any]
    subject: str
    inputs: dict[str, Any]
    fields: dict[str, Any]
    label: str
    reason: str
    sources: list[dict[str, Any]]
    confidence: int
    planner: str
    rules: list[tuple[str, str]]
    roles: list[str]
    lanes: list[tuple[str, str]]
    asked_at: int
    expires_at: int
    needed: int
    local: bool
    similar_s: int
    level: int
    escalates_at: int
    next_roles: list[str]
    answers: list[AnswerView]
    state: str  # waiting | answered | expired | void
    void_code: str
    answer: str
    by: str
    answered_at: int
    answer_reason: str
    corrected: dict[str, Any] | None
    applied: bool

    @property
    def approvers(self) -> list[str]:
        """Who has said yes, in order."""
        return [said.by for said in self.answers if said.answer == APPROVE]

    @property
    def question(self) -> str:
        """What is asked, where the question is all there is to the step."""
        asked = self.arguments.get("question") if self.tool == CONFIRM else ""
        return asked if isinstance(asked, str) else ""

    @property
    def correctable(self) -> bool:
        """One person may put another action in its place: not what several must agree on, nor a plain question."""
        return self.needed == 1 and self.tool != CONFIRM and bool(self.arguments)

    @property
    def undoes(self) -> bool:
        """The action takes back what an earlier step did."""
        return self.step.startswith("~")
