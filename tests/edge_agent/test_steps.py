"""Playbooks of every shape, run by the real engine on a real log: branches, rounds, waits, orders, undo and budgets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from edge_agent.tools import Argument, Backoff, Effect, Manual, NotSent, Receipt, Tool, check_arguments
from shared.actions import Action
from shared.entries import ApprovalAsked, ApprovalEscalated, IntentRecorded, PlanMade, UndoLeft
from shared.errors import Conflict, Refused, Unavailable
from shared.release import Order
from tests.edge_agent.rig import HOUR, Clock, Rig, make_release

SCHEMA = """
entity Device; entity Tool;
action execute, execute_unattended appliesTo { principal: Device, resource: Tool, context: {
  playbook: String, step: String, effect: String, label: String, planner: String, urgency: String, data_class: String,
  confidence: Long, value_cents: Long, offline: Bool, lease_age_s: Long, lease_left_s: Long, actions_since_sync: Long,
  value_since_sync_cents: Long, local_hour: Long, local_weekday: Long, abstained: Bool, approved: Bool,
  risk: String, undo: Bool, source: String, run_actions: Long, run_cents: Long } };
"""
POLICY = """
@id("may") permit(principal, action, resource);
@id("letters-ask") @people("2") @similar("1h") @local("yes")
  forbid(principal, action == Action::"execute_unattended", resource == Tool::"shop.letter");
@id("stamps-ask") @similar("1h") @local("yes")
  forbid(principal, action == Action::"execute_unattended", resource == Tool::"shop.stamp");
@id("never") forbid(principal, action, resource == Tool::"shop.burn");
"""
HEAD = """
playbook: {name}
version: 1
owner: shop
about: A test.
trigger: {{manual: true}}
inputs: {{sku: {{required: true}}, price: {{type: cents}}, colours: {{}}}}
business_key: [sku]
approvals: {{roles: [owner], expires: 2d, escalate: [{{after: 1h, roles: [boss]}}, {{after: 4h, roles: [mayor]}}]}}
"""


class Shelf(Tool):
    """A shop's shelf: it counts what was done by key, and can be told to fail."""

    def __init__(self, name: str, *, effect: Effect = "compensatable", back: str = "shop.unput") -> None:
        self.name = name
        self.arguments = {"what": Argument(), "note": Argument(required=False)}
        self.about = "Put something on the shelf."
        self.effect = effect
        self.idempotent = True
        self.askable = True
        self.done: dict[str, str] = {}
        self.sent: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.back = back
        self.at_once = self.most_at_once = 0

    async def send(self, action: Action, key: str) -> Receipt:
        check_arguments(self, action)
        what = str(action.arguments["what"])
        self.sent.append(what)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await asyncio.sleep(0.01)
            if what in self.fails:
                raise self.fails[what]
        finally:
            self.at_once -= 1
        self.done[key] = what
        return Receipt({"put": what, "length": len(what)})

    async def ask(self, key: str, action: Action) -> Receipt | None:
        return Receipt({"put": self.done[key]}) if key in self.done else None

    def undo(self, action: Action, receipt: dict[str, Any]) -> Action | Manual | None:
        if self.effect == "irreversible":
            return Manual(["Write to them that it was a mistake."])
        return Action(self.back, {"what": receipt["put"]}, action.subject) if self.effect != "read" else None

    @property
    def things(self) -> list[str]:
        return sorted(self.done.values())


