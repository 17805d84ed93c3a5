"""The closed list of entry types and their facts. Spec page: ``shared/spec/log.md``; reference:
``docs/reference/entries.md``.

Rules for change, because signed bytes live for years:
- the bytes of existing entries never change, and no field is ever removed or given another meaning;
- a new field or a new meaning is a new version ``v`` of that type, added beside the old one in ``FACTS``;
- facts hold identifiers, counts, codes and hashes, never personal text: that stands in a body beside the entry;
- a reader that meets a type or version it does not know stops: it fails closed rather than fold half a truth.
"""

from __future__ import annotations

from shared.facts.base import (
    ClockStepped,
    Facts,
    ItemRef,
    LogOpened,
)
from shared.facts.device import (
    DeviceJoined,
    EventReceived,
    HubPinned,
    LeaseTaken,
    ReleaseInstalled,
    ReleaseRefused,
    SourceRead,
    SourceRefused,
)
from shared.facts.hub import (
    ApprovalDecided,
    ApprovalDecidedV1,
    BatchRefused,
    DeviceEnrolled,
    DeviceRevoked,
    LeaseIssued,
    OrderGiven,
    ReleasePublished,
    TokenIssued,
    UserAdded,
)
from shared.facts.memory import (
    MemoryErased,
    MemoryGranted,
    MemoryHeld,
    MemoryRefused,
    MemoryTombstoned,
    MemoryUnheld,
)
from shared.facts.runs import (
    ApprovalAnswered,
    ApprovalAnsweredV1,
    ApprovalAsked,
    ApprovalAskedV1,
    ApprovalCovered,
    ApprovalEscalated,
    ApprovalVoided,
    ContextRecalled,
    EffectObserved,
    IntentDoubted,
    IntentRecorded,
    PlanMade,
    ResultRecorded,
    RunClosed,
    RunOpened,
    RunOpenedV1,
    RunOrdered,
    StepEnded,
    StepEntered,
    StepFailed,
    StepRehearsed,
    StepSkipped,
    UndoBegun,
    UndoLeft,
    VerdictGiven,
)

__all__ = [
    "FACTS", "ApprovalAnswered", "ApprovalAnsweredV1", "ApprovalAsked", "ApprovalAskedV1", "ApprovalCovered",
    "ApprovalDecided", "ApprovalDecidedV1", "ApprovalEscalated", "ApprovalVoided", "BatchRefused", "ClockStepped",
    "ContextRecalled", "DeviceEnrolled", "DeviceJoined", "DeviceRevoked", "EffectObserved", "EventReceived", "Facts",
    "HubPinned", "IntentDoubted", "IntentRecorded", "ItemRef", "LeaseIssued", "LeaseTaken", "LogOpened",
    "MemoryErased", "MemoryGranted", "MemoryHeld", "MemoryRefused", "MemoryTombstoned", "MemoryUnheld", "OrderGiven",
    "PlanMade", "ReleaseInstalled", "ReleasePublished", "ReleaseRefused", "ResultRecorded", "RunClosed", "RunOpened",
    "RunOpenedV1", "RunOrdered", "SourceRead", "SourceRefused", "StepEnded", "StepEntered", "StepFailed",
    "StepRehearsed", "StepSkipped", "TokenIssued", "UndoBegun", "UndoLeft", "UserAdded", "VerdictGiven",
]  # fmt: skip

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
    ("memory.granted", 1): MemoryGranted,
    ("memory.tombstoned", 1): MemoryTombstoned,
    ("memory.held", 1): MemoryHeld,
    ("memory.unheld", 1): MemoryUnheld,
    ("memory.erased", 1): MemoryErased,
    ("memory.refused", 1): MemoryRefused,
}
_NAMES = {kind: name for name, kind in FACTS.items()}
