"""``/rollouts``: who is told to run which release and who does, a rollout's stages, gates and history, and the orders
that people give about it. Everything is a plain form; what an order does is told beside its button.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.console.desk import Desk, Form, Person
from server.console.failures import describe
from server.console.overview import slices
from server.rollouts import Placed, RolloutOrder, Rollouts, carry_out, cohorts
from server.rollouts.orders import ROLES
from shared import entries as e
from shared import rollout as r
from shared.errors import BadInput, OutriderError

if TYPE_CHECKING:
    from server.rollouts import Event

DEVICES_SHOWN = 50
METRICS: dict[str, str] = {
    "failures": "Failed or denied",
    "overridden": "Overruled by a person",
    "mismatches": "Effect was not as said",
    "questions": "Left to a person",
    "latency": "Slow to plan",
    "cost": "Dear to plan",
}
STATUSES = {
    r.RUNNING: ("Under way", "info"),
    r.PAUSED: ("Paused", "warn"),
    r.HALTED: ("Halted", "bad"),
    r.ROLLED_BACK: ("Taken back", "bad"),
    r.FINISHED: ("Finished", "ok"),
}
COHORTS = {"candidate": "Candidate", "control": "Control", "pinned": "Pinned", "excluded": "Takes no part"}
_WIDTH, _HEIGHT, _NEEDED = 240, 56, 1000


@dataclass(frozen=True)
class Plot:
    """The evidence on its way to a halt: ``line`` are a polyline's points, ``limit`` is where a halt is, from above."""

    line: str
    limit: int
    width: int = _WIDTH
    height: int = _HEIGHT


