"""Settings of the agent, read once and passed on. Reference: ``docs/reference/settings.md``.

Plain msgspec rather than a settings library: the agent shares its computer with its user, and pydantic alone would
cost it a third of its memory at rest.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from shared import __version__
from shared.errors import BadInput

SOFTWARE = f"agent {__version__}"
PREFIX = "OUTRIDER_"


def uptime_us() -> int:
    """Microseconds by a clock that nobody sets and that goes on while the machine sleeps, where the system has one."""
    clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; macOS counts sleep in CLOCK_MONOTONIC
    if clock is None:
        clock = getattr(time, "CLOCK_MONOTONIC", None)
    return (time.monotonic_ns() if clock is None else time.clock_gettime_ns(clock)) // 1000


def now_us() -> int:
    """The machine's clock, microseconds since 1970 UTC."""
    return time.time_ns() // 1000


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Environment variables with the prefix ``OUTRIDER_``; command-line options win over them. See ``read_config``."""

    home: Annotated[
        Path, Meta(description="Where the agent keeps its keys, log, memory, releases, models and inbox.")
    ] = Path("~/.local/share/outrider/agent")
    runs_at_once: Annotated[int, Meta(ge=1, le=64, description="Runs worked on at the same time.")] = 4
    model_threads: Annotated[
        int, Meta(ge=1, le=64, description="Threads of the model worker; one is best on a busy machine.")
    ] = 1
    model_idle_s: Annotated[
        int, Meta(ge=0, description="Seconds after which an unused model worker is ended; 0 keeps it.")
    ] = 300
    fetch_models: Annotated[bool, Meta(description="Fetch the models a release lists; else add them by hand.")] = True
    model_rate_kb: Annotated[
        int, Meta(ge=0, description="Most KiB a second when a model is fetched from the hub; 0 for as fast as it goes.")
    ] = 0
    model_disk_mb: Annotated[
        int,
        Meta(ge=0, description="Disk for models, in MB: beyond it, those no longer used are removed; 0 for any."),
    ] = 10_000
    model_cache: Annotated[
        Path | None,
        Meta(description="Another home whose models/ store is copied from before fetching, such as ~/.cache/outrider."),
    ] = None
    peer_listen: Annotated[
        str,
        Meta(description="ADDRESS:PORT at which other devices may fetch models, where the release lets them."),
    ] = ""
    peer_rate_kb: Annotated[
        int,
        Meta(ge=0, description="Most KiB a second handed to other devices, all together; 0 for as fast as it goes."),
    ] = 0
    api_port: Annotated[
        int, Meta(ge=0, le=65535, description="Port of the local API on 127.0.0.1; 0 takes any free one.")
    ] = 0
    open_metrics: Annotated[
        bool, Meta(description="Serve /metrics of the local API without its token, for a Prometheus on this computer.")
    ] = False
    otlp_endpoint: Annotated[
        str, Meta(description="Base URL of an OTLP/HTTP receiver for metrics and traces; empty for none.")
    ] = ""
    otlp_seconds: Annotated[int, Meta(ge=1, le=3600, description="Seconds between two sendings to it.")] = 30
    drift_days: Annotated[
        int, Meta(ge=0, le=366, description="Days between two samples of own runs that are planned anew; 0 for none.")
    ] = 7
    inbox_poll_s: Annotated[float, Meta(gt=0, le=60, description="Seconds between looks at the watched folders.")] = 0.5


def read_config(environ: Mapping[str, str], *, home: Path | None = None) -> Config:
    """The settings that ``environ`` gives, the others by default; ``home`` wins over ``OUTRIDER_HOME``.

    A variable that is set to nothing counts as not set. The home is made absolute, ``~`` expanded. Raises
    ``BadInput('config.value')``, which names the variable.
    """
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(Config):
        name = f"{PREFIX}{field.name}".upper()
        text = environ.get(name, "")
        if text:
            given[field.name] = _value(name, text, field.type)
    if home is not None:
        given["home"] = home
    config = Config(**given)
    return msgspec.structs.replace(config, home=config.home.expanduser().absolute())


def _value(name: str, text: str, kind: Any) -> Any:
    try:
        return msgspec.convert(text, kind, strict=False, dec_hook=lambda made, value: made(value))
    except msgspec.ValidationError as error:
        raise BadInput(
            "config.value",
            f"{name} is {text!r}, which does not fit: {error}",
            advice="correct or unset the variable; docs/reference/settings.md says what it takes",
        ) from error


class Home:
    """The agent's folder: every path in one place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.keys = root / "keys"
        self.log = root / "log.sqlite3"
        self.lock = root / "agent.lock"
        self.memory = root / "memory.sqlite3"
        self.sessions = root / "sessions.sqlite3"
        self.identity = root / "identity.json"
        self.live = root / "live.json"
        self.models = root / "models"
        self.inboxes = root
        self.taken = root / "taken"
        self.refused = root / "refused"
        self.register = root / "register.sqlite3"
        self.tools = root / "tools.toml"
        self.tool_state = root / "tools"
        self.secrets = root / "secrets"
        self.api = root / "api.json"

    def make(self) -> None:
        """Create the folders, private to this user."""
        for folder in (self.root, self.keys, self.models, self.taken, self.refused):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
