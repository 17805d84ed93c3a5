"""What a run does next, for each shape of playbook and each thing that may go wrong in it."""

from __future__ import annotations

from typing import Any

import pytest

from shared import entries as e
from shared.playbook import Playbook
from shared.runs import Run, moves
from tests.shared.one_step import (
    ACTED,
    AGAIN,
    ALLOW,
    ASK,
    ASKED,
    DENY,
    DOUBT,
    FAILED,
    HELD,
    INTENT,
    NO,
    NO_PLAN,
    PLAN,
    RECALL,
    RESULT,
    SEEN,
    UNSEEN,
    YES,
    after,
    also,
    order,
)
from tests.shared.stories import playbook


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "tool": "a.tool", **more}


def acted(name: str) -> list[e.Facts]:
    return [also(facts, step=name) for facts in ACTED]


def begun(name: str) -> list[e.Facts]:
    """Its intent is open."""
    return [also(facts, step=name) for facts in (PLAN, ALLOW, INTENT)]


def broke(name: str, code: str = "x.bad") -> e.Facts:
    return e.StepFailed(name, code)


def together(name: str, branches: int = 2) -> e.Facts:
    return e.StepEntered(name, "together", 0, branches, "")


def each(name: str, count: int) -> e.Facts:
    return e.StepEntered(name, "each", 0, count, "")


def said(run: Run, book: Playbook) -> list[str]:
    """The moves in short: ``act s1``, ``close failed x.bad``."""
    found = [(move.move.value, move.step, move.outcome, move.code) for move in moves(run, book)]
    return [" ".join(part for part in one if part) for one in found]


def after_moves(steps: list[dict[str, Any]], *facts: e.Facts, **more: Any) -> list[str]:
    dry = more.pop("dry_run", False)
    return said(after(*facts, dry_run=dry), playbook(steps, **more))


# --- one step -----------------------------------------------------------------------------------------------------