class Shop:
    """A rig with a shop's tools and one playbook."""

    def __init__(
        self, folder: Path, steps: str, *, more: str = "", name: str = "shop", clock: Clock | None = None
    ) -> None:
        self.put, self.unput = Shelf("shop.put"), Shelf("shop.unput", effect="reversible", back="shop.put")
        self.letter = Shelf("shop.letter", effect="irreversible")
        self.stamp, self.burn = Shelf("shop.stamp"), Shelf("shop.burn")
        self.look = Shelf("shop.look", effect="read")
        text = HEAD.format(name=name) + more + "steps:\n" + steps
        child = (
            HEAD.format(name="child") + "steps:\n- {id: putc, tool: shop.put, with: {what: 'child ${inputs.sku}'}}\n"
        )
        self.releases = {1: make_release(policy=POLICY, schema=SCHEMA, child=child, **{name: text})}
        self.folder, self.name = folder, name
        self.rig = self.open(clock)

    def open(self, clock: Clock | None = None) -> Rig:
        tools: list[Tool] = [self.put, self.unput, self.letter, self.stamp, self.burn, self.look]
        self.rig = Rig(self.folder, clock=clock, tools=tools, releases=self.releases)
        return self.rig

    async def begin(self, **inputs: Any) -> str:
        dry = inputs.pop("dry_run", False)
        await self.rig.install()
        await self.rig.lend(hours=24 * 30)
        run = await self.rig.start(self.name, dry_run=dry, **{"sku": "S1", **inputs})
        await self.rig.settle()
        return run

    def outcome(self, run: str) -> str:
        return (self.rig.device.closed or {}).get(
            run, self.rig.device.runs[run].status if run in self.rig.device.runs else ""
        )

    def close(self) -> None:
        self.rig.close()


async def test_steps_in_order_read_what_came_before(tmp_path: Path) -> None:
    shop = Shop(
        tmp_path,
        """
- {id: first, tool: shop.put, with: {what: "sku ${inputs.sku}"}}
- id: second
  tool: shop.put
  with: {what: "${steps.first.result.put} again", note: "${string(steps.first.result.length)}"}
- {id: third, when: "inputs.price != null && inputs.price > 100", tool: shop.put, with: {what: dear}}
""",
    )
    run = await shop.begin(price=50)
    assert shop.outcome(run) == "done", shop.rig.troubles
    assert shop.put.sent == ["sku S1", "sku S1 again"], "the third step's condition did not hold"
    types = shop.rig.types(run)
    assert types.count("intent.recorded") == 2 and "step.skipped" in types
    commits = len(list(shop.rig.journal.checkpoints()))
    assert commits == 1 + 3 + 3, "log, release, lease and run; then one commit before each effect and one at the end"
    shop.close()


async def test_branches_go_side_by_side_and_one_commit_holds_both_intents(tmp_path: Path) -> None:
    shop = Shop(
        tmp_path,
        """
- id: both
  together:
  - [{id: a, tool: shop.put, with: {what: a}}, {id: a2, tool: shop.put, with: {what: a2}}]
  - [{id: b, tool: shop.put, with: {what: b}}]
- {id: last, tool: shop.put, with: {what: "after ${steps.a2.result.put} and ${steps.b.result.put}"}}
""",
    )
    run = await shop.begin()
    assert shop.outcome(run) == "done", shop.rig.troubles
    assert shop.put.most_at_once == 2
    assert shop.put.sent[-1] == "after a2 and b"
    shop.close()


async def test_for_each_goes_through_a_list_a_few_at_once(tmp_path: Path) -> None:
    shop = Shop(
        tmp_path,
        """
- id: all
  for_each: "[10, 20, 30, 40, 50]"
  at_once: 2
  steps:
  - {id: one, when: "item != 30", tool: shop.put, with: {what: "no ${string(index)} of ${string(item)}"}}
  - {id: two, when: "item != 30", tool: shop.put, with: {what: "${steps.one.result.put}!"}}
""",
    )
    run = await shop.begin()
    assert shop.outcome(run) == "done", shop.rig.troubles
    assert shop.put.most_at_once == 2
    assert "no 4 of 50!" in shop.put.sent and len(shop.put.sent) == 8
    shop.close()


