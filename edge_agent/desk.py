"""What programs and people at this computer may ask of the running agent: start a run, ask for one guarded action,
look, wait, answer where policy lets them, give orders, bring events. ``edge_agent.api`` serves it over loopback.

Nothing here acts. An assistant's request opens a run like any other, so policy, approvals, budgets and the log hold for
it as for a playbook's own steps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from edge_agent.act import Hands
from edge_agent.journal import Journal
from edge_agent.runner import Runner, order_id
from edge_agent.sense.opening import Opening, event_ref, opening
from edge_agent.tools import Argument, Tool
from shared.entries import ApprovalAsked, Draft, Entry, EventReceived, RunOpenedV1
from shared.errors import BadInput, Conflict, OutriderError, Refused, Unavailable
from shared.playbook import Playbook
from shared.release import Answer, Order, Release
from shared.runs import Device, Run, Step, fold
from shared.runs.fold import RUN_ORDERS, STEP_ORDERS
from shared.runs.state import FAILED

_RESTING = frozenset(("waiting", "doubted", "held", "left", "paused", "entered"))
_JSON = {
    "text": "string",
    "integer": "integer",
    "boolean": "boolean",
    "decimal": "string",
    "list": "array",
    "object": "object",
}


class Counter:
    """The agent as its own computer sees it. ``release`` gives a release by number, ``metrics`` the Prometheus text,
    ``about`` the device's name and link, and its troubles."""

    def __init__(
        self,
        journal: Journal,
        device: Device,
        runner: Runner,
        hands: Hands,
        *,
        release: Callable[[int], Release],
        metrics: Callable[[], str],
        about: Callable[[], dict[str, Any]],
    ) -> None:
        self._journal = journal
        self._device = device
        self._runner = runner
        self._hands = hands
        self._release = release
        self._metrics = metrics
        self._about = about
        self._watched: dict[str, list[asyncio.Event]] = {}  # by run: who waits for it
        journal.listen(self._committed)

    # --- actions that assistants ask for ------------------------------------------------------------------------------

    def tools(self) -> list[dict[str, Any]]:
        """The tools that the installed release offers to assistants and that are here."""
        offered = {
            name for playbook in self._playbooks() if playbook.trigger.assistant for name in playbook.steps[0].tools
        }
        return [_tool_view(tool) for name, tool in sorted(self._hands.tools.items()) if name in offered]

    async def act(self, tool: str, arguments: dict[str, Any], subject: str, *, client: str, key: str) -> str:
        """Open a run for one action; its name. The same client and key are the same run, however often they come."""
        for playbook in self._playbooks():
            if playbook.trigger.assistant and tool in playbook.steps[0].tools:
                break
        else:
            raise Refused("assistant.tool", f"{tool!r} is not offered to assistants", advice="ask who owns the policy")
        wanted = Opening(
            playbook=playbook,
            release=self._installed(),
            inputs={},
            trigger=f"assistant:{client}",
            source=f"assistant {client}",
            by=client,
            key=f"{client}\n{key}",
            subject=subject or f"{client} {key}",
            action={"tool": tool, "arguments": arguments},
        )
        return await self._open(wanted)

    # --- runs -----------------------------------------------------------------------------------------------------

    async def start(self, playbook: str, inputs: dict[str, Any], *, by: str, dry_run: bool = False) -> str:
        """Start a playbook by hand; the run's name. Raises ``BadInput('run.playbook-unknown' | 'run.input')``."""
        for book in self._playbooks():
            if book.playbook == playbook and (book.trigger.manual or dry_run) and not book.trigger.assistant:
                break
        else:
            raise BadInput(
                "run.playbook-unknown", f"there is no playbook {playbook!r} to start by hand", advice="see the release"
            )
        trigger = f"manual:{by}:{time.time_ns()}" if dry_run else f"manual:{by}"
        return await self._open(
            Opening(
                playbook=book,
                release=self._installed(),
                inputs=inputs,
                trigger=trigger,
                source=f"started by {by}",
                by=by,
                dry_run=dry_run,
            )
        )

    async def event(self, name: str, key: str, payload: dict[str, Any]) -> int:
        """Something happened outside: open the playbooks it triggers, wake the runs that wait for it; how many."""
        ref = event_ref(name, key)
        drafts: list[Draft] = []
        for book in self._playbooks():
            if book.trigger.event == name:
                inputs = {field: payload.get(field) for field in book.inputs}
                wanted = Opening(
                    playbook=book,
                    release=self._installed(),
                    inputs=inputs,
                    trigger=f"event:{ref}",
                    source=f"event {name}",
                )
                draft = opening(wanted)
                if self._journal.has_run(draft.run) is None:
                    drafts.append(draft)
        opened = [draft.run for draft in drafts]
        if ref not in self._device.events:
            body = {"name": name, "key": key, "payload": payload}
            # Private: what a stranger sent may hold anything, and the hub needs it only where a run uses it.
            drafts.insert(0, Draft(EventReceived(name=name, ref=ref), bodies={"private": body}))
        if drafts:
            await self._journal.append(*drafts)
        for run in opened:
            self._runner.wake(run)
        return len(opened) + self._runner.event(ref)

    def runs(self, limit: int) -> list[dict[str, Any]]:
        """Open and failed runs, and of the others the newest; in all ``limit``, newest first."""
        names = list(dict.fromkeys([*self._device.runs, *self._device.failed, *self._journal.newest_runs(limit)]))
        found = [run for name in names[:limit] if (run := self._found(name)) is not None]
        return [self._run_view(run) for run in sorted(found, key=lambda run: (run.at, run.seq), reverse=True)]

    def run(self, run_id: str) -> dict[str, Any]:
        """One run with its steps. Raises ``BadInput('run.unknown')``."""
        run = self._found(run_id)
        if run is None:
            raise BadInput("run.unknown", f"there is no run {run_id[:80]!r}", advice="see `outrider agent runs`")
        return self._run_view(run)

    def _found(self, run_id: str) -> Run | None:
        run = self._device.runs.get(run_id) or self._device.failed.get(run_id)
        if run is None:  # one that ended is read from the log, whole
            for entry in self._journal.run_entries(run_id):
                run = fold(run, entry)
        return run

    async def wait(self, run_id: str, timeout_s: float) -> dict[str, Any]:
        """The run once it is closed or waits for somebody, or as it is when the time is over."""
        changed = asyncio.Event()
        self._watched.setdefault(run_id, []).append(changed)
        try:
            async with asyncio.timeout(timeout_s):
                while (found := self.run(run_id))["status"] not in _RESTING | {"closed"}:
                    changed.clear()
                    await changed.wait()
                return found
        except TimeoutError:
            return self.run(run_id)
        finally:
            self._watched[run_id].remove(changed)
            if not self._watched[run_id]:
                del self._watched[run_id]

    def _committed(self, entries: list[Entry]) -> None:
        for entry in entries:
            for changed in self._watched.get(entry.run, ()):
                changed.set()

    async def order(self, run_id: str, order: str, *, by: str, reason: str, step: str = "") -> None:
        """An order about a run. Raises ``BadInput('order.unknown' | 'run.unknown')``, ``Conflict('order.unfit')``."""
        if order not in RUN_ORDERS + STEP_ORDERS:
            known = ", ".join(RUN_ORDERS + STEP_ORDERS)
            raise BadInput("order.unknown", f"there is no order {order[:40]!r}", advice=f"use one of {known}")
        made = Order(
            id=order_id(),
            device="",
            run=run_id,
            step=step,
            order=order,
            by=by,
            role="",
            at=self._journal.now(),
            reason=reason,
        )
        await self._runner.order(made, None)

    # --- questions ------------------------------------------------------------------------------------------------

    def approvals(self) -> list[dict[str, Any]]:
        """Open questions, the oldest first."""
        found = [(run, step) for run in self._device.runs.values() for step in run.waits]
        return [self._question(run, step) for run, step in sorted(found, key=lambda pair: pair[1].asked_at)]

    async def answer(self, approval: str, answer: str, *, by: str, reason: str) -> None:
        """Answer at this computer. Raises ``Refused('approval.not-local')`` where policy does not let it."""
        for run in self._device.runs.values():
            step = run.asked(approval)
            if step is not None:
                break
        else:
            raise BadInput("approval.unknown", f"there is no open question {approval[:80]!r}", advice="see the list")
        asked = step.approval
        assert isinstance(asked, ApprovalAsked)
        if not asked.local:
            raise Refused(
                "approval.not-local", "policy wants this answered in the hub's console", advice="answer it there"
            )
        if answer not in ("approve", "deny"):
            raise BadInput("approval.answer", f"{answer[:40]!r} is no answer", advice="approve or deny")
        if by in step.approvers:
            raise Conflict("approval.same-person", f"{by} has approved this already", advice="ask another person")
        await self._runner.answer(
            Answer(
                approval=approval,
                device="",
                run=run.id,
                action=asked.action,
                answer=answer,
                by=by,
                role="local",
                at=self._journal.now(),
                reason=reason,
                corrected="",
                arguments=None,
            ),
            None,
        )

    # --- the whole ------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        device, release, lease = self._device, self._device.release, self._device.lease
        open_runs = device.runs.values()
        return {
            **self._about(),
            "revoked": device.revoked,
            "release": release.release if release else 0,
            "lease": {
                "expires_at": lease.expires_at,
                "actions_left": max(0, lease.actions - device.actions_since_sync),
                "value_left_cents": max(0, lease.value_cents - device.value_since_sync),
            }
            if lease
            else None,
            "log": {"size": self._journal.committed, "cosigned": self._journal.cosigned_size()},
            "runs": {"open": len(open_runs), "failed": len(device.failed)},
            "questions": sum(len(run.waits) for run in open_runs),
        }

    def metrics(self) -> str:
        return self._metrics()

    # --- views ----------------------------------------------------------------------------------------------------

    def _playbooks(self) -> list[Playbook]:
        installed = self._device.release
        return list(self._release(installed.release).playbooks.values()) if installed is not None else []

    def _installed(self) -> int:
        if self._device.release is None:
            raise Unavailable("release.none", "no release is installed", advice="link the agent to its hub")
        return self._device.release.release

    async def _open(self, wanted: Opening) -> str:
        draft = opening(wanted)
        known = self._journal.has_run(draft.run)
        if known is None:
            await self._journal.append(draft)
        elif isinstance(known.facts, RunOpenedV1) and wanted.action and self._differs(known.seq, wanted.action):
            raise Conflict("assistant.key", "this key came before with another action", advice="use a new key")
        self._runner.wake(draft.run)
        return draft.run

    def _differs(self, seq: int, action: dict[str, Any]) -> bool:
        body = self._journal.body(seq)
        return body is not None and body.get("action") != action

    def _run_view(self, run: Run) -> dict[str, Any]:
        event = self._journal.body(run.seq) or {}
        return {
            "run": run.id,
            "playbook": run.opened.playbook,
            "subject": event.get("subject", ""),
            "inputs": event.get("inputs", {}),  # the private ones are not among them
            "input_types": self._input_types(run),
            "status": run.status,
            "outcome": run.closed.outcome if run.closed else "",
            "code": run.closed.code if run.closed else "",
            "dry_run": run.opened.dry_run,
            "opened_at": run.at,
            "closed_at": run.closed_at,
            "orders": _fitting(run),
            "steps": [self._step_view(step) for step in run.steps.values()],
            "waiting_for": [self._question(run, step) for step in run.waits],
        }

    def _input_types(self, run: Run) -> dict[str, str]:
        """What the playbook says its inputs are (``cents``, ``text``); nothing where its release cannot be opened."""
        try:
            book = self._release(run.opened.release).playbooks[run.opened.playbook]
        except (OutriderError, KeyError):
            return {}
        return {name: made.type for name, made in book.inputs.items()}

    def _step_view(self, step: Step) -> dict[str, Any]:
        receipt = self._journal.body(step.result_seq) if step.result_seq >= 0 else None
        end = step.end
        return {
            "step": step.id,
            "status": step.status,
            "tool": step.plan.tool if step.plan else "",
            "verdict": step.verdict.verdict if step.verdict else "",
            "rules": self._rules(step),
            "outcome": end[0] if end else "",
            "code": end[1] if end else step.code,
            "receipt": (receipt or {}).get("receipt", {}),
        }

    def _rules(self, step: Step) -> list[dict[str, str]]:
        if step.verdict is None:
            return []
        installed = self._device.release
        policy = self._release(installed.release).policy if installed is not None else None
        return [{"id": rule, "about": policy.explain(rule) if policy else ""} for rule in step.verdict.rules]

    def _question(self, run: Run, step: Step) -> dict[str, Any]:
        plan = self._journal.body(step.plan_seq) or {}
        asked = step.approval
        assert isinstance(asked, ApprovalAsked)
        return {
            "approval": asked.approval,
            "run": run.id,
            "step": step.id,
            "action": plan.get("action", {}),
            "reason": plan.get("reason", ""),
            "rules": self._rules(step),
            "roles": step.roles,
            "needed": asked.needed,
            "approvers": step.approvers,
            "local": asked.local,
            "asked_at": step.asked_at,
            "expires_at": asked.expires_at,
        }


def _fitting(run: Run) -> list[str]:
    """The orders that the whole run would take now."""
    if run.closed is not None:
        failed = ["retry", "dismiss"] if run.closed.outcome == FAILED and not run.dismissed else []
        return [*failed, *(["undo"] if run.undoable else [])]
    return ["resume" if run.paused else "pause", *(() if run.cancelled else ("cancel",))]


def _tool_view(tool: Tool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "about": tool.about,
        "effect": tool.effect,
        "risk": tool.risk,
        "idempotent": tool.idempotent,
        "arguments": {
            "type": "object",
            "properties": {name: _property(argument) for name, argument in tool.arguments.items()},
            "required": [name for name, argument in tool.arguments.items() if argument.required],
            "additionalProperties": False,
        },
    }


def _property(argument: Argument) -> dict[str, Any]:
    found: dict[str, Any] = {"type": _JSON[argument.kind]}
    if argument.kind == "decimal":
        found["pattern"] = r"^-?[0-9]+(\.[0-9]+)?$"
    return found | ({"description": argument.about} if argument.about else {})