def plot(path: Sequence[int]) -> Plot:
    """``path`` in permille of what is needed, one number a block. A line begins where nothing is known."""
    top = max(_NEEDED, *path, 1) * 11 // 10
    points = [0, *path]
    across = max(1, len(points) - 1)
    line = " ".join(f"{n * _WIDTH // across},{_HEIGHT - value * _HEIGHT // top}" for n, value in enumerate(points))
    return Plot(line, _HEIGHT - _NEEDED * _HEIGHT // top)


class RolloutPages:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rollouts: Rollouts = desk.services.rollouts

    def add_to(self, router: APIRouter) -> None:
        add = router.add_api_route
        add("/rollouts", self.index, methods=["GET"], response_model=None)
        add("/rollouts", self.order, methods=["POST"], response_model=None)
        add("/rollouts/{rollout}", self.show, methods=["GET"], response_model=None)
        add("/rollouts/{rollout}", self.order_one, methods=["POST"], response_model=None)

    # --- looking ----------------------------------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        return await self._index(request, await self._desk.person(request))

    async def _index(self, request: Request, person: Person, failure: OutriderError | None = None) -> Response:
        told = await run_in_threadpool(self._rollouts.told)
        everybody = await run_in_threadpool(self._rollouts.everybody)
        courses = await run_in_threadpool(self._rollouts.courses)
        newest = await run_in_threadpool(self._desk.services.releases.current)
        active = told.state is not None and told.state.active
        waits = not active and told.base not in (0, newest)
        plan = await run_in_threadpool(self._rollouts.plan, newest) if waits else None
        back = next((one.state for one in courses if _taken_back(one.state, newest)), None)
        return self._desk.page(
            request, "rollouts.html", person, told=told, newest=newest, courses=courses, everybody=everybody,
            apart=[one for one in everybody if one.cohort in ("pinned", "excluded")], statuses=STATUSES,
            plan=plan, back=back, metrics=METRICS, cohort_names=COHORTS, drifting=_drifting(everybody),
            may=person.may(*ROLES), failure=describe(failure) if failure else None,
        )  # fmt: skip

    async def show(self, request: Request, rollout: str) -> Response:
        return await self._show(request, await self._desk.person(request), rollout)

    async def _show(
        self, request: Request, person: Person, rollout: str, failure: OutriderError | None = None
    ) -> Response:
        course = await run_in_threadpool(self._rollouts.course, rollout)
        state = course.state
        assert state.plan is not None
        newest = (await run_in_threadpool(self._rollouts.courses))[0].state == state
        outcomes = await run_in_threadpool(self._rollouts.evidence, state)
        everybody = await run_in_threadpool(self._rollouts.everybody) if newest else []
        split = cohorts(everybody)
        readings = r.readings(state.plan, outcomes)
        return self._desk.page(
            request, "rollout.html", person, course=course, state=state, plan=state.plan, newest=newest,
            said=await run_in_threadpool(self._rollouts.judged, state), readings=readings, outcomes=outcomes,
            plots=[plot(one.path) for one in readings], metrics=METRICS, statuses=STATUSES, cohort_names=COHORTS,
            cohorts=split, slices=slices({one.name: one.devices for one in split}, len(everybody)),
            devices=everybody[:DEVICES_SHOWN], left_out=len(everybody[DEVICES_SHOWN:]),
            events=[(event, *told(event)) for event in reversed(course.events)], may=person.may(*ROLES),
            can_return=newest and state.status in (r.RUNNING, r.PAUSED, r.HALTED, r.FINISHED),
            failure=describe(failure) if failure else None,
        )  # fmt: skip

    # --- orders -----------------------------------------------------------------------------------------------

    async def order(self, request: Request) -> Response:
        """To start a rollout, or about one device."""
        person = await self._desk.person(request)
        try:
            form = await self._desk.form(request, person.csrf)
            done = await run_in_threadpool(self._give, form, person)
        except OutriderError as error:
            return await self._index(request, person, error)
        there = f"/rollouts/{done['rollout']}" if "rollout" in done else "/rollouts"
        return RedirectResponse(there, status_code=303)

    async def order_one(self, request: Request, rollout: str) -> Response:
        person = await self._desk.person(request)
        try:
            form = await self._desk.form(request, person.csrf)
            await run_in_threadpool(self._give, form, person)
        except OutriderError as error:
            return await self._show(request, person, rollout, error)
        return RedirectResponse(f"/rollouts/{rollout}", status_code=303)

    def _give(self, form: Form, person: Person) -> dict[str, object]:
        release = form.get("release") or "0"
        if not (release.isascii() and release.isdigit() and len(release) < 16):
            raise BadInput("rollout.act", "That is no release.", advice="Give its number.")
        order = RolloutOrder(form.get("act"), int(release), device=form.get("device"), on=form.get("on") != "no")
        return carry_out(self._rollouts, order, person.name, person.roles)


def _taken_back(state: r.Rollout, release: int) -> bool:
    return state.status == r.ROLLED_BACK and state.plan is not None and state.plan.release == release


def _drifting(everybody: Sequence[Placed]) -> list[Placed]:
    return [one for one in everybody if one.drifts]


def told(event: Event) -> tuple[str, str]:
    """An entry of the hub's log about a rollout in words, and the picture beside them."""
    match event.facts:
        case e.RolloutStarted(plan, by):
            return f"{by} started it with {plan.stages[0].permille / 10:g}% of the devices", "player-play"
        case e.RolloutAdvanced(_, stage, why, by):
            whose = "the evidence allowed it" if why == "evidence" else f"{by} took it upon themselves"
            return f"On to stage {stage + 1}: {whose}", "player-skip-forward"
        case e.RolloutPaused(_, by):
            return f"{by} paused it", "player-pause"
        case e.RolloutResumed(_, by):
            return f"{by} resumed it", "player-play"
        case e.RolloutHalted(_, _, metric, evidence, by):
            return f"Halted by the {by}: {METRICS.get(metric, metric).lower()}, evidence {evidence / 10:g}%", "ban"
        case e.RolloutRolledBack(_, target, by):
            return f"Taken back to release {target} by {_the(by)}", "arrow-back-up"
        case e.RolloutFinished(_, by):
            return f"Finished by {_the(by)}: everybody runs it", "check"
        case e.DevicePinned(device, release, by):
            return f"{by} {f'pinned {device} to release {release}' if release else f'let go of {device}'}", "lock"
        case e.DeviceExcluded(device, on, by):
            return f"{by} {'took' if on else 'let'} {device} {'out' if on else 'take part again'}", "users"
    raise AssertionError(f"{event.facts} is not of a rollout")


def _the(by: str) -> str:
    return "the hub" if by == "hub" else by
