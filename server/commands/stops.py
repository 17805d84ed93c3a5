"""``outrider hub stop``: the kill switch, from the hub's own machine."""

from __future__ import annotations

from typing import Annotated

import typer

from server.options import Home, Json, config, show

stop = typer.Typer(
    help="Stop a device, a playbook, a tool or the fleet at once, and let it go on.", no_args_is_help=True
)

Note = Annotated[str, typer.Option(help="What to say about it.")]


@stop.command("press")
def press(
    kind: Annotated[str, typer.Argument(help="fleet, device, playbook or tool.")],
    name: Annotated[
        str, typer.Argument(help="The device's id, the playbook's or the tool's name; none for the fleet.")
    ] = "",
    reason: Annotated[str, typer.Option(help="Why: wrong, tool, security, drill or other.")] = "other",
    note: Note = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let nothing that it covers begin any more, anywhere. Devices that are away learn it when they next speak with the
    hub, before anything else."""
    from server.admin import Operator

    done = Operator(config(home)).stop("press", kind=kind, name=name, reason=reason, note=note)
    said = f"{done['id']}: {name or 'the whole fleet'} is stopped"
    doubt = f"\n  → no published playbook names this {kind}: is {name!r} spelt right?"
    show(as_json, done, said if done["known"] else said + doubt)


@stop.command("release")
def release(
    switch: Annotated[str, typer.Argument(help="The stop's id, as outrider hub stop list shows it.")],
    note: Note = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let what a stop held go on."""
    from server.admin import Operator

    done = Operator(config(home)).stop("release", switch=switch, note=note)
    show(as_json, done, f"{switch}: {done['name'] or 'the whole fleet'} goes on")


@stop.command("list")
def list_stops(home: Home = None, as_json: Json = False) -> None:
    """Show the stops in force, the newest first."""
    from server.admin import Operator

    found = Operator(config(home)).stop("list")["stops"]
    lines = [
        f"{one['id']}  {one['kind']} {one['name']}".rstrip() + f", {one['reason_code']}, by {one['by']}"
        f"{': ' + one['note'] if one['note'] else ''}"
        for one in found
    ]
    show(as_json, found, "\n".join(lines) or "nothing is stopped")
