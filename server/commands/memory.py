"""``outrider hub memory``: who shares what, what is held, and how it is forgotten."""

from __future__ import annotations

from typing import Annotated

import typer

from server.options import Home, Json, config, show

memory = typer.Typer(help="What the devices remember: who shares it, and how it is forgotten.", no_args_is_help=True)

Reason = Annotated[str, typer.Option(help="Why, as a code that stays in the record: small letters, digits, . and -.")]
Scope = Annotated[str, typer.Argument(help="The scope: team/NAME.")]
Member = Annotated[str, typer.Argument(help="user:NAME, with all devices of that person, or device:ID.")]


@memory.command("grant")
def memory_grant(
    scope: Scope,
    member: Member,
    role: Annotated[str, typer.Argument(help="reader, writer or steward.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Give somebody a role in what a team remembers, instead of any they had."""
    from server.admin import Operator

    Operator(config(home)).memory("grant", scope=scope, member=member, role=role)
    show(as_json, {"scope": scope, "member": member, "role": role}, f"{member} is {role} of {scope}")


@memory.command("revoke")
def memory_revoke(scope: Scope, member: Member, home: Home = None, as_json: Json = False) -> None:
    """Take somebody's role in a scope away; their devices drop it."""
    from server.admin import Operator

    Operator(config(home)).memory("revoke", scope=scope, member=member)
    show(as_json, {"scope": scope, "member": member, "role": ""}, f"{member} has no role in {scope} any more")


@memory.command("scopes")
def memory_scopes(home: Home = None, as_json: Json = False) -> None:
    """Show the scopes, how much is in them and who shares them."""
    from server.admin import Operator

    found = Operator(config(home)).memory("scopes")["scopes"]
    lines = [
        f"{one['scope']}  {one['items']} items{', held' if one['held'] else ''}"
        + "".join(f"\n  {member['member']}  {member['role']}" for member in one["members"])
        for one in found
    ]
    show(as_json, found, "\n".join(lines) or "nothing is remembered yet")


@memory.command("hold")
def memory_hold(
    scope: Annotated[str, typer.Argument(help="The scope, as outrider hub memory scopes shows it.")],
    item: Annotated[str, typer.Option(help="One item of it; else the whole scope.")] = "",
    reason: Reason = "legal",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let nothing that is covered expire or be erased, anywhere, until the hold is lifted."""
    from server.admin import Operator

    done = Operator(config(home)).memory("hold", scope=scope, item=item, reason=reason)
    show(as_json, done, f"{done['hold']} holds {item or scope}")


@memory.command("unhold")
def memory_unhold(
    hold: Annotated[str, typer.Argument(help="The hold's id, as outrider hub memory holds shows it.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Lift a hold."""
    from server.admin import Operator

    Operator(config(home)).memory("unhold", hold=hold)
    show(as_json, {"hold": hold, "state": "lifted"}, f"{hold} is lifted")


@memory.command("holds")
def memory_holds(home: Home = None, as_json: Json = False) -> None:
    """Show the holds, standing ones first."""
    from server.admin import Operator

    found = Operator(config(home)).memory("holds")["holds"]
    lines = [
        f"{one['id']}  {one['item'] or one['scope']}  {one['reason']}, {'lifted' if one['lifted_at'] else 'stands'}"
        for one in found
    ]
    show(as_json, found, "\n".join(lines) or "there are no holds")


@memory.command("erase")
def memory_erase(
    scope: Annotated[str, typer.Option(help="The scope: of the item, or alone, to erase all of it.")] = "",
    item: Annotated[str, typer.Option(help="One item's id.")] = "",
    subject: Annotated[str, typer.Option(help="Everything about somebody, in the scope or everywhere.")] = "",
    run: Annotated[str, typer.Option(help="What a closed run's entries said.")] = "",
    reason: Reason = "asked",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Forget for ever: here at once, and on every device when it next speaks with the hub."""
    from server.admin import Operator

    if not yes:
        typer.confirm("This cannot be taken back. Erase it?", abort=True)
    given = {"scope": scope, "item": item, "subject": subject, "run": run, "reason": reason}
    done = Operator(config(home)).memory("erase", **given)
    show(as_json, done, f"{done['tombstone']}: erased here; see outrider hub memory erasures for the devices")


@memory.command("erasures")
def memory_erasures(home: Home = None, as_json: Json = False) -> None:
    """Show what was forgotten, and which devices have confirmed it."""
    from server.admin import Operator

    found = Operator(config(home)).memory("erasures")["erasures"]
    lines = []
    for one in found:
        parties = one["parties"]
        confirmed = sum(1 for party in parties if party["at"])
        waiting = [party["name"] for party in parties if not party["at"] and party["state"] == "active"]
        text = f"{one['id']}  {one['kind']}, {one['items']} items, {one['reason']}: "
        lines.append(
            f"{text}{confirmed} of {len(parties)} confirmed"
            + (f"; waiting for {', '.join(waiting)}" if waiting else "")
        )
    show(as_json, found, "\n".join(lines) or "nothing was forgotten yet")
