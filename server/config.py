"""What a hub is told from outside: where it lives, where it listens, whom it answers, what it lends.

Read once, at the start, from arguments and ``OUTRIDER_HUB_*`` variables, and passed on as a value. Who the hub *is*
(its name and its log's origin) never changes after ``hub init`` and so stands in ``HOME/hub.json``, not here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT_HOME = Path("~/.local/share/outrider/hub")

# Files of the home that this machine's commands find a running hub by.
ADDRESS_FILE = "address"
ADMIN_FILE = "admin.token"
METRICS_FILE = "metrics.token"


class HubConfig(BaseSettings):
    """Settings of one hub. Durations are seconds, money is cents.

    ``hosts`` are further ``NAME:PORT`` values that the Host header may have, beside the loopback names: a hub behind a
    proxy or on a network must be told its own name, since a Host that is merely believed lets any web page reach it by
    rebinding a name of its own.
    """

    model_config = SettingsConfigDict(env_prefix="OUTRIDER_HUB_", extra="forbid")

    home: Path = DEFAULT_HOME
    host: str = "127.0.0.1"
    port: int = Field(default=8400, ge=0, le=65535)
    hosts: list[str] = Field(default_factory=list)
    database_url: str | None = None

    lease_seconds: int = Field(default=8 * 3600, ge=1)
    lease_actions: int = Field(default=200, ge=0)
    lease_value_cents: int = Field(default=25_000_000, ge=0)

    token_seconds: int = Field(default=3600, ge=1, le=7 * 24 * 3600)
    session_seconds: int = Field(default=12 * 3600, ge=1)
    notice_jitter_ms: int = Field(default=200, ge=0)

    embedder: Path | None = None

    rollout: Literal["all", "staged"] = "all"
    rollout_seconds: int = Field(default=60, ge=1, le=3600)
    sign_offs: int = Field(default=0, ge=0, le=9)
    model_bytes: int = Field(default=16_000_000_000, ge=1)

    otlp_endpoint: str = ""
    otlp_seconds: int = Field(default=30, ge=1, le=3600)

    @field_validator("home")
    @classmethod
    def _whole(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @property
    def embedder_path(self) -> Path:
        """The model that finds team memory by meaning; it need not be there."""
        return self.embedder.expanduser() if self.embedder is not None else self.home / "embedder" / "minilm-l6"

    @property
    def repository(self) -> Path:
        """The TUF repository that ``/tuf`` serves."""
        return self.home / "repository"

    def address(self, port: int) -> str:
        """The base URL people and agents on this machine use."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0", "::") else self.host  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def allowed_hosts(self, port: int) -> frozenset[str]:
        """The exact Host headers to answer, lower case, when listening on ``port``."""
        own = {f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"}
        return frozenset(own | {host.lower() for host in self.hosts})
