"""The closed list of entry types, their facts, and the exact bytes of an entry. Spec page: ``shared/spec/log.md``.

Rules for change, because signed bytes live for years:
- the bytes of existing entries never change, and no field is ever removed or given another meaning;
- a new field or a new meaning is a new version ``v`` of that type, added beside the old one in ``FACTS``;
- facts hold identifiers, counts, codes and hashes, never personal text: that stands in a body beside the entry;
- a reader that meets a type or version it does not know stops: it fails closed rather than fold half a truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from shared import limits
from shared.codec import canonical, parse, salted
from shared.errors import BadInput, Conflict, Tampered


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the facts of every entry type."""


class ItemRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A memory item as it was when it was used."""

    id: str
    sha256: str


# --- both logs --------------------------------------------------------------------------------------------------


class LogOpened(Facts, frozen=True):
    """First entry of every log: whose it is and which key signs its checkpoints."""

    origin: str
    key: str
    software: str


class ClockStepped(Facts, frozen=True):
    """The machine's clock stood before the newest entry's time; entries go on from that time."""

    behind_us: int


# --- a device's log ---------------------------------------------------------------------------------------------


class DeviceJoined(Facts, frozen=True):
    """Enrolment: which hub this device trusts, from which TUF root, and the oldest metadata versions it will accept."""

    device: str
    hub: str
    hub_key: str
    root_sha256: str
    minimum: dict[str, int]


class ReleaseInstalled(Facts, frozen=True):
    """A verified release took effect. ``files`` maps release paths to SHA-256."""

    release: int
    files: dict[str, str]


class ReleaseRefused(Facts, frozen=True):
    """A release was offered and not installed; the one before it stays in force."""

    release: int
    code: str


class LeaseTaken(Facts, frozen=True):
    """Authority lent by the hub, bounded by time, number of actions and value."""

    lease: str
    issued_at: int
    expires_at: int
    actions: int
    value_cents: int


class SourceRead(Facts, frozen=True):
    """A file was taken in whole. Its name, and what was wrong with refused rows, stand in the body."""

    sha256: str
    rows: int
    opened: int
    duplicates: int
    refused: int


class SourceRefused(Facts, frozen=True):
    """A file could not be read at all and was set aside untouched."""

    sha256: str
    code: str


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
    """A person's order about a run: ``pause``, ``resume``, ``cancel``, ``retry``, ``dismiss``; or about one step of it:
    ``happened`` and ``not-happened`` settle a doubt, ``handled`` says that a person took an effect back. ``place`` is
    ``hub``, whose signed envelope is the body, ``local``, or ``parent`` for what a run orders its children."""

    order: str
    id: str
    step: str
    by: str
    place: str


class RunClosed(Facts, frozen=True):
    """The run's end. ``code`` says why where it did not end well."""

    outcome: str
    code: str


class EventReceived(Facts, frozen=True):
    """Something happened outside that runs may open on or wait for. ``ref`` is the hash of its name and key, and comes
    once. Body: name, key and payload."""

    name: str
    ref: str


class HubPinned(Facts, frozen=True):
    """The device has seen this checkpoint of the hub's log and will hold the hub to it. Body: the signed note."""

    origin: str
    size: int
    root: str


# --- the hub's log ----------------------------------------------------------------------------------------------


class UserAdded(Facts, frozen=True):
    user: str
    roles: list[str]


class TokenIssued(Facts, frozen=True):
    """A one-time enrolment token; only the hash of its secret is kept, and not here."""

    token: str
    expires_at: int


class DeviceEnrolled(Facts, frozen=True):
    device: str
    token: str
    log_key: str
    link_key: str


class DeviceRevoked(Facts, frozen=True):
    device: str
    by: str
    code: str


class ReleasePublished(Facts, frozen=True):
    release: int
    by: str
    files: dict[str, str]


class ApprovalDecidedV1(Facts, frozen=True):
    """The first version of ``approval.decided``: for one action only."""

    approval: str
    device: str
    action: str
    answer: str
    corrected: str
    by: str


class ApprovalDecided(ApprovalDecidedV1, frozen=True):
    """A person's answer, as signed and sent to the device. Where several people are needed, each answer is one. Body:
    the reason and any correction."""

    similar_until: int = 0


class OrderGiven(Facts, frozen=True):
    """A person's order about a run, as signed and sent to the device. Body: the envelope, with the reason."""

    order: str
    id: str
    device: str
    run: str
    step: str
    by: str


class LeaseIssued(Facts, frozen=True):
    lease: str
    device: str
    expires_at: int
    actions: int
    value_cents: int


class BatchRefused(Facts, frozen=True):
    """A device's upload did not fit what the hub holds: a gap, a fork, a rollback, a bad signature."""

    device: str
    code: str
    held: int
    start: int
    claimed: int


