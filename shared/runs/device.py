"""What an agent knows of its device: a fold over its whole log that keeps open runs in full and of closed ones next to
nothing, so that it stays small however long the log grows. It can be written down and read again (``save``, ``load``):
a snapshot is this fold at some size of the log, and opening the log folds only what came after.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from shared import entries as e
from shared.errors import Tampered
from shared.runs.fold import OF_RUNS, fold, out_of_order
from shared.runs.state import FAILED, Run, Step

_DAY_US = 86_400 * 1_000_000
_EVENTS_US = 30 * _DAY_US  # an event is remembered this long, for runs that will wait for it
_MEANING = 1  # to be raised when the fold of an entry changes what it means, without changing the fields below


class Grant(msgspec.Struct, frozen=True):
    """A person's yes to all actions like one: same playbook, step, tool and outcome, held back by the same rules of the
    same release, worth no more."""

    approval: str
    by: str
    playbook_sha256: str
    step: str
    tool: str
    label: str
    rules: list[str]
    release: int
    value_cents: int
    until: int


class Spent(msgspec.Struct):
    """What a playbook's runs spent on one day (UTC), counted in days since 1970."""

    day: int
    actions: int = 0
    cents: int = 0
    tokens: int = 0


class Device(msgspec.Struct):
    """``spent`` is what was done without a person since the hub last countersigned: it counts against the lease.
    ``failed`` are closed runs that wait for a retry or a dismissal; ``children`` the outcomes of child runs whose
    parents have not yet taken note. ``closed`` holds ended runs by id only where it was made for an audit."""

    size: int = 0
    lease: e.LeaseTaken | None = None
    release: e.ReleaseInstalled | None = None
    joined: e.DeviceJoined | None = None
    revoked: bool = False
    hub_size: int = 0
    hub_root: str = ""
    runs: dict[str, Run] = {}
    failed: dict[str, Run] = {}
    children: dict[str, str] = {}
    outcomes: dict[str, int] = {}
    spent: list[tuple[int, int]] = []  # (seq, cents) of each intent not yet synced
    value_since_sync: int = 0  # their cents, added up as they come
    days: dict[str, Spent] = {}
    grants: dict[str, Grant] = {}
    events: dict[str, tuple[int, int]] = {}  # hash of name and key -> (seq, at)
    sources: set[str] = set()  # SHA-256 of each file that was read
    closed: dict[str, str] | None = None

    def fold(self, entry: e.Entry) -> Run | None:
        """One entry further; the run it moved, if it moved one."""
        self.size = entry.seq + 1
        if entry.run or isinstance(entry.facts, OF_RUNS):
            return self._fold_run(entry)
        match entry.facts:
            case e.DeviceJoined() as joined:
                self.joined = joined
            case e.ReleaseInstalled() as release:
                self.release = release
                self.grants.clear()  # a yes in advance was given under another policy
            case e.LeaseTaken() as lease:
                self.lease = lease
            case e.DeviceRevoked():
                self.revoked = True
            case e.SourceRead(sha256=sha256):
                self.sources.add(sha256)
            case e.EventReceived(ref=ref):
                self._remember_event(ref, entry)
            case e.HubPinned(size=size, root=root):
                self.hub_size, self.hub_root = size, root
        return None

    def _remember_event(self, ref: str, entry: e.Entry) -> None:
        self.events[ref] = (entry.seq, entry.at)
        for old in [ref for ref, (_, at) in self.events.items() if at < entry.at - _EVENTS_US][:64]:
            del self.events[old]

    def _fold_run(self, entry: e.Entry) -> Run:
        name = entry.run
        if not name:
            raise Tampered("run.order", f"entry {entry.seq} ({entry.type}) names no run", advice="keep the log")
        if self.closed is not None and name in self.closed and name not in self.failed:
            raise out_of_order(entry, "the run is closed")
        before = self.runs.get(name) or self.failed.get(name)
        if isinstance(entry.facts, e.ApprovalCovered):
            self._check_grant(before, entry, entry.facts)
        run = fold(before, entry)
        self._count(before, run, entry)
        if run.closed is None:
            self.failed.pop(name, None)
            if self.closed is not None:
                self.closed.pop(name, None)  # a retry opens it again
            self.runs[name] = run
        else:
            self._end(run, entry)
        return run

    def _end(self, run: Run, entry: e.Entry) -> None:
        assert run.closed is not None
        self.runs.pop(run.id, None)
        dismissed = isinstance(entry.facts, e.RunOrdered)
        if run.closed.outcome == FAILED and not dismissed:
            self.failed[run.id] = run
        else:
            self.failed.pop(run.id, None)
        if dismissed:
            return
        self.outcomes[run.closed.outcome] = self.outcomes.get(run.closed.outcome, 0) + 1
        if run.opened.parent in self.runs:
            self.children[run.id] = run.closed.outcome
        if self.closed is not None:
            self.closed[run.id] = run.closed.outcome

    def _count(self, before: Run | None, run: Run, entry: e.Entry) -> None:
        facts = entry.facts
        if isinstance(facts, e.RunOrdered) and facts.order == "retry":
            self.outcomes[FAILED] = max(0, self.outcomes.get(FAILED, 0) - 1)
        if isinstance(facts, e.StepEnded) and before is not None:
            entered = before.steps[facts.step].entered
            if entered is not None and entered.kind == "run":
                self.children.pop(entered.ref, None)
        if isinstance(facts, e.ApprovalAnswered) and facts.similar_until:
            self._grant(run, run.steps[facts.step], facts)
        if before is None or not isinstance(facts, e.IntentRecorded | e.PlanMade):
            return
        day = entry.at // _DAY_US
        spent = self.days.get(run.opened.playbook)
        if spent is None or spent.day != day:
            spent = self.days[run.opened.playbook] = Spent(day)
        spent.actions += run.actions - before.actions
        spent.cents += run.cents - before.cents
        spent.tokens += run.tokens - before.tokens
        if isinstance(facts, e.IntentRecorded) and not facts.approval:
            self.spent.append((entry.seq, run.cents - before.cents))
            self.value_since_sync += run.cents - before.cents

    # --- answers that cover more than one action ----------------------------------------------------------------------

    def _grant(self, run: Run, step: Step, answer: e.ApprovalAnswered) -> None:
        if answer.answer == "approve" and step.verdict is not None:
            like = likeness(run, step)
            self.grants[answer.approval] = Grant(
                approval=answer.approval, by=answer.by, until=answer.similar_until, **like
            )

    def grant_for(self, run: Run, step: Step, at: int) -> Grant | None:
        """A yes given in advance that covers the question this step would ask."""
        if step.verdict is None or not self.grants:
            return None
        like = likeness(run, step)
        for grant in self.grants.values():
            same = all(getattr(grant, name) == value for name, value in like.items() if name != "value_cents")
            if same and grant.until >= at and like["value_cents"] <= grant.value_cents:
                return grant
        return None

    def _check_grant(self, run: Run | None, entry: e.Entry, facts: e.ApprovalCovered) -> None:
        step = run.steps.get(facts.step) if run else None
        found = self.grant_for(run, step, entry.at) if run and step else None
        if found is None or facts.grant not in self.grants:
            raise out_of_order(entry, "no answer covers actions like this one")

    # --- what the guard and the link ask ------------------------------------------------------------------------------

    def synced(self, size: int) -> None:
        """The hub has countersigned ``size`` entries: what they spent no longer counts."""
        self.spent = [(seq, cents) for seq, cents in self.spent if seq >= size]
        self.value_since_sync = sum(cents for _, cents in self.spent)

    @property
    def actions_since_sync(self) -> int:
        return len(self.spent)

    def spent_today(self, playbook: str, at: int) -> Spent:
        """What this playbook's runs spent on the day of ``at``."""
        day = at // _DAY_US
        spent = self.days.get(playbook)
        return spent if spent is not None and spent.day == day else Spent(day)


def likeness(run: Run, step: Step) -> dict[str, Any]:
    """What makes two questions alike; see ``Grant``."""
    assert step.verdict is not None
    value = step.verdict.context.get("value_cents", 0)
    return {
        "playbook_sha256": run.opened.playbook_sha256,
        "step": step.id.partition("#")[0],
        "tool": step.verdict.tool,
        "label": str(step.verdict.context.get("label", "")),
        "rules": sorted(step.verdict.rules),
        "release": step.verdict.release,
        "value_cents": value if isinstance(value, int) else 0,
    }


# --- snapshots ----------------------------------------------------------------------------------------------------

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Device)


def fold_version() -> int:
    """Names the form and meaning of a saved fold: another one is not read but folded anew from the log."""
    form = hashlib.sha256(msgspec.json.encode(msgspec.json.schema(Device))).digest()
    return _MEANING << 32 | int.from_bytes(form[:4], "big")


def save(device: Device) -> bytes:
    return _ENCODER.encode(device)


def load(data: bytes) -> Device | None:
    """The fold as it was saved; ``None`` where the bytes are not one, and the log must be folded from its beginning."""
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeError):
        return None
