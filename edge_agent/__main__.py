"""The agent's commands: ``outrider agent``, ``audit`` and ``memory``.

Heavy rooms are imported inside the commands that need them, so that ``--help`` and ``status`` answer at once.
"""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_agent import run_commands
from edge_agent.memory_commands import memory
from edge_agent.options import PLAIN, HomeOption, JsonOption, home_of, show_json
from edge_agent.secrets_commands import secret
from edge_agent.tools.mcp.commands import mcp
from shared.errors import BadInput

__all__ = ["agent", "audit", "memory"]


agent = typer.Typer(help="Run this computer's agent.", no_args_is_help=True, **PLAIN)
run_commands.add_to(agent)
agent.add_typer(secret)
agent.add_typer(mcp)
audit = typer.Typer(
    help="Verify a log, prove one entry of it, check a proof: all offline.", no_args_is_help=True, **PLAIN
)


# --- agent --------------------------------------------------------------------------------------------------------


@agent.command()
def join(
    url: Annotated[str, typer.Argument(help="The hub's address, as http://HOST:PORT.")],
    token: Annotated[str, typer.Argument(help="The one-time token from `outrider hub token`.")],
    home: HomeOption = None,
    name: Annotated[str, typer.Option(help="What people call this device.")] = platform.node() or "agent",
) -> None:
    """Enrol this computer with a hub. Its keys are made here and never leave."""
    from edge_agent.link.enrol import join as enrol

    identity = enrol(home_of(home), url, token, name)
    typer.echo(f"joined {identity.hub} as {identity.device} ({name})")
    typer.echo("start it with: outrider agent run")


@agent.command()
def run(home: HomeOption = None) -> None:
    """Work until stopped: watch, plan, guard, act, sync."""
    from edge_agent.service import serve

    serve(None if home is None else str(home))


@agent.command()
def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """What the agent has done and what it waits for. Reads the log; works whether or not the agent runs."""
    from edge_agent.status import status as look

    found = look(home_of(home))
    if as_json:
        show_json(found)
        return
    log, runs_ = found["log"], found["runs"]
    up = "running" if found["running"] else "stopped"
    typer.echo(
        f"{found['name']} ({found['device']}), {up}, {'linked' if found['linked'] else 'not linked'} to {found['hub']}"
    )
    typer.echo(f"release   {found['release'] or 'none yet'}")
    typer.echo(
        f"log       {log['size']} entries, {log['bytes'] // 1024} KiB, {found['synced']} countersigned by the hub"
    )
    typer.echo(f"lease     {_lease(found['lease'])}")
    for stop in found["stops"]:
        typer.echo(f"stopped   {stop['name'] or 'everything'}, by {stop['by']} ({stop['reason_code']})")
    if found["peering"] and found["peering"]["on"]:
        typer.echo(f"peers     {_peering(found['peering'])}")
    typer.echo(f"runs      {runs_['closed']} closed, {runs_['waiting']} waiting for a person, {runs_['held']} held")
    typer.echo(f"decided   {found['decided_alone']} alone, {found['asked']} asked, {found['denied']} denied")
    for problem in found["problems"]:
        typer.echo(f"problem   [{problem['code']}] {problem['message']}\n          → {problem['advice']}")


def _lease(lease: dict[str, int] | None) -> str:
    if lease is None:
        return "none: nothing can be done until the hub lends one"
    minutes = (lease["expires_at"] / 1e6 - time.time()) / 60
    if minutes <= 0:
        return "ended: nothing can be done until the hub renews it"
    return f"{minutes / 60:.1f} h, {lease['actions_left']} actions, ${lease['value_left_cents'] / 100:,.0f} left"


def _peering(said: dict[str, Any]) -> str:
    if not said["address"]:
        return "nothing is handed to other devices: the release does not let it, or the address cannot be listened on"
    return f"models are handed to other devices at {said['address']}, {said['sent_bytes'] // 1_000_000} MB so far"


