"""``outrider agent start|show|approve|deny|pause|resume|cancel|retry|dismiss|settle|event``: what a person tells the
running agent at its own computer. The agent does it, over its loopback API; nothing here touches the log."""

from __future__ import annotations

import getpass
import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_agent.options import HomeOption, JsonOption, home_of
from shared.errors import BadInput

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it goes into the log.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's name, as `outrider agent runs` shows it.")]


def _client(home: Path | None) -> Any:
    from edge_agent.api.client import Client

    return Client(home_of(home).root)


def _who() -> str:
    """The person at this computer, as the system knows them."""
    return getpass.getuser()


def add_to(agent: typer.Typer) -> None:
    """Put the commands into ``outrider agent``."""
    agent.command()(start)
    agent.command()(show)
    agent.command()(approve)
    agent.command()(deny)
    for name, about in (
        ("pause", "Stop a run before its next step."),
        ("resume", "Let a paused run go on."),
        ("cancel", "End a run, and take back what it did."),
        ("retry", "Go on with a failed run from what failed."),
        ("dismiss", "Take a failed run off the list for good."),
        ("undo", "Take back what an ended run did, the newest first."),
    ):
        agent.command(name, help=about)(_order(name))
    agent.command()(settle)
    agent.command()(event)


def start(
    playbook: Annotated[str, typer.Argument(help="A playbook with `trigger: {manual: true}`.")],
    inputs: Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE", help="Its inputs.")] = None,
    home: HomeOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan and judge, and do nothing. Any playbook can be rehearsed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Start a playbook by hand."""
    client = _client(home)
    run = client.start(playbook, _inputs(inputs or []), by=_who(), dry_run=dry_run)
    _print(client.wait(run, 10), as_json)


def _inputs(pairs: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, given, value = pair.partition("=")
        if not given or not name:
            raise BadInput("run.input", f"{pair!r} is not NAME=VALUE", advice="for example sku=A-17 or price:=1250")
        if name.endswith(":"):  # as httpie has it: a number, not text
            if not value.removeprefix("-").isdecimal():
                raise BadInput("run.input", f"{value!r} is no whole number", advice="cents are written as 1250")
            found[name[:-1]] = int(value)
        else:
            found[name] = value
    return found


def show(run: RunArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """One run with its steps, what it waits for, and what came of it."""
    _print(_client(home).run(run), as_json)


def approve(approval: str, reason: ReasonOption = "", home: HomeOption = None) -> None:
    """Approve an action here, where policy lets it be answered at this computer."""
    _client(home).answer(approval, "approve", by=_who(), reason=reason)
    typer.echo(f"approved by {_who()}")


def deny(approval: str, reason: ReasonOption = "", home: HomeOption = None) -> None:
    """Refuse an action here, where policy lets it be answered at this computer."""
    _client(home).answer(approval, "deny", by=_who(), reason=reason)
    typer.echo(f"denied by {_who()}")


def _order(order: str) -> Any:
    def give(run: RunArgument, reason: ReasonOption = "", home: HomeOption = None, as_json: JsonOption = False) -> None:
        client = _client(home)
        client.order(run, order, by=_who(), reason=reason)
        _print(client.wait(run, 2), as_json)

    return give


def settle(
    run: RunArgument,
    step: Annotated[str, typer.Argument(help="The step, as `outrider agent show` names it.")],
    happened: Annotated[
        bool | None, typer.Option("--happened/--not-happened", help="Of an effect in doubt: did it happen?")
    ] = None,
    handled: Annotated[bool, typer.Option("--handled", help="You took its effect back by hand.")] = False,
    reason: ReasonOption = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what became of a step that only a person can look into."""
    if (happened is None) == (not handled):
        raise BadInput("order.unknown", "say one thing", advice="--happened, --not-happened or --handled")
    order = "handled" if handled else ("happened" if happened else "not-happened")
    client = _client(home)
    client.order(run, order, by=_who(), reason=reason, step=step)
    _print(client.wait(run, 2), as_json)


def event(
    name: str,
    key: str,
    payload: Annotated[str, typer.Argument(metavar="JSON", help="What came with it: an object.")] = "{}",
    home: HomeOption = None,
) -> None:
    """Tell the agent that something happened: it opens or wakes the runs that are about it."""
    try:
        found = json.loads(payload, parse_float=str)
    except ValueError as error:
        raise BadInput("json.form", f"that is no JSON: {error}", advice="an object, such as '{}'") from error
    if not isinstance(found, dict):
        raise BadInput("json.form", "the payload is no object", advice="an object, such as '{}'")
    typer.echo(f"{_client(home).event(name, key, found)} runs opened or woken")


def _print(run: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(run, indent=2))
        return
    end = f", {run['outcome']} {run['code']}".rstrip() if run["outcome"] else ""
    rehearsal = ", a dry run" if run["dry_run"] else ""
    typer.echo(f"{run['run']}  {run['playbook']}  {run['subject']}")
    typer.echo(f"  {run['status']}{end}{rehearsal}")
    for step in run["steps"]:
        code = f"  {step['code']}" if step["code"] else ""
        typer.echo(f"  {step['step']:<20} {step['status']:<10} {step['verdict']:<6} {step['tool']}{code}")
    for question in run["waiting_for"]:
        where = "outrider agent approve" if question["local"] else "the hub's console"
        until = time.strftime("%d %b %H:%M", time.localtime(question["expires_at"] / 1e6))
        people = (
            f"{len(question['approvers'])} of {question['needed']} people" if question["needed"] > 1 else "a person"
        )
        typer.echo(f"  waits for {people} ({', '.join(question['roles'])}) until {until}: {question['approval']}")
        typer.echo(f"    answer it with {where}")
        for rule in question["rules"]:
            typer.echo(f"    because: {rule['about'] or rule['id']}")
