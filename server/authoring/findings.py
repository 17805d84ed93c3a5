"""What is found in a workspace: an error keeps it from being published, a warning asks its author to look again.

Every finding names the file and the line, so that an editor can stand there. What is in doubt is not found: a warning
that is often wrong is soon not read.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

import msgspec

from shared.codec import canonical
from shared.errors import BadInput

ERROR, WARNING = "error", "warning"
_STEP = re.compile(r"\bstep '?([a-z][a-z0-9_-]*)")


class Finding(msgspec.Struct, frozen=True):
    """``line`` counts from 1, and is 0 where the file as a whole is meant. ``severity`` is ``error`` or ``warning``."""

    path: str
    line: int
    code: str
    severity: str
    message: str
    advice: str

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


def warn(path: str, line: int, code: str, message: str, advice: str) -> Finding:
    return Finding(path, line, code, WARNING, message, advice)


class Known(msgspec.Struct, frozen=True):
    """What the hub knows beside the files, ``None`` where nobody can tell: the roles that people have, the devices that
    have joined, and the files of the release that runs."""

    roles: frozenset[str] | None = None
    devices: frozenset[str] | None = None
    running: Mapping[str, bytes] | None = None


def of_error(error: BadInput, files: Mapping[str, bytes]) -> Finding:
    """A refusal as a finding. ``where`` is a path of ours, alone or followed by ``:LINE`` or ``: STEP``."""
    path = max((path for path in files if error.where.startswith(path)), key=len, default="")
    rest = error.where.removeprefix(path)
    text = files.get(path, b"").decode(errors="replace")
    line = re.match(r":(\d+)", rest)
    step = re.match(r": ([a-z][a-z0-9_-]*)$", rest) or _STEP.search(error.message)
    number = int(line[1]) if line else line_of(rf"\bid:\s*['\"]?{re.escape(step[1])}\b", text) if step else 0
    return Finding(path or error.where.partition(":")[0], number, error.code, ERROR, error.message, error.advice)


def line_of(pattern: str, text: str, start: int = 1) -> int:
    """The first line from ``start`` on that holds ``pattern``; 0 for none."""
    lines = text.splitlines()
    return next((number for number in range(start, len(lines) + 1) if re.search(pattern, lines[number - 1])), 0)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, or nothing."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)), "")


def meant(name: str, known: Iterable[str]) -> str:
    """Advice for a name that nothing has."""
    known = sorted(known)
    near = nearest(name, known)
    few = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
    return f"did you mean {near}?" if near else f"known are {few}" if known else "remove it, or add what it names"


def ordered(found: Iterable[Finding]) -> list[Finding]:
    """Without repetitions: errors first, then by file and line."""
    single = {canonical(one): one for one in found}.values()
    return sorted(single, key=lambda one: (one.severity != ERROR, one.path, one.line, one.code, one.message))