async def test_a_list_within_a_list(tmp_path: Path) -> None:
    shop = Shop(
        tmp_path,
        """
- id: outer
  for_each: "[['a', 'b'], ['c']]"
  steps:
  - id: inner
    for_each: "item"
    steps: [{id: one, tool: shop.put, with: {what: "${item}"}}]
""",
    )
    run = await shop.begin()
    assert shop.outcome(run) == "done", shop.rig.troubles
    assert shop.put.things == ["a", "b", "c"]
    shop.close()


async def test_a_timer_rings_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    shop = Shop(tmp_path, "- {id: rest, wait: {for: 3d}}\n- {id: a, tool: shop.put, with: {what: a}}\n", clock=clock)
    run = await shop.begin()
    assert shop.outcome(run) == "entered" and not shop.put.sent
    shop.close()
    clock.now += 71 * HOUR
    rig = shop.open(clock)
    await rig.settle()
    assert shop.outcome(run) == "entered", "an hour too early"
    clock.now += 2 * HOUR
    await rig.settle()
    assert shop.outcome(run) == "done" and shop.put.things == ["a"]
    shop.close()


async def test_the_clock_wakes_a_run_by_itself(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "- {id: rest, wait: {for: 1s}}\n")
    run = await shop.begin()
    work = asyncio.create_task(shop.rig.runner.work())
    shop.rig.runner.wake_all()
    async with asyncio.timeout(60):
        while shop.outcome(run) != "entered":
            await asyncio.sleep(0.01)
    shop.rig.clock.now += 1_000_000
    shop.rig.runner._due_changed.set()  # the test's clock jumped: look again, as the real one would by itself
    async with asyncio.timeout(60):
        while shop.outcome(run) != "done":
            await asyncio.sleep(0.01)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    shop.close()


@pytest.mark.parametrize("before", [True, False])
async def test_an_event_is_waited_for_even_if_it_came_first(tmp_path: Path, before: bool) -> None:
    steps = """
- {id: paid, wait: {event: payment, key: inputs.sku}}
- {id: a, tool: shop.put, with: {what: 'by ${steps.paid.event.by}'}}
"""
    shop = Shop(tmp_path, steps)
    if before:
        await shop.rig.event("payment", "S1", by="card")
    run = await shop.begin()
    if not before:
        assert shop.outcome(run) == "entered"
        assert await shop.rig.event("payment", "S2", by="cash") == 0, "another key"
        assert await shop.rig.event("payment", "S1", by="card") == 1
        await shop.rig.settle()
    assert shop.outcome(run) == "done" and shop.put.things == ["by card"]
    shop.close()


async def test_a_step_that_takes_too_long_fails_and_may_be_passed_over(tmp_path: Path) -> None:
    steps = """
- {id: paid, wait: {event: payment}, timeout: 2h, on_failure: continue}
- {id: late, when: "steps.paid.outcome == 'failed'", tool: shop.put, with: {what: reminder}}
"""
    shop = Shop(tmp_path, steps)
    run = await shop.begin()
    shop.rig.clock.now += 3 * HOUR
    await shop.rig.settle()
    assert shop.outcome(run) == "done" and shop.put.things == ["reminder"]
    assert "step.failed" in shop.rig.types(run)
    shop.close()


async def test_a_child_run_is_waited_for(tmp_path: Path) -> None:
    steps = "- {id: kid, run: child, inputs: {sku: 'of ${inputs.sku}'}}\n- {id: a, tool: shop.put, with: {what: a}}\n"
    shop = Shop(tmp_path, steps)
    run = await shop.begin()
    assert shop.outcome(run) == "done", (shop.rig.types(run), shop.rig.troubles)
    assert shop.put.sent == ["child of S1", "a"]
    assert len(shop.rig.device.closed or {}) == 2 and not shop.rig.device.children
    shop.close()


async def test_a_child_that_fails_fails_its_parent(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "- {id: kid, run: child, inputs: {sku: X}}\n- {id: a, tool: shop.put, with: {what: a}}\n")
    shop.put.fails["child X"] = Refused("shop.no", "no", advice="none")
    run = await shop.begin()
    assert shop.outcome(run) == "failed" and "a" not in shop.put.sent
    assert len(shop.rig.device.failed) == 2
    shop.close()


