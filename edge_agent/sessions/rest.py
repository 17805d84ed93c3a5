"""A session that has rested becomes items of memory, then its turns expire.

Three steps, each safe to repeat after a kill: ``rested`` composes the items, the caller adds them to memory (their ids
are made from what they say, so adding twice is harmless) and calls ``Sessions.summarised``; ``Sessions.expire`` erases
only what was summarised.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import msgspec

from edge_agent.sessions.extract import Candidate, candidates_of, pick, worth
from edge_agent.sessions.store import Sessions
from shared.memory import Item
from shared.memory.item import FIELD_CHARS
from shared.memory.rules import MemoryRules


class Rested(msgspec.Struct, frozen=True):
    """A session as memory keeps it. ``until`` is its last turn then."""

    session: str
    until: int
    items: list[Item]


def rested(
    sessions: Sessions, rules: MemoryRules, now: int, *, count: Callable[[str], int], tokens: int = 400, limit: int = 20
) -> list[Rested]:
    """What the sessions that have rested become: of each at most ``tokens`` for each subject, sentence by sentence as
    it was said. One item for each subject, so that one can be forgotten without the other. A session in which nothing
    is worth keeping becomes no item."""
    return [
        Rested(name, until, _items(sessions, name, count, tokens)) for name, until in sessions.rested(rules, now, limit)
    ]


def _items(sessions: Sessions, name: str, count: Callable[[str], int], tokens: int) -> list[Item]:
    session = sessions.session(name)
    by_subject: dict[str, list[Candidate]] = defaultdict(list)
    for turn in sessions.turns(name):
        by_subject[turn.subject] += candidates_of(turn.n, turn.text, count)
    quoted: dict[int, list[str]] = defaultdict(list)
    for turn_number, artefact in sessions.artefacts(name):
        if artefact.kind == "item":
            quoted[turn_number].append(artefact.place)
    items = []
    for subject, candidates in sorted(by_subject.items()):
        chosen = pick(candidates, worth(candidates), tokens)
        if not chosen:
            continue
        numbers = sorted({one.turn for one in chosen})
        told = sorted({item for number in numbers for item in quoted[number]})
        fields = {"turns": _listed(map(str, numbers)), "items": _listed(told)}
        items.append(
            Item(
                kind="summary",
                text="\n".join(one.text for one in chosen),
                source=f"session {name}",
                scope=session.scope,
                subject=subject,
                valid_from=session.touched_at,  # so that the rules know how old it is
                fields={key: value for key, value in fields.items() if value},
            )
        )
    return items


def _listed(names: Iterable[str]) -> str:
    text = ",".join(names)
    return text if len(text) <= FIELD_CHARS else text[:FIELD_CHARS].rpartition(",")[0]
