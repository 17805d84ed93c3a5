"""Remember, change, bring back, forget."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from edge_agent.memory_commands.common import (
    FieldOption,
    IdArgument,
    ScopeOption,
    TagOption,
    count,
    now_us,
    opened,
    pairs,
    text_of,
    until,
)
from edge_agent.memory_commands.sessions import opened_sessions
from edge_agent.options import HomeOption, JsonOption, show_json
from shared.errors import BadInput


def add(
    text: Annotated[str, typer.Argument(help="What is to be remembered; - reads it from the input.")],
    home: HomeOption = None,
    scope: ScopeOption = "person",
    kind: Annotated[
        str, typer.Option(help="fact, note, document, brand-rule, decision, preference, contact.")
    ] = "note",
    field: FieldOption = None,
    tag: TagOption = None,
    about: Annotated[str, typer.Option(help="Whose data it is.")] = "",
    source: Annotated[str, typer.Option(help="Where you know it from. [default: you]")] = "",
    sensitivity: Annotated[str, typer.Option(help="normal, or a word of your own.")] = "normal",
    expires: Annotated[str, typer.Option("--for", help="How long it is kept: 12h or 90d. [default: no end]")] = "",
    pin: Annotated[bool, typer.Option("--pin", help="Always put first into a session's context.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remember something."""
    from shared.memory import Item

    by = getpass.getuser()
    item = Item(
        kind=kind, text=text_of(text), source=source or f"person {by}", scope=scope, fields=pairs(field),
        tags=tag or [], sensitivity=sensitivity, subject=about, expires_at=until(expires), pinned=pin,
    )  # fmt: skip
    with opened(home) as store:
        name = store.write(item, at=now_us(), by=by)
    show_json({"id": name}) if as_json else typer.echo(name)


def edit(
    id: IdArgument,
    home: HomeOption = None,
    text: Annotated[str | None, typer.Option(help="The new text; - reads it from the input.")] = None,
    kind: Annotated[str | None, typer.Option()] = None,
    field: FieldOption = None,
    no_field: Annotated[list[str] | None, typer.Option("--no-field", help="Remove a field; may be repeated.")] = None,
    tag: TagOption = None,
    no_tag: Annotated[list[str] | None, typer.Option("--no-tag", help="Remove a tag; may be repeated.")] = None,
    about: Annotated[str | None, typer.Option(help="Whose data it is.")] = None,
    sensitivity: Annotated[str | None, typer.Option()] = None,
    pin: Annotated[
        bool | None, typer.Option("--pin/--unpin", help="Always put first into a session's context.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change an item. What is not named stays. Editing a field that is in conflict settles it."""
    from shared.memory.item import Edit

    change = Edit(
        text=None if text is None else text_of(text), kind=kind, sensitivity=sensitivity, subject=about, pinned=pin,
        fields=pairs(field) | dict.fromkeys(no_field or []), add_tags=tag or [], remove_tags=no_tag or [],
    )  # fmt: skip
    with opened(home) as store:
        version = store.edit(id, change, at=now_us(), by=getpass.getuser())
    show_json({"id": id, "version": version}) if as_json else typer.echo(version or "nothing changed")


def restore(
    id: IdArgument,
    version: Annotated[str, typer.Argument(help="A version from its history; its first digits are enough.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring back what an item said at a version. That is a new version; none is lost."""
    with opened(home) as store:
        found = [one.hash for one in store.history(id) if one.hash.startswith(version)]
        if len(found) != 1 or not version:
            said = f"{len(found)} versions begin with {version!r}"
            raise BadInput("memory.version", said, advice=f"see `outrider memory history {id}`")
        made = store.restore(id, found[0], at=now_us(), by=getpass.getuser())
    show_json({"id": id, "version": made}) if as_json else typer.echo(made or "it says that already")


def forget(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Items to forget.")] = None,
    home: HomeOption = None,
    about: Annotated[str, typer.Option(help="Forget all that is about this person.")] = "",
    scope: Annotated[str, typer.Option(help="Forget a whole scope.")] = "",
    run: Annotated[
        str, typer.Option(help="Forget what a run read and wrote; its entries stay, without their texts.")
    ] = "",
    reason: Annotated[str, typer.Option(help="A code for the record: small letters, digits, . and -")] = "asked",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase for good, here and wherever it is shared. There is no way back."""
    from edge_agent.upkeep import forget as forget_all

    if sum(map(bool, (ids, about, scope, run))) != 1:
        said = "say what: items, --about, --scope or --run"
        raise BadInput("memory.forget", said, advice="one of them at a time")
    if not yes and not typer.confirm("This cannot be undone. Forget it?"):
        raise typer.Exit(1)
    with opened(home) as store, opened_sessions(home) as sessions:
        asked = forget_all(store, sessions, reason=reason, items=ids or [], about=about, scope=scope, run=run)
    if as_json:
        show_json({"erased": asked.erased, "tombstones": asked.tombstones})
        return
    typer.echo(f"{count(asked.erased)} {'is' if asked.erased == 1 else 'are'} gone from this computer")
    if asked.tombstones:
        typer.echo("the hub is asked to make everybody forget; `outrider memory status` shows when it has heard")