async def test_a_failed_run_takes_back_what_it_did_newest_first(tmp_path: Path) -> None:
    steps = "".join(f"- {{id: s{n}, tool: shop.put, with: {{what: w{n}}}}}\n" for n in range(3))
    shop = Shop(tmp_path, steps + "- {id: bad, tool: shop.stamp, with: {what: bad}, when: 'true'}\n")
    shop.releases[1] = make_release(
        policy=POLICY,
        schema=SCHEMA,
        shop=HEAD.format(name="shop") + "steps:\n" + steps + "- {id: bad, tool: shop.burn, with: {what: x}}\n",
    )
    run = await shop.begin()
    assert shop.outcome(run) == "denied"
    assert shop.put.sent == ["w0", "w1", "w2"] and shop.unput.sent == ["w2", "w1", "w0"]
    types = shop.rig.types(run)
    assert types[-1] == "run.closed" and types.count("verdict.given") == 7, "taking back is judged like anything"
    shop.close()


async def test_what_no_tool_takes_back_is_left_to_a_person(tmp_path: Path) -> None:
    steps = """
- {id: a, tool: shop.put, with: {what: a}}
- {id: mail, tool: shop.letter, with: {what: mail}}
- {id: bad, tool: shop.burn, with: {what: x}}
"""
    shop = Shop(tmp_path, steps)
    run = await shop.begin()
    for person in ("mara", "otto"):
        await shop.rig.answer(run, "approve", by=person)
    await shop.rig.settle()
    assert shop.outcome(run) == "left" and shop.unput.sent == ["a"]
    left = next(e for e in shop.rig.journal.run_entries(run) if isinstance(e.facts, UndoLeft))
    assert (shop.rig.journal.body(left.seq) or {})["steps"] == ["Write to them that it was a mistake."]
    await shop.rig.order(run, "handled", "~mail")
    assert shop.outcome(run) == "denied"
    shop.close()


async def test_own_undo_and_none_at_all(tmp_path: Path) -> None:
    steps = """
- {id: a, tool: shop.put, with: {what: a}, undo: none}
- {id: b, tool: shop.put, with: {what: b}, undo: {tool: shop.stamp, with: {what: "sorry for ${result.put}"}}}
- {id: bad, tool: shop.burn, with: {what: x}}
"""
    shop = Shop(tmp_path, steps)
    run = await shop.begin()
    assert shop.outcome(run) == "waiting", "taking back asks where the policy says so"
    await shop.rig.answer(run, "approve")
    assert shop.outcome(run) == "denied"
    assert shop.stamp.sent == ["sorry for b"] and not shop.unput.sent
    shop.close()


async def test_a_failed_undo_is_left_to_a_person(tmp_path: Path) -> None:
    steps = "- {id: a, tool: shop.put, with: {what: a}}\n- {id: bad, tool: shop.burn, with: {what: x}}\n"
    shop = Shop(tmp_path, steps)
    shop.unput.fails["a"] = Refused("shop.glued", "it is glued to the shelf", advice="use a chisel")
    run = await shop.begin()
    assert shop.outcome(run) == "left"
    assert shop.rig.device.runs[run].left[0].code == "shop.glued"
    await shop.rig.order(run, "handled", "~a")
    assert shop.outcome(run) == "denied"
    shop.close()


async def test_a_failed_run_is_retried_from_what_failed(tmp_path: Path) -> None:
    steps = "- {id: a, tool: shop.put, with: {what: a}}\n- {id: b, tool: shop.put, with: {what: b}}\n"
    shop = Shop(tmp_path, steps, more="on_failure: stop\n")
    shop.put.fails["b"] = Refused("shop.full", "the shelf is full", advice="make room")
    run = await shop.begin()
    assert shop.outcome(run) == "failed" and run in shop.rig.device.failed
    del shop.put.fails["b"]
    await shop.rig.order(run, "retry")
    assert shop.outcome(run) == "done" and not shop.rig.device.failed
    assert shop.put.sent == ["a", "b", "b"], "what was done stays done"
    with (
        pytest.raises(Conflict, match=r"order\.unfit") if run in shop.rig.device.runs else pytest.raises(AssertionError)
    ):
        assert run in shop.rig.device.runs
    shop.close()


