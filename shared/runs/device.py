"""What an agent knows of its device: a fold over its whole log that keeps open runs in full and of closed ones next to
nothing, so that it stays small however long the log grows. It can be written down and read again (``save``, ``load``):
a snapshot is this fold at some size of the log, and opening the log folds only what came after.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec.structs import replace

from shared import entries as e
from shared import limits
from shared.errors import Tampered
from shared.runs.fold import OF_RUNS, fold, out_of_order
from shared.runs.state import FAILED, Run, Step

_DAY_US = 86_400 * 1_000_000
_MEANING = 2  # to be raised when the fold of an entry changes what it means, without changing the fields below


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
    ``failed`` are closed runs that wait for a retry or a dismissal, ``ended`` the newest of the others that did
    something, which may still be taken back; ``children`` the outcomes of child runs whose
    parents have not yet taken note. Of ``events`` and ``sources`` the newest are kept. ``closed`` holds ended runs by
    id only where it was made for an audit."""

    size: int = 0
    lease: e.LeaseTaken | None = None
    release: e.ReleaseInstalled | None = None
    joined: e.DeviceJoined | None = None
    revoked: bool = False
    stops: e.SwitchesTaken | None = None
    models: dict[str, e.ModelTaken] = {}  # by kind: the model in use,
    models_before: dict[str, e.ModelTaken] = {}  # the one that was before it,
    models_refused: dict[str, e.ModelRefused] = {}  # and the last that failed since
    hub_size: int = 0
    hub_root: str = ""
    runs: dict[str, Run] = {}
    failed: dict[str, Run] = {}
    ended: dict[str, Run] = {}
    children: dict[str, str] = {}
    outcomes: dict[str, int] = {}
    spent: list[tuple[int, int]] = []  # (seq, cents) of each intent not yet synced
    value_since_sync: int = 0  # their cents, added up as they come
    days: dict[str, Spent] = {}
    grants: dict[str, Grant] = {}
    events: dict[str, tuple[int, int]] = {}  # hash of name and key -> (seq, at)
    sources: dict[str, int] = {}  # SHA-256 of a file that was read -> seq
    closed: dict[str, str] | None = None

    def fold(self, entry: e.Entry) -> Run | None:
        """One entry further; the run it moved, if it moved one. What is refused changes nothing."""
        of_run = bool(entry.run) or isinstance(entry.facts, OF_RUNS)
        run: Run | None = None
        if of_run:
            run = self._fold_run(entry)
        else:
            self._fold_own(entry)
        self.size = entry.seq + 1
        return run

    def _fold_own(self, entry: e.Entry) -> None:
        match entry.facts:
            case e.DeviceJoined() as joined:
                self.joined = joined
            case e.ReleaseInstalled() as release:
                self._forget_grants(release.release, entry.at)
                self.release = release
            case e.LeaseTaken() as lease:
                self.lease = lease
            case e.SwitchesTaken() as stops:
                self.stops = stops
            case e.ModelTaken() as model:
                self._take_model(model)
            case e.ModelRefused() as refused:
                self.models_refused[refused.kind] = refused
            case e.DeviceRevoked():
                self.revoked = True
            case e.SourceRead(sha256=sha256):
                self.sources.pop(sha256, None)
                self.sources[sha256] = entry.seq
                if len(self.sources) > limits.SOURCES_REMEMBERED:
                    del self.sources[next(iter(self.sources))]
            case e.EventReceived(ref=ref):
                self._remember_event(ref, entry)
            case e.HubPinned(size=size, root=root):
                self.hub_size, self.hub_root = size, root

    def _take_model(self, model: e.ModelTaken) -> None:
        held = self.models.get(model.kind)
        if held is not None and held.sha256 != model.sha256:
            self.models_before[model.kind] = held
        self.models[model.kind] = model
        self.models_refused.pop(model.kind, None)

    def _remember_event(self, ref: str, entry: e.Entry) -> None:
        """The oldest come first, so forgetting them costs the same however many there are."""
        self.events.pop(ref, None)
        self.events[ref] = (entry.seq, entry.at)
        before = entry.at - limits.EVENT_DAYS * _DAY_US
        while len(self.events) > limits.EVENTS_REMEMBERED or next(iter(self.events.values()))[1] < before:
            del self.events[next(iter(self.events))]

    def _fold_run(self, entry: e.Entry) -> Run:
        name = entry.run
        if not name:
            raise Tampered("run.order", f"entry {entry.seq} ({entry.type}) names no run", advice="keep the log")
        before = self.find(name)
        if self.closed is not None and name in self.closed and before is None:
            raise out_of_order(entry, "the run is closed")
        self._check_others(before, entry)
        run = fold(before, entry)
        self._count(before, run, entry)
        if run.closed is None:
            if self.failed.pop(name, None) or self.ended.pop(name, None):  # a retry or an undo opens it again
                self.children.pop(name, None)
                if self.closed is not None:
                    del self.closed[name]
            self.runs[name] = run
        else:
            self._end(run, entry)
        return run

    def _check_others(self, run: Run | None, entry: e.Entry) -> None:
        """What an entry says of other runs: that an answer given there covers it, that a child has ended."""
        facts = entry.facts
        if run is None or not isinstance(facts, e.ApprovalCovered | e.StepEnded):
            return
        step = run.steps.get(facts.step)
        if step is None:
            return
        if isinstance(facts, e.ApprovalCovered):
            grant = self.grants.get(facts.grant)
            if grant is None or not _covers(grant, run, step, entry.at):
                raise out_of_order(entry, "no answer covers actions like this one")
        elif (
            step.entered is not None
            and step.entered.kind == "run"
            and self.children.get(step.entered.ref) != facts.code
        ):
            raise out_of_order(entry, "the run it waits for has not ended so")

    def _end(self, run: Run, entry: e.Entry) -> None:
        assert run.closed is not None
        self.runs.pop(run.id, None)
        if run.closed.outcome == FAILED and not run.dismissed:
            self.failed[run.id] = run
        else:
            self.failed.pop(run.id, None)
            self._remember_ended(run)
        if run.dismissed:
            return
        self.outcomes[run.closed.outcome] = self.outcomes.get(run.closed.outcome, 0) + 1
        for step in run.steps.values():
            if step.entered is not None and step.entered.kind == "run":
                self.children.pop(step.entered.ref, None)  # nobody takes note of it any more
        if self._is_awaited(run):
            self.children[run.id] = run.closed.outcome
        if self.closed is not None:
            self.closed[run.id] = run.closed.outcome

    def _remember_ended(self, run: Run) -> None:
        """Keep what taking it back would need: not what it was planned from and judged by, which is the most of it."""
        if not run.undoable:
            return
        steps = {name: replace(step, recalled=None, verdict=None) for name, step in run.steps.items()}
        self.ended[run.id] = replace(run, steps=steps)
        if len(self.ended) > limits.ENDED_REMEMBERED:
            del self.ended[next(iter(self.ended))]

    def find(self, name: str) -> Run | None:
        """A run that is open, or that an order may open again."""
        return self.runs.get(name) or self.failed.get(name) or self.ended.get(name)

    def _is_awaited(self, child: Run) -> bool:
        parent = self.runs.get(child.opened.parent)
        step = parent.steps.get(child.opened.parent_step) if parent is not None else None
        return step is not None and step.end is None and step.entered is not None and step.entered.ref == child.id

    def _count(self, before: Run | None, run: Run, entry: e.Entry) -> None:
        facts = entry.facts
        if before is not None and before.closed is not None and run.closed is None:  # it was opened again
            outcome = before.closed.outcome
            self.outcomes[outcome] = max(0, self.outcomes.get(outcome, 0) - 1)
        if isinstance(facts, e.StepEnded) and before is not None:
            entered = before.steps[facts.step].entered
            if entered is not None and entered.kind == "run":
                self.children.pop(entered.ref, None)
        if isinstance(facts, e.ApprovalAnswered) and facts.similar_until:
            self._grant(run, run.steps[facts.step], facts, entry.at)
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

    def _grant(self, run: Run, step: Step, answer: e.ApprovalAnswered, at: int) -> None:
        if answer.answer == "approve" and step.granted == answer.approval and step.verdict is not None:
            self._forget_grants(step.verdict.release, at)
            like = likeness(run, step)
            self.grants[answer.approval] = Grant(
                approval=answer.approval, by=answer.by, until=answer.similar_until, **like
            )

    def _forget_grants(self, release: int, at: int) -> None:
        """Those that are over. Those of the release before stay: what was judged under it may still be on its way to
        the log, and nothing that is judged under another is like it."""
        now = self.release.release if self.release is not None else 0
        kept = {name: one for name, one in self.grants.items() if one.until >= at and one.release in (now, release)}
        self.grants = kept

    def grant_for(self, run: Run, step: Step, at: int) -> Grant | None:
        """A yes given in advance that covers the question this step would ask."""
        return next((grant for grant in self.grants.values() if _covers(grant, run, step, at)), None)

    # --- what the guard and the link ask ------------------------------------------------------------------------------

    def synced(self, size: int) -> None:
        """The hub has countersigned ``size`` entries: what they spent no longer counts."""
        self.spent = [(seq, cents) for seq, cents in self.spent if seq >= size]
        self.value_since_sync = sum(cents for _, cents in self.spent)

    def stopped(self, playbook: str, tool: str) -> e.Switch | None:
        """The stop that holds this tool in runs of this playbook, if one does."""
        held = self.stops.switches if self.stops is not None else ()
        return next((switch for switch in held if switch.covers(playbook, tool)), None)

    @property
    def actions_since_sync(self) -> int:
        return len(self.spent)

    def spent_today(self, playbook: str, at: int) -> Spent:
        """What this playbook's runs spent on the day of ``at``."""
        day = at // _DAY_US
        spent = self.days.get(playbook)
        return spent if spent is not None and spent.day == day else Spent(day)


def _covers(grant: Grant, run: Run, step: Step, at: int) -> bool:
    if step.verdict is None or at > grant.until:
        return False
    like = likeness(run, step)
    value = like.pop("value_cents")
    return bool(value <= grant.value_cents) and all(getattr(grant, name) == same for name, same in like.items())


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
