"""Keeping memory clean by the release's rules: what is due for review, what is there twice, what would leave."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer

from edge_agent.memory_commands.common import IdArgument, made_home, now_us, opened, utc
from edge_agent.options import HomeOption, JsonOption, show_json
from shared.errors import Unavailable

if TYPE_CHECKING:
    from shared.memory import Item
    from shared.memory.rules import MemoryRules


def _rules(home: Path | None) -> MemoryRules:
    """The rules of memory of the installed release. Raises ``Unavailable('release.none')``."""
    from edge_agent.identity import load_identity
    from edge_agent.journal import LogReader
    from edge_agent.link.updates import Updates
    from edge_agent.snapshots import open_fold

    kept = made_home(home)
    log = LogReader(kept.log)
    try:
        release = open_fold(log).release
    finally:
        log.close()
    if release is None:
        raise Unavailable("release.none", "no release is installed", advice="start the agent, so that it fetches one")
    return Updates(kept.root, load_identity(kept).hub_url).cached(release.release, now_us()).memory


def stale(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Items that nobody has changed for longer than the release's rules allow. Nothing is changed."""
    from edge_agent.memory.whole import dated
    from shared.memory.rules import stale as due

    rules = _rules(home)
    with opened(home) as store:
        found = due(dated(store, now_us()), rules, now_us())
        texts = {one.id: store.kept(one.id).text for one in found}
    if as_json:
        show_json([{"id": one.id, "due_at": one.due_at, "text": texts[one.id]} for one in found])
        return
    for one in found:
        typer.echo(f"{one.id}  since {utc(one.due_at)}  {texts[one.id][:80]}")
    if not found:
        typer.echo("nothing is due for review")


def duplicates(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Items that say nearly the same, each with the merge proposed and what it would lose. Nothing is merged."""
    from edge_agent.memory.whole import dated, twice

    rules = _rules(home)
    with opened(home) as store:
        found = list(twice(store, dated(store, now_us()), rules))
    if as_json:
        show_json(msgspec.to_builtins(found))
        return
    for one in found:
        typer.echo(
            f"keep {one.keep}, drop {', '.join(one.drop)} ({one.alike / 10:g} % alike)\n    {one.merged.text[:100]!r}"
        )
        for loss in one.losses:
            typer.echo(f"    lost: {loss.field} of {loss.id}: {loss.value[:80]!r}")
    if not found:
        typer.echo("nothing is there twice")


def preview(id: IdArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Exactly what of an item would leave its scope under the release's rules, and what would not."""
    from shared.memory.rules import leaving_item

    rules = _rules(home)
    with opened(home) as store:
        item: Item = store.get(id)
    _, shown = leaving_item(item, rules)
    if as_json:
        show_json(msgspec.to_builtins(shown))
        return
    for name, value in shown.sent.items():
        typer.echo(f"leaves  {name}: {value}")
    for stays in shown.withheld:
        typer.echo(f"stays   {stays.field} ({stays.why})")
    for replaced in shown.replaced:
        typer.echo(f"hidden  {replaced.placeholder} in {replaced.field} ({replaced.span.kind}, {replaced.span.rule})")
    if not shown.sent:
        typer.echo("nothing of it may leave")
