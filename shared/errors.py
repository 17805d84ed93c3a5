"""Every error a person or a peer can meet, in one tree.

    OutriderError
    ├── BadInput        what was handed in is malformed: fix the input
    ├── Refused         well-formed, and not allowed: policy, lease, role, revocation
    ├── Tampered        a signature, hash or tree does not hold: investigate
    ├── Conflict        true, but not now: sequence gaps, single use, held locks
    └── Unavailable     something this needs is missing or out of reach: disk, model, hub

Each carries a stable ``code`` (dotted, lower case, never reused for another meaning), a ``message`` that says what
happened, ``advice`` that says what to do about it, and ``where`` when a file, line or field can be named.
Wire and log carry the code; people read message and advice.
"""

from __future__ import annotations


class OutriderError(Exception):
    """Base of all our errors. Raise one of the five kinds below, never this."""

    def __init__(self, code: str, message: str, *, advice: str, where: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.advice = advice
        self.where = where

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"[{self.code}] {place}{self.message} ({self.advice})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.code, self.message, self.advice, self.where)


def _rebuild(kind: type[OutriderError], code: str, message: str, advice: str, where: str) -> OutriderError:
    """Unpickle an error: worker processes hand theirs to the parent."""
    return kind(code, message, advice=advice, where=where)


class BadInput(OutriderError):
    """What was handed in is malformed."""


class Refused(OutriderError):
    """Well-formed, and not allowed."""


class Tampered(OutriderError):
    """A signature, hash or tree does not hold."""


class Conflict(OutriderError):
    """True, but not now: out of sequence, already used, locked by another."""


class Unavailable(OutriderError):
    """Something this needs is missing or out of reach."""


KINDS: dict[str, type[OutriderError]] = {k.__name__: k for k in (BadInput, Refused, Tampered, Conflict, Unavailable)}