ONE = [tool("first"), tool("second")]


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ([], "start first"),
        ([RECALL], "start first"),
        ([NO_PLAN], "close referred unsure"),
        ([PLAN], "judge first"),
        ([PLAN, DENY], "close denied r"),
        ([PLAN, HELD], "hold first"),
        ([PLAN, ALLOW], "act first"),
        ([PLAN, ASK], "ask first"),
        ([PLAN, ASK, ASKED], "wait first"),
        ([PLAN, ASK, ASKED, NO], "close declined approval.denied"),
        ([PLAN, ASK, ASKED, YES], "judge first"),
        ([PLAN, ASK, ASKED, YES, AGAIN], "act first"),
        ([PLAN, ALLOW, INTENT], "settle first"),
        ([PLAN, ALLOW, INTENT, DOUBT], "wait first"),
        ([PLAN, ALLOW, INTENT, FAILED], "close failed tool.no"),
        ([PLAN, ALLOW, INTENT, RESULT], "observe first"),
        ([PLAN, ALLOW, INTENT, RESULT, UNSEEN], "back failed effect.mismatch"),
        (ACTED, "start second"),
        ([*ACTED, e.StepSkipped("second")], "close done"),
        ([*ACTED, e.StepSkipped("second"), e.RunClosed("done", "")], "stop"),
        ([e.StepEntered("first", "time", 0, 0, "")], "wait first"),
        ([broke("first")], "close failed x.bad"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_move_after_each_state(facts: list[e.Facts], found: str) -> None:
    assert after_moves(ONE, *facts) == [found]


def test_a_dry_run_rehearses_what_it_would_do_or_ask() -> None:
    assert after_moves(ONE, PLAN, ALLOW, dry_run=True) == ["rehearse first"]
    assert after_moves(ONE, PLAN, ASK, dry_run=True) == ["rehearse first"]
    over = [e.StepSkipped("first"), e.StepSkipped("second")]
    assert after_moves(ONE, *over, dry_run=True) == ["close rehearsed"]


def test_what_may_fail_is_passed_over() -> None:
    steps = [tool("first", on_failure="continue"), tool("second")]
    for facts in ([broke("first")], [PLAN, DENY], [PLAN, ASK, ASKED, NO], [NO_PLAN]):
        assert after_moves(steps, *facts) == ["start second"]
    assert after_moves(steps, broke("first"), broke("second")) == ["close failed x.bad"]


# --- pause and cancel ---------------------------------------------------------------------------------------------


def test_a_paused_run_only_finds_out_what_has_happened() -> None:
    steps = [{"id": "all", "together": [[tool("a")], [tool("b")], [tool("c")]]}]
    facts = [together("all", 3), *begun("a"), *acted("b")[:-1], also(PLAN, step="c"), order("pause")]
    assert after_moves(steps, *facts) == ["settle a", "observe b"]
    assert after_moves(ONE, PLAN, order("pause")) == ["stop"]
    assert after_moves(ONE, PLAN, order("pause"), order("resume", "2")) == ["judge first"]


def test_a_cancelled_run_takes_back_what_it_did() -> None:
    assert after_moves(ONE, PLAN, order("cancel")) == ["close cancelled run.cancelled"]
    assert after_moves(ONE, *ACTED, order("cancel")) == ["back cancelled run.cancelled"]
    assert after_moves(ONE, *ACTED, order("cancel"), on_failure="stop") == ["close cancelled run.cancelled"]
    assert after_moves(ONE, *begun("first"), order("cancel")) == ["settle first"]
    assert after_moves(ONE, *begun("first"), DOUBT, order("cancel")) == ["wait first"]


# --- side by side -------------------------------------------------------------------------------------------------

BOTH = [{"id": "all", "together": [[tool("a"), tool("a2")], [tool("b")]]}, tool("last")]


def test_branches_go_side_by_side() -> None:
    assert after_moves(BOTH) == ["start all"]
    assert after_moves(BOTH, together("all")) == ["start a", "start b"]
    assert after_moves(BOTH, together("all"), *acted("a"), *begun("b")) == ["start a2", "settle b"]
    assert after_moves(BOTH, together("all"), *acted("a"), *acted("a2"), *acted("b")) == ["start last"]


def test_a_failed_branch_ends_the_run_once_the_others_are_known() -> None:
    facts = [together("all"), *begun("a"), broke("b")]
    assert after_moves(BOTH, *facts) == ["settle a"]
    assert after_moves(BOTH, *facts, also(DOUBT, step="a")) == ["wait a"]
    assert after_moves(BOTH, *facts, also(RESULT, step="a")) == ["observe a"]
    done = [*facts, also(RESULT, step="a"), also(SEEN, step="a")]
    assert after_moves(BOTH, *done) == ["back failed x.bad"]
    assert after_moves(BOTH, *done, on_failure="stop") == ["close failed x.bad"]


def test_meanwhile_questions_of_other_branches_are_dropped() -> None:
    steps = [{"id": "all", "together": [[tool("first")], [tool("b")], [tool("c")]]}]
    facts = [together("all", 3), PLAN, ASK, ASKED, *begun("b"), broke("c")]
    assert after_moves(steps, *facts) == ["settle b", "drop first step.dropped"]
    assert after_moves(steps, *facts, broke("first", "step.dropped")) == ["settle b"]


def test_a_group_that_may_fail_lets_its_other_branches_end() -> None:
    steps = [BOTH[0] | {"on_failure": "continue"}, tool("last")]
    assert after_moves(steps, together("all"), broke("a"), *begun("b")) == ["settle b"]
    assert after_moves(steps, together("all"), broke("a"), *acted("b")) == ["start last"]


def test_a_group_within_one_that_may_fail_stops_as_a_whole() -> None:
    inner = {"id": "inner", "together": [[tool("a")], [tool("b")], [tool("c")]]}
    steps = [{"id": "all", "on_failure": "continue", "together": [[inner], [tool("d")]]}, tool("last")]
    facts = [together("all"), together("inner", 3), broke("a"), *begun("b"), also(PLAN, step="c")]
    assert after_moves(steps, *facts) == ["drop c step.dropped", "start d", "settle b"]
    facts += [broke("c", "step.dropped"), *acted("d")]
    assert after_moves(steps, *facts) == ["start last", "settle b"], "the run goes on, and finds out meanwhile"
    facts += acted("last")
    assert after_moves(steps, *facts) == ["settle b"], "it does not end before it knows"
    facts += [also(RESULT, step="b"), also(SEEN, step="b")]
    assert after_moves(steps, *facts) == ["close done"]


@pytest.mark.parametrize("kind", ["together", "each"])
def test_a_group_whose_time_is_over_and_that_may_fail(kind: str) -> None:
    """In-flight moves of steps that the walk no longer comes by are still made."""
    if kind == "together":
        group = {"id": "all", "together": [[tool("a")], [tool("b")], [tool("c")]]}
        names, entered = ["a", "b", "c"], together("all", 3)
    else:
        group = {"id": "all", "for_each": "[1]", "at_once": 3, "steps": [tool("a")]}
        names, entered = ["a#0", "a#1", "a#2"], each("all", 3)
    steps = [group | {"timeout": "1h", "on_failure": "continue"}, tool("last")]
    facts = [entered, *begun(names[0]), *acted(names[1])[:-1], also(PLAN, step=names[2])]
    assert after_moves(steps, *facts)[-1] == "wait all", "somebody must look at its time"
    facts.append(broke("all", "step.timeout"))
    dropped = f"drop {names[2]} step.dropped"
    assert after_moves(steps, *facts) == [dropped, "start last", f"settle {names[0]}", f"observe {names[1]}"]
    facts += [broke(names[2], "step.dropped"), also(SEEN, step=names[1]), *acted("last")]
    assert after_moves(steps, *facts) == [f"settle {names[0]}"]
    facts += [also(FAILED, step=names[0])]
    assert after_moves(steps, *facts) == ["close done"]


def test_a_group_whose_time_is_over_ends_the_run() -> None:
    steps = [BOTH[0] | {"timeout": "1h"}]
    facts = [together("all"), *begun("a"), broke("all", "step.timeout")]
    assert after_moves(steps, *facts) == ["settle a"]
    assert after_moves(steps, *facts, also(FAILED, step="a")) == ["close failed step.timeout"]


def test_only_a_group_with_a_time_limit_is_looked_at() -> None:
    assert "wait all" not in after_moves(BOTH, together("all"))
    steps = [BOTH[0] | {"timeout": "1h"}, tool("last")]
    assert after_moves(steps, together("all")) == ["start a", "start b", "wait all"]
    over = [together("all"), *acted("a"), *acted("a2"), *acted("b")]
    assert after_moves(steps, *over) == ["start last"]


# --- rounds -------------------------------------------------------------------------------------------------------


def rounds(**more: Any) -> list[dict[str, Any]]:
    return [{"id": "all", "for_each": "[1]", "steps": [tool("a"), tool("b")], **more}, tool("last")]


def test_rounds_go_side_by_side_but_not_all_at_once() -> None:
    assert after_moves(rounds(at_once=2), each("all", 5)) == ["start a#0", "start a#1"]
    facts = [each("all", 5), *acted("a#0"), *begun("a#1")]
    assert after_moves(rounds(at_once=2), *facts) == ["start b#0", "settle a#1"]
    facts += acted("b#0")
    assert after_moves(rounds(at_once=2), *facts) == ["settle a#1", "start a#2"]


def test_no_rounds_and_the_last_of_them() -> None:
    assert after_moves(rounds(), each("all", 0)) == ["start last"]
    assert after_moves(rounds(), each("all", 1), *acted("a#0"), *acted("b#0")) == ["start last"]


def test_a_failed_round_ends_all_of_them_or_itself() -> None:
    facts = [each("all", 3), broke("a#0"), *acted("a#1")]
    assert after_moves(rounds(), *facts) == ["back failed x.bad"]
    assert after_moves(rounds(on_failure="continue"), *facts) == ["start b#1", "start a#2"]
    inner = [tool("a", on_failure="continue"), tool("b")]
    assert after_moves(rounds(steps=inner), *facts) == ["start b#0", "start b#1", "start a#2"]


def test_rounds_within_rounds_have_names_of_their_own() -> None:
    steps = [{"id": "all", "for_each": "[1]", "steps": [{"id": "in", "for_each": "[1]", "steps": [tool("a")]}]}]
    facts = [each("all", 2), each("in#0", 2), each("in#1", 1)]
    assert after_moves(steps, *facts) == ["start a#0.0", "start a#0.1", "start a#1.0"]
    facts += [*acted("a#0.0"), *acted("a#0.1"), *acted("a#1.0")]
    assert after_moves(steps, *facts) == ["close done"]


def test_only_its_own_round_is_dropped_with_a_group() -> None:
    inner = {"id": "in", "together": [[tool("a")], [tool("b")]]}
    steps = [{"id": "all", "for_each": "[1]", "on_failure": "continue", "at_once": 16, "steps": [inner]}]
    facts = [each("all", 11)] + [together(f"in#{n}") for n in range(11)]
    facts += [broke("a#1"), also(PLAN, step="b#1"), also(PLAN, step="b#10")]
    found = after_moves(steps, *facts)
    assert "drop b#1 step.dropped" in found and "judge b#10" in found and "start a#0" in found


# --- the way back -------------------------------------------------------------------------------------------------

BACK = e.UndoBegun("failed", "x.bad")
THREE = [tool("first"), tool("b"), tool("c")]
GONE = [*ACTED, *acted("b"), broke("c"), BACK]
UNDO_B = [also(facts, step="~b") for facts in ACTED]


def test_taking_back_goes_from_the_newest_to_the_oldest() -> None:
    assert after_moves(THREE, *GONE) == ["undo b"]
    assert after_moves(THREE, *GONE, also(PLAN, step="~b")) == ["judge ~b"]
    assert after_moves(THREE, *GONE, *UNDO_B[:3]) == ["settle ~b"]
    assert after_moves(THREE, *GONE, *UNDO_B) == ["undo first"]
    assert after_moves(THREE, *GONE, e.StepSkipped("~b"), *[also(facts, step="~first") for facts in ACTED]) == [
        "close failed x.bad"
    ]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ([also(PLAN, step="~b"), also(DENY, step="~b")], "r"),
        ([*UNDO_B[:3], also(FAILED, step="~b")], "tool.no"),
        ([*UNDO_B[:4], also(UNSEEN, step="~b")], "effect.mismatch"),
        ([also(PLAN, step="~b"), broke("~b", "budget.time")], "budget.time"),
    ],
)
def test_what_cannot_be_taken_back_is_left_and_the_rest_goes_on(wrong: list[e.Facts], code: str) -> None:
    assert after_moves(THREE, *GONE, *wrong) == [f"leave b {code}"]
    left = [*GONE, *wrong, e.UndoLeft("b", code)]
    assert after_moves(THREE, *left) == ["undo first"]
    left += [e.StepSkipped("~first")]
    assert after_moves(THREE, *left) == ["wait ~b"]
    assert after_moves(THREE, *left, order("handled", step="~b")) == ["close failed x.bad"]