async def test_what_was_taken_back_is_done_anew_under_another_key(tmp_path: Path) -> None:
    steps = "- {id: a, tool: shop.put, with: {what: a}}\n- {id: b, tool: shop.put, with: {what: b}}\n"
    shop = Shop(tmp_path, steps)
    shop.put.fails["b"] = Refused("shop.full", "the shelf is full", advice="make room")
    run = await shop.begin()
    assert shop.outcome(run) == "failed" and shop.unput.sent == ["a"]
    del shop.put.fails["b"]
    await shop.rig.order(run, "retry")
    assert shop.outcome(run) == "done" and shop.put.sent == ["a", "b", "a", "b"]
    keys = [e.facts.key for e in shop.rig.journal.run_entries(run) if isinstance(e.facts, IntentRecorded)]
    assert len(set(keys)) == len(keys)
    shop.close()


async def test_dismissed_runs_are_gone_for_good(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "- {id: b, tool: shop.put, with: {what: b}}\n")
    shop.put.fails["b"] = Refused("shop.full", "the shelf is full", advice="make room")
    run = await shop.begin()
    await shop.rig.order(run, "dismiss")
    assert not shop.rig.device.failed and shop.rig.types(run)[-1] == "run.ordered"
    shop.close()


async def test_an_ended_run_is_taken_back_when_a_person_orders_it_also_after_a_restart(tmp_path: Path) -> None:
    steps = "- {id: a, tool: shop.put, with: {what: a}}\n- {id: b, tool: shop.put, with: {what: b}}\n"
    shop = Shop(tmp_path, steps)
    run = await shop.begin()
    assert shop.outcome(run) == "done" and set(shop.rig.device.ended) == {run}
    shop.close()
    shop.open()
    await shop.rig.order(run, "undo")
    assert shop.outcome(run) == "cancelled" and shop.unput.sent == ["b", "a"]
    assert shop.rig.types(run).count("verdict.given") == 4, "taking back is judged like anything"
    before = shop.rig.types(run)
    await shop.rig.order(run, "undo")
    assert shop.rig.types(run) == before, "what was taken back is not taken back twice"
    shop.close()


async def test_what_no_tool_takes_back_of_an_ended_run_is_left_to_a_person(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "- {id: mail, tool: shop.letter, with: {what: mail}}\n")
    run = await shop.begin()
    for person in ("mara", "otto"):
        await shop.rig.answer(run, "approve", by=person)
    await shop.rig.settle()
    assert shop.outcome(run) == "done"
    await shop.rig.order(run, "undo")
    assert shop.outcome(run) == "left"
    await shop.rig.order(run, "handled", "~mail")
    assert shop.outcome(run) == "cancelled"
    shop.close()


async def test_pause_stops_before_the_next_step_and_resume_goes_on(tmp_path: Path) -> None:
    steps = "- {id: rest, wait: {for: 1h}}\n- {id: a, tool: shop.put, with: {what: a}}\n"
    shop = Shop(tmp_path, steps)
    run = await shop.begin()
    await shop.rig.order(run, "pause")
    shop.rig.clock.now += 2 * HOUR
    await shop.rig.settle()
    assert shop.outcome(run) == "paused" and not shop.put.sent
    await shop.rig.order(run, "resume")
    await shop.rig.settle()
    assert shop.outcome(run) == "done" and shop.put.sent == ["a"]
    shop.close()


