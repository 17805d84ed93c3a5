"""What is known of a run and of each of its steps: values only, made by ``fold`` and read by everybody."""

from __future__ import annotations

import msgspec

from shared import entries as e

DONE, DENIED, DECLINED, FAILED, REFERRED = "done", "denied", "declined", "failed", "referred"
CANCELLED, REHEARSED = "cancelled", "rehearsed"
OUTCOMES = (DONE, DENIED, DECLINED, FAILED, REFERRED, CANCELLED, REHEARSED)

UNDO = "~"  # before a step's name: the step that takes its effect back

# What a run shows of itself is the state of the step that most needs somebody, in this order.
_ATTENTION = ("doubted", "left", "waiting", "held")
_OVER = frozenset(("skipped", "rehearsed", "ended", "observed", "failed", "handled"))


class Step(msgspec.Struct, frozen=True, gc=False):
    """One step so far. ``id`` is the playbook's, with ``#3`` behind it inside the fourth round of a ``for_each``, and
    ``~`` before it where it takes an effect back.

    An action's ``status`` goes through planned, judged, held, waiting, approved, intended, doubted, resulted, observed;
    any other step's through entered to ended. Both may be skipped, rehearsed or failed; an undo that is for a person is
    left, then handled. ``action`` is the digest in force: the planner's, or the one a person put in its place."""

    id: str
    at: int
    status: str = "recalled"
    recalled: e.ContextRecalled | None = None
    plan: e.PlanMade | None = None
    plan_seq: int = -1
    action: str = ""
    corrected_seq: int = -1
    verdict: e.VerdictGiven | None = None
    verdict_seq: int = -1
    approval: e.ApprovalAsked | None = None
    asked_at: int = 0
    roles: list[str] = []
    level: int = 0  # how often the question was escalated
    answer: e.ApprovalAnswered | None = None
    approvers: list[str] = []  # who has said yes to the open question
    granted: str = ""  # the approval that lets the action be done
    intent: e.IntentRecorded | None = None
    result: e.ResultRecorded | None = None
    result_seq: int = -1
    observed: e.EffectObserved | None = None
    entered: e.StepEntered | None = None
    entered_seq: int = -1
    ended: e.StepEnded | None = None
    ended_seq: int = -1
    code: str = ""  # why it failed, or was left to a person
    again: bool = False  # it did not end well before the run was retried, and may be begun once more

    @property
    def is_group(self) -> bool:
        """A step that is over when the steps within it are."""
        return self.entered is not None and self.entered.kind in ("each", "together")

    @property
    def open(self) -> bool:
        """An intent without a result: it may or may not have happened."""
        return self.status in ("intended", "doubted")

    @property
    def in_flight(self) -> bool:
        """Begun, and to be brought to its end whatever else becomes of the run: an open intent, or an effect that was
        not looked at yet."""
        return self.open or (self.status == "resulted" and self.end is None)

    @property
    def end(self) -> tuple[str, str] | None:
        """Outcome and code once nothing more can come of it, else ``None``."""
        match self.status:
            case "skipped" | "rehearsed" | "handled":
                return DONE, ""
            case "planned" if not self.action:
                return REFERRED, self.plan.abstained if self.plan else ""
            case "judged" if self.answer is not None and self.answer.answer == "deny":
                return DECLINED, "approval.denied"
            case "judged" if self.verdict is not None and self.verdict.verdict == "deny":
                return DENIED, self.verdict.rules[0] if self.verdict.rules else ""
            case "resulted" if self.result is not None and self.result.outcome != DONE:
                return FAILED, self.result.code
            case "observed":
                matches = self.observed is not None and self.observed.matches
                return (DONE, "") if matches else (FAILED, "effect.mismatch")
            case "ended":
                return _child_end(self.ended.code if self.ended else "")
            case "failed":
                return FAILED, self.code
            case _:
                return None


def _child_end(code: str) -> tuple[str, str]:
    return (FAILED, f"child.{code}") if code in OUTCOMES and code not in (DONE, REHEARSED) else (DONE, "")


class Run(msgspec.Struct, frozen=True, gc=False):
    """A run so far. ``effects`` are the steps whose effect happened, oldest first; ``times`` counts how often a step
    was begun anew, which makes its next effect another one. ``current`` is the step that was moved last."""

    id: str
    opened: e.RunOpened
    at: int
    seq: int
    began_at: int
    steps: dict[str, Step] = {}
    current: str = ""
    effects: tuple[str, ...] = ()
    times: dict[str, int] = {}
    approvals_used: frozenset[str] = frozenset()
    orders: tuple[str, ...] = ()
    undoing: e.UndoBegun | None = None
    paused: bool = False
    cancelled: bool = False
    dismissed: bool = False
    actions: int = 0
    cents: int = 0
    tokens: int = 0
    closed: e.RunClosed | None = None
    closed_at: int = 0

    @property
    def status(self) -> str:
        """One word for lists: closed, paused, or the state of the step that most needs somebody."""
        if self.closed is not None:
            return "closed"
        if self.paused:
            return "paused"
        shown = self._shown
        return shown.status if shown is not None and shown.status != "recalled" else "opened"

    @property
    def _shown(self) -> Step | None:
        found = self.steps.get(self.current)
        if len(self.steps) < 2 or (found is not None and found.status in _ATTENTION):
            return found
        by_need = [step for step in self.steps.values() if step.status in _ATTENTION]
        if by_need:
            return min(by_need, key=lambda step: _ATTENTION.index(step.status))
        if found is None or found.end is not None or found.is_group:
            under_way = (step for step in self.steps.values() if step.end is None and not step.is_group)
            return next(under_way, found)
        return found

    @property
    def shown(self) -> Step:
        """The step a list should speak of; an empty one before the first."""
        return self._shown or Step(id="", at=self.at)

    @property
    def held(self) -> bool:
        """Something waits for what the hub or the clock can mend."""
        return any(step.status == "held" for step in self.steps.values())

    @property
    def waits(self) -> list[Step]:
        """The steps with an open question."""
        return [step for step in self.steps.values() if step.status == "waiting"]

    @property
    def in_doubt(self) -> list[Step]:
        return [step for step in self.steps.values() if step.status == "doubted"]

    @property
    def left(self) -> list[Step]:
        """Effects that a person must take back."""
        return [step for step in self.steps.values() if step.status == "left"]

    @property
    def undone(self) -> frozenset[str]:
        """Of ``effects``, those with which the way back is through: taken back, or to be left as they are."""
        return frozenset(name for name in self.effects if self._back(name) is not None)

    @property
    def undoable(self) -> bool:
        """It has ended, and something it did is neither taken back nor to be left as it is."""
        return self.closed is not None and len(self.undone) < len(self.effects)

    @property
    def taken_back(self) -> frozenset[str]:
        """Of ``effects``, those that are no more: a tool took them back, or a person did."""
        return frozenset(name for name in self.effects if self._back(name) in ("observed", "handled"))

    def _back(self, name: str) -> str | None:
        """How the undoing of an effect ended well."""
        step = self.steps.get(UNDO + name)
        return step.status if step is not None and step.end is not None and step.end[0] == DONE else None

    @property
    def idle_steps(self) -> bool:
        """Every step is over, or can go no further."""
        return all(step.is_group or step.status in _OVER or step.end is not None for step in self.steps.values())

    def asked(self, approval: str) -> Step | None:
        """The step with this open question."""
        return next((s for s in self.waits if s.approval is not None and s.approval.approval == approval), None)
