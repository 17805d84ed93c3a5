"""What a device writes of its runs, in the order of their life."""

from __future__ import annotations

from shared.facts.base import Facts, ItemRef


class RunOpenedV1(Facts, frozen=True):
    """The first version of ``run.opened``: no parent, no dry run."""

    playbook: str
    playbook_version: int
    playbook_sha256: str
    release: int
    trigger: str
    subject_sha256: str
    private_fields: bool


class RunOpened(RunOpenedV1, frozen=True):
    """An event opened a run; its versions are pinned here. ``parent`` and ``parent_step`` name the run that waits for
    this one, ``by`` the person or program that asked for it. A dry run plans and is judged, and does nothing. Bodies:
    ``shared`` (fields the hub may see), ``private``."""

    dry_run: bool = False
    parent: str = ""
    parent_step: str = ""
    by: str = ""


class ContextRecalled(Facts, frozen=True):
    """The memory items put before the planner."""

    step: str
    items: list[ItemRef]
    latency_us: int


class PlanMade(Facts, frozen=True):
    """A recommendation. ``action`` is empty when the planner abstained. Body: action, fields, reason and sources."""

    step: str
    planner: str
    prompt: str
    model: str
    label: str
    confidence: int
    rules: list[str]
    latency_us: int
    prompt_tokens: int
    reused_tokens: int
    generated_tokens: int
    cost_cents: int
    tool: str
    action: str
    abstained: str


class VerdictGiven(Facts, frozen=True):
    """The guard's judgement of one action, with the whole context it judged, so that anyone can judge it again."""

    step: str
    action: str
    verdict: str
    rules: list[str]
    release: int
    tool: str
    context: dict[str, int | bool | str]


class ApprovalAskedV1(Facts, frozen=True):
    """The first version of ``approval.asked``: one person, at the hub."""

    step: str
    approval: str
    action: str
    roles: list[str]
    expires_at: int


class ApprovalAsked(ApprovalAskedV1, frozen=True):
    """The run waits for ``needed`` different people. Bound to the digest of the exact action; dead after
    ``expires_at``. Where policy says so, the answer may be given at this computer (``local``), or for all actions like
    this one during ``similar_s`` seconds."""

    needed: int = 1
    local: bool = False
    similar_s: int = 0


class ApprovalEscalated(Facts, frozen=True):
    """Nobody answered in time: from now on ``roles`` may answer too. ``level`` counts from 1."""

    step: str
    approval: str
    level: int
    roles: list[str]


class ApprovalAnsweredV1(Facts, frozen=True):
    """The first version of ``approval.answered``: always from the hub, for one action."""

    step: str
    approval: str
    action: str
    answer: str
    corrected: str
    by: str


class ApprovalAnswered(ApprovalAnsweredV1, frozen=True):
    """One person's answer arrived. ``corrected`` is the digest of the action they put in its place. ``place`` is where
    it was given: ``hub``, whose signed envelope is the body, or ``local``. Until ``similar_until`` it covers actions
    like this one; 0 where it does not."""

    place: str = "hub"
    similar_until: int = 0


class ApprovalCovered(Facts, frozen=True):
    """No question is asked, because the answer to ``grant`` covers actions like this one. ``approval`` is this
    action's own name for it, used once like any other."""

    step: str
    approval: str
    action: str
    grant: str


class ApprovalVoided(Facts, frozen=True):
    """The approval can no longer be used: it expired, or the policy that asked for it was replaced."""

    step: str
    approval: str
    code: str


class IntentRecorded(Facts, frozen=True):
    """Committed before the effect starts. ``key`` is the idempotency key the tool is given."""

    step: str
    action: str
    tool: str
    key: str
    approval: str


class IntentDoubted(Facts, frozen=True):
    """After a crash: an intent without a result, from a tool that cannot tell and may not be sent to twice."""

    step: str
    key: str


class ResultRecorded(Facts, frozen=True):
    """What came of an intent. ``how`` is ``sent`` (the tool answered) or ``asked`` (it was asked by key after a crash).
    Body: the tool's receipt."""

    step: str
    key: str
    outcome: str
    code: str
    how: str
    attempts: int
    latency_us: int


class EffectObserved(Facts, frozen=True):
    """The tool was read back: whether the outcome is what the action said it would be."""

    step: str
    key: str
    matches: bool


class StepEntered(Facts, frozen=True):
    """A step began that is not an action. ``kind`` is ``time``, ``event``, ``run``, ``each`` or ``together``. ``until``
    is when a timer rings, 0 for none; ``count`` how many items ``each`` has; ``ref`` the child run, or the event's name
    and key as a hash. Body of ``each``: the items."""

    step: str
    kind: str
    until: int
    count: int
    ref: str


class StepEnded(Facts, frozen=True):
    """What a step waited for has come. ``code`` is ``time``, ``event``, or the child run's outcome. Body of an event:
    its payload."""

    step: str
    code: str


class StepSkipped(Facts, frozen=True):
    """Its condition did not hold."""

    step: str


class StepRehearsed(Facts, frozen=True):
    """In a dry run: this action would have been done, or asked about, and was not."""

    step: str
    action: str
    verdict: str


class StepFailed(Facts, frozen=True):
    """A step could not go on for a reason that is no tool's: a time limit, a budget, an expression. Body: message and
    advice."""

    step: str
    code: str


class UndoBegun(Facts, frozen=True):
    """From here on the run takes back what it did, newest first, and then ends with this outcome and code."""

    outcome: str
    code: str


class UndoLeft(Facts, frozen=True):
    """No tool can take this step's effect back, or the attempt failed: a person must. ``step`` is the step that acted.
    Body: what to do."""

    step: str
    code: str


class RunOrdered(Facts, frozen=True):
    """A person's order about a run: ``pause``, ``resume``, ``cancel``, ``retry``, ``dismiss``, ``undo``; or about a
    step: ``happened`` and ``not-happened`` settle a doubt, ``handled`` says that a person took an effect back.
    ``place`` is ``hub``, whose signed envelope is the body, ``local``, or ``parent`` for what a run orders its
    children."""

    order: str
    id: str
    step: str
    by: str
    place: str


class RunClosed(Facts, frozen=True):
    """The run's end. ``code`` says why where it did not end well."""

    outcome: str
    code: str