FACTS: dict[tuple[str, int], type[Facts]] = {
    ("log.opened", 1): LogOpened,
    ("clock.stepped", 1): ClockStepped,
    ("device.joined", 1): DeviceJoined,
    ("release.installed", 1): ReleaseInstalled,
    ("release.refused", 1): ReleaseRefused,
    ("lease.taken", 1): LeaseTaken,
    ("source.read", 1): SourceRead,
    ("source.refused", 1): SourceRefused,
    ("event.received", 1): EventReceived,
    ("run.opened", 1): RunOpenedV1,
    ("run.opened", 2): RunOpened,
    ("run.ordered", 1): RunOrdered,
    ("step.entered", 1): StepEntered,
    ("step.ended", 1): StepEnded,
    ("step.skipped", 1): StepSkipped,
    ("step.rehearsed", 1): StepRehearsed,
    ("step.failed", 1): StepFailed,
    ("context.recalled", 1): ContextRecalled,
    ("plan.made", 1): PlanMade,
    ("verdict.given", 1): VerdictGiven,
    ("approval.asked", 1): ApprovalAskedV1,
    ("approval.asked", 2): ApprovalAsked,
    ("approval.escalated", 1): ApprovalEscalated,
    ("approval.answered", 1): ApprovalAnsweredV1,
    ("approval.answered", 2): ApprovalAnswered,
    ("approval.covered", 1): ApprovalCovered,
    ("approval.voided", 1): ApprovalVoided,
    ("intent.recorded", 1): IntentRecorded,
    ("intent.doubted", 1): IntentDoubted,
    ("result.recorded", 1): ResultRecorded,
    ("effect.observed", 1): EffectObserved,
    ("undo.begun", 1): UndoBegun,
    ("undo.left", 1): UndoLeft,
    ("run.closed", 1): RunClosed,
    ("hub.pinned", 1): HubPinned,
    ("user.added", 1): UserAdded,
    ("token.issued", 1): TokenIssued,
    ("device.enrolled", 1): DeviceEnrolled,
    ("device.revoked", 1): DeviceRevoked,
    ("release.published", 1): ReleasePublished,
    ("approval.decided", 1): ApprovalDecidedV1,
    ("approval.decided", 2): ApprovalDecided,
    ("order.given", 1): OrderGiven,
    ("lease.issued", 1): LeaseIssued,
    ("batch.refused", 1): BatchRefused,
}
_NAMES = {kind: name for name, kind in FACTS.items()}

BODY_NAMES = ("shared", "private")  # ``private`` bodies never leave the device


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry as read. ``seq`` is its leaf index, ``at`` microseconds since 1970 UTC, never less than the one before;
    ``bodies`` maps a body's name to its salted hash; ``run`` is empty for entries about the device itself."""

    seq: int
    at: int
    type: str
    v: int
    run: str
    facts: Facts
    bodies: dict[str, str]


class _Raw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seq: int
    at: int
    type: str
    v: int
    run: str
    facts: msgspec.Raw
    bodies: dict[str, str]


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Erasable bytes beside an entry. ``data`` is canonical JSON, ``salt`` 64 hex digits."""

    salt: str
    data: str

    def hash(self) -> str:
        return salted(bytes.fromhex(self.salt), self.data.encode())


class Draft(msgspec.Struct, frozen=True):
    """What a room hands to the journal: it has no place in the log until it is committed. ``not_after`` (microseconds,
    0 for none) is the latest entry time at which it may still be written."""

    facts: Facts
    run: str = ""
    bodies: dict[str, Any] = msgspec.field(default_factory=dict)
    not_after: int = 0


class Written(msgspec.Struct, frozen=True):
    """An entry with its exact bytes and its bodies, ready to be stored."""

    entry: Entry
    data: bytes
    bodies: dict[str, Body]


def type_of(facts: Facts) -> tuple[str, int]:
    """The type name and version that ``facts`` are written under."""
    return _NAMES[type(facts)]


def write(draft: Draft, seq: int, at: int, salt: Callable[[int], bytes]) -> Written:
    """Fix a draft's place and bytes. ``salt(n)`` returns n random bytes."""
    name, version = type_of(draft.facts)
    if draft.not_after and at > draft.not_after:
        raise Conflict("entry.late", f"it is too late for {name}", advice="ask again; check this computer's clock")
    bodies = {}
    for key, value in draft.bodies.items():
        if key not in BODY_NAMES:
            raise BadInput("entry.body", f"{key!r} is not a body name", advice=f"use one of {', '.join(BODY_NAMES)}")
        data = canonical(value)
        if len(data) > limits.BODY_BYTES:
            raise BadInput("entry.too-large", f"the {name} body has {len(data)} bytes", advice="shorten its text")
        bodies[key] = Body(salt=salt(32).hex(), data=data.decode())
    entry = Entry(seq, at, name, version, draft.run, draft.facts, {k: b.hash() for k, b in bodies.items()})
    data = canonical(entry)
    if len(data) > limits.ENTRY_BYTES:
        raise BadInput("entry.too-large", f"the {name} entry has {len(data)} bytes", advice="move text to the body")
    return Written(entry, data, bodies)


def read(data: bytes) -> Entry:
    """Read an entry's exact bytes; refuse unknown types, versions and fields, and bytes that are not canonical."""
    raw = parse(data, _Raw, code="entry.form", what="the entry")
    kind = FACTS.get((raw.type, raw.v))
    if kind is None:
        raise BadInput(
            "entry.unknown", f"entry type {raw.type!r} version {raw.v} is not known", advice="update this software"
        )
    facts = parse(bytes(raw.facts), kind, code="entry.form", what=f"the {raw.type} entry")
    entry = Entry(raw.seq, raw.at, raw.type, raw.v, raw.run, facts, raw.bodies)
    if canonical(entry) != data:
        raise BadInput("entry.form", "the entry's bytes are not canonical", advice="it was not written by an agent")
    return entry


def check_body(entry: Entry, name: str, body: Body) -> None:
    """Raise ``Tampered('body.hash')`` unless ``body`` is the one the entry committed to."""
    wanted = entry.bodies.get(name)
    try:
        found = body.hash()
    except (ValueError, BadInput) as error:
        raise Tampered("body.hash", f"the {name} body has no usable salt", advice="restore it from a copy") from error
    if wanted != found:
        raise Tampered(
            "body.hash",
            f"the {name} body of entry {entry.seq} is not the one that was written",
            advice="restore it from a copy, or erase it: the entry itself still stands",
        )
