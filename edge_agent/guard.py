"""The guard: one verdict for one exact action, under the installed policy and the lease. Denies on anything missing.

The host's own rules come first and no policy can lift them: no policy, a stop, no lease, a lease that ended or is
spent, a clock that stands before the lease. Those denials *hold* a run, because a hub can mend them; Cedar's end it.

A person's stop also counts between verdict and effect: whoever sends asks ``stopped`` directly before.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shared import limits
from shared.entries import LeaseTaken, PlanMade, Switch, SwitchesTaken, VerdictGiven
from shared.policy import ALLOW, ASK, Policy, Request, Verdict, deny
from shared.runs import Device, Run

_US = 1_000_000
_MONTH_S = 31 * 86_400  # what "no contact yet" and "no lease" count as, in seconds


@dataclass(frozen=True)
class Case:
    """What the guard is told of an action besides the run itself. ``label`` is the outcome it brings about, which after
    a correction is the person's and not the plan's. ``source`` is who asks for it: ``playbook`` or ``assistant``;
    ``undo`` that it takes an earlier effect back. ``approved`` is true on the second judgement, after a person said
    yes. ``installed`` is false where this agent lacks the tool; ``confirm`` where the playbook wants a person's word
    whatever the policy says; ``budget`` is what is left of the playbook's, in actions and cents, ``None`` for any."""

    action: str
    tool: str
    label: str
    effect: str
    urgency: str
    value_cents: int
    approved: bool
    risk: str = "medium"
    source: str = "playbook"
    undo: bool = False
    installed: bool = True
    confirm: bool = False
    budget: tuple[int | None, int | None] = (None, None)


@dataclass
class _Sum:
    """What is reserved, added up as it comes: with many runs side by side, each is judged against all the others."""

    actions: int = 0
    cents: int = 0

    def add(self, actions: int, cents: int) -> None:
        self.actions += actions
        self.cents += cents


class LeaseClock:
    """What time it is, for a lease: what the clock says, but never before what must be by now.

    A lease that ran out must not come to life again because somebody set the clock back. So from the moment a lease is
    seen here, time goes on by a clock that nobody sets and that counts while the machine sleeps (``uptime``): from when
    the hub issued it, or for one that was found at the start from the log's newest entry (``newest``), which no restart
    undoes. A clock that is set forward only ends the lease early: set right again, or renewed by the hub, it goes on.
    """

    def __init__(self, wall: Callable[[], int], uptime: Callable[[], int], *, newest: int, found: str) -> None:
        """Times in microseconds; ``found`` is the lease held at the start, empty for none."""
        self._wall = wall
        self._uptime = uptime
        self._newest = newest
        self._found = found
        self._seen = ("", 0)  # the lease that is held, and what the uptime was when its least time was

    def now(self, lease: LeaseTaken | None) -> int:
        wall = self._wall()
        if lease is None:
            return wall
        if self._seen[0] != lease.lease:
            least = max(lease.issued_at, self._newest) if lease.lease == self._found else lease.issued_at
            self._seen = lease.lease, self._uptime() - least
        return max(wall, self._uptime() - self._seen[1])

    def is_before(self, lease: LeaseTaken) -> bool:
        """Whether the clock stands before the lease was issued."""
        return self._wall() < lease.issued_at - limits.CLOCK_SKEW_SECONDS * _US


