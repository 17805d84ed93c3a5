"""How a run is opened: its name, its pinned versions, its inputs checked. The same for a row of a file, an event, a
person's start, an assistant's request and a run that another run waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared import limits
from shared.codec import canonical, hex_sha256
from shared.entries import Draft, RunOpened
from shared.errors import BadInput
from shared.playbook import Playbook


@dataclass(frozen=True)
class Opening:
    """What is known of a run before it is opened. ``key`` replaces the business key where a playbook has none."""

    playbook: Playbook
    release: int
    inputs: Mapping[str, Any]
    trigger: str
    source: str
    by: str = ""
    parent: str = ""
    parent_step: str = ""
    dry_run: bool = False
    key: str = ""
    subject: str = ""
    action: dict[str, Any] = field(default_factory=dict)


def run_id(playbook: str, key: str) -> str:
    """A run's name: the same playbook for the same case is the same run, on every device and in every file."""
    return "run_" + hex_sha256(f"{playbook}\n{key}".encode())[:24]


def event_ref(name: str, key: str) -> str:
    """What an event is remembered by."""
    return hex_sha256(canonical([name, key]))


def opening(wanted: Opening) -> Draft:
    """The draft of ``run.opened``. Raises ``BadInput('run.input')``."""
    book = wanted.playbook
    inputs = _checked(book, wanted.inputs)
    subject = wanted.subject or " ".join(str(inputs[name]) for name in book.business_key)
    shared = {name: value for name, value in inputs.items() if name not in book.private}
    private = {name: value for name, value in inputs.items() if name in book.private and value is not None}
    facts = RunOpened(
        playbook=book.playbook,
        playbook_version=book.version,
        playbook_sha256=book.digest,
        release=wanted.release,
        trigger=wanted.trigger,
        subject_sha256=hex_sha256(subject.encode()),
        private_fields=bool(private),
        dry_run=wanted.dry_run,
        parent=wanted.parent,
        parent_step=wanted.parent_step,
        by=wanted.by,
    )
    body: dict[str, Any] = {"inputs": shared, "subject": subject, "source": wanted.source}
    if wanted.action:
        body["action"] = wanted.action
    bodies = {"shared": body} | ({"private": {"inputs": private}} if private else {})
    return Draft(facts, _name(wanted, subject), bodies)


def _name(wanted: Opening, subject: str) -> str:
    """A child is named by the step that waits for it, a dry run by its trigger; neither stands for the case itself."""
    book = wanted.playbook.playbook
    if wanted.parent or wanted.dry_run:
        return run_id(book, f"\n{wanted.trigger}")  # no subject begins with a line's end
    return run_id(book, wanted.key or subject)


def _checked(book: Playbook, given: Mapping[str, Any]) -> dict[str, Any]:
    for name in given:
        if name not in book.inputs:
            raise _bad(book, name, "is not an input")
    found: dict[str, Any] = {}
    for name, part in book.inputs.items():
        value = given.get(name)
        if value is None or value == "":
            if part.required:
                raise _bad(book, name, "is missing")
            value = None
        elif part.type == "cents" and (not isinstance(value, int) or isinstance(value, bool)):
            raise _bad(book, name, "is not a whole number of cents")
        elif part.type != "cents" and not isinstance(value, str):
            raise _bad(book, name, "is not text")
        elif isinstance(value, str) and len(value) > limits.FIELD_CHARS:
            raise _bad(book, name, f"has more than {limits.FIELD_CHARS} characters")
        found[name] = value
    return found


def _bad(book: Playbook, name: str, said: str) -> BadInput:
    return BadInput("run.input", f"{name} {said}", advice="see the playbook's inputs", where=book.playbook)