@agent.command()
def runs(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every run this agent has opened, oldest first."""
    from edge_agent.status import runs as look

    _table(look(home_of(home)), as_json, "no runs yet: drop a CSV into the agent's inbox folder")


@agent.command()
def approvals(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """The runs that wait for a person. They are answered in the hub's console."""
    from edge_agent.status import runs as look

    _table(look(home_of(home), waiting=True), as_json, "nothing waits for a person")


def _table(rows: list[dict[str, Any]], as_json: bool, empty: str) -> None:
    if as_json:
        show_json(rows)
        return
    if not rows:
        typer.echo(empty)
    for row in rows:
        state = row["outcome"] or row["status"]
        typer.echo(f"{row['subject']:16} {state:10} {row['lane']:14} {row['confidence'] / 10:5.1f}%  {row['reason']}")


# --- audit --------------------------------------------------------------------------------------------------------


@audit.command()
def verify(
    file: Annotated[Path | None, typer.Argument(help="A log file (log.sqlite3 of a device).")] = None,
    device: Annotated[bool, typer.Option("--device", help="Verify this computer's own log.")] = False,
    home: HomeOption = None,
    hub: Annotated[str, typer.Option(help="The countersigning hub's name, where the log is not this device's.")] = "",
    hub_key: Annotated[str, typer.Option(help="Its public key, base64.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Recompute every hash, root, signature, countersignature and run. Names the first bad entry; exits 1 on one."""
    from edge_agent.audit import verify_device, verify_file

    if device == (file is not None):
        raise BadInput("audit.which", "name a FILE or --device, and not both", advice="outrider audit verify --help")
    report = verify_device(home_of(home)) if file is None else verify_file(file, hub, hub_key)
    if as_json:
        show_json(report)
    elif report["error"] is None:
        typer.echo(f"{report['origin']}: all {report['entries']} entries hold")
        typer.echo(f"  {report['checkpoints']} checkpoints signed by {report['key']}")
        typer.echo(f"  {report['cosigned']} of them countersigned, up to entry {report['cosigned_size']}")
        typer.echo(f"  {report['bodies']} bodies match, {report['bodies_gone']} are gone")
        typer.echo(f"  {report['runs_closed']} runs closed, {report['runs_open']} open, all in order")
    else:
        error = report["error"]
        typer.echo(
            f"entry {report['bad_entry']}: [{error['code']}] {error['message']}\n  → {error['advice']}", err=True
        )
    if report["error"] is not None:
        raise typer.Exit(1)


@audit.command()
def prove(
    entry: Annotated[int, typer.Argument(min=0, help="The entry's place in the log: its seq.")],
    home: HomeOption = None,
    out: Annotated[Path | None, typer.Option(help="Write the proof to this file, not to the terminal.")] = None,
    body: Annotated[bool, typer.Option("--body", help="Put the entry's shared body and its salt into it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the proof that one entry stands in this computer's log: a file that anyone checks with `audit check`."""
    from edge_agent.audit import prove as make

    data, shown = make(home_of(home), entry, body=body)
    if out is not None:
        try:
            out.write_bytes(data)
        except OSError as error:
            raise BadInput("audit.out", f"{out}: {error.strerror}", advice="name a file you may write") from error
    if as_json:
        show_json(shown | {"proof": data.decode()})
    elif out is None:
        typer.echo(data.decode(), nl=False)
    else:
        witness = f" --witness {shown['witness_key']}" if shown["witness"] else ""
        typer.echo(f"entry {entry} of {shown['origin']}, in its tree of {shown['size']}, is proved by {out}")
        typer.echo(f"check it with: outrider audit check {out} --key {shown['key']}{witness}")
        if not witness:
            typer.echo("the hub has not countersigned it yet; sync, and make the proof again to have its word as well")


@audit.command()
def check(
    file: Annotated[Path, typer.Argument(help="A proof made by `audit prove`.")],
    key: Annotated[str, typer.Option(help="The log's public key: base64, or a C2SP vkey.")],
    witness: Annotated[str, typer.Option(help="The hub's public key: what it countersigned must be there.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Check a proof with public keys alone: that the entry stands in the log, and who signed it. Exits 1 if not."""
    from edge_agent.audit import check_file

    shown = check_file(file, key, witness)
    if as_json:
        show_json(shown)
    elif shown["error"] is None:
        found = shown["entry"]
        typer.echo(
            f"entry {shown['index']} ({found['type']}, {_utc(found['at'] // 1_000_000)}) of {shown['origin']} holds"
        )
        typer.echo(f"  in the tree of {shown['size']} entries with the root {shown['root']}, signed by the log's key")
        if shown["witness"]:
            typer.echo(f"  countersigned by {shown['witness']} at {_utc(shown['cosigned_at'])}")
        typer.echo(f"  {json.dumps(found['facts'], ensure_ascii=False)}")
        for name, value in shown["bodies"].items():
            typer.echo(f"  its {name} body: {json.dumps(value, ensure_ascii=False)}")
    else:
        error = shown["error"]
        typer.echo(f"[{error['code']}] {error['message']}\n  → {error['advice']}", err=True)
    if shown["error"] is not None:
        raise typer.Exit(1)


def _utc(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
