"""The dispatcher: every command is named and reachable, and every error of ours ends in a code and an exit status."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points

import pytest
import typer

from shared import __version__, command
from shared.errors import KINDS, BadInput, OutriderError


def run(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", "from shared.command import main; main()", *arguments], capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help_names_every_command(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    command.main(list(arguments))
    said = capsys.readouterr().out
    for name, about in command.ABOUT.items():
        assert f"  {name}" in said and about in said


def test_every_registered_command_is_named_and_loads() -> None:
    parts = {part.name: part for part in entry_points(group=command.GROUP)}
    assert set(parts) == set(command.ABOUT)
    for part in parts.values():
        assert isinstance(part.load(), typer.Typer)


def test_version() -> None:
    assert run("--version") == (0, f"outrider {__version__}\n", "")


def test_an_unknown_command() -> None:
    code, out, err = run("fly")
    assert (code, out) == (2, "") and "no command 'fly'" in err and "Usage" in err


@pytest.mark.system
@pytest.mark.parametrize("name", command.ABOUT)
def test_each_command_explains_itself(name: str) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0 and f"outrider {name}" in out


@pytest.mark.system
def test_an_error_of_ours_is_no_traceback(tmp_path: object) -> None:
    code, out, err = run("agent", "status", "--home", str(tmp_path))
    assert (code, out) == (1, "")
    assert "error [agent.not-joined]" in err and "→" in err and "Traceback" not in err
    code, _, err = run("audit", "verify", f"{tmp_path}/none")
    assert code == 2 and "error [audit.file]" in err and "Traceback" not in err


@pytest.mark.parametrize("kind", KINDS.values())
def test_exit_status_by_kind_of_error(kind: type[OutriderError], capsys: pytest.CaptureFixture[str]) -> None:
    part = typer.Typer()

    @part.callback(invoke_without_command=True)
    def fail() -> None:
        raise kind("some.code", "it failed", advice="mend it", where="line 3")

    with pytest.raises(SystemExit) as caught:
        command._run(part, "test", [])
    assert caught.value.code == (2 if kind is BadInput else 1)
    assert capsys.readouterr().err == "error [some.code] line 3: it failed\n  → mend it\n"


@pytest.mark.parametrize(("name", "extra"), [("hub", "hub"), ("agent", "agent"), ("doctor", "agent")])
def test_a_missing_part_says_how_to_get_it(
    name: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Part:
        def load(self) -> None:
            raise ModuleNotFoundError("No module named 'x'", name="x")

    monkeypatch.setattr(command, "entry_points", lambda **_: [Part()])
    with pytest.raises(SystemExit) as caught:
        command.main([name])
    assert caught.value.code == 1
    assert f"outrider[{extra}]" in capsys.readouterr().err


class Service:
    """An entry point of the group of services, which keeps the homes it was called with."""

    def __init__(self) -> None:
        self.homes: list[str | None] = []
        self.fails = False

    def load(self) -> Callable[[str | None], None]:
        return self.serve

    def serve(self, home: str | None) -> None:
        self.homes.append(home)
        if self.fails:
            raise BadInput("some.code", "it failed", advice="mend it")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service()
    monkeypatch.setattr(command, "entry_points", lambda *, group, name: [made] if group == command.SERVICES else [])
    return made


@pytest.mark.parametrize(
    ("words", "home"), [(["run"], None), (["run", "--home", "a b"], "a b"), (["run", "--home=/srv"], "/srv")]
)
def test_a_service_is_started_directly(service: Service, words: list[str], home: str | None) -> None:
    command.main(["agent", *words])
    assert service.homes == [home]


@pytest.mark.parametrize(
    "words", [["run", "--help"], ["run", "--home"], ["run", "--home", "--help"], ["run", "--hme", "x"], ["status"], []]
)
def test_everything_else_is_a_command(service: Service, words: list[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["agent", *words])  # no command is registered here
    assert service.homes == []


def test_a_service_that_fails_says_so(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    service.fails = True
    with pytest.raises(SystemExit) as caught:
        command.main(["agent", "run"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error [some.code] it failed\n  → mend it\n"


def test_every_service_is_a_command_too() -> None:
    services = {part.name: part for part in entry_points(group=command.SERVICES)}
    assert set(services) == {"agent"}
    assert all(callable(part.load()) for part in services.values())


def test_an_unregistered_command_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "entry_points", lambda **_: [])
    with pytest.raises(SystemExit) as caught:
        command.main(["agent"])
    assert caught.value.code == 1
    assert "not registered" in capsys.readouterr().err
