"""Settings of the agent, read once and passed on. Reference: ``docs/reference/settings.md``."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared import __version__

SOFTWARE = f"agent {__version__}"


def now_us() -> int:
    """The machine's clock, microseconds since 1970 UTC."""
    return time.time_ns() // 1000


class Config(BaseSettings):
    """Environment variables with the prefix ``OUTRIDER_``; command-line options win over them."""

    model_config = SettingsConfigDict(env_prefix="OUTRIDER_", extra="ignore")

    home: Path = Field(
        default=Path("~/.local/share/outrider/agent"),
        description="Where the agent keeps its keys, log, memory, releases, models and inbox.",
    )
    runs_at_once: int = Field(default=4, ge=1, le=64, description="Runs worked on at the same time.")
    model_threads: int = Field(
        default=1, ge=1, le=64, description="Threads of the model worker; one is best on a busy machine."
    )
    model_idle_s: int = Field(
        default=300, ge=0, description="Seconds after which an unused model worker is ended; 0 keeps it."
    )
    fetch_models: bool = Field(default=True, description="Fetch the models a release lists; without, add them by hand.")
    model_cache: Path | None = Field(default=None, description="A folder of model files to copy from before fetching.")
    inbox_poll_s: float = Field(default=0.5, gt=0, le=60, description="Seconds between looks at the watched folders.")

    def resolved(self) -> Config:
        """With ``~`` expanded and the path made absolute."""
        return self.model_copy(update={"home": self.home.expanduser().absolute()})


class Home:
    """The agent's folder: every path in one place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.keys = root / "keys"
        self.log = root / "log.sqlite3"
        self.lock = root / "agent.lock"
        self.memory = root / "memory.sqlite3"
        self.identity = root / "identity.json"
        self.live = root / "live.json"
        self.models = root / "models"
        self.inboxes = root
        self.taken = root / "taken"
        self.refused = root / "refused"
        self.register = root / "register.sqlite3"

    def make(self) -> None:
        """Create the folders, private to this user."""
        for folder in (self.root, self.keys, self.models, self.taken, self.refused):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
