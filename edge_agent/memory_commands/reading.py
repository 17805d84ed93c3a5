"""What is there: lists, single items, their histories, and how memory stands with the hub."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from edge_agent.memory_commands.common import IdArgument, TagOption, ago, now_us, opened, utc
from edge_agent.options import HomeOption, JsonOption, show_json


def list_(
    home: HomeOption = None,
    search: Annotated[str, typer.Option(help="Only items with these words, best first.")] = "",
    scope: Annotated[list[str] | None, typer.Option(help="Only these scopes; may be repeated.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only these kinds; may be repeated.")] = None,
    tag: TagOption = None,
    about: Annotated[str, typer.Option(help="Only items whose subject is this.")] = "",
    since: Annotated[str, typer.Option(help="Only what changed within so much time, as 12h or 90d.")] = "",
    before: Annotated[str, typer.Option(help="Only what did not change within so much time.")] = "",
    expired: Annotated[bool, typer.Option("--expired", help="Also what has expired.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    as_json: JsonOption = False,
) -> None:
    """Items of memory, pinned ones first and then the newest; or what a search finds, with why."""
    from edge_agent.memory.search import Query

    query = Query(
        search, scope or [], kind or [], tag or [], about, ago(since), ago(before), limit, include_expired=expired
    )
    with opened(home) as store:
        found = store.find(query, now=now_us())
        total = store.count()
    rows = [_row(one.kept) | {"score": one.score, "why": msgspec.to_builtins(one.why)} for one in found]
    if as_json:
        show_json(rows)
        return
    _lines(rows)
    if not rows:
        empty = "memory is empty: outrider memory add TEXT, or outrider memory import FILE"
        typer.echo("nothing found" if total else empty)


def show(id: IdArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """One item: what it says, where it came from, who changed it, and what is in conflict."""
    with opened(home) as store:
        document, kept = store.document(id), store.kept(id)
        held = any(hold.item == id or (not hold.item and hold.scope == kept.scope) for hold in store.holds())
    item, history, conflicts = document.item(), document.history(), document.conflicts()
    shown = {
        "id": id,
        "item": msgspec.to_builtins(item),
        "versions": len(history),
        "made": msgspec.to_builtins(history[0]),
        "changed": msgspec.to_builtins(history[-1]),
        "conflicts": msgspec.to_builtins(conflicts),
        "held": held,
    }
    if as_json:
        show_json(shown)
        return
    typer.echo(
        f"{id}  {item.kind} in {item.scope}{', pinned' if item.pinned else ''}{', on legal hold' if held else ''}"
    )
    typer.echo(f"\n{item.text}\n")
    for name, value in sorted(item.fields.items()):
        typer.echo(f"  {name}: {value}")
    if item.tags:
        typer.echo(f"  tags: {', '.join(item.tags)}")
    typer.echo(f"  known from: {item.source or '-'}; about: {item.subject or '-'}; sensitivity: {item.sensitivity}")
    typer.echo(f"  confidence {item.confidence / 10:g} %, expires {utc(item.expires_at)}")
    typer.echo(f"  {len(history)} versions: first {utc(history[0].at)} by {history[0].by or 'an import'}, ", nl=False)
    typer.echo(f"last {utc(history[-1].at)} by {history[-1].by or 'an import'}")
    for conflict in conflicts:
        typer.echo(f"  in conflict: {conflict.field}")
        for contested, _, by in conflict.values:
            typer.echo(f"    {contested!r} by {by or 'an import'}")
    if conflicts:
        typer.echo(f"  the first of each is shown; settle with: outrider memory edit {id} --field NAME=VALUE")


def history(id: IdArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every version of an item, oldest first, with what it said."""
    with opened(home) as store:
        document = store.document(id)
    rows = [(version, document.item_at(version.hash)) for version in document.history()]
    if as_json:
        show_json([msgspec.to_builtins(version) | {"item": msgspec.to_builtins(item)} for version, item in rows])
        return
    for version, item in rows:
        typer.echo(f"{version.hash[:16]}  {utc(version.at)}  {version.by or 'an import'}\n    {item.text[:100]!r}")


def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """How much there is in each scope, what was not sent yet, what is to be forgotten, and what was refused."""
    with opened(home) as store:
        feeds, unsent = store.feeds(), store.unsent()
        counts = store.scopes()
        scopes: dict[str, dict[str, Any]] = {}
        for name in {*counts, *feeds, *unsent}:
            feed = feeds.get(name)
            told = {"items": counts.get(name, 0), "unsent": unsent.get(name, 0)}
            scopes[name] = told | {"role": feed.role if feed else "", "cursor": feed.cursor if feed else 0}
        shown = {
            "scopes": dict(sorted(scopes.items())),
            "asked_to_forget": msgspec.to_builtins(store.wishes()),
            "to_erase": [stone.id for stone in store.pending()],
            "holds": msgspec.to_builtins(store.holds()),
            "refused": msgspec.to_builtins(store.aside()),
        }
    if as_json:
        show_json(shown)
        return
    for name, told in shown["scopes"].items():
        role = f", {told['role']}" if told["role"] else ""
        typer.echo(f"{name:20} {told['items']:6} items{role}; {told['unsent']} changes not sent yet")
    for label, name in (("asked to forget", "asked_to_forget"), ("to erase", "to_erase"), ("on hold", "holds")):
        if shown[name]:
            typer.echo(f"{label}: {len(shown[name])}")
    for lost in shown["refused"][:10]:
        typer.echo(f"refused: a change of {lost['item']} [{lost['code']}]")
    if not shown["scopes"]:
        typer.echo("memory is empty")


def _lines(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        first = next(iter(row["text"].splitlines()), "")
        mark = "*" if row["pinned"] else " "
        typer.echo(f"{row['id']} {mark} {row['kind']:10} {row['scope']:16} {row['label']:12} {first[:70]}")
        if why := [*row["why"]["words"], *(f"the tag {tag}" for tag in row["why"]["tags"])]:
            typer.echo(f"{'':31}found by {', '.join(why)}")


def _row(kept: Any) -> dict[str, Any]:
    names = ("id", "kind", "scope", "source", "label", "subject", "text", "expires_at", "changed_at", "pinned")
    return {name: getattr(kept, name) for name in names}
