"""``outrider hub rollout``: give a release out in stages, watch it, stop it, and keep devices apart.

Beside the room and not in it: asking a hub that runs needs none of the rooms.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from server.options import Home, Json, config, show
from shared.errors import BadInput

rollout = typer.Typer(help="Give a release out in stages, judged by how runs go.", no_args_is_help=True)

Release = Annotated[int, typer.Argument(help="Its number; 0 for the newest.")]
Plan = Annotated[Path | None, typer.Option("--plan", help="A JSON file of what is to differ from the default plan.")]
Device = Annotated[str, typer.Argument(help="The device's id, as outrider hub device list shows it.")]


def _order(home: Path | None, act: str, **given: Any) -> dict[str, Any]:
    from server.admin import Operator

    return Operator(config(home)).rollout(act, **given)


def _read(plan: Path | None) -> dict[str, Any]:
    if plan is None:
        return {}
    try:
        read = json.loads(plan.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput("rollout.plan", f"{plan}: {error}", advice="give a JSON file", where=str(plan)) from error
    if not isinstance(read, dict):
        raise BadInput("rollout.plan", f"{plan} is no mapping", advice="see outrider hub rollout plan", where=str(plan))
    return read


def _stage(one: dict[str, Any]) -> str:
    return f"{one['rollout']}  release {one['release']} against {one['control']}: {one['status']}, " + (
        f"stage {one['stage'] + 1} of {one['stages']} ({one['permille'] / 10:g}% of the devices)"
    )


@rollout.command("list")
def rollout_list(home: Home = None, as_json: Json = False) -> None:
    """Show every rollout there was, the newest first, and which release runs wherever none is under way."""
    found = _order(home, "list")
    lines = [f"release {found['current']} is what devices run", *map(_stage, found["rollouts"])]
    show(as_json, found, "\n".join(lines))


@rollout.command("show")
def rollout_show(
    rollout: Annotated[str, typer.Argument(help="Its id. [default: the newest]")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show how a rollout is: its stage, what it waits for, what the gates say, and who runs what."""
    found = _order(home, "show", rollout=rollout)
    lines = [_stage(found), *([f"  {found['said']}"] if found["said"] else [])]
    for gate in found["gates"]:
        name = gate["gate"]["metric"]
        lines.append(
            f"  {name}: {gate['worse']} of {gate['runs']} runs, {gate['control_worse']} of {gate['control_runs']} with"
            f" the control; evidence to halt {gate['halt_permille'] / 10:g}%, to go on {gate['pass_permille'] / 10:g}%"
        )
    for one in found["cohorts"]:
        lines.append(
            f"  {one['name']}: {one['devices']} devices, {one['online']} online, {one['drifting']} not there yet"
        )
    show(as_json, found, "\n".join(lines))


@rollout.command("plan")
def rollout_plan(release: Release = 0, home: Home = None) -> None:
    """Print the default plan of a release as JSON: its stages, gates and how sure one wants to be."""
    found = _order(home, "plan", release=release)
    kept = {name: found[name] for name in ("stages", "gates", "alpha_permille", "beta_permille", "settle_s")}
    typer.echo(json.dumps(kept, indent=2))


@rollout.command("start")
def rollout_start(release: Release = 0, plan: Plan = None, home: Home = None, as_json: Json = False) -> None:
    """Begin to give a release out in stages."""
    made = _order(home, "start", release=release, plan=_read(plan))
    text = f"{made['rollout']}: release {made['release']} for {made['stages'][0]['permille'] / 10:g}% of the devices"
    show(as_json, made, text)


@rollout.command("pause")
def rollout_pause(home: Home = None, as_json: Json = False) -> None:
    """Leave every device as it is until resumed. What gets worse is still halted."""
    show(as_json, _order(home, "pause"), "it is paused")


@rollout.command("resume")
def rollout_resume(home: Home = None, as_json: Json = False) -> None:
    """Go on with a paused rollout."""
    show(as_json, _order(home, "resume"), "it goes on")


@rollout.command("advance")
def rollout_advance(home: Home = None, as_json: Json = False) -> None:
    """Go to the next stage now, on your word instead of the evidence's; behind the last, finish."""
    show(as_json, _order(home, "advance"), "it has gone on")


@rollout.command("rollback")
def rollout_rollback(
    release: Annotated[int, typer.Option(help="Where to; 0 for the release it was compared with.")] = 0,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take the release back from every device, during the rollout or after it."""
    show(as_json, _order(home, "rollback", release=release), "it is taken back")


@rollout.command("pin")
def rollout_pin(
    device: Device,
    release: Annotated[int, typer.Argument(help="The release's number; 0 to pin it no longer.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let one device run a release whatever is rolled out."""
    done = _order(home, "pin", device=device, release=release)
    show(as_json, done, f"{device} runs release {release}" if release else f"{device} is pinned no longer")


@rollout.command("exclude")
def rollout_exclude(
    device: Device,
    undo: Annotated[bool, typer.Option("--undo", help="Let it take part again.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let one device take no part in rollouts: it follows when they are finished."""
    done = _order(home, "exclude", device=device, on=not undo)
    show(as_json, done, f"{device} takes part again" if undo else f"{device} takes no part in rollouts")
