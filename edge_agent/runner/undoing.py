"""Taking back what a failed or cancelled run did: the actions for it, or the words for the person who must."""

from __future__ import annotations

from edge_agent.act import Hands
from edge_agent.runner.scene import Scene
from edge_agent.runner.starts import fixed_plan
from edge_agent.tools import Manual, check_arguments
from shared.actions import Action
from shared.entries import StepSkipped, UndoLeft
from shared.errors import OutriderError
from shared.playbook import ToolUse
from shared.runs import UNDO


class Undoing:
    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    def plan(self, scene: Scene, name: str) -> None:
        """How the effect of step ``name`` is taken back: an action, which is then judged like any; nothing; or a
        person's work."""
        step = scene.turn.run.steps[name]
        try:
            back = self._back(scene, name)
        except OutriderError as error:
            self._leave(scene, name, error.code, [f"{error.message}: {error.advice}"])
            return
        match back:
            case None:
                scene.turn.add(StepSkipped(step=UNDO + name))
            case Manual(steps=steps):
                self._leave(scene, name, "undo.manual", steps)
            case action:
                facts, body = fixed_plan(
                    UNDO + name, action, planner="undo", label=step.plan.label if step.plan else ""
                )
                scene.remember(action, facts.action)
                scene.turn.add(facts, shared=body | {"reason": f"Takes back what step {name} did."})

    def _back(self, scene: Scene, name: str) -> Action | Manual | None:
        step = scene.turn.run.steps[name]
        own = scene.step(name).undo
        if own == "none":
            return None
        action, receipt = scene.action(step), scene.receipt(step)
        if isinstance(own, ToolUse):
            arguments = scene.fill(own.with_, name, result=receipt)
            back: Action | Manual | None = Action(own.tool, arguments, action.subject)
        else:
            back = self._hands.undo(action, receipt)
        if isinstance(back, Action):
            check_arguments(self._hands.tool(back.tool), back)
        return back

    def leave(self, scene: Scene, name: str, code: str) -> None:
        """The attempt failed, was denied or declined."""
        step = scene.turn.run.steps[name]
        action = scene.action(step)
        said = f"Take back by hand what {action.tool} did for {action.subject or 'this run'}"
        self._leave(scene, name, code, [f"{said}; the attempt to do it for you ended with {code}."])

    def _leave(self, scene: Scene, name: str, code: str, steps: list[str]) -> None:
        action = scene.action(scene.turn.run.steps[name])
        body = {"steps": steps, "tool": action.tool, "subject": action.subject}
        scene.turn.add(UndoLeft(step=name, code=code), shared=body)
