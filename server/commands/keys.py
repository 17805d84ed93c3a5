"""``outrider keys``: people's own keys, and signing with them. It needs no hub and reaches none.

A private key is made, kept and used on its owner's machine. What leaves it is the public line and signature files.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from shared import command, keyfile
from shared.errors import BadInput, Conflict, Refused, Unavailable
from shared.keys import SigningKey, vkey
from shared.offer import Offer, check_files, check_since, read_offer, said, sign_offer

keys = typer.Typer(
    help="Your own keys: sign releases and the root with them, on this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

FOLDER = Path("~/.config/outrider/keys")
Folder = Annotated[Path, typer.Option("--folder", help="Where your key files are.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
KeyName = Annotated[str, typer.Argument(help="A key file, or the name of one in the folder.")]


@keys.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is: small letters, digits, . _ and -.")],
    seal: Annotated[bool, typer.Option("--seal", help="Encrypt it under a secret, which is shown this once.")] = False,
    folder: Folder = FOLDER,
    as_json: Json = False,
) -> None:
    """Make a key. Give the line it prints to the hub's operator; nobody gets the file."""
    key = SigningKey(secrets.token_bytes(32))
    secret = keyfile.new_secret(secrets.token_bytes) if seal else ""
    path = folder.expanduser() / f"{name}.key"
    _write_new(path, keyfile.write_key(name, key, secret))
    value = {"name": name, "key": vkey(name, key.public), "file": str(path), "fingerprint": key.public.fingerprint}
    lines = [value["key"], f"  is in {path}"]
    if secret:
        lines += [
            f"  its secret is {secret}",
            "  → write that down and keep it away from the file: it is not shown again",
        ]
    _show(as_json, value | ({"secret": secret} if secret else {}), "\n".join(lines))


@keys.command()
def show(name: KeyName, folder: Folder = FOLDER, as_json: Json = False) -> None:
    """Print a key's public line, as the hub's operator needs it."""
    value = _told(_path(name, folder))
    _show(
        as_json, value, f"{value['key']}\n  fingerprint {value['fingerprint']}{', sealed' if value['sealed'] else ''}"
    )


@keys.command("list")
def list_(folder: Folder = FOLDER, as_json: Json = False) -> None:
    """Show the keys in the folder."""
    found = [_told(path) for path in sorted(folder.expanduser().glob("*.key"))]
    lines = [f"{one['fingerprint']}  {one['name']}{', sealed' if one['sealed'] else ''}" for one in found]
    _show(as_json, found, "\n".join(lines) or f"there are no keys in {folder}")


@keys.command()
def sign(
    offer: Annotated[Path, typer.Argument(help="The file from the hub: a release or a root to be signed.")],
    key: Annotated[str, typer.Option("--key", help="Your key file, or its name in the folder.")],
    files: Annotated[
        Path | None, typer.Option("--files", help="The workspace as you have read it: refuse a release of other files.")
    ] = None,
    before: Annotated[
        Path | None, typer.Option("--before", help="The offer you signed before this: refuse other changes since.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The signature file. [default: OFFER.NAME.sig]")] = None,
    secret_stdin: Annotated[bool, typer.Option("--secret-stdin", help="Read a sealed key's secret there.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    folder: Folder = FOLDER,
    as_json: Json = False,
) -> None:
    """Show what a file from the hub would have you sign, ask, and sign it."""
    wanted = read_offer(read_file(offer))
    if files is not None:
        _check_workspace(wanted, files)
    if before is not None:
        check_since(wanted, read_offer(read_file(before)))
    path = _path(key, folder)
    data = _private(path)
    secret = _secret(secret_stdin) if keyfile.sealed(data) else ""
    name, private = keyfile.read_key(data, path.stem, secret)
    signature = sign_offer(wanted, vkey(name, private.public), private)
    typer.echo("\n".join(said(wanted)), err=True)
    if not yes:
        typer.confirm(f"Sign this as {name} ({', '.join(signature.signatures)})?", abort=True, err=True)
    out = out or offer.with_name(f"{offer.name}.{name}.sig")
    try:
        out.write_bytes(signature.data())
    except OSError as error:
        raise Unavailable("disk.write", f"{out}: {error.strerror}", advice="choose another --out") from error
    value = {"offer": wanted.id, "signed": sorted(signature.signatures), "file": str(out)}
    _show(as_json, value, f"{out}\n  → give it to the hub's operator")


def _check_workspace(offer: Offer, folder: Path) -> None:
    from server.releases.workspace import read_workspace

    if offer.kind != "release":
        raise BadInput("sign.form", "this offer is not of a release", advice="leave --files out")
    candidate = read_workspace(folder)
    manifest = check_files(offer, candidate.files)
    if not candidate.same_as(manifest):
        raise Refused(
            "sign.files",
            "the models in the offer, or whether devices may hand them on, are not as you have them",
            advice="do not sign; compare models.json and peers.yaml with what was proposed",
            where="models.json",
        )


def _path(name: str, folder: Path) -> Path:
    """A file of that name, or the key called so in the folder."""
    return Path(name) if "/" in name or os.sep in name or Path(name).is_file() else folder.expanduser() / f"{name}.key"


def _told(path: Path) -> dict[str, Any]:
    data = read_file(path)
    name, public = keyfile.read_public(data, path.stem)
    text = vkey(name, public)
    return {"name": name, "key": text, "fingerprint": public.fingerprint, "sealed": keyfile.sealed(data)}


def _private(path: Path) -> bytes:
    """A key file's bytes, if they are for its owner alone. Raises ``Refused('key.exposed')``."""
    data = read_file(path)
    if sys.platform != "win32" and path.stat().st_mode & 0o077:
        raise Refused(
            "key.exposed",
            "other users of this computer can read this key",
            advice=f"chmod 600 {path}; if they may have read it, have it replaced",
            where=str(path),
        )
    return data


def read_file(path: Path) -> bytes:
    """A file that somebody named. Raises ``BadInput('sign.file')``."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(
            "sign.file", f"cannot read it: {error.strerror}", advice="check the name", where=str(path)
        ) from error


def _write_new(path: Path, data: bytes) -> None:
    """For this user alone, on the disk, and never over another key."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise Conflict(
            "key.exists", "there is a key of that name already", advice="use another name", where=str(path)
        ) from error
    except OSError as error:
        raise Unavailable("disk.write", f"{path}: {error.strerror}", advice="choose another --folder") from error


def _secret(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().strip()
    if not sys.stdin.isatty():
        raise Refused("key.sealed", "there is nobody to ask for this key's secret", advice="use --secret-stdin")
    return str(typer.prompt("Secret of the key", hide_input=True, err=True))


def _show(as_json: bool, value: Any, text: str) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False) if as_json else text)


if __name__ == "__main__":
    command.main(["keys", *sys.argv[1:]])
