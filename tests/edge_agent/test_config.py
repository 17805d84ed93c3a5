"""Settings from the environment: each variable is read, bounded, and named where it does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest
from msgspec import Meta

from edge_agent.config import Config, read_config
from shared.errors import BadInput

GIVEN = {
    "OUTRIDER_HOME": "/srv/agent",
    "OUTRIDER_RUNS_AT_ONCE": "64",
    "OUTRIDER_MODEL_THREADS": "2",
    "OUTRIDER_MODEL_IDLE_S": "0",
    "OUTRIDER_FETCH_MODELS": "false",
    "OUTRIDER_MODEL_RATE_KB": "512",
    "OUTRIDER_MODEL_DISK_MB": "0",
    "OUTRIDER_MODEL_CACHE": "/srv/models",
    "OUTRIDER_INBOX_POLL_S": "60",
    "OUTRIDER_PEER_LISTEN": "192.168.1.20:8401",
    "OUTRIDER_PEER_RATE_KB": "2048",
    "OUTRIDER_API_PORT": "8500",
    "OUTRIDER_OPEN_METRICS": "true",
    "OUTRIDER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
    "OUTRIDER_OTLP_SECONDS": "5",
    "OUTRIDER_DRIFT_DAYS": "0",
}


def test_without_variables_everything_has_its_default() -> None:
    found = read_config({})
    assert found == msgspec.structs.replace(Config(), home=found.home)
    assert found.home == Path.home() / ".local/share/outrider/agent"


def test_every_setting_is_read_from_its_variable() -> None:
    assert read_config(GIVEN) == Config(
        home=Path("/srv/agent"),
        runs_at_once=64,
        model_threads=2,
        model_idle_s=0,
        fetch_models=False,
        model_rate_kb=512,
        model_disk_mb=0,
        model_cache=Path("/srv/models"),
        inbox_poll_s=60.0,
        peer_listen="192.168.1.20:8401",
        peer_rate_kb=2048,
        api_port=8500,
        open_metrics=True,
        otlp_endpoint="http://127.0.0.1:4318",
        otlp_seconds=5,
        drift_days=0,
    )
    assert len(GIVEN) == len(msgspec.structs.fields(Config))


def test_the_option_wins_and_the_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_config(GIVEN, home=Path("here")).home == tmp_path / "here"
    assert read_config({"OUTRIDER_HOME": "~/agent"}).home == Path.home() / "agent"


@pytest.mark.parametrize("name", GIVEN)
def test_a_variable_set_to_nothing_is_not_set(name: str) -> None:
    assert read_config({name: ""}) == read_config({})


@pytest.mark.parametrize("text", ["true", "True", "1"])
def test_ways_to_say_yes(text: str) -> None:
    assert read_config({"OUTRIDER_FETCH_MODELS": text}).fetch_models is True


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("RUNS_AT_ONCE", "0"),
        ("RUNS_AT_ONCE", "65"),
        ("RUNS_AT_ONCE", "four"),
        ("RUNS_AT_ONCE", "1.5"),
        ("MODEL_THREADS", "0"),
        ("MODEL_THREADS", "65"),
        ("MODEL_IDLE_S", "-1"),
        ("FETCH_MODELS", "perhaps"),
        ("INBOX_POLL_S", "0"),
        ("INBOX_POLL_S", "60.5"),
        ("INBOX_POLL_S", "nan"),
        ("INBOX_POLL_S", "inf"),
    ],
)
def test_what_does_not_fit_names_the_variable(name: str, text: str) -> None:
    with pytest.raises(BadInput, match="config.value") as caught:
        read_config({f"OUTRIDER_{name}": text})
    assert f"OUTRIDER_{name}" in caught.value.message and repr(text) in caught.value.message
    assert caught.value.advice


@pytest.mark.parametrize("field", msgspec.structs.fields(Config), ids=lambda field: field.name)
def test_every_setting_says_what_it_is_for(field: msgspec.structs.FieldInfo) -> None:
    notes = [note for note in get_args(field.type) if isinstance(note, Meta)]
    assert len(notes) == 1 and notes[0].description