async def test_cancel_takes_back_and_ends(tmp_path: Path) -> None:
    steps = "- {id: a, tool: shop.put, with: {what: a}}\n- {id: ask, confirm: 'May ${inputs.sku} go out?'}\n"
    shop = Shop(tmp_path, steps)
    run = await shop.begin()
    assert shop.outcome(run) == "waiting"
    plan = next(e for e in reversed(shop.rig.journal.run_entries(run)) if isinstance(e.facts, PlanMade))
    assert (shop.rig.journal.body(plan.seq) or {})["action"]["arguments"] == {"question": "May S1 go out?"}
    await shop.rig.order(run, "cancel")
    assert shop.outcome(run) == "cancelled" and shop.unput.sent == ["a"]
    shop.close()


async def test_a_person_confirms(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "- {id: ask, confirm: 'Go?'}\n- {id: a, tool: shop.put, with: {what: a}}\n")
    run = await shop.begin()
    await shop.rig.answer(run, "approve")
    assert shop.outcome(run) == "done" and shop.put.sent == ["a"]
    shop.close()


async def test_a_dry_run_plans_and_is_judged_and_does_nothing(tmp_path: Path) -> None:
    steps = """
- {id: a, tool: shop.put, with: {what: a}}
- {id: rest, wait: {for: 3d}}
- {id: mail, tool: shop.letter, with: {what: mail}}
- {id: kid, run: child, inputs: {sku: X}}
"""
    shop = Shop(tmp_path, steps)
    run = await shop.begin(dry_run=True)
    assert shop.outcome(run) == "rehearsed", (shop.rig.types(run), shop.rig.troubles)
    assert not shop.put.sent and not shop.letter.sent
    types = shop.rig.types(run)
    assert types.count("step.rehearsed") == 2 and "intent.recorded" not in types and "approval.asked" not in types
    again = await shop.rig.start("shop", sku="S1")
    assert again != run, "a rehearsal does not stand for the case"
    shop.close()


async def test_two_people_must_approve_what_cannot_be_undone(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "- {id: mail, tool: shop.letter, with: {what: mail}}\n")
    run = await shop.begin()
    asked = shop.rig.device.runs[run].waits[0].approval
    assert isinstance(asked, ApprovalAsked) and asked.needed == 2
    await shop.rig.answer(run, "approve", by="mara")
    assert shop.outcome(run) == "waiting" and not shop.letter.sent
    await shop.rig.answer(run, "approve", by="mara")
    assert shop.outcome(run) == "waiting", "the same person counts once"
    await shop.rig.answer(run, "approve", by="otto")
    assert shop.outcome(run) == "done" and shop.letter.sent == ["mail"]
    shop.close()


async def test_one_of_two_says_no(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "- {id: mail, tool: shop.letter, with: {what: mail}}\n")
    run = await shop.begin()
    await shop.rig.answer(run, "approve", by="mara")
    await shop.rig.answer(run, "deny", by="otto")
    assert shop.outcome(run) == "declined" and not shop.letter.sent
    shop.close()


async def test_a_yes_to_all_like_this_covers_the_next_for_a_while(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "- {id: mark, tool: shop.stamp, with: {what: '${inputs.sku}'}, value: 'inputs.price'}\n")
    run = await shop.begin(price=500)
    until = shop.rig.clock.now + HOUR // 2
    await shop.rig.answer(run, "approve", similar_until=until)
    assert shop.outcome(run) == "done"
    like = await shop.rig.start("shop", sku="S2", price=400)
    dearer = await shop.rig.start("shop", sku="S3", price=600)
    await shop.rig.settle()
    assert shop.outcome(like) == "done" and "approval.covered" in shop.rig.types(like)
    assert shop.outcome(dearer) == "waiting", "worth more than what was approved"
    shop.rig.clock.now += HOUR
    late = await shop.rig.start("shop", sku="S4", price=400)
    await shop.rig.settle()
    assert shop.outcome(late) == "waiting", "the hour is over"
    shop.close()