def test_a_pause_on_the_way_back() -> None:
    assert after_moves(THREE, *GONE, order("pause")) == ["stop"]
    assert after_moves(THREE, *GONE, also(PLAN, step="~b"), order("pause")) == ["stop"]
    assert after_moves(THREE, *GONE, *UNDO_B[:3], order("pause")) == ["settle ~b"]
    assert after_moves(THREE, *GONE, *UNDO_B[:4], order("pause")) == ["observe ~b"]
    assert after_moves(THREE, *GONE, also(PLAN, step="~b"), also(DENY, step="~b"), order("pause")) == ["stop"]
    over = [*GONE, *UNDO_B, e.StepSkipped("~first"), order("pause")]
    assert after_moves(THREE, *over) == ["stop"]


# --- once more ----------------------------------------------------------------------------------------------------

RETRY = [e.RunClosed("failed", "x.bad"), order("retry")]


def test_a_retry_goes_on_from_what_ended_the_run() -> None:
    assert after_moves(THREE, *ACTED, broke("b"), *RETRY, on_failure="stop") == ["start b"]
    again = [*ACTED, broke("b"), *RETRY, *acted("b")]
    assert after_moves(THREE, *again, on_failure="stop") == ["start c"]


def test_what_was_passed_over_stays_so_in_a_retry() -> None:
    """The letter failed, so somebody was called. A retry of what came later must not send the letter as well."""
    steps = [tool("letter", on_failure="continue"), tool("call"), tool("note")]
    facts = [broke("letter", "tool.no"), *acted("call"), broke("note"), *RETRY]
    assert after_moves(steps, *facts, on_failure="stop") == ["start note"]
    grouped = [{"id": "all", "on_failure": "continue", "together": [[tool("letter")], [tool("call")]]}, tool("note")]
    facts = [together("all"), broke("letter", "tool.no"), *acted("call"), broke("note"), *RETRY]
    assert after_moves(grouped, *facts, on_failure="stop") == ["start note"]
    timed = [grouped[0] | {"timeout": "1h"}, tool("note")]
    facts = [together("all"), broke("letter"), broke("all", "step.timeout"), broke("note"), *RETRY]
    assert after_moves(timed, *facts, on_failure="stop") == ["start note"]


