"""``outrider doctor``: is everything here that the agent needs, can it be reached, is it up to date?

Looks, and changes nothing but one small file that it writes and removes to see whether the disk takes a write. A check
never raises for what it finds: each gives findings, and every finding that is not ``ok`` says what to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import typer

from edge_agent.config import Home
from edge_agent.doctor import machine, upstream
from edge_agent.doctor.findings import Finding
from edge_agent.identity import load_identity
from edge_agent.models import probe
from edge_agent.options import HomeOption, JsonOption, config_of
from shared.errors import OutriderError

__all__ = ["Finding", "doctor", "examine"]

Probe = Callable[[Path], list[probe.Finding]]


def examine(
    root: Path,
    *,
    now: Callable[[], int],
    fetch: upstream.Fetch = upstream.fetch_url,
    probe_models: Probe = probe.findings,
    constraints: Path = machine.CONSTRAINTS,
    peer_listen: str = "",
) -> list[Finding]:
    """All findings about the agent in ``root``. ``now`` returns microseconds since 1970 UTC."""
    home = Home(root)
    found = [*machine.installed(constraints), *machine.disk(home), *machine.modes(home), machine.running(home)]
    found += machine.peering(peer_listen)
    try:
        identity = load_identity(home)
    except OutriderError as error:
        found.append(Finding("hub", "warn", error.message, error.advice))
    else:
        found += [*machine.keys(home), *upstream.findings(home, identity, now, fetch)]
    # A model that does not run is no failure: the agent then works by rules and asks.
    models = probe_models(root)
    return found + [Finding(one.name, "ok" if one.ok else "warn", one.detail, one.advice) for one in models]


doctor = typer.Typer(name="doctor", rich_markup_mode=None)


@doctor.callback(invoke_without_command=True)
def check(
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check what is installed, reachable and out of date, and say what to do. Exit code 1 if something failed."""
    config = config_of(home)
    root = config.home
    found = examine(root, now=lambda: time.time_ns() // 1000, peer_listen=config.peer_listen)
    failed = sum(one.status == "fail" for one in found)
    if as_json:
        typer.echo(msgspec.json.encode({"home": str(root), "ok": not failed, "findings": found}).decode())
    else:
        _show(found, failed)
    if failed:
        raise typer.Exit(1)


def _show(found: list[Finding], failed: int) -> None:
    wide = max(len(one.name) for one in found)
    for one in found:
        typer.echo(f"{one.status:4}  {one.name:{wide}}  {one.detail}")
        if one.advice:
            typer.echo(f"{'':4}  {'':{wide}}  -> {one.advice}")
    warned = sum(one.status == "warn" for one in found)
    typer.echo(f"\n{len(found)} checks, {failed} failed, {warned} to look at")
