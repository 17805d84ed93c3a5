"""What a client of the open door may write: the text, the fields and the tags of an item, and nothing else of it.

A JavaScript client writes ``doc.text`` with ``splice`` or ``updateText``, or puts another text in its place; a value
of ``doc.fields`` as a plain string (a text object there) or an ``ImmutableString``; a tag as ``doc.tags.NAME = true``.
What an item is, whose it is, where it came from and how long it is kept is for people and rules at the hub. Whether the
item still opens afterwards is judged later, on a scratch copy, as with any change.
"""

from __future__ import annotations

from shared.errors import Refused
from shared.memory.chunks import Op

_WHOLE = {"text": "make-text", "fields": "make-map", "tags": "make-map"}


def check_edit(operations: list[Op]) -> None:
    """Raise ``Refused('door.field')`` where a change that passed the screen writes what is not a client's to write."""
    for op in operations:
        if op.obj == "_root" and _WHOLE.get(op.key) != op.action:
            raise Refused(
                "door.field",
                f"a change would {op.action} {op.key[:40]!r}",
                advice="edit the text, fields and tags; other parts of an item are set at the hub",
            )
