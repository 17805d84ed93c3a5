"""The ``outrider`` command. Its parts register themselves by entry point, and only the one asked for is loaded: the
agent's commands do not pay for the hub's imports, and a machine with one of the two has no broken commands.

``outrider NAME run`` may register as a service too. A process that stays should not keep a command-line library in
memory, so where it is given nothing but a home it is started directly; help and mistyped options take the usual way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from shared import __version__
from shared.errors import BadInput, OutriderError

if TYPE_CHECKING:
    import typer

GROUP = "outrider.commands"
SERVICES = "outrider.services"
ABOUT = {
    "hub": "Run a hub: enrolment, releases, approvals, the record.",
    "agent": "Run this computer's agent.",
    "audit": "Verify a log offline.",
    "release": "Author releases in a folder: pull the workspace, check it, push it.",
    "keys": "Your own keys: sign releases and the root with them, without a hub.",
    "mcp": "Offer the agent's guarded tools to an assistant that speaks MCP.",
    "memory": "See and fill the agent's memory.",
    "panel": "See and steer this computer's agent in a browser.",
    "model": "See and fetch the models an agent may run.",
    "doctor": "Check this installation and say what to mend.",
}


def main(arguments: list[str] | None = None) -> None:
    """Errors of ours end the command with their code and advice: exit status 2 for bad input, 1 for all others."""
    given = sys.argv[1:] if arguments is None else arguments
    name = given[0] if given else "--help"
    if name == "--version":
        print(f"outrider {__version__}")
    elif name in ("--help", "-h", "help"):
        print(_help())
    elif name not in ABOUT:
        print(f"outrider has no command {name!r}\n\n{_help()}", file=sys.stderr)
        sys.exit(2)
    elif (service := _service(name, given[1:])) is not None:
        with _said():
            service()
    else:
        _run(_load(name), name, given[1:])


def _help() -> str:
    rows = [f"  {name:8} {about}" for name, about in ABOUT.items()]
    head = "Guarded AI agents for routine work: policy, approvals, memory, one signed record."
    tail = "Each command explains itself: outrider COMMAND --help"
    return "\n".join(["Usage: outrider COMMAND ...", "", head, "", *rows, "", tail])


def _service(name: str, arguments: list[str]) -> Callable[[], None] | None:
    """``run`` and at most a home, of a part that has a service: the call that starts it."""
    match arguments:
        case ["run"]:
            home = None
        case ["run", "--home", home] if not home.startswith("-"):
            pass
        case ["run", option] if option.startswith("--home="):
            home = option.removeprefix("--home=")
        case _:
            return None
    for part in entry_points(group=SERVICES, name=name):
        serve: Callable[[str | None], None] = _loaded(part, name)
        return lambda: serve(home)
    return None


def _load(name: str) -> typer.Typer:
    for part in entry_points(group=GROUP, name=name):
        loaded: typer.Typer = _loaded(part, name)
        return loaded
    print(f"`outrider {name}` is not registered.\n  → install outrider again", file=sys.stderr)
    sys.exit(1)


def _loaded(part: EntryPoint, name: str) -> Any:
    try:
        return part.load()
    except ModuleNotFoundError as error:
        extra = "hub" if name in ("hub", "release") else "agent"
        print(
            f"`outrider {name}` needs parts that are not installed ({error.name} is missing).\n"
            f"  → pip install 'outrider[{extra}]'",
            file=sys.stderr,
        )
        sys.exit(1)


def _run(part: typer.Typer, name: str, arguments: list[str]) -> None:
    with _said():
        part(args=arguments, prog_name=f"outrider {name}")


@contextmanager
def _said() -> Iterator[None]:
    """Errors of ours as text and an exit status."""
    try:
        yield
    except OutriderError as error:
        place = f"{error.where}: " if error.where else ""
        print(f"error [{error.code}] {place}{error.message}\n  → {error.advice}", file=sys.stderr)
        sys.exit(2 if isinstance(error, BadInput) else 1)
