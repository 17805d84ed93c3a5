"""``outrider hub``: make a hub, run it, and act on it from its own machine. ``shared.command`` shows the errors."""

from __future__ import annotations

import re
import secrets
import sys
from typing import Annotated, Any

import typer

from server import trust_commands
from server.embedding.commands import embedder
from server.model_commands import model
from server.options import Home, Json, config, show
from server.replay_commands import reconcile, replay
from server.rollout_commands import rollout
from server.stop_commands import stop
from shared import command
from shared.errors import BadInput

hub = typer.Typer(help="Run a hub: enrolment, releases, approvals, the record.", no_args_is_help=True)
user = typer.Typer(help="The people who may sign in.", no_args_is_help=True)
release = typer.Typer(help="Publish policy, playbooks and prompts.", no_args_is_help=True)
device = typer.Typer(help="The agents' devices.", no_args_is_help=True)
memory = typer.Typer(help="What the devices remember: who shares it, and how it is forgotten.", no_args_is_help=True)
door = typer.Typer(help="Tokens that open a team's document to other programs.", no_args_is_help=True)
hub.add_typer(user, name="user")
hub.add_typer(release, name="release")
hub.add_typer(device, name="device")
hub.add_typer(memory, name="memory")
hub.add_typer(door, name="door")
hub.add_typer(embedder, name="embedder")
hub.add_typer(model, name="model")
trust_commands.add_to(hub, release)
hub.add_typer(rollout, name="rollout")
hub.add_typer(reconcile, name="reconcile")
hub.command("replay")(replay)
hub.add_typer(stop, name="stop")

Reason = Annotated[str, typer.Option(help="Why, as a code that stays in the record: small letters, digits, . and -.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise BadInput("user.password", "there is nobody to ask for a password", advice="use --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", text)
    if found is None:
        raise BadInput("token.ttl", f"{text!r} is no duration", advice="write 30m, 1h or 2d")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


@hub.command()
def init(
    user: Annotated[str, typer.Option(help="Name of the first user, who is admin and clerk.")],
    home: Home = None,
    name: Annotated[str, typer.Option(help="What people call this hub.")] = "Outrider hub",
    starter: Annotated[str, typer.Option(help="Which policy and playbooks to start from.")] = "permits",
    password_stdin: PasswordStdin = False,
    as_json: Json = False,
) -> None:
    """Make a new hub: its keys, release repository, database, workspace and first user."""
    from server import admin

    password = _password(password_stdin)
    settings = config(home)
    made = admin.init(settings, name=name, starter=starter, user=user, password=password, random=secrets.token_bytes)
    text = f"{made['name']} lives in {made['home']}\n  → outrider hub release publish, then outrider hub run"
    show(as_json, made, text)


@hub.command()
def run(
    home: Home = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further NAME:PORT that the Host header may have. May be repeated.")
    ] = None,
) -> None:
    """Serve agents and the console until stopped."""
    from server.serving import serve

    serve(config(home, host=host, port=port, hosts=allow_host or None), typer.echo)


@hub.command()
def token(
    home: Home = None,
    ttl: Annotated[
        str | None,
        typer.Option(help="How long it can be used: 30m, 1h, 2d. [default: OUTRIDER_HUB_TOKEN_SECONDS, 1 hour]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a one-time token that lets one device join."""
    from server.admin import Operator

    settings = config(home)
    seconds = settings.token_seconds if ttl is None else _seconds(ttl)
    made = Operator(settings).token(seconds)
    show(as_json, {"token": made, "expires_in_s": seconds}, made)


@user.command("add")
def user_add(
    name: Annotated[str, typer.Argument(help="The name to sign in with.")],
    home: Home = None,
    role: Annotated[list[str] | None, typer.Option(help="A role, such as clerk or admin. May be repeated.")] = None,
    password_stdin: PasswordStdin = False,
    as_json: Json = False,
) -> None:
    """Add a person who may sign in to the console."""
    from server.admin import Operator

    roles = role or ["clerk"]
    Operator(config(home)).add_user(name, _password(password_stdin), roles)
    show(as_json, {"user": name, "roles": roles}, f"{name} may sign in as {', '.join(roles)}")


@release.command("publish")
def release_publish(
    home: Home = None,
    staged: Annotated[
        bool, typer.Option("--staged", help="For nobody yet: outrider hub rollout start gives it out in stages.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check HOME/workspace, sign it as the next release, and tell the agents."""
    from server.admin import Operator

    done = Operator(config(home)).publish(staged=staged)
    waits = f"release {done['release']} waits for signatures: proposal {done['proposal']}"
    show(as_json, done, waits if done["proposal"] else f"release {done['release']} is published")


@device.command("list")
def device_list(home: Home = None, as_json: Json = False) -> None:
    """Show the devices and how they are."""
    from server.admin import Operator

    found = Operator(config(home)).devices()
    lines = [
        f"{one['id']}  {one['name']}  {one['state']}, {'online' if one['online'] else 'offline'},"
        f" {one['held']} entries held{', ' + one['problem_code'] if one['problem_code'] else ''}"
        for one in found
    ]
    show(as_json, found, "\n".join(lines) or "no device has joined yet")


@device.command("revoke")
def device_revoke(
    device: Annotated[str, typer.Argument(help="The device's id, as outrider hub device list shows it.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let a device go: it may no longer sync or act, and must join again."""
    from server.admin import Operator

    Operator(config(home)).revoke(device)
    show(as_json, {"device": device, "state": "revoked"}, f"{device} is revoked")


@device.command("own")
def device_own(
    device: Annotated[str, typer.Argument(help="The device's id, as outrider hub device list shows it.")],
    person: Annotated[str, typer.Argument(help="Whose it is, by the name they sign in with.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say whose device this is: it shares its memory with that person's other devices from then on. Only once."""
    from server.admin import Operator

    done = Operator(config(home)).memory("own", device=device, person=person)
    show(as_json, {"device": device, "person": person} | done, f"{device} is {person}'s")


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

    given: dict[str, Any] = {"scope": scope, "item": item, "role": role, "seconds": _seconds(ttl), "label": label}
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


if __name__ == "__main__":
    command.main(["hub", *sys.argv[1:]])