def test_in_a_group_the_failed_branch_is_begun_anew() -> None:
    facts = [together("all"), *acted("a"), broke("a2"), *acted("b"), *RETRY]
    assert after_moves(BOTH, *facts, on_failure="stop") == ["start a2"]
    timed = [BOTH[0] | {"timeout": "1h"}, tool("last")]
    facts = [together("all"), *acted("a"), broke("all", "step.timeout"), *RETRY]
    assert after_moves(timed, *facts, on_failure="stop") == ["start a2", "start b", "wait all"]


def test_what_was_taken_back_is_done_again_even_in_a_group_that_was_over() -> None:
    steps = [{"id": "all", "together": [[tool("a")], [tool("b")]]}, tool("c")]
    facts = [together("all"), *acted("a"), *acted("b"), broke("c"), BACK]
    facts += [*[also(one, step="~b") for one in ACTED], *[also(one, step="~a") for one in ACTED], *RETRY]
    assert after_moves(steps, *facts) == ["start a", "start b"]


def test_what_is_to_be_looked_at_again_is_listed_at_once() -> None:
    """``first`` was taken back and is begun anew; ``b``, which must not be, came out otherwise: both at once."""
    steps = [tool("first"), tool("b", undo="none")]
    facts = [*ACTED, *acted("b")[:-1], also(UNSEEN, step="b"), e.UndoBegun("failed", "effect.mismatch")]
    facts += [e.StepSkipped("~b"), *[also(one, step="~first") for one in ACTED]]
    facts += [e.RunClosed("failed", "effect.mismatch"), order("retry")]
    assert after_moves(steps, *facts) == ["start first", "observe b"]


def test_two_of_them_are_looked_at_side_by_side() -> None:
    steps = [tool("a", on_failure="continue"), tool("b")]
    facts = [also(one, step=name) for name in "ab" for one in (PLAN, ALLOW, INTENT, RESULT, UNSEEN)]
    facts += [e.RunClosed("failed", "effect.mismatch"), order("retry")]
    assert after_moves(steps, *facts, on_failure="stop") == ["observe a", "observe b"]
