"""`outrider release`: the workspace between a hub and a plain folder, so that it can be edited and kept in git."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from server.authoring.findings import ERROR, Finding
from server.options import Json, show
from shared.errors import BadInput

release = typer.Typer(
    help="Author releases in a folder: bring the hub's workspace here, check it, send it back.", no_args_is_help=True
)
TOKEN = "OUTRIDER_TOKEN"  # noqa: S105 - the name of a variable

Folder = Annotated[Path, typer.Argument(help="The folder with policy.cedar, playbooks/ and the rest.")]
Hub = Annotated[
    str, typer.Option("--hub", help="The hub's address. [default: the one that the folder was pulled from]")
]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", help=f"A file with your token. [default: the variable {TOKEN}]")
]


@release.command()
def pull(
    folder: Folder,
    hub: Hub = "",
    version: Annotated[int, typer.Option(help="An older version, into an empty folder. [default: the newest]")] = 0,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Bring the hub's workspace into the folder. What was changed here stays; a file changed on both sides is told."""
    from server.authoring import folder as folders
    from server.authoring.wire import unpack
    from server.releases.workspace import read_folder

    state = folders.read_state(folder)
    remote = _remote(hub or state.hub, token_file)
    pulled = remote.pull(version)
    mine, theirs = read_folder(folder), unpack(pulled.files)
    changed = folders.put(folder, mine, folders.merged(state.files, mine, theirs))
    folders.write_state(folder, remote.address, pulled.version, theirs)
    done = {"version": pulled.version, "by": pulled.by, "release": pulled.release, "changed": changed}
    lines = [f"version {pulled.version} by {pulled.by}", *(f"  {path}" for path in changed)]
    show(as_json, done, "\n".join(lines) if changed else f"{lines[0]}: nothing is new here")


@release.command()
def push(
    folder: Folder,
    hub: Hub = "",
    note: Annotated[str, typer.Option(help="What changed, in a few words.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Put the folder in place of whatever is newest. No version is lost.")
    ] = False,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Send the folder to the hub as the workspace's next version. Nothing is published by it."""
    from server.authoring import folder as folders
    from server.releases.workspace import read_folder

    state, files = folders.read_state(folder), read_folder(folder)
    remote = _remote(hub or state.hub, token_file)
    done = remote.push(files, base=state.version, note=note, replace=replace)
    folders.write_state(folder, remote.address, done.version, files)
    show(as_json, msgspec.to_builtins(done), "\n".join([f"version {done.version}", *_lines(done.findings)]))


@release.command()
def validate(
    folder: Folder,
    hub: Annotated[str, typer.Option("--hub", help="Ask this hub too: it knows people's roles and what runs.")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Check the folder as the hub would before publishing. Without a hub this needs no network and no token."""
    from server.authoring.checking import check
    from server.releases.workspace import read_folder

    files = read_folder(folder)
    findings = _remote(hub, token_file).check(files) if hub else check(files)
    wrong = [one for one in findings if strict or one.severity == ERROR]
    show(as_json, {"findings": msgspec.to_builtins(findings)}, "\n".join(_lines(findings)) or "nothing is wrong")
    if wrong:
        raise typer.Exit(1)


def _remote(hub: str, token_file: Path | None) -> Any:
    from server.authoring.remote import Remote

    if not hub:
        raise BadInput("release.hub", "no hub is named", advice="name it once: --hub https://NAME")
    return Remote(hub, _token(token_file))


def _token(token_file: Path | None) -> str:
    try:
        token = token_file.read_text(encoding="ascii") if token_file is not None else os.environ.get(TOKEN, "")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("release.token", f"cannot read {token_file}", advice="put the token alone into it") from error
    if not token.strip():
        advice = f"make one in the console under Releases, and put it into {TOKEN} or a file for --token-file"
        raise BadInput("release.token", "there is no token", advice=advice)
    return token.strip()


def _lines(findings: Sequence[Finding]) -> list[str]:
    return [f"{one.place}: {one.severity} [{one.code}] {one.message}\n  → {one.advice}" for one in findings]