class Guard:
    """Judges for one device. ``policy`` returns the installed policy and its release number, or ``None``;
    ``in_question`` says that the hub has refused this device's log as rewritten or rolled back. ``uptime`` is a clock
    that is never set (microseconds since any moment), ``newest`` the time of the log's newest entry at the start."""

    def __init__(
        self,
        device: Device,
        *,
        name: str,
        policy: Callable[[], tuple[Policy, int] | None],
        online: Callable[[], bool],
        in_question: Callable[[], bool],
        now: Callable[[], int],
        uptime: Callable[[], int],
        newest: int,
        local: Callable[[int], datetime.datetime],
    ) -> None:
        self._device = device
        self._name = name
        self._policy = policy
        self._online = online
        self._in_question = in_question
        found = device.lease.lease if device.lease is not None else ""
        self._clock = LeaseClock(now, uptime, newest=newest, found=found)
        self._local = local
        self._reserved = _Sum()
        self._reserved_by: dict[str, _Sum] = {}  # the same by playbook
        self._heard: SwitchesTaken | None = None

    def heed(self, stops: SwitchesTaken) -> None:
        """Obey these stops from now on, before they are on the disk, and also where they cannot be put there."""
        if self._heard is None or stops.version > self._heard.version:
            self._heard = stops

    def stopped(self, run: str, tool: str) -> Switch | None:
        """The stop that keeps an open run, by its id, from using this tool now."""
        known = self._device.runs.get(run)
        return self._stop(known.opened.playbook if known is not None else "", tool)

    def _stop(self, playbook: str, tool: str) -> Switch | None:
        """One that was let go counts until that is on the disk too."""
        held, heard = self._device.stops, self._heard
        if heard is not None and (held is None or heard.version > held.version):
            for switch in heard.switches:
                if switch.covers(playbook, tool):
                    return switch
        return self._device.stopped(playbook, tool)

    def judge(self, run: Run, plan: PlanMade, case: Case) -> tuple[Verdict, VerdictGiven]:
        """The verdict, and the facts to record: with its whole context, so that it can be judged again anywhere."""
        now = self._clock.now(self._device.lease)
        context = self._context(run, plan, case, now)
        installed = self._policy()
        held = self._held(run, case, now)
        if installed is None:
            verdict, release = deny("host:no-policy"), 0
        elif held:
            verdict, release = deny(held), installed[1]
        else:
            context = installed[0].context(context)
            judged = installed[0].judge(Request(self._name, case.tool, context))
            verdict = self._within_lease(self._within_playbook(judged, run, case), case.value_cents)
            release = installed[1]
        facts = VerdictGiven(
            step=plan.step,
            action=case.action,
            verdict=verdict.kind,
            rules=verdict.rules,
            release=release,
            tool=case.tool,
            context=context,
        )
        return verdict, facts

    def _held(self, run: Run, case: Case, now: int) -> str:
        """The host rule that holds the run now, or an empty string."""
        lease = self._device.lease
        if self._stop(run.opened.playbook, case.tool) is not None:
            return "host:stopped"
        if not case.installed:
            return "host:tool-missing"
        if self._device.revoked:
            return "host:revoked"
        if self._in_question():
            return "host:log-in-question"
        if lease is None:
            return "host:no-lease"
        if self._clock.is_before(lease):
            return "host:clock"
        if now >= lease.expires_at:
            return "host:lease-expired"
        return ""

    def _within_playbook(self, verdict: Verdict, run: Run, case: Case) -> Verdict:
        """What the policy lets be done alone is still for a person where the playbook says so, or its budget ends."""
        if verdict.kind != ALLOW or case.approved:
            return verdict
        if case.confirm:
            return Verdict(ASK, ["host:confirm"])
        mine = self._reserved_by.get(run.opened.playbook) or _Sum()
        actions, cents = case.budget
        over = actions is not None and actions - mine.actions < 1
        if over or (cents is not None and cents - mine.cents < case.value_cents):
            return Verdict(ASK, ["host:over-budget"])
        return verdict

    def _within_lease(self, verdict: Verdict, value_cents: int) -> Verdict:
        """The lease's budget bounds what is done without a person. What would never fit into it is for a person; what
        fits, but not before the next sync, waits for that."""
        lease = self._device.lease
        if verdict.kind != ALLOW or lease is None:
            return verdict
        if value_cents > lease.value_cents:
            return Verdict(ASK, ["host:over-lease"])
        actions = self._device.actions_since_sync + self._reserved.actions
        value = self._device.value_since_sync + self._reserved.cents
        if actions + 1 > lease.actions or value + value_cents > lease.value_cents:
            return deny("host:lease-spent")
        return verdict

    def _context(self, run: Run, plan: PlanMade, case: Case, now: int) -> dict[str, int | bool | str]:
        """What ``schema.cedarschema`` declares. Integers, as Cedar has no floats; local time is worked out here."""
        lease, local = self._device.lease, self._local(now)
        return {
            "playbook": run.opened.playbook,
            "step": plan.step,
            "effect": case.effect,
            "label": case.label or plan.label,
            "planner": plan.planner,
            "urgency": case.urgency,
            "data_class": "personal" if run.opened.private_fields else "public",
            "confidence": plan.confidence,
            "value_cents": case.value_cents,
            "offline": not self._online(),
            "lease_age_s": max(0, now - lease.issued_at) // _US if lease else _MONTH_S,
            "lease_left_s": max(0, lease.expires_at - now) // _US if lease else 0,
            "actions_since_sync": self._device.actions_since_sync + self._reserved.actions,
            "value_since_sync_cents": self._device.value_since_sync + self._reserved.cents,
            "local_hour": local.hour,
            "local_weekday": local.weekday(),
            "abstained": bool(plan.abstained),
            "approved": case.approved,
            "risk": case.risk,
            "undo": case.undo,
            "source": case.source,
            "run_actions": run.actions,
            "run_cents": run.cents,
        }

    @contextmanager
    def reserve(self, playbook: str, value_cents: int) -> Iterator[None]:
        """Count an allowed action against lease and budgets from its verdict on, not only once its intent is committed:
        runs that are judged side by side must not all spend the same last action."""
        mine = self._reserved_by.setdefault(playbook, _Sum())
        self._reserved.add(1, value_cents)
        mine.add(1, value_cents)
        try:
            yield
        finally:
            self._reserved.add(-1, -value_cents)
            mine.add(-1, -value_cents)
