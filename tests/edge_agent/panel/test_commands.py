"""``outrider panel``: an address printed, opened and voided."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from edge_agent.config import Home
from edge_agent.lock import Lock
from edge_agent.panel.commands import panel
from shared.errors import Unavailable
from tests.edge_agent.panel.kit import Browsing, Office


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a browser was started with, on a machine that has none."""
    found: list[str] = []

    def no_browser(url: str) -> bool:
        found.append(url)
        return False

    monkeypatch.setattr(webbrowser, "open", no_browser)
    return found


@pytest.fixture
def running(office: Office) -> Iterator[Office]:
    """An agent holds its home's lock while it runs."""
    lock = Lock(Home(office.home).lock)
    yield office
    lock.release()


def said(home: Path, *words: str) -> str:
    done = CliRunner().invoke(panel, ["--home", str(home), *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_address_that_is_printed_is_the_one_that_is_opened(
    running: Office, tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    out = said(running.home)
    (url,) = tried
    assert url in out.splitlines() and "no browser could be started" in out
    assert '<span class="muted who">ann</span>' in Browsing(running, url).get("/")


def test_only_printed_where_that_is_wanted(running: Office, tried: list[str]) -> None:
    lines = said(running.home, "--no-browser").splitlines()
    assert len(lines) == 2 and httpx.get(lines[1]).status_code == 200
    url = json.loads(said(running.home, "--json"))["url"]
    assert httpx.get(url).status_code == 200 and tried == []


def test_all_panels_and_addresses_are_closed(running: Office, tried: list[str]) -> None:
    first, unused = running.browse(), running.invite()
    assert said(running.home, "--close") == "1 open panel closed\n"
    first.get("/", 401)
    assert httpx.get(unused).status_code == 403
    assert json.loads(said(running.home, "--close", "--json")) == {"closed": 0}


def test_an_agent_that_does_not_run_is_told(tmp_path: Path, tried: list[str]) -> None:
    with pytest.raises(Unavailable, match="agent.not-running"):
        said(tmp_path)
    assert tried == []
