"""A run as a trace: what it did when, from its entries alone.

    invoke_agent PLAYBOOK          the run, from its opening or a retry to its end
      step STEP                    from its first entry to its last
        plan                       as long as the planner took
        approval                   from the question to what settled it
        execute_tool TOOL          from the intent to the result

Ids are made from names, so the agent, the hub and whoever holds the log come to the same trace. A child run is part of
the trace of the outermost run above it, which ``trace_root`` finds in the openings of the runs between them; its
parent is the span of the step that waits for it. A retry begins new spans in the same trace: what was sent of the run
before never changes.

Steps within a group stand beside it, since entries do not say which group a step is in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from shared import entries as e
from shared.runs import DONE, FAILED, UNDO, Run, fold
from shared.telemetry.meter import COMPLETION, PROVIDER

Attribute = str | int | bool
Event = tuple[str, int, dict[str, Attribute]]

ATTRIBUTES: dict[str, str] = {
    "outrider.run.id": "The run's name.",
    "outrider.run.attempt": "0, and one more with each retry.",
    "outrider.playbook": "The playbook's name.",
    "outrider.playbook.version": "Its version.",
    "outrider.release": "The release it came from.",
    "outrider.dry_run": "Whether nothing was done.",
    "outrider.outcome": "How the run, the step or the effect ended.",
    "outrider.order": "What a person ordered.",
    "outrider.place": "Where an order or an answer came from: hub, local, parent.",
    "outrider.step": "The step as the run names it.",
    "outrider.step.kind": "What a step that is no action waits for or holds.",
    "outrider.planner": "Who made the plan.",
    "outrider.confidence": "Its confidence in permille.",
    "outrider.label": "The lane it recommends.",
    "outrider.abstained": "Why it named no action.",
    "outrider.tool": "The tool that was judged.",
    "outrider.verdict": "What the guard said.",
    "outrider.rules": "The rules that decided, with commas between them.",
    "outrider.answer": "What people said, or why the question was void.",
    "outrider.level": "How often the question was escalated.",
    "outrider.attempts": "How often the tool was called.",
    "outrider.how": "How the result is known: sent, asked, told.",
    "outrider.matches": "Whether the outcome, read back, is what the action said.",
    "gen_ai.operation.name": "invoke_agent, text_completion or execute_tool.",
    "gen_ai.provider.name": "outrider: the model runs within the agent.",
    "gen_ai.agent.name": "The playbook's name.",
    "gen_ai.request.model": "SHA-256 of the model's file.",
    "gen_ai.usage.input_tokens": "Tokens of the prompt.",
    "gen_ai.usage.output_tokens": "Tokens that were generated.",
    "gen_ai.tool.name": "The tool that was called.",
    "gen_ai.tool.call.id": "The idempotency key it was given.",
    "error.type": "The code of what went wrong.",
}

_DROPPED = ("run.cancelled", "run.undoing", "run.closed", "step.dropped")  # not gone on with, which is no error
_ABOVE = 64  # runs above a run


@dataclass
class Span:
    """Times are microseconds since 1970 UTC; ``trace`` 32 and ``id`` 16 hex digits; ``parent`` empty for a root.
    ``error`` is a code; ``attempt`` the retry it belongs to."""

    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    attempt: int = 0
    attributes: dict[str, Attribute] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    error: str = ""


def trace_root(run: str, opened: Callable[[str], e.RunOpenedV1 | None]) -> str:
    """The outermost run above ``run``, itself where it was opened by no other. ``opened`` gives the opening of a run of
    the same log; where one is missing, the run that names it counts as having no other above it."""
    root = run
    for _ in range(_ABOVE):
        facts = opened(root)
        parent = getattr(facts, "parent", "") if facts is not None else ""
        if not parent or opened(parent) is None:
            break
        root = parent
    return root


def spans(entries: Iterable[e.Entry], *, origin: str, root: str = "") -> list[Span]:
    """The spans of one run, from all its entries or the first of them; the run's own first. ``origin`` is the log's,
    since devices may have runs of the same name; ``root`` the run that ``trace_root`` finds, by default the run itself.
    Nothing where there are no entries. Raises ``Tampered('run.order')``."""
    maker: _Maker | None = None
    for entry in entries:
        maker = maker or _Maker(origin, root or entry.run, entry.run)
        maker.take(entry)
    return maker.done() if maker is not None else []


def ended_spans(
    entries: Iterable[e.Entry], until: int, *, origin: str, opened: Callable[[str], e.RunOpenedV1 | None]
) -> list[Span]:
    """What is sent of a run that entry ``until`` closed: its spans as they were then, without those that an end before
    a retry has sent already. ``opened`` as for ``trace_root``."""
    mine = [entry for entry in entries if entry.seq <= until]
    found = spans(mine, origin=origin, root=trace_root(mine[0].run, opened)) if mine else []
    return [span for span in found if span.attempt == found[-1].attempt]


def _hash(kind: str, *parts: str) -> str:
    return hashlib.sha256("\n".join((f"outrider/{kind}/v1", *parts)).encode("utf-8", "surrogatepass")).hexdigest()


class _Maker:
    """``_steps`` are the spans of this attempt by step, ``_open`` approvals by name and effects by key."""

    def __init__(self, origin: str, root: str, run: str) -> None:
        self._origin = origin
        self._run = run
        self._trace = _hash("trace", origin, root)[:32]
        self._nested = root != run
        self._state: Run | None = None
        self._attempt = 0
        self._top = Span("", "", "", "", 0, 0)
        self._steps: dict[str, Span] = {}
        self._open: dict[str, tuple[Span, Span]] = {}
        self._ids: set[str] = set()
        self._all: list[Span] = []

    def take(self, entry: e.Entry) -> None:
        before = self._state
        run = self._state = fold(before, entry)
        facts = entry.facts
        if before is None:
            self._begin(entry, run)
        elif before.closed is not None:
            if run.closed is not None:
                return  # it was dismissed: its spans are over
            self._finish_all()
            self._attempt += 1
            self._begin(entry, run)
        self._top.end = entry.at
        if isinstance(facts, e.RunOrdered) and not facts.step:
            said: dict[str, Attribute] = {"outrider.order": facts.order, "outrider.place": facts.place}
            self._top.events.append(("order", entry.at, said))
        elif isinstance(facts, e.RunClosed):
            self._top.attributes["outrider.outcome"] = facts.outcome
            self._top.error = facts.code or FAILED if facts.outcome == FAILED else ""
        else:
            name = UNDO + facts.step if isinstance(facts, e.UndoLeft) else getattr(facts, "step", "")
            if name:
                self._step(name, entry, run)

    def _begin(self, entry: e.Entry, run: Run) -> None:
        opened = run.opened
        again = f" {self._attempt}" if self._attempt else ""
        self._top = self._new(f"invoke_agent {opened.playbook}", f"run{again}", self._waiting_step(run), entry.at)
        self._top.attributes |= {
            "outrider.run.id": run.id,
            "outrider.run.attempt": self._attempt,
            "outrider.playbook": opened.playbook,
            "outrider.playbook.version": opened.playbook_version,
            "outrider.release": opened.release,
            "outrider.dry_run": opened.dry_run,
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.agent.name": opened.playbook,
        }

    def _waiting_step(self, run: Run) -> str:
        """The span above the run's: an agent ends the trigger of a child with how often its step was begun anew."""
        if not self._nested:
            return ""
        tail = run.opened.trigger.rpartition(":")[2]
        times = tail if run.opened.trigger.startswith(f"run:{run.opened.parent}:") and tail.isdecimal() else "0"
        return _hash("span", self._origin, run.opened.parent, f"step {run.opened.parent_step} {times}")[:16]

    def _new(self, name: str, what: str, parent: str, at: int) -> Span:
        made = _hash("span", self._origin, self._run, what)[:16]
        span = Span(name, self._trace, made, parent, at, at, self._attempt)
        self._ids.add(made)
        self._all.append(span)
        return span

    # --- steps --------------------------------------------------------------------------------------------------------

    def _step(self, name: str, entry: e.Entry, run: Run) -> None:
        step = self._steps.get(name)
        if step is None:
            what = f"step {name} {run.times.get(name.removeprefix(UNDO), 0)}"
            if _hash("span", self._origin, self._run, what)[:16] in self._ids:
                what = f"{what} {self._attempt}"  # done before a retry, and looked at again after it
            step = self._new(f"step {name.partition('#')[0]}", what, self._top.id, entry.at)
            step.attributes["outrider.step"] = name
            self._steps[name] = step
        step.end = entry.at
        self._tell(step, entry, run)
        state = run.steps[name]
        if state.end is not None:
            outcome, code = state.end
            step.attributes["outrider.outcome"] = outcome
            step.error = code or FAILED if outcome == FAILED and code not in _DROPPED else ""

    def _tell(self, step: Span, entry: e.Entry, run: Run) -> None:
        at = entry.at
        match entry.facts:
            case e.ContextRecalled() as recalled:
                step.start = min(step.start, self._earlier(at, recalled.latency_us))
            case e.PlanMade() as plan:
                self._planned(step, plan, entry)
            case e.VerdictGiven() as given:
                judged: dict[str, Attribute] = {
                    "outrider.verdict": given.verdict,
                    "outrider.rules": ",".join(given.rules),
                    "outrider.tool": given.tool,
                }
                step.events.append(("verdict", at, judged))
            case e.ApprovalCovered():
                step.events.append(("covered by an earlier answer", at, {}))
            case e.StepEntered() as entered:
                step.attributes["outrider.step.kind"] = entered.kind
            case e.EffectObserved() as seen:
                step.events.append(("observed", at, {"outrider.matches": seen.matches}))
            case e.UndoLeft():
                step.events.append(("left to a person", at, {}))
            case e.RunOrdered() as ordered:
                step.events.append(("order", at, {"outrider.order": ordered.order, "outrider.place": ordered.place}))
                if ordered.order == "not-happened":
                    self._drop_effects(step, at)
            case _:
                self._asked(step, entry, run)
                self._acted(step, entry)

    def _earlier(self, at: int, latency_us: int) -> int:
        """When something began that took so long until ``at``; not before the run did."""
        return max(self._top.start, at - max(0, latency_us))

    def _planned(self, step: Span, plan: e.PlanMade, entry: e.Entry) -> None:
        begun = self._earlier(entry.at, plan.latency_us)
        step.start = min(step.start, begun)
        span = self._new("plan", f"plan {entry.seq}", step.id, begun)
        span.end = entry.at
        span.attributes |= {
            "outrider.planner": plan.planner,
            "outrider.confidence": plan.confidence,
            "outrider.label": plan.label,
        }
        if plan.abstained:
            span.attributes["outrider.abstained"] = plan.abstained
        if plan.model:
            span.attributes |= {
                "gen_ai.operation.name": COMPLETION,
                "gen_ai.provider.name": PROVIDER,
                "gen_ai.request.model": plan.model,
                "gen_ai.usage.input_tokens": plan.prompt_tokens,
                "gen_ai.usage.output_tokens": plan.generated_tokens,
            }

    # --- questions and effects ----------------------------------------------------------------------------------------

    def _asked(self, step: Span, entry: e.Entry, run: Run) -> None:
        match entry.facts:
            case e.ApprovalAskedV1() as asked:
                span = self._new("approval", f"approval {entry.seq}", step.id, entry.at)
                self._open[asked.approval] = span, step
            case e.ApprovalEscalated(approval=approval) as escalated if approval in self._open:
                told: dict[str, Attribute] = {"outrider.level": escalated.level}
                self._open[approval][0].events.append(("escalated", entry.at, told))
            case e.ApprovalAnsweredV1(approval=approval) as said if approval in self._open:
                answer: dict[str, Attribute] = {"outrider.answer": said.answer}
                answer["outrider.place"] = said.place if isinstance(said, e.ApprovalAnswered) else "hub"
                self._open[approval][0].events.append(("answer", entry.at, answer))
                if run.asked(approval) is None:
                    self._close(approval, entry.at, {"outrider.answer": said.answer})
            case e.ApprovalVoided(approval=approval) as voided:
                self._close(approval, entry.at, {"outrider.answer": voided.code})

    def _acted(self, step: Span, entry: e.Entry) -> None:
        match entry.facts:
            case e.IntentRecorded() as intent:
                span = self._new(f"execute_tool {intent.tool}", f"effect {entry.seq}", step.id, entry.at)
                span.attributes |= {
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.name": intent.tool,
                    "gen_ai.tool.call.id": intent.key,
                }
                self._open[intent.key] = span, step
            case e.IntentDoubted(key=key) if key in self._open:
                self._open[key][0].events.append(("in doubt", entry.at, {}))
            case e.ResultRecorded() as result:
                told: dict[str, Attribute] = {
                    "outrider.outcome": result.outcome,
                    "outrider.attempts": result.attempts,
                    "outrider.how": result.how,
                }
                error = result.code or FAILED if result.outcome != DONE else ""
                self._close(result.key, entry.at, told, error)

    def _drop_effects(self, step: Span, at: int) -> None:
        for key in [key for key, (_, above) in self._open.items() if above is step]:
            self._close(key, at, {"outrider.outcome": "not-happened"})

    def _close(self, key: str, at: int, attributes: dict[str, Attribute], error: str = "") -> None:
        found = self._open.pop(key, None)
        if found is not None:
            span, step = found
            span.end = at
            step.end = max(step.end, at)
            span.attributes |= attributes
            span.error = error

    def _finish_all(self) -> None:
        """What nobody settled lasts as long as the run."""
        for key in [*self._open]:
            self._close(key, self._top.end, {})
        self._steps = {}

    def done(self) -> list[Span]:
        self._finish_all()
        return self._all
