"""``outrider hub root`` and ``policy-keys``, and the signatures of releases: what people with keys are asked to sign.

The hub makes an *offer*, people sign it on their own machines (``outrider keys sign``), and their signature files come
back here. No private key of theirs does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from server.commands.keys import read_file
from server.options import Home, Json, config, show
from shared.errors import BadInput
from shared.keys import read_vkey
from shared.offer import read_signature

root = typer.Typer(help="The root of trust: whose keys count. Signed by two of its keys, which are kept elsewhere.")
policy_keys = typer.Typer(help="Who signs releases: people, or the hub itself.")

Files = Annotated[list[Path], typer.Argument(help="Signature files from `outrider keys sign`.")]
Out = Annotated[Path | None, typer.Option("--out", help="Write the offer there. [default: standard output]")]


def add_to(hub: typer.Typer, release: typer.Typer) -> None:
    hub.add_typer(root, name="root")
    hub.add_typer(policy_keys, name="policy-keys")
    release.command("proposals")(proposals)
    release.command("offer")(offer_again)
    release.command("sign")(take_signatures)
    release.command("withdraw")(withdraw)


@root.command("show")
def root_show(home: Home = None, as_json: Json = False) -> None:
    """Show whose keys count for what, until when, and what has to be renewed soon."""
    found = _do(home, "show")
    lines = [f"root, version {found['version']}"]
    for role, given in found["roles"].items():
        names = ", ".join(f"{key['name'] or 'the hub'} {key['fingerprint']}" for key in given["keys"])
        lines.append(f"  {role:9} {given['threshold']} of {names}; until {given['expires']}")
    for one in found["ending"]:
        ends = "ended" if one["level"] == "over" else "ends"
        lines.append(f"the signature of {one['what']} {ends} {one['expires']}\n  → {one['advice']}")
    show(as_json, found, "\n".join(lines))


@root.command("offer")
def root_offer(
    add: Annotated[
        list[str] | None, typer.Option("--add", help="A root key: its public line. May be repeated.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", help="A root key, by name or fingerprint. May be repeated.")
    ] = None,
    new_key: Annotated[
        list[str] | None,
        typer.Option("--new-key", help="A role whose key at the hub is replaced: policy, model, snapshot, timestamp."),
    ] = None,
    out: Out = None,
    home: Home = None,
) -> None:
    """Offer the next root to those who hold its keys: renewed, and with these changes."""
    _offer(home, {"add": add or [], "remove": remove or [], "new_keys": new_key or []}, out)


@root.command("accept")
def root_accept(files: Files, home: Home = None, as_json: Json = False) -> None:
    """Take signatures of an offered root; with the last that is needed it comes into force."""
    take_signatures(files, home, as_json)


@policy_keys.command("set")
def policy_keys_set(
    keys: Annotated[list[str] | None, typer.Argument(help="Public lines, as `outrider keys show` prints them.")] = None,
    threshold: Annotated[int, typer.Option(help="How many of them must sign.")] = 1,
    role: Annotated[
        str, typer.Option(help="policy, for releases; model, for the list of permitted models.")
    ] = "policy",
    by_hub: Annotated[bool, typer.Option("--hub", help="The hub signs by itself again.")] = False,
    out: Out = None,
    home: Home = None,
) -> None:
    """Offer a root under which these people sign. They and two holders of root keys sign the offer."""
    if by_hub == bool(keys):
        raise BadInput("root.change", "that does not say who signs", advice="give public lines, or --hub alone")
    _offer(home, {"people": {role: {"threshold": threshold, "keys": keys or []}}}, out)


def proposals(home: Home = None, as_json: Json = False) -> None:
    """Show what waits for signatures, and what was closed in the last month."""
    found = _do(home, "proposals")["proposals"]
    lines = [
        f"{one['id']}  {one['kind']} {one['number']}, {one['state']}, signed by {', '.join(one['signers']) or 'nobody'}"
        f"{_wanted(one)}"
        for one in found
    ]
    show(as_json, found, "\n".join(lines) or "nothing was proposed lately")


def offer_again(
    proposal: Annotated[str, typer.Argument(help="Its id, as outrider hub release proposals shows it.")],
    out: Out = None,
    home: Home = None,
) -> None:
    """Write out what is to be signed for a release, for `outrider keys sign`."""
    _write(_do(home, "offered", id=proposal), out)


def take_signatures(files: Files, home: Home = None, as_json: Json = False) -> None:
    """Take signatures of a release that was proposed; with the last that is needed it is published."""
    given = [msgspec.to_builtins(read_signature(read_file(path))) for path in files]
    done = _do(home, "sign", signatures=given)
    what = f"{done['kind']} {done['number']}"
    show(as_json, done, f"{what} is in force" if done["state"] == "completed" else f"{what} waits{_wanted(done)}")


def withdraw(
    proposal: Annotated[str, typer.Argument(help="Its id, as outrider hub release proposals shows it.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Close a proposal: signatures of it come to nothing."""
    done = _do(home, "withdraw", id=proposal)
    show(as_json, done, f"{proposal} is withdrawn")


def _offer(home: Path | None, change: dict[str, Any], out: Path | None) -> None:
    for text in [*change.get("add", []), *(key for one in change.get("people", {}).values() for key in one["keys"])]:
        read_vkey(text)
    _write(_do(home, "offer", change=change), out)


def _write(done: dict[str, Any], out: Path | None) -> None:
    if out is None:
        typer.echo(done["offer"], nl=False)
    else:
        out.write_text(done["offer"], encoding="utf-8")
    typer.echo(f"offer {done['id']}{_wanted(done)}\n  → outrider keys sign FILE --key KEY", err=True)


def _wanted(done: dict[str, Any]) -> str:
    lists = ", ".join(f"{count} for the {role} list" for role, count in done["missing"].items())
    return f", wants {lists}" if lists else ""


def _do(home: Path | None, act: str, **given: Any) -> dict[str, Any]:
    from server.admin import Operator

    return Operator(config(home)).trust(act, **given)
