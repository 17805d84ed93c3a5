"""Traces: one run's spans nest, begin before they end, and are the same whoever makes them."""

from __future__ import annotations

import msgspec

from shared import entries as e
from shared.telemetry import ATTRIBUTES, Span, spans, trace_root
from tests.shared import one_step as one
from tests.shared.stories import START, Story, opened
from tests.shared.telemetry.lives import ORIGIN, SECOND, Life, stories


def of_runs(story: Story) -> dict[str, list[Span]]:
    """The spans of each run of a story."""
    entries: dict[str, list[e.Entry]] = {}
    for entry in story.entries:
        entries.setdefault(entry.run, []).append(entry)
    entries.pop("", None)

    def opening(run: str) -> e.RunOpenedV1 | None:
        first = entries[run][0].facts if run in entries else None
        return first if isinstance(first, e.RunOpenedV1) else None

    return {run: spans(mine, origin=ORIGIN, root=trace_root(run, opening)) for run, mine in entries.items()}


def by_name(found: list[Span], name: str) -> Span:
    (only,) = (span for span in found if span.name == name)
    return only


def seconds(span: Span) -> tuple[float, float]:
    return (span.start - START) / SECOND, (span.end - START) / SECOND


# --- one run ------------------------------------------------------------------------------------------------------


def test_a_run_with_a_plan_a_question_and_an_effect() -> None:
    life = Life()
    life.tell(opened())
    thought = msgspec.structs.replace(one.PLAN, latency_us=2 * SECOND, model="ab" * 32)
    life.tell(thought, one.ASK, msgspec.structs.replace(one.ASKED, expires_at=10**18), at=5)
    life.tell(one.ESCALATED, at=10)
    life.tell(one.YES, one.AGAIN, one.APPROVED_INTENT, at=20)
    life.tell(one.RESULT, one.SEEN, one.DONE, at=23)
    found = spans(life.of(), origin=ORIGIN)
    assert [(span.name, *seconds(span)) for span in found] == [
        ("invoke_agent p", 0, 23),
        ("step first", 3, 23),
        ("plan", 3, 5),
        ("approval", 5, 20),
        ("execute_tool tool", 20, 23),
    ]
    run, step, plan, approval, effect = found
    assert run.parent == "" and step.parent == run.id
    assert {plan.parent, approval.parent, effect.parent} == {step.id}
    assert run.attributes["outrider.outcome"] == step.attributes["outrider.outcome"] == "done"
    assert plan.attributes["gen_ai.usage.input_tokens"] == 3 and plan.attributes["gen_ai.request.model"] == "ab" * 32
    assert approval.attributes["outrider.answer"] == "approve"
    assert [name for name, _, _ in approval.events] == ["escalated", "answer"]
    assert effect.attributes["gen_ai.tool.call.id"] == "key"
    assert [name for name, _, _ in step.events] == ["verdict", "verdict", "observed"]
    assert not any(span.error for span in found)


def test_a_question_to_two_people_lasts_until_the_second() -> None:
    life = Life()
    life.tell(opened(), one.PLAN, one.ASK, msgspec.structs.replace(one.ASKED_TWO, expires_at=10**18))
    life.tell(one.YES, at=10)
    life.tell(one.also(one.YES, by="theo"), at=30)
    approval = by_name(spans(life.of(), origin=ORIGIN), "approval")
    assert seconds(approval) == (0, 30)
    assert [at for _, at, _ in approval.events] == [START + 10 * SECOND, START + 30 * SECOND]


def test_what_went_wrong_is_an_error_of_its_span() -> None:
    life = Life()
    life.tell(opened(), one.PLAN, one.ALLOW, one.INTENT, one.FAILED, e.RunClosed("failed", "tool.no"))
    errors = {span.name: span.error for span in spans(life.of(), origin=ORIGIN)}
    assert errors == {
        "invoke_agent p": "tool.no",
        "step first": "tool.no",
        "plan": "",
        "execute_tool tool": "tool.no",
    }


