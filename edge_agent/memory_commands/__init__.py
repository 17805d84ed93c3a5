"""``outrider memory``: what this computer's agent remembers, for the person who sits at it.

The commands open the store itself, beside a running agent, which notices. Heavy rooms are imported inside the commands.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from edge_agent.memory_commands import moving, reading, sessions, upkeep, writing

memory = typer.Typer(
    help="See and change what the agent remembers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "list": reading.list_, "show": reading.show, "history": reading.history, "status": reading.status,
    "add": writing.add, "edit": writing.edit, "restore": writing.restore, "forget": writing.forget,
    "import": moving.import_, "export": moving.export,
    "stale": upkeep.stale, "duplicates": upkeep.duplicates, "preview": upkeep.preview,
}  # fmt: skip
for name, command in _COMMANDS.items():
    memory.command(name)(command)
memory.add_typer(sessions.session, name="session")
