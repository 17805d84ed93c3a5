"""How a step begins: its condition, its plan or what it waits for, its items, its child run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_agent.act import Hands
from edge_agent.journal import Journal
from edge_agent.plan.planner import Planner
from edge_agent.runner.scene import Scene
from edge_agent.runner.times import Times
from edge_agent.sense.opening import Opening, event_ref, opening
from edge_agent.tools import check_arguments
from edge_agent.tools.person import CONFIRM
from shared import limits
from shared.actions import Action
from shared.entries import Draft, PlanMade, StepEntered, StepFailed, StepSkipped
from shared.errors import BadInput, OutriderError, Unavailable
from shared.playbook import Playbook, PlaybookStep, seconds
from shared.release import Release
from shared.runs import UNDO, Device, Run

_URGENCY = {"interactive": 0, "background": 1, "batch": 2}


def fixed_plan(step: str, action: Action, *, planner: str, label: str) -> tuple[PlanMade, dict[str, Any]]:
    """The facts and the body of a plan that needed no thinking: the playbook says what to do."""
    facts = PlanMade(
        step=step,
        planner=planner,
        prompt="",
        model="",
        label=label,
        confidence=1000 if planner != "assistant" else 0,
        rules=[],
        latency_us=0,
        prompt_tokens=0,
        reused_tokens=0,
        generated_tokens=0,
        cost_cents=0,
        tool=action.tool,
        action=action.digest,
        abstained="",
    )
    plain = {"tool": action.tool, "arguments": action.arguments, "subject": action.subject}
    return facts, {
        "recommendation": planner == "assistant",
        "action": plain,
        "label": label,
        "fields": {},
        "sources": [],
    }


class Starts:
    def __init__(
        self,
        journal: Journal,
        device: Device,
        planner: Planner,
        hands: Hands,
        *,
        release: Callable[[int], Release],
        times: Times,
    ) -> None:
        self._journal = journal
        self._device = device
        self._planner = planner
        self._hands = hands
        self._release = release
        self._times = times

    def is_slow(self, scene: Scene, name: str) -> bool:
        """Whether a step is planned by something that takes time."""
        return scene.step(name).planner == "triage"

    def start(self, scene: Scene, name: str) -> None:
        """Begin a step that needs no planner. What is wrong with it fails the step."""
        part = scene.step(name)
        try:
            if not self._may_start(scene, part, name):
                return
            match part.kind:
                case "wait":
                    self._wait(scene, part, name)
                case "for_each":
                    self._each(scene, part, name)
                case "together":
                    scene.turn.add(_entered(name, "together", count=len(part.together or ())))
                case "run":
                    self._child(scene, part, name)
                case _:
                    self._plan(scene, name, self._action(scene, part, name), part)
        except (BadInput, Unavailable) as error:
            self._fail(scene, name, error)

    def _may_start(self, scene: Scene, part: PlaybookStep, name: str) -> bool:
        if part.when is not None and not scene.holds(part.when, name):
            scene.turn.add(StepSkipped(step=name))
            return False
        over = self._over_budget(scene)
        if over is not None:
            self._fail(scene, name, over)
            return False
        return True

    def _fail(self, scene: Scene, name: str, error: OutriderError) -> None:
        said = {"message": error.message, "advice": error.advice}
        scene.turn.add(StepFailed(step=name, code=error.code), shared=said)

    # --- actions --------------------------------------------------------------------------------------------------

    def _action(self, scene: Scene, part: PlaybookStep, name: str) -> Action:
        if part.confirm is not None:
            return Action(CONFIRM, {"question": str(scene.fill(part.confirm, name))}, scene.subject)
        if part.planner == "assistant":
            return self._asked_for(scene, part)
        assert part.tool is not None
        return Action(part.tool, scene.fill(part.with_, name), scene.subject)

    def _asked_for(self, scene: Scene, part: PlaybookStep) -> Action:
        """The one action an assistant asked for, if the playbook offers its tool."""
        asked = scene.event.get("action") or {}
        if asked.get("tool") not in part.tools:
            raise BadInput(
                "assistant.tool", f"{asked.get('tool')!r} is not offered to assistants", advice="add it to the playbook"
            )
        return Action(asked["tool"], asked.get("arguments") or {}, scene.subject)

    def _plan(self, scene: Scene, name: str, action: Action, part: PlaybookStep) -> None:
        tool = self._hands.find(action.tool)
        if tool is not None:  # one that is missing is for the guard to hold, until it is there
            check_arguments(tool, action)
        planner = "assistant" if part.planner == "assistant" else "playbook"
        facts, body = fixed_plan(name, action, planner=planner, label=part.label)
        scene.remember(action, facts.action)
        scene.turn.add(facts, shared=body | {"reason": scene.playbook.about})

    async def start_slowly(self, scene: Scene, name: str) -> list[Draft]:
        """Begin a step that a planner thinks about; the drafts of what it recalled and recommends."""
        part = scene.step(name)
        run, playbook = scene.turn.run, scene.playbook
        try:
            if part.when is not None and not scene.holds(part.when, name):
                return [Draft(StepSkipped(step=name), run.id)]
            over = self._over_budget(scene)
            if over is not None:
                raise over
            tool = self._hands.tool(part.tools[0])
        except (BadInput, Unavailable) as error:
            said = {"message": error.message, "advice": error.advice}
            return [Draft(StepFailed(step=name, code=error.code), run.id, {"shared": said})]
        planned = await self._planner.plan(
            playbook,
            name,
            self._release(run.opened.release).setups[playbook.playbook, part.id],
            scene.event["inputs"],
            scene.subject,
            tool.name,
            tool.arguments,
            urgency=_URGENCY[playbook.urgency],
        )
        if planned.action is not None:
            scene.remember(planned.action, planned.action.digest)
        return [Draft(planned.recalled, run.id), Draft(planned.made, run.id, {"shared": planned.body})]

    # --- what is no action ----------------------------------------------------------------------------------------

    def _wait(self, scene: Scene, part: PlaybookStep, name: str) -> None:
        wait = part.wait
        assert wait is not None
        if wait.event is not None:
            key = scene.value(wait.key, name) if wait.key is not None else scene.subject
            scene.turn.add(_entered(name, "event", ref=event_ref(wait.event, str(key))))
            return
        if wait.for_ is not None:
            until = self._journal.now() + seconds(wait.for_) * 1_000_000
        else:
            until = self._times.until(str(scene.value(wait.until or "", name)))
        scene.turn.add(_entered(name, "time", until=until))

    def _each(self, scene: Scene, part: PlaybookStep, name: str) -> None:
        items = scene.value(part.for_each or "", name)
        if not isinstance(items, list) or len(items) > limits.FOR_EACH_ITEMS:
            raise BadInput(
                "step.items",
                f"{part.id} is given {type(items).__name__} and not a list of at most {limits.FOR_EACH_ITEMS}",
                advice="correct its expression",
            )
        scene.turn.add(_entered(name, "each", count=len(items)), shared={"items": items})

    def _child(self, scene: Scene, part: PlaybookStep, name: str) -> None:
        """Open the child in the same commit as the step that waits for it."""
        run = scene.turn.run
        release = self._release(run.opened.release)
        playbook = release.playbooks[part.run or ""]
        child = opening(
            Opening(
                playbook=playbook,
                release=run.opened.release,
                inputs=scene.fill(part.inputs, name),
                trigger=f"run:{run.id}:{name}:{run.times.get(name, 0)}",
                source=f"run {run.id}",
                parent=run.id,
                parent_step=name,
                dry_run=run.opened.dry_run,
            )
        )
        scene.turn.add(_entered(name, "run", ref=child.run))
        scene.turn.also(child)

    # --- what is at stake -----------------------------------------------------------------------------------------

    def value(self, scene: Scene, name: str) -> int:
        """The cents at stake in a step: its own expression, else the input that the playbook names."""
        part = scene.step(name)
        if part.value is not None:
            found: Any = scene.value(part.value, name)
        else:
            found = self._input(scene, scene.playbook.value) if scene.playbook.value else None
        return found if isinstance(found, int) and not isinstance(found, bool) else 0

    def _input(self, scene: Scene, name: str) -> Any:
        """One input, also a private one: its number is weighed here, and goes nowhere as a text."""
        if name not in scene.playbook.private:
            return scene.event.get("inputs", {}).get(name)
        private = self._journal.body(scene.turn.run.seq, "private") or {}
        return private.get("inputs", {}).get(name)

    def budget_left(self, playbook: Playbook, run: Run) -> tuple[int | None, int | None]:
        """Actions and cents that the run and the day still have; ``None`` for no end."""
        today = self._device.spent_today(playbook.playbook, self._journal.now())
        of_run, of_day = playbook.budgets.run, playbook.budgets.day

        def least(a: int | None, spent_a: int, b: int | None, spent_b: int) -> int | None:
            left = [most - spent for most, spent in ((a, spent_a), (b, spent_b)) if most is not None]
            return min(left, default=None)

        return (
            least(of_run.actions, run.actions, of_day.actions, today.actions),
            least(of_run.cents, run.cents, of_day.cents, today.cents),
        )

    def _over_budget(self, scene: Scene) -> Unavailable | None:
        run, budgets = scene.turn.run, scene.playbook.budgets
        today = self._device.spent_today(scene.playbook.playbook, self._journal.now())
        for most, spent, code in (
            (budgets.run.tokens, run.tokens, "budget.tokens"),
            (budgets.day.tokens, today.tokens, "budget.tokens-day"),
        ):
            if most is not None and spent >= most:
                return Unavailable(code, f"{spent} of {most} model tokens are spent", advice="retry the run later")
        return None


def _entered(step: str, kind: str, *, until: int = 0, count: int = 0, ref: str = "") -> StepEntered:
    return StepEntered(step=step.removeprefix(UNDO), kind=kind, until=until, count=count, ref=ref)
