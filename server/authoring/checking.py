"""Judging the files of a workspace: everything that keeps them from being published, then everything to look at again.

All files are read each on its own first, so that one mistake does not hide another; only what holds together is linted,
because half a workspace would make names look unknown that are merely misspelt elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cedarpy
import msgspec

from server.authoring import lint_playbooks, lint_policy
from server.authoring.findings import Finding, Known, of_error, ordered
from server.releases.workspace import MEMORY, MODELS, PEERS, POLICY, SCHEMA, read_files, read_models, read_peers
from shared import playbook as playbooks
from shared.errors import BadInput
from shared.memory.rules import read_rules
from shared.policy import Policy
from shared.release import Release

_CASES = ".cases.yaml"


def check(files: Mapping[str, bytes], known: Known | None = None) -> list[Finding]:
    """What is wrong with a workspace, errors first. Never raises for what stands in its files."""
    known = known or Known()
    wrong = list(_errors(files))
    if wrong:
        return ordered(wrong)
    try:
        candidate = read_files(files)
    except BadInput as error:
        wrong.append(of_error(error, files))
        plain = {path: data for path, data in files.items() if not path.endswith(_CASES)}
        if len(plain) == len(files):
            return wrong
        return ordered([*wrong, *check(plain, known)])  # failing cases hide nothing else
    release = Release(candidate.manifest(1, 0), candidate.files, new=True)
    policy = lint_policy.lint(candidate.files[POLICY].decode(), release, known)
    return ordered(_at_their_steps([*policy, *lint_playbooks.lint(files, release, known)], files))


def _at_their_steps(found: list[Finding], files: Mapping[str, bytes]) -> Iterator[Finding]:
    """Findings of the policy about a step of a playbook know its name only; its line stands in the playbook's file."""
    for one in found:
        if one.line or not one.path.startswith("playbooks/"):
            yield one
        else:
            place = of_error(BadInput(one.code, one.message, advice=one.advice, where=one.path), files)
            yield msgspec.structs.replace(one, line=place.line)


def _errors(files: Mapping[str, bytes]) -> Iterator[Finding]:
    texts: dict[str, str] = {}
    for path, data in files.items():
        try:
            texts[path] = data.decode()
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            refusal = BadInput("release.encoding", f"{path} is not UTF-8", advice="save it as UTF-8", where=path)
            yield msgspec.structs.replace(of_error(refusal, files), line=line)
    if POLICY in texts and SCHEMA in texts:
        yield from _policy(texts, files)
    readers: dict[str, Callable[[], object]] = {}
    for path, text in texts.items():
        if path.startswith("playbooks/") and path.endswith(".yaml") and not path.endswith(_CASES):
            readers[path] = _later(playbooks.load, text, path, new=True)
    if MEMORY in texts:
        readers[MEMORY] = _later(read_rules, texts[MEMORY], MEMORY)
    if PEERS in texts:
        readers[PEERS] = _later(read_peers, files[PEERS])
    readers[MODELS] = _later(read_models, files.get(MODELS))
    for read in readers.values():
        try:
            read()
        except BadInput as error:
            yield of_error(error, files)


def _later(read: Callable[..., object], *given: Any, **named: Any) -> Callable[[], object]:
    return lambda: read(*given, **named)


def _policy(texts: Mapping[str, str], files: Mapping[str, bytes]) -> Iterator[Finding]:
    try:
        Policy(texts[POLICY], texts[SCHEMA], new=True)
    except BadInput as error:
        found = of_error(error, files)
        if found.line == 0 and error.code in ("policy.parse", "policy.schema"):
            found = msgspec.structs.replace(found, line=_syntax_line(texts[found.path], error.code, error.message))
        yield found


def _syntax_line(text: str, code: str, said: str) -> int:
    """Where Cedar's parser stumbles, which it does not say: the first line that, with those since the last whole
    statement, is refused in the same words."""
    parse = cedarpy.PolicySet.from_str if code == "policy.parse" else cedarpy.Schema.from_str
    lines, start = text.splitlines(), 0
    for number in range(1, len(lines) + 1):
        try:
            parse("\n".join(lines[start:number]))
            start = number
        except ValueError as error:
            if str(error) == said and "end of input" not in said:
                return number
    return next((number for number in range(start, len(lines)) if lines[number].strip()), start) + 1
