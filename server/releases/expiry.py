"""When signatures end, and who has to renew them: told a month ahead, and again in the last week.

The hub renews what it signs by itself when a third of its life is used. So what it signs is worth a word as soon as
half of its life is used: then the hub stood still, or cannot sign. What people sign nobody renews but they.
"""

from __future__ import annotations

from typing import Any, Literal

from server.releases.state import LIFETIME
from shared import limits

Level = Literal["", "soon", "urgent", "over"]
WHAT = {
    "root": "the root of trust",
    "targets": "the list of who may publish",
    "policy": "the list of releases",
    "model": "the list of models",
    "snapshot": "the snapshot of all lists",
    "timestamp": "the hub's word that all is recent",
}
_DAY_US = 24 * 3600 * 1_000_000


def level(role: str, left: int, *, by_people: bool) -> Level:
    """How near the end is, with ``left`` microseconds to go: ``soon`` a month before, ``urgent`` in the last week."""
    month, week = limits.EXPIRY_WARN_DAYS
    if not by_people:
        stale = left < int(LIFETIME[role].total_seconds()) * 1_000_000 // 2
        return "" if not stale else "urgent" if left > 0 else "over"
    if left <= 0:
        return "over"
    return "urgent" if left <= week * _DAY_US else "soon" if left <= month * _DAY_US else ""


def advice(role: str, threshold: int, names: list[str], *, by_people: bool) -> str:
    """Who must do what, with which command. ``names``: whose keys count."""
    if not by_people:
        return (
            "the running hub renews it by itself: start it with `outrider hub run`, or see there why it cannot sign "
            "(a lost key is replaced by `outrider hub root offer --new-key`)"
        )
    people = f"{threshold} of {', '.join(names)} sign the file with `outrider keys sign`"
    if role in ("root", "targets"):
        return f"run `outrider hub root offer --out FILE`; {people}; hand in with `outrider hub root accept`"
    return (
        f"run `outrider hub release publish` and `outrider hub release offer`; {people}; "
        "hand in with `outrider hub release sign`"
    )


def ending(trust: dict[str, Any]) -> list[dict[str, Any]]:
    """The roles of ``Releases.trust`` that are to be renewed, nearest end first, each with ``what`` it is in words.
    Those that are renewed by one and the same act (root and targets) are told once, by the first to end."""
    due = sorted((given["ends_at"], role) for role, given in trust["roles"].items() if given["level"])
    by_act: dict[str, dict[str, Any]] = {}
    for _, role in due:
        given = trust["roles"][role]
        by_act.setdefault(given["advice"], {"role": role, "what": WHAT[role], **given})
    return list(by_act.values())
