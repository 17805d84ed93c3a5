"""Memory gone through item by item: written into files, read from files, and looked over by the rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from edge_agent.memory.decisions import read_decisions
from edge_agent.memory.store import Memory
from shared.errors import BadInput

if TYPE_CHECKING:
    from shared.memory.duplicates import Proposal
    from shared.memory.exchange import Exported
    from shared.memory.rules import Dated, MemoryRules


def exported(memory: Memory, ids: Iterable[str]) -> Iterator[Exported]:
    """Items with their histories, in the order of their ids. One that goes meanwhile is left out."""
    from shared.memory.exchange import Exported

    for id in sorted(ids):
        try:
            document = memory.document(id)
        except BadInput:
            continue
        yield Exported(id, document.item(), tuple(document.changes()))


def brought(memory: Memory, name: str, data: bytes, scope: str) -> tuple[int, int]:
    """Keep the items of a file: a .jsonl or .md of an export, else a CSV of decisions, for which ``scope`` is. All or
    none of them; return how many are new and how many were known. Raises ``BadInput('memory.import')`` with the place,
    and what ``Memory.bring`` raises."""
    from shared.memory.exchange import from_lines, from_markdown

    if name.endswith(".jsonl"):
        given = list(from_lines(data.splitlines(), name))
    elif name.endswith(".md"):
        given = from_markdown(_utf8(data, name), name)
    else:
        return memory.add(read_decisions(data, name, scope))
    return memory.bring((one.id, one.item, one.chunks) for one in given)


def dated(memory: Memory, now: int) -> list[Dated]:
    """What the rules of upkeep judge: every item that has not expired, and when it last changed. Without its tags and
    fields, which no rule looks at."""
    from shared.memory.rules import Dated

    return [Dated(id, item, changed_at) for id, item, changed_at in memory.said(now)]


def twice(memory: Memory, items: Iterable[Dated], rules: MemoryRules) -> Iterator[Proposal]:
    """The merges that ``duplicates`` proposes for items of ``dated``, one after the other, with all that the items of
    each have. One whose items change meanwhile is left out."""
    from shared.memory.duplicates import duplicates

    for one in duplicates(items, rules):
        yield from merge_of(memory, [one.keep, *one.drop], rules)


def merge_of(memory: Memory, ids: Iterable[str], rules: MemoryRules) -> list[Proposal]:
    """What is proposed for these items alone; nothing where one of them is gone."""
    from shared.memory.duplicates import duplicates
    from shared.memory.rules import Dated

    try:
        items = [Dated(id, memory.get(id), memory.kept(id).changed_at) for id in ids]
    except BadInput:
        return []
    return duplicates(items, rules)


def _utf8(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadInput("memory.import", f"{name} is not UTF-8", advice="save it as UTF-8") from error
