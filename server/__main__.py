"""``outrider hub``: make a hub, run it, and act on it from its own machine. ``shared.command`` shows the errors."""

from __future__ import annotations

import secrets
import sys
from typing import Annotated

import typer

from server.commands import trust
from server.commands.devices import device
from server.commands.doors import door
from server.commands.memory import memory
from server.commands.models import model
from server.commands.replay import reconcile, replay
from server.commands.rollouts import rollout
from server.commands.stops import stop
from server.embedding.commands import embedder
from server.options import Home, Json, config, seconds, show
from shared import command
from shared.errors import BadInput

hub = typer.Typer(help="Run a hub: enrolment, releases, approvals, the record.", no_args_is_help=True)
user = typer.Typer(help="The people who may sign in.", no_args_is_help=True)
release = typer.Typer(help="Publish policy, playbooks and prompts.", no_args_is_help=True)
hub.add_typer(user, name="user")
hub.add_typer(release, name="release")
hub.add_typer(device, name="device")
hub.add_typer(memory, name="memory")
hub.add_typer(door, name="door")
hub.add_typer(embedder, name="embedder")
hub.add_typer(model, name="model")
trust.add_to(hub, release)
hub.add_typer(rollout, name="rollout")
hub.add_typer(reconcile, name="reconcile")
hub.command("replay")(replay)
hub.add_typer(stop, name="stop")

PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise BadInput("user.password", "there is nobody to ask for a password", advice="use --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


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
    valid_s = settings.token_seconds if ttl is None else seconds(ttl)
    made = Operator(settings).token(valid_s)
    show(as_json, {"token": made, "expires_in_s": valid_s}, made)


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


if __name__ == "__main__":
    command.main(["hub", *sys.argv[1:]])
