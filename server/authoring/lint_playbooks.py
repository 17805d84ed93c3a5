"""Lint of playbooks, prompts and memory rules: what is well formed and still cannot be meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from server.authoring.findings import Finding, Known, meant, warn
from server.releases.workspace import MEMORY
from shared import plainyaml
from shared.errors import BadInput
from shared.expression import Expression
from shared.expression.syntax import Node, parse
from shared.memory.rules import Expire, MemoryRules, microseconds
from shared.playbook import Playbook, PlaybookStep, load
from shared.release import Release
from shared.triage.prompt import FIELD, PROMPT_CHARS, TEXT

# What an agent gives its language model (edge_agent.models.language); one token is about four letters of plain text.
_CONTEXT_TOKENS, _LETTERS = 2048, 4
_VARIABLE = re.compile(r"\[\[\s*[\w.-]*\s*\]\]|\{\{\s*[\w.-]+\s*\}\}|\$\{\s*[\w.-]+\s*\}")
_NAMES = frozenset(("inputs", "steps", "run", "today", "item", "index", "result"))
_OUTCOMES = frozenset(("", "done", "failed", "skipped", "denied", "declined", "referred", "cancelled", "rehearsed"))


class _Book(msgspec.Struct, frozen=True):
    """A playbook of the release, and where in its file things stand."""

    book: Playbook
    path: str
    source: plainyaml.Source

    def line(self, *path: str) -> int:
        return int(self.source.place(list(path)).rpartition(":")[2])

    def steps(self) -> Iterator[tuple[PlaybookStep, list[str]]]:
        """Every step, and its place in the file."""
        left = [(step, ["steps", str(number)]) for number, step in enumerate(self.book.steps)]
        while left:
            step, path = left.pop(0)
            yield step, path
            left += [(inner, [*path, "steps", str(n)]) for n, inner in enumerate(step.steps)]
            for branch, steps in enumerate(step.together or ()):
                left += [(inner, [*path, "together", str(branch), str(n)]) for n, inner in enumerate(steps)]


def lint(files: Mapping[str, bytes], release: Release, known: Known) -> Iterator[Finding]:
    """Warnings about the playbooks, prompts and memory rules of a release that holds together."""
    books = []
    for name, path in sorted(release.manifest.playbooks.items()):
        source = plainyaml.read(files[path].decode(), path, _broken)
        books.append(_Book(release.playbooks[name], path, source))
    for book in books:
        yield from _roles(book, known)
        yield from _steps(book)
        yield from _rules(book)
        yield from _changed_in_place(book, files, known)
    yield from _folders(books)
    yield from _prompts(files, release, books, known)
    yield from _memory(files, release.memory)


def _broken(said: str, place: str) -> BadInput:
    return BadInput("playbook.yaml", said, advice="correct the YAML", where=place)


# --- playbooks ----------------------------------------------------------------------------------------------------


def _roles(book: _Book, known: Known) -> Iterator[Finding]:
    if known.roles is None:
        return
    approvals = book.book.approvals
    places = [(role, ["approvals", "roles", str(n)]) for n, role in enumerate(approvals.roles)]
    for level, one in enumerate(approvals.escalate):
        places += [(role, ["approvals", "escalate", str(level), "roles", str(n)]) for n, role in enumerate(one.roles)]
    for role, place in places:
        if role not in known.roles:
            said = f"nobody has the role {role}, so nobody could answer"
            yield warn(book.path, book.line(*place), "lint.role-nobody", said, meant(role, known.roles))


def _steps(book: _Book) -> Iterator[Finding]:
    words = {}
    for step in book.book.all_steps:
        lanes = [lane.id for lane in book.book.lanes] if step.planner == "triage" else []
        words[step.id, "label"] = frozenset(["", *lanes, step.label]) if step.planner != "assistant" else None
        words[step.id, "outcome"] = _OUTCOMES
    for step, path in book.steps():
        for field, source in (("when", step.when), ("for_each", step.for_each)):
            if source is None:
                continue
            line = book.line(*path, field)
            if _nothing(source, field):
                always = "false" if field == "when" else "empty"
                said = f"step {step.id} is never reached: its {field} is always {always}"
                yield warn(book.path, line, "lint.step-unreachable", said, "correct it, or remove the step")
            for (of, part), word in _compared(parse(source, _NAMES, "")):
                allowed = words.get((of, part))
                if allowed is not None and word not in allowed:
                    said = f"step {step.id} asks whether the {part} of {of} is {word!r}, which it never is"
                    yield warn(book.path, line, "lint.word-unknown", said, meant(word, allowed - {""}))


def _nothing(source: str, field: str) -> bool:
    """Whether a condition is false, or a list empty, whatever the run is given."""
    expression = Expression.parse(source, names=_NAMES)
    if expression.reads:
        return False
    try:
        return expression.evaluate({}) in (False, [])
    except BadInput:
        return False  # a run will say so


def _compared(node: Node) -> Iterator[tuple[tuple[str, str], str]]:
    """Texts that ``steps.NAME.label`` and ``.outcome`` are compared with."""
    if node.kind == "binary" and node.text in ("==", "!="):
        one, other = node.parts
        for left, right in ((one, other), (other, one)):
            if right.kind == "text" and (found := _of_step(left)):
                yield found, right.text
    if node.kind == "binary" and node.text == "in" and node.parts[1].kind == "list" and (of := _of_step(node.parts[0])):
        yield from ((of, part.text) for part in node.parts[1].parts if part.kind == "text")
    for part in node.parts:
        yield from _compared(part)


def _of_step(node: Node) -> tuple[str, str] | None:
    """Name and field where an expression is ``steps.NAME.FIELD``."""
    if node.kind != "select" or node.parts[0].kind != "select":
        return None
    step = node.parts[0]
    return (step.text, node.text) if step.parts[0].kind == "name" and step.parts[0].text == "steps" else None


def _rules(book: _Book) -> Iterator[Finding]:
    seen: dict[bytes, str] = {}
    for number, rule in enumerate(book.book.rules):
        other = seen.setdefault(msgspec.json.encode(rule.when, order="deterministic"), rule.id)
        if other != rule.id:
            said = f"rule {rule.id} holds exactly when rule {other} does"
            advice = "remove one: where they name different lanes nothing is decided"
            yield warn(book.path, book.line("rules", str(number), "id"), "lint.rule-twice", said, advice)


def _changed_in_place(book: _Book, files: Mapping[str, bytes], known: Known) -> Iterator[Finding]:
    before = (known.running or {}).get(book.path)
    if before is None or before == files[book.path]:
        return
    try:
        old = load(before.decode(), book.path)
    except (BadInput, UnicodeDecodeError):  # it was published by another version of this software
        return
    plain = [msgspec.structs.replace(one, about="", owner="").digest for one in (old, book.book)]
    if old.version == book.book.version and plain[0] != plain[1]:
        said = f"it does something else than version {old.version} that runs, and calls itself the same"
        advice = f"write version: {old.version + 1}"
        yield warn(book.path, book.line("version"), "lint.version-same", said, advice)


def _folders(books: list[_Book]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for book in books:
        folder = book.book.trigger.folder
        if folder is not None and (other := seen.setdefault(folder, book.path)) != book.path:
            said = f"{other} watches the folder {folder!r} too: only one of them is given each file"
            line = book.line("trigger", "folder")
            yield warn(book.path, line, "lint.folder-twice", said, "give each playbook a folder of its own")


# --- prompts ------------------------------------------------------------------------------------------------------


def _prompts(files: Mapping[str, bytes], release: Release, books: list[_Book], known: Known) -> Iterator[Finding]:
    used: dict[str, list[tuple[_Book, PlaybookStep, list[str]]]] = {}
    for book in books:
        for step, place in book.steps():
            if step.prompt is not None:
                used.setdefault(step.prompt, []).append((book, step, place))
    for name, path in sorted(release.manifest.prompts.items()):
        text = files[path].decode()
        for found in _VARIABLE.finditer(text):
            if found[0] not in (TEXT, FIELD):
                line = text.count("\n", 0, found.start()) + 1
                said = f"{found[0]} is no variable of a prompt, and stays in it as it stands"
                yield warn(path, line, "lint.prompt-variable", said, f"use {TEXT} and {FIELD}")
        if name not in used:
            yield from _unused(name, path, used)
        before = (known.running or {}).get(path)
        if before is not None and before != files[path]:
            stem, _, version = name.partition("@")
            said = f"{name} says something else than in the release that runs"
            advice = f"save it as {stem}@{int(version) + 1}, and name that instead"
            yield warn(path, 0, "lint.version-same", said, advice)
    for name, steps in used.items():
        for book, step, place in steps:
            yield from _budget(name, release, book, step, place)


def _unused(name: str, path: str, used: Mapping[str, object]) -> Iterator[Finding]:
    """An older version of a prompt that is used may stay; one that is not used yet was probably forgotten."""
    stem, _, version = name.partition("@")
    versions = [int(other.partition("@")[2]) for other in used if other.partition("@")[0] == stem]
    if not versions or int(version) > max(versions):
        said = f"no step uses the prompt {name}" + (f", but {stem}@{max(versions)}" if versions else "")
        yield warn(path, 0, "lint.prompt-unused", said, f"name it in a step (prompt: {name}), or remove it")


def _budget(name: str, release: Release, book: _Book, step: PlaybookStep, place: list[str]) -> Iterator[Finding]:
    tokens = (len(release.prompts[name]) + PROMPT_CHARS) // _LETTERS
    if tokens > _CONTEXT_TOKENS:
        said = f"with the text it asks about it has about {tokens} tokens; a model is given {_CONTEXT_TOKENS}"
        yield warn(release.manifest.prompts[name], 0, "lint.token-budget", said, "give fewer examples")
    most = book.book.budgets.run.tokens
    if most is not None and tokens > most:
        said = f"step {step.id} may spend {most} tokens in a run, and asking {name} once takes about {tokens}"
        yield warn(book.path, book.line(*place, "prompt"), "lint.token-budget", said, "raise budgets.run.tokens")


# --- memory -------------------------------------------------------------------------------------------------------


def _memory(files: Mapping[str, bytes], rules: MemoryRules) -> Iterator[Finding]:
    """The shortest time holds: a rule is pointless beside one that covers all of it and is not longer."""
    for number, rule in enumerate(rules.expire):
        for place, other in enumerate(rules.expire):
            shorter = (microseconds(other.after), place) < (microseconds(rule.after), number)
            if shorter and place != number and _covers(other, rule):
                source = plainyaml.read(files[MEMORY].decode(), MEMORY, _broken)
                line = int(source.place(["expire", str(number)]).rpartition(":")[2])
                said = f"the rule never counts: rule {place + 1} ends all of this after {other.after} already"
                yield warn(MEMORY, line, "lint.rule-shadowed", said, "remove it, or make it shorter")
                break


def _covers(wide: Expire, narrow: Expire) -> bool:
    kinds = not wide.kinds or bool(narrow.kinds and set(narrow.kinds) <= set(wide.kinds))
    return kinds and (not wide.scopes or bool(narrow.scopes and set(narrow.scopes) <= set(wide.scopes)))
