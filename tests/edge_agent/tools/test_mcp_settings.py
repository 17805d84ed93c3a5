"""What a table may say, and how little of the agent's environment a server gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_agent.tools import NotSent
from edge_agent.tools.mcp import settings
from shared.errors import BadInput, Refused
from tests.edge_agent.tools.mcp_rig import place

ENVIRONMENT = {
    "PATH": "/bin",
    "HOME": "/home/ada",
    "LANG": "C.UTF-8",
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "OUTRIDER_HOME": "/x",
    "SSH_AUTH_SOCK": "/y",
    "HTTPS_PROXY": "http://proxy:3128",
    "no_proxy": "localhost",
}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "either command or url"),
        ({"command": "x", "url": "https://h/mcp"}, "either command or url"),
        ({"command": "x", "bearer": "t"}, "bearer does not go with command"),
        ({"command": "x", "headers": {"A": "b"}}, "headers does not go with command"),
        ({"url": "https://h/mcp", "args": ["x"]}, "args does not go with url"),
        ({"url": "https://h/mcp", "env_secrets": {"A": "b"}}, "env_secrets does not go with url"),
        ({"command": "x", "env": {"A": "1"}, "env_secrets": {"A": "b"}}, "A is given twice"),
        ({"url": "http://elsewhere.example/mcp"}, "plain http"),
        ({"url": "ftp://h/mcp"}, "no address"),
        ({"url": "https://user:pass@h/mcp"}, "no address"),
        ({"url": "https://"}, "no address"),
        ({"url": "https://h:x/mcp"}, "no address"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        settings.read(place(tmp_path), given)
    assert caught.value.code == "mcp.setting"
    assert said in caught.value.message
    assert caught.value.where == "tools.toml [rogue]"


@pytest.mark.parametrize(
    "given",
    [
        {"command": "x", "colour": 1},
        {"command": "x", "timeout_s": 0},
        {"command": "x", "tools": {"a": {"effect": "reversible"}}},
        {"command": "x", "tools": {"a": {"efect": "read"}}},
    ],
)
def test_unknown_settings_are_refused(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        settings.read(place(tmp_path), given)
    assert caught.value.code == "tools.setting"


def test_a_program_gets_its_own_settings_and_little_else(tmp_path: Path) -> None:
    where = place(tmp_path, secret={"token": "s3cret"}.__getitem__)
    found = settings.read(where, {"command": "x", "args": ["y"], "env": {"A": "1"}, "env_secrets": {"B": "token"}})
    opening = settings.opening(found, where, ENVIRONMENT)
    assert opening.command == ["x", "y"]
    assert opening.env == {"PATH": "/bin", "HOME": "/home/ada", "LANG": "C.UTF-8", "A": "1", "B": "s3cret"}
    assert settings.worker_environment(found, ENVIRONMENT) == {"PATH": "/bin", "HOME": "/home/ada", "LANG": "C.UTF-8"}


def test_an_address_gets_headers_and_the_worker_the_network(tmp_path: Path) -> None:
    where = place(tmp_path, secret={"token": "s3cret", "key": "k"}.__getitem__)
    given = {"url": "http://127.0.0.1:9/mcp", "bearer": "token", "headers": {"A": "1"}, "header_secrets": {"X": "key"}}
    found = settings.read(where, given)
    opening = settings.opening(found, where, ENVIRONMENT)
    assert opening.headers == {"A": "1", "X": "k", "Authorization": "Bearer s3cret"}
    assert (opening.command, opening.env) == ([], {})
    environment = settings.worker_environment(found, ENVIRONMENT)
    assert environment["HTTPS_PROXY"] == "http://proxy:3128"
    assert environment["no_proxy"] == "localhost"
    assert not {"AWS_SECRET_ACCESS_KEY", "OUTRIDER_HOME", "SSH_AUTH_SOCK"} & {*environment}


def test_a_missing_secret_means_that_nothing_was_sent(tmp_path: Path) -> None:
    found = settings.read(place(tmp_path), {"command": "x", "env_secrets": {"B": "token"}})
    with pytest.raises(NotSent) as caught:
        settings.opening(found, place(tmp_path), ENVIRONMENT)
    assert caught.value.code == "secret.missing"


def test_an_exposed_secret_is_refused(tmp_path: Path) -> None:
    def exposed(name: str) -> str:
        raise Refused("secret.exposed", f"others can read {name}", advice="replace it")

    found = settings.read(place(tmp_path), {"url": "https://h/mcp", "bearer": "token"})
    with pytest.raises(Refused):
        settings.opening(found, place(tmp_path, secret=exposed), ENVIRONMENT)