def test_what_was_dropped_is_no_error() -> None:
    life = Life()
    life.tell(opened(), one.PLAN, one.ASK, one.ASKED)
    life.tell(one.order("cancel"), at=4)
    life.tell(e.RunClosed("cancelled", "run.cancelled"), at=5)
    found = spans(life.of(), origin=ORIGIN)
    assert [span.error for span in found] == [""] * 4
    assert seconds(by_name(found, "approval")) == (0, 5), "a question nobody settled lasts as long as its run"
    assert seconds(by_name(found, "step first")) == (0, 5)


def test_an_effect_that_did_not_happen_ends_with_that_word() -> None:
    life = Life()
    life.tell(opened(), one.PLAN, one.ALLOW, one.INTENT, one.DOUBT)
    life.tell(one.order("not-happened", step="first"), at=60)
    effect = by_name(spans(life.of(), origin=ORIGIN), "execute_tool tool")
    assert seconds(effect) == (0, 60)
    assert effect.attributes["outrider.outcome"] == "not-happened"


def test_a_plan_that_took_longer_than_its_run_begins_with_it() -> None:
    life = Life()
    life.tell(opened(), msgspec.structs.replace(one.PLAN, latency_us=10**12), at=1)
    assert {seconds(span) for span in spans(life.of(), origin=ORIGIN)} == {(1, 1)}


def test_nothing_is_no_trace() -> None:
    assert spans([], origin=ORIGIN) == []


# --- retries ------------------------------------------------------------------------------------------------------


def test_a_retry_begins_new_spans_and_leaves_the_old_ones_as_they_were() -> None:
    life = Life()
    life.tell(opened(), one.BROKE)
    life.tell(one.LOST, at=5)
    before = spans(life.of(), origin=ORIGIN)
    life.tell(one.order("retry"), at=1000)
    life.tell(*one.ACTED, one.DONE, at=1002)
    found = spans(life.of(), origin=ORIGIN)
    assert found[: len(before)] == before
    again = found[len(before) :]
    assert {span.attempt for span in again} == {1} and {span.trace for span in again} == {before[0].trace}
    assert seconds(again[0]) == (1000, 1002) and again[0].error == ""
    assert not {span.id for span in again} & {span.id for span in before}


def test_a_dismissal_changes_nothing() -> None:
    life = Life()
    life.tell(opened(), one.BROKE, one.LOST)
    before = spans(life.of(), origin=ORIGIN)
    life.tell(one.order("dismiss"), at=1000)
    assert spans(life.of(), origin=ORIGIN) == before


# --- runs within runs ---------------------------------------------------------------------------------------------


def chain(*names: str) -> dict[str, e.RunOpened]:
    """Each run opened by the one before it."""
    found = {}
    for parent, name in zip(("", *names), names, strict=False):
        found[name] = opened(parent=parent, parent_step="call" if parent else "")
    return found


def test_a_grandchild_is_in_the_trace_of_the_outermost_run() -> None:
    runs = chain("a", "b", "c")
    assert {name: trace_root(name, runs.get) for name in runs} == {"a": "a", "b": "a", "c": "a"}
    life = Life()
    for name, facts in runs.items():
        life.tell(facts, run=name)
    tops = {name: spans(life.of(name), origin=ORIGIN, root=trace_root(name, runs.get))[0] for name in runs}
    assert len({top.trace for top in tops.values()}) == 1
    assert tops["a"].parent == "" and tops["b"].parent and tops["c"].parent


def test_a_run_whose_parent_is_not_there_is_its_own_root() -> None:
    assert trace_root("b", {"b": opened(parent="a")}.get) == "b"
    assert trace_root("x", lambda _: None) == "x"


def test_runs_that_name_each_other_have_an_end() -> None:
    runs = {"a": opened(parent="b"), "b": opened(parent="a")}
    assert trace_root("a", runs.get) in runs


def test_a_child_hangs_below_the_step_that_waits_for_it() -> None:
    life = Life()
    life.tell(opened(), e.StepEntered("call", "run", 0, 0, "child"), run="a")
    life.tell(msgspec.structs.replace(opened(parent="a", parent_step="call"), trigger="run:a:call:0"), run="child")
    above = spans(life.of("a"), origin=ORIGIN)
    (below,) = spans(life.of("child"), origin=ORIGIN, root="a")
    assert below.parent == by_name(above, "step call").id
    assert below.trace == above[0].trace


