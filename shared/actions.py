"""An action: one call of one tool, exactly. Its digest is what a verdict, an approval and an intent are bound to."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.codec import canonical, digest, hex_sha256

Value = str | int | bool | None | list[Any] | dict[str, Any]  # JSON-plain; ``codec.canonical`` refuses floats
Arguments = dict[str, Value]


class Action(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """``subject`` is the business key the playbook names (an application's number), so that the same case met twice,
    on another device or in another file, is the same action."""

    tool: str
    arguments: Arguments
    subject: str

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the canonical action."""
        return digest(self)

    @property
    def key(self) -> str:
        """The idempotency key given to the tool: what the action is, never where it stood in a run."""
        return self.key_for(0)

    def key_for(self, time: int) -> str:
        """The key when the action is done anew, after ``time`` failures or undoings that a person retried: what was
        taken back must be done again, and not be taken for what was done before."""
        again = b"" if time == 0 else b"\n%d" % time
        return hex_sha256(b"outrider/effect/v1\n" + canonical(self) + again)
