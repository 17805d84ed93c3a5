"""``outrider hub replay`` and ``outrider hub reconcile``, from the hub's own machine."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from server.options import Home, Json, config, show

reconcile = typer.Typer(
    help="What devices did offline and would not do alone any more: take it back, or let it stand.",
    no_args_is_help=True,
)

_WORDS = {"allow": "done without asking", "ask": "asked about", "deny": "denied"}
Listed = Annotated[int, typer.Argument(help="Its number, as outrider hub reconcile list shows it.")]


def replay(
    release: Annotated[
        int, typer.Option(help="A published release; 0 is the newest version of the workspace.", min=0)
    ] = 0,
    workspace: Annotated[bool, typer.Option("--workspace", help="The workspace, as without --release.")] = False,
    days: Annotated[int, typer.Option(help="How many days back.", min=1, max=366)] = 30,
    most: Annotated[int, typer.Option(help="At most so many differences, the newest.", min=0, max=10_000)] = 20,
    devices: Annotated[
        bool, typer.Option("--devices", help="Ask the devices to try the release on their own runs, and show scores.")
    ] = False,
    sample: Annotated[int, typer.Option(help="With --devices: at most so many runs of each.", min=1, max=200)] = 50,
    drift: Annotated[bool, typer.Option("--drift", help="Show how far devices' plans have moved.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Judge a candidate on what happened: which actions would now be asked about, denied or done without asking."""
    from server.admin import Operator

    operator = Operator(config(home))
    if drift:
        found = operator.replay("drift")
        return show(as_json, found, _drift(found["drift"]))
    if devices:
        if workspace or not release:
            raise typer.BadParameter("devices try what is published: give --release")
        asked = operator.replay("ask", release=release, sample=sample)
        found = asked | operator.replay("scores", release=release)
        return show(as_json, found, f"{asked['replay']}: the devices are asked\n{_scores(found['asked'])}")
    found = operator.replay("compare", release=0 if workspace else release, days=days, most=most)
    return show(as_json, found, differences(found))


def differences(found: dict[str, Any]) -> str:
    """What ``server.replay.orders.compared`` found, in lines."""
    name = f"release {found['release']}" if found["release"] else "the workspace"
    lines = [f"{name} on {found['looked']} actions of the last {found['days']} days:"]
    for what, words in (("asked", "asked about"), ("denied", "denied"), ("allowed", "done without asking")):
        lines.append(f"  {found[what]} would now be {words}")
    if found["unjudged"]:
        lines.append(f"  {found['unjudged']} could not be judged, and would be denied")
    golden = found["golden"]
    cases = (
        f"{golden['cases']} golden cases, {len(golden['wrong'])} fail, {len(golden['open'])} are left to the devices"
    )
    lines += [cases, *(f"  {said}" for said in golden["wrong"])]
    for one in found["found"]:
        was, now = _WORDS[one["was"]], _WORDS[one["now"]]
        lines.append(f"{one['device']}:{one['run']}  {one['tool']}  {was} → {now} ({', '.join(one['rules'])})")
    return "\n".join(lines)


def _scores(asked: list[dict[str, Any]]) -> str:
    lines = []
    for one in asked:
        lines.append(
            f"{one['id']}  release {one['release']}, {len(one['scores'])} of {one['devices']} devices answered"
        )
        lines += [f"  {_score(score)}" for score in one["scores"]]
    return "\n".join(lines)


def _score(score: dict[str, Any]) -> str:
    if score["code"]:
        return f"{score['device_name']}  could not try it: {score['code']}"
    golden = f", {score['golden_wrong']} of {score['golden']} golden cases fail" if score["golden"] else ""
    return (
        f"{score['device_name']}  {score['now']} of {score['sampled']} as people decided"
        f" ({score['before']} when they were planned first){golden}"
    )


def _drift(found: list[dict[str, Any]]) -> str:
    lines = [f"{'! ' if one['alert'] else '  '}{_score(one['score'])}" for one in found]
    return "\n".join(lines) or "no device has sampled its runs yet"


@reconcile.command("list")
def reconcile_list(home: Home = None, as_json: Json = False) -> None:
    """Show what was done offline and would not be done alone under the policy of today."""
    from server.admin import Operator

    found = Operator(config(home)).replay("reconcile")["open"]
    lines = [
        f"{one['n']}  {one['device_name']}  {one['subject'] or one['run']}  {one['tool']}: {_WORDS[one['was']]}, would"
        f" now be {_WORDS[one['now']]} ({', '.join(one['rules'])})"
        f"{', ' + one['coming']['order'] + ' is on its way' if one['coming'] else ''}"
        for one in found
    ]
    show(as_json, found, "\n".join(lines) or "nothing done offline would be judged otherwise now")


@reconcile.command("undo")
def reconcile_undo(
    n: Listed, reason: Annotated[str, typer.Option(help="Why.")] = "", home: Home = None, as_json: Json = False
) -> None:
    """Have the run taken back by its device: all it did, the newest first."""
    from server.admin import Operator

    done = Operator(config(home)).replay("undo", n=n, reason=reason)
    show(as_json, done, f"{done['id']}: the device is told to {done['order']} the run")


@reconcile.command("excuse")
def reconcile_excuse(
    n: Listed,
    reason: Annotated[str, typer.Option(help="Why it stands; it is kept with the record.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let it stand as it is."""
    from server.admin import Operator

    done = Operator(config(home)).replay("excuse", n=n, reason=reason)
    show(as_json, done, f"{n} stands as it is")