async def test_nobody_answers_so_others_are_asked(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "- {id: mark, tool: shop.stamp, with: {what: x}}\n")
    run = await shop.begin()
    shop.rig.clock.now += 5 * HOUR
    await shop.rig.settle()
    levels = [e.facts for e in shop.rig.journal.run_entries(run) if isinstance(e.facts, ApprovalEscalated)]
    assert [level.roles for level in levels] == [["boss"], ["mayor"]]
    assert shop.rig.device.runs[run].waits[0].roles == ["owner", "boss", "mayor"]
    shop.close()


async def test_budgets_of_run_and_day(tmp_path: Path) -> None:
    steps = "".join(
        f"- {{id: s{n}, tool: shop.put, with: {{what: '${{inputs.sku}} {n}'}}, value: 'inputs.price'}}\n"
        for n in range(3)
    )
    shop = Shop(tmp_path, steps, more="budgets: {run: {actions: 2}, day: {cents: 1000}}\n")
    run = await shop.begin(price=10)
    assert shop.outcome(run) == "waiting" and len(shop.put.sent) == 2, "the third action is beyond the run's budget"
    verdict = shop.rig.device.runs[run].waits[0].verdict
    assert verdict is not None and verdict.rules == ["host:over-budget"]
    await shop.rig.answer(run, "approve")
    assert shop.outcome(run) == "done", "a person may say yes to more"
    dear = await shop.rig.start("shop", sku="S2", price=980)
    await shop.rig.settle()
    assert shop.outcome(dear) == "waiting" and len(shop.put.sent) == 3, "30 of the day's 1000 cents were spent"
    shop.rig.clock.now += 24 * HOUR
    free = await shop.rig.start("shop", sku="S3", price=490)
    await shop.rig.settle()
    assert len(shop.put.sent) == 5 and shop.outcome(free) == "waiting", "a new day; the run's own budget still holds"
    shop.close()


async def test_what_cannot_be_sent_is_put_off_and_not_failed(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "- {id: a, tool: shop.put, with: {what: a}}\n")
    shop.put.backoff = Backoff(attempts=2, first_s=0.01, most_s=0.02)
    shop.put.fails["a"] = NotSent("shop.closed", "the door is closed", advice="wait")
    run = await shop.begin()
    assert shop.outcome(run) == "intended" and len(shop.put.sent) == 2
    del shop.put.fails["a"]
    await shop.rig.settle()
    assert shop.outcome(run) == "done"
    shop.close()


@pytest.mark.parametrize(("order", "outcome", "sent"), [("happened", "done", 1), ("not-happened", "done", 2)])
async def test_a_person_settles_a_doubt(tmp_path: Path, order: str, outcome: str, sent: int) -> None:
    shop = Shop(tmp_path, "- {id: a, tool: shop.put, with: {what: a}}\n")
    shop.put.idempotent = shop.put.askable = False
    shop.put.fails["a"] = Unavailable("shop.silent", "no answer", advice="look")
    run = await shop.begin()
    assert shop.outcome(run) == "doubted" and len(shop.put.sent) == 1
    shop.put.fails.clear()
    await shop.rig.order(run, order, "a")
    assert shop.outcome(run) == outcome and len(shop.put.sent) == sent
    shop.close()


async def test_an_order_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "- {id: rest, wait: {for: 1h}}\n")
    run = await shop.begin()
    with pytest.raises(Conflict, match=r"order\.unfit"):
        await shop.rig.order(run, "resume")
    assert "run.ordered" not in shop.rig.types(run)
    shop.close()


async def test_wrong_arguments_and_expressions_fail_the_step_with_a_reason(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "- {id: a, tool: shop.put, with: {what: '${inputs.colours}'}}\n")
    run = await shop.begin()
    assert shop.outcome(run) == "failed"
    assert shop.rig.device.failed[run].shown.code == "tool.arguments"
    shop.close()


