"""Memory gone through item by item: written into files, read from files, and looked over by the rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from edge_agent.memory.decisions import read_decisions
from edge_agent.memory.search import Query
from edge_agent.memory.store import Memory
from shared.errors import BadInput

if TYPE_CHECKING:
    from shared.memory.exchange import Exported
    from shared.memory.rules import Dated

_ALL = 2**31


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
    """What the rules of upkeep judge: every item that has not expired, and when it last changed."""
    from shared.memory.rules import Dated

    found = memory.find(Query("", limit=_ALL), now=now)
    return [Dated(one.kept.id, memory.get(one.kept.id), one.kept.changed_at) for one in found]


def _utf8(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadInput("memory.import", f"{name} is not UTF-8", advice="save it as UTF-8") from error
