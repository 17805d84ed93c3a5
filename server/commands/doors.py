"""``outrider hub door``: tokens by which other programs open one document of a team."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from server.options import Home, Json, config, seconds, show

door = typer.Typer(help="Tokens that open a team's document to other programs.", no_args_is_help=True)


@door.command("issue")
def door_issue(
    scope: Annotated[str, typer.Argument(help="The team's scope: team/NAME.")],
    item: Annotated[str, typer.Argument(help="The document: the id of one of its items.")],
    role: Annotated[str, typer.Option(help="What it allows: reader or writer.")] = "reader",
    ttl: Annotated[str, typer.Option(help="How long it can be used: 1h, 30d.")] = "30d",
    origin: Annotated[
        list[str] | None, typer.Option(help="A web page's origin that may use it. May be repeated; none: no browser.")
    ] = None,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Print the address by which an automerge-repo client opens a document. It is shown this once."""
    from server.admin import Operator

    given: dict[str, Any] = {"scope": scope, "item": item, "role": role, "seconds": seconds(ttl), "label": label}
    made = Operator(config(home)).door("issue", **given, origins=origin or [])
    show(as_json, made, f"{made['url']}\n  → connect to ws://HUB{made['path']}")


@door.command("list")
def door_list(
    scope: Annotated[str, typer.Option(help="Of one team.")] = "", home: Home = None, as_json: Json = False
) -> None:
    """Show the tokens of documents, newest first, without their secrets."""
    from server.admin import Operator

    found = Operator(config(home)).door("list", scope=scope)["doors"]
    lines = [
        f"{one['id']}  {one['item']}  {one['scope']}, {one['role']}{', revoked' if one['revoked_at'] else ''}"
        f"{', ' + one['label'] if one['label'] else ''}"
        for one in found
    ]
    show(as_json, found, "\n".join(lines) or "no token was made yet")


@door.command("revoke")
def door_revoke(
    door: Annotated[str, typer.Argument(help="The token's id, as outrider hub door list shows it.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """End a token at once; whoever came in by it is let go."""
    from server.admin import Operator

    Operator(config(home)).door("revoke", door=door)
    show(as_json, {"door": door, "state": "revoked"}, f"{door} is revoked")