async def test_a_tool_that_is_missing_holds_the_run(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "- {id: a, tool: shop.gone, with: {what: a}}\n")
    run = await shop.begin()
    assert shop.outcome(run) == "held"
    verdict = shop.rig.device.runs[run].shown.verdict
    assert verdict is not None and verdict.rules == ["host:tool-missing"]
    shop.close()


async def test_a_cancelled_parent_cancels_its_child(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "- {id: kid, run: child, inputs: {sku: X}}\n")
    slow = HEAD.format(name="child") + "steps:\n- {id: rest, wait: {for: 9d}}\n"
    text = HEAD.format(name="shop") + "steps:\n- {id: kid, run: child, inputs: {sku: X}}\n"
    shop.releases[1] = make_release(policy=POLICY, schema=SCHEMA, child=slow, shop=text)
    run = await shop.begin()
    assert len(shop.rig.device.runs) == 2
    await shop.rig.order(run, "cancel")
    await shop.rig.settle()
    assert sorted((shop.rig.device.closed or {}).values()) == ["cancelled", "cancelled"]
    shop.close()


async def test_one_branch_that_cannot_be_sent_does_not_hold_up_the_other(tmp_path: Path) -> None:
    rounds = "".join(f"{{id: b{n}, tool: shop.stamp2, with: {{what: b{n}}}}}, " for n in range(3))
    steps = f"- id: both\n  together:\n  - [{{id: a, tool: shop.unput, with: {{what: a}}}}]\n  - [{rounds}]\n"
    shop = Shop(tmp_path, steps.replace("stamp2", "put"))
    shop.unput.backoff = Backoff(attempts=1, first_s=0.01)
    shop.unput.fails["a"] = NotSent("shop.closed", "the door is closed", advice="wait")
    run = await shop.begin()
    assert shop.put.sent == ["b0", "b1", "b2"] and shop.outcome(run) == "intended"
    shop.unput.fails.clear()
    await shop.rig.settle()
    assert shop.outcome(run) == "done"
    shop.close()


async def test_a_person_who_says_stop_while_a_tool_is_called_stops_what_comes_next(tmp_path: Path) -> None:
    steps = "".join(f"- {{id: s{n}, tool: shop.put, with: {{what: w{n}}}}}\n" for n in range(4))
    shop = Shop(tmp_path, steps)
    called, go_on = asyncio.Event(), asyncio.Event()
    send = shop.put.send

    async def slow(action: Action, key: str) -> Receipt:
        called.set()
        await go_on.wait()
        return await send(action, key)

    shop.put.send = slow  # type: ignore[method-assign]  # one tool's own instance
    await shop.rig.install()
    await shop.rig.lend()
    run = await shop.rig.start("shop", sku="S1")
    shop.rig.journal.attach(asyncio.get_running_loop())
    work = asyncio.create_task(shop.rig.runner.work())
    shop.rig.runner.wake_all()
    await called.wait()
    order = Order("ord_1", "dev", run, "", "pause", "mara", "owner", 0, "wait")
    ordered = asyncio.create_task(shop.rig.runner.order(order, None))
    await asyncio.sleep(0.02)
    go_on.set()
    async with asyncio.timeout(60):
        await ordered
        while not shop.rig.runner.idle:
            await asyncio.sleep(0.01)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert shop.outcome(run) == "paused" and shop.put.sent == ["w0"]
    shop.close()


async def test_what_cannot_be_read_back_in_time_keeps_its_result(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "- {id: a, tool: shop.put, with: {what: a}}\n")
    shop.put.timeout_s = 0.2

    async def never(action: Action, key: str, receipt: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        await asyncio.sleep(60)
        return True, {}

    shop.put.observe = never  # type: ignore[method-assign]  # one tool's own instance
    run = await shop.begin()
    assert shop.outcome(run) == "resulted" and shop.rig.types(run)[-1] == "result.recorded"
    assert [error.code for error in shop.rig.troubles] == ["tool.timeout"]
    shop.close()
