"""``outrider panel``: open the running agent's panel in a browser."""

from __future__ import annotations

import getpass
import json
import webbrowser
from typing import Annotated

import typer

from edge_agent.api.client import Client
from edge_agent.options import PLAIN, HomeOption, home_of

panel = typer.Typer(name="panel", help="See and steer this computer's agent in a browser.", **PLAIN)


@panel.callback(invoke_without_command=True)
def open_(
    home: HomeOption = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it, or only print where it is.")] = True,
    close: Annotated[bool, typer.Option("--close", help="Close every open panel instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts; opens nothing.")] = False,
) -> None:
    """Print an address that opens the panel once, within a minute, and open it. The panel acts in your name."""
    client = Client(home_of(home).root)
    if close:
        count = client.close_panel()
        typer.echo(
            json.dumps({"closed": count}) if as_json else f"{count} open panel{'' if count == 1 else 's'} closed"
        )
        return
    url = client.open_panel(getpass.getuser())
    if as_json:
        typer.echo(json.dumps({"url": url}))
        return
    typer.echo(f"the panel opens once, within a minute, at\n{url}")
    if browser and not webbrowser.open(url):
        typer.echo("no browser could be started here: open the address in one on this computer")
