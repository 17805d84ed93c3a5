"""Which items' time is past: by their own word, or by the rules of the release. What a hold covers has no end."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from server.memory.access import wire_name
from server.store.memory_tables import MEMORY_HOLDS, MEMORY_ITEMS
from shared.memory import Item
from shared.memory.rules import Expire, MemoryRules, expiry, microseconds


def expired(conn: Connection, rules: MemoryRules, now: int, limit: int) -> list[tuple[str, str]]:
    """(scope, item) of at most so many. The rules' own function judges; the query only leaves out what cannot be
    meant. An item is as old as its first change says, as it is on devices."""
    at = MEMORY_ITEMS.c
    standing = select(MEMORY_HOLDS.c.scope, MEMORY_HOLDS.c.item).where(MEMORY_HOLDS.c.lifted_at == 0)
    kept = {(row.scope, row.item) for row in conn.execute(standing)}
    past = or_(and_(at.expires_at > 0, at.expires_at <= now), *(_old(rule, now) for rule in rules.expire))
    columns = (at.scope, at.item, at.kind, at.valid_from, at.expires_at, at.first_at)
    found: list[tuple[str, str]] = []
    for row in conn.execute(select(*columns).where(past).order_by(at.expires_at, at.n)):
        item = Item(row.kind, "", "", scope=wire_name(row.scope), valid_from=row.valid_from, expires_at=row.expires_at)
        ends = expiry(item, rules, row.first_at)
        if ends and ends <= now and not kept & {(row.scope, ""), (row.scope, row.item)}:
            found.append((row.scope, row.item))
            if len(found) == limit:
                break
    return found


def _old(rule: Expire, now: int) -> ColumnElement[bool]:
    """Items that a rule may mean by their kind and age, where that is known; its scopes are patterns, judged later."""
    at, before = MEMORY_ITEMS.c, now - microseconds(rule.after)
    old = and_(at.first_at <= before, at.valid_from <= before, or_(at.first_at > 0, at.valid_from > 0))
    return and_(old, MEMORY_ITEMS.c.kind.in_(rule.kinds)) if rule.kinds else old