def test_a_child_of_a_retried_step_hangs_below_its_retry() -> None:
    life = Life()
    life.tell(opened(), e.StepEntered("first", "run", 0, 0, "c0"), e.StepFailed("first", "step.timeout"), run="a")
    life.tell(e.RunClosed("failed", "step.timeout"), one.order("retry"), run="a")
    life.tell(e.StepEntered("first", "run", 0, 0, "c1"), run="a")
    steps = [span for span in spans(life.of("a"), origin=ORIGIN) if span.name == "step first"]
    for number, step in enumerate(steps):
        child = msgspec.structs.replace(opened(parent="a", parent_step="first"), trigger=f"run:a:first:{number}")
        life.tell(child, run=f"c{number}")
        assert spans(life.of(f"c{number}"), origin=ORIGIN, root="a")[0].parent == step.id
    assert len(steps) == 2


def test_runs_of_the_same_name_on_two_devices_have_two_traces() -> None:
    life = Life()
    life.tell(opened())
    (here,), (there,) = spans(life.of(), origin="city/a"), spans(life.of(), origin="city/b")
    assert (here.trace, here.id) != (there.trace, there.id)


def test_ids_never_change() -> None:
    life = Life()
    life.tell(opened(), one.PLAN)
    assert [(span.trace, span.id) for span in spans(life.of(), origin=ORIGIN)] == GOLDEN


GOLDEN = [
    ("51e28dba587dd8f4a3b61431e9e238dc", "c5c4cc316fc2d469"),
    ("51e28dba587dd8f4a3b61431e9e238dc", "d9ca243b9016600c"),
    ("51e28dba587dd8f4a3b61431e9e238dc", "b2c940a579fb486d"),
]

# --- any story ----------------------------------------------------------------------------------------------------


def test_spans_nest_and_never_end_before_they_begin() -> None:
    names = set()
    for story in stories(70, seed=500):
        runs = of_runs(story)
        everything = {span.id: span for found in runs.values() for span in found}
        assert len(everything) == sum(len(found) for found in runs.values()), "each id once"
        assert {len(span.trace) for span in everything.values()} == {32}
        assert len({span.trace for span in everything.values()}) == 1, "children are in the trace of their root"
        for run, found in runs.items():
            mine = {span.id: span for span in found}
            first, last = (at for at in _ends(story, run))
            for span in found:
                names.add(span.name.split()[0])
                assert first <= span.start <= span.end <= last, span
                assert all(span.start <= at <= span.end for _, at, _ in span.events), span
                above = mine.get(span.parent)
                if above is not None:
                    assert above.start <= span.start and span.end <= above.end, (span, above)
                    assert above.attempt == span.attempt
                elif span.parent:
                    assert everything[span.parent].name.startswith("step "), "a child hangs below a step of its parent"
    assert names == {"invoke_agent", "step", "plan", "approval", "execute_tool"}


def _ends(story: Story, run: str) -> tuple[int, int]:
    times = [entry.at for entry in story.entries if entry.run == run]
    return times[0], times[-1]


def test_a_trace_grows_but_what_has_ended_stays() -> None:
    """What was sent when a run closed is what a later reader finds."""
    for story in stories(30, seed=900):
        mine: list[e.Entry] = []
        for entry in story.entries:
            if entry.run != story.entries[0].run:
                continue
            mine.append(entry)
            if isinstance(entry.facts, e.RunClosed):
                then = spans(mine, origin=ORIGIN)
                whole = spans([x for x in story.entries if x.run == entry.run], origin=ORIGIN)
                assert whole[: len(then)] == then


def test_every_attribute_is_described_and_occurs() -> None:
    found = set()
    for story in stories(70, seed=1):
        for runs in of_runs(story).values():
            for span in runs:
                found |= set(span.attributes) | {key for _, _, told in span.events for key in told}
                found |= {"error.type"} if span.error else set()
    life = Life()
    life.tell(opened(), msgspec.structs.replace(one.PLAN, model="ab" * 32))
    found |= {key for span in spans(life.of(), origin=ORIGIN) for key in span.attributes}
    assert found == set(ATTRIBUTES)
