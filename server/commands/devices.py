"""``outrider hub device``: the agents' devices, whose they are, and letting one go."""

from __future__ import annotations

from typing import Annotated

import typer

from server.options import Home, Json, config, show

device = typer.Typer(help="The agents' devices.", no_args_is_help=True)


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
