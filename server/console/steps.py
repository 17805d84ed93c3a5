"""A run as a tree: the steps its playbook names, each with where it stands, and what was or is being taken back.

Pure: a run and its playbook in, nodes out. Where the playbook cannot be read any more, the steps that have entries are
shown one below the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from server.console import formats
from shared.playbook import Playbook, PlaybookStep
from shared.runs import DONE, UNDO, Run, Step
from shared.runs.words import OUTCOMES

ROUNDS = 12  # of a for_each shown at once; of more, only those that are not simply done
_ICONS = {
    "planner": "bulb",
    "tool": "bolt",
    "confirm": "user-question",
    "wait": "hourglass",
    "together": "arrows-split",
    "for_each": "repeat",
    "run": "sitemap",
}
# What a step's status says while it is not over: words, tone.
_STATES = {
    "recalled": ("Planning", "info"),
    "planned": ("Planned", "plain"),
    "judged": ("Judged", "plain"),
    "held": ("Held", "warn"),
    "waiting": ("Waiting for a person", "ask"),
    "approved": ("Approved", "ok"),
    "intended": ("Acting", "info"),
    "doubted": ("In doubt", "bad"),
    "resulted": ("Acted", "info"),
    "entered": ("Under way", "info"),
    "left": ("To be taken back by hand", "bad"),
}
_ENDS = {
    "skipped": ("Skipped", "plain"),
    "rehearsed": ("Rehearsed", "info"),
    "handled": ("Taken back by hand", "ok"),
}
_DROPPED = ("run.cancelled", "run.undoing", "run.closed")
_NOT_BEGUN = ("Not begun", "none")
_URGENT = ("doubted", "left", "waiting", "held")


@dataclass(frozen=True)
class Node:
    """One step. ``words`` and ``tone`` say where it stands; ``tool`` or another ``note`` what it does, ``code`` why it
    ended so; ``at`` is a time it waits for, ``child`` another run, ``approval`` an open question. ``undo`` takes its
    effect back. ``hidden`` tells of rounds that are not shown, ``folded`` says that what is below may stay closed."""

    title: str
    icon: str
    words: str
    tone: str
    note: str = ""
    code: str = ""
    at: int = 0
    child: str = ""
    approval: str = ""
    inner: list[Node] = field(default_factory=list)
    undo: Node | None = None
    hidden: str = ""
    folded: bool = False


def tree(run: Run, book: Playbook | None, name: Callable[[str], str]) -> list[Node]:
    """The steps of a run in the playbook's order. ``name`` gives a step's name in words."""
    if book is None:
        forward = [step for step in run.steps.values() if not step.id.startswith(UNDO)]
        return [_node(run, step.id, _icon_of(step), name) for step in forward]
    return _Tree(run, name).sequence(book.steps, "")


def is_plain(book: Playbook | None, run: Run) -> bool:
    """One step, and nothing to take back: its story is all there is to see."""
    return (len(book.all_steps) if book else len(run.steps)) <= 1 and run.undoing is None


class _Tree:
    def __init__(self, run: Run, name: Callable[[str], str]) -> None:
        self._run, self._name = run, name

    def sequence(self, steps: list[PlaybookStep], suffix: str) -> list[Node]:
        return [self._one(step, suffix) for step in steps]

    def _one(self, step: PlaybookStep, suffix: str) -> Node:
        state = self._run.steps.get(step.id + suffix)
        icon = _ICONS.get(step.kind, "bolt")
        if step.kind == "together":
            return self._together(step, suffix, state, icon)
        if step.kind == "for_each":
            return self._each(step, suffix, state, icon)
        node = _node(self._run, step.id + suffix, icon, self._title(step))
        return node if node.note else replace(node, note=_note(step))

    def _title(self, step: PlaybookStep) -> Callable[[str], str]:
        """Its label where the playbook gives one. Rounds are named by what stands above it."""
        words = step.label or formats.words(step.id)
        return lambda name: f"Taking back: {words}" if name.startswith(UNDO) else words

    def _together(self, step: PlaybookStep, suffix: str, state: Step | None, icon: str) -> Node:
        branches = [
            Node(f"Branch {number}", "chevron-right", "", "plain", inner=self.sequence(branch, suffix))
            for number, branch in enumerate(step.together or (), 1)
        ]
        return self._group(step, state, icon, branches, note="side by side")

    def _each(self, step: PlaybookStep, suffix: str, state: Step | None, icon: str) -> Node:
        count = state.entered.count if state is not None and state.entered is not None else 0
        ends = [f"{suffix}.{number}" if suffix else f"#{number}" for number in range(count)]
        shown, hidden = _rounds(self._run, step, ends)
        rounds = [self._round(step, number, ends[number]) for number in shown]
        note = formats.count(count, "round") if state is not None else "for each item of a list"
        return self._group(step, state, icon, rounds, note=note, hidden=hidden)

    def _round(self, step: PlaybookStep, number: int, end: str) -> Node:
        """One round; of a single step, that step alone."""
        inner = self.sequence(step.steps, end)
        if len(inner) == 1:
            return replace(inner[0], title=f"Round {number + 1}: {inner[0].title}")
        return Node(f"Round {number + 1}", "chevron-right", "", "plain", inner=inner)

    def _group(
        self, step: PlaybookStep, state: Step | None, icon: str, inner: list[Node], *, note: str, hidden: str = ""
    ) -> Node:
        words, tone = _NOT_BEGUN
        if state is not None:
            words, tone = _state(state)
            if state.status == "entered":
                words, tone = _within(inner, "not begun" in hidden or "under way" in hidden)
        code = state.code if state is not None and tone == "bad" else ""
        folded = tone in ("ok", "none", "plain")
        return Node(
            formats.words(step.id), icon, words, tone, note=note, code=code, inner=inner, hidden=hidden, folded=folded
        )


def _rounds(run: Run, step: PlaybookStep, ends: list[str]) -> tuple[list[int], str]:
    """Which rounds are shown, and what there is to say of the rest."""
    if len(ends) <= ROUNDS:
        return list(range(len(ends))), ""
    ids = [one.id for one in _all(step.steps)]
    ranks = [_rank([run.steps[name] for base in ids if (name := base + end) in run.steps], len(ids)) for end in ends]
    shown = sorted(sorted((n for n, rank in enumerate(ranks) if rank < 3), key=lambda n: (ranks[n], n))[:ROUNDS])
    rest = [rank for number, rank in enumerate(ranks) if number not in set(shown)]
    told = [
        f"{formats.count(number)} {words}"
        for rank, words in (
            (0, "that need somebody"),
            (1, "that failed"),
            (2, "under way"),
            (3, "done"),
            (4, "not begun"),
        )
        if (number := rest.count(rank))
    ]
    return shown, f"Not shown: {', '.join(told)}." if told else ""


def _rank(states: list[Step], whole: int) -> int:
    """0 needs somebody, 1 failed, 2 goes on, 3 is done, 4 has not begun."""
    if not states:
        return 4
    if any(state.status in _URGENT for state in states):
        return 0
    if any(state.end is not None and state.end[0] != DONE for state in states):
        return 1
    over = all(state.end is not None or state.is_group for state in states)
    return 3 if over and len(states) >= whole else 2


def _all(steps: list[PlaybookStep]) -> Iterator[PlaybookStep]:
    for step in steps:
        yield step
        yield from _all(step.inner)


def _within(inner: list[Node], more: bool) -> tuple[str, str]:
    """Where a group stands: as the worst of what is in it."""
    nodes = [*_leaves(inner)]
    for tone in ("bad", "ask", "warn"):
        for node in nodes:
            if node.tone == tone:
                return node.words, tone
    over = not more and all(node.tone in ("ok", "plain") for node in nodes)
    return OUTCOMES["done"] if over else _STATES["entered"]


def _leaves(nodes: list[Node]) -> Iterator[Node]:
    for node in nodes:
        if node.words:
            yield node
        yield from _leaves(node.inner)


def _node(run: Run, name: str, icon: str, title: Callable[[str], str]) -> Node:
    """A step that has no steps within it."""
    state = run.steps.get(name)
    back = run.steps.get(UNDO + name)
    undo = _node(run, back.id, "arrow-back-up", title) if back is not None else None
    if state is None:
        words, tone = _NOT_BEGUN
        return Node(title(name), icon, words, tone, undo=undo)
    words, tone = _state(state)
    entered = state.entered if state.status == "entered" else None
    if entered is not None and entered.kind in ("time", "event", "run"):
        words = {"time": "Waits", "event": "Waits for an event", "run": "Waits for its run"}[entered.kind]
    child = state.entered.ref if state.entered is not None and state.entered.kind == "run" else ""
    waiting = state.status == "waiting" and state.approval is not None
    return Node(
        title=title(name),
        icon=icon,
        words=words,
        tone=tone,
        note=state.plan.tool if state.plan is not None and state.plan.tool else "",
        code=_code(state),
        at=entered.until if entered is not None else 0,
        child=child,
        approval=state.approval.approval if waiting and state.approval is not None else "",
        undo=undo,
    )


def _state(step: Step) -> tuple[str, str]:
    if step.status == "failed" and step.code in _DROPPED:
        return "Not gone on with", "plain"
    if step.status in _ENDS:
        return _ENDS[step.status]
    if step.end is not None:
        return OUTCOMES["done"] if step.end[0] == DONE else OUTCOMES.get(step.end[0], ("Ended", "plain"))
    return _STATES.get(step.status, (formats.words(step.status), "plain"))


def _code(step: Step) -> str:
    """Why it ended as it did, or was left to a person."""
    if step.status == "left":
        return step.code if step.code != "undo.manual" else ""
    return step.end[1] if step.end is not None and step.end[0] != DONE else ""


def _note(step: PlaybookStep) -> str:
    """What a step that has not begun will do."""
    if step.wait is not None:
        waits = step.wait.for_ or step.wait.event or "a date"
        return f"waits for {waits}"
    if step.run is not None:
        return f"runs {step.run}"
    if step.planner is not None:
        return f"plans for {', '.join(step.tools)}"
    return step.tool or ("asks a person" if step.confirm is not None else "")


def _icon_of(step: Step) -> str:
    if step.entered is None:
        return "bolt"
    return {"run": "sitemap", "each": "repeat", "together": "arrows-split"}.get(step.entered.kind, "hourglass")
