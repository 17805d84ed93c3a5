"""What people type of an item into a form, as the item's values; for the console and the panel alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shared.errors import BadInput
from shared.memory.item import Edit


def read_tags(text: str) -> list[str]:
    """Tags as typed, with commas between them."""
    return sorted({tag.strip() for tag in text.split(",") if tag.strip()})


def read_fields(text: str) -> dict[str, str]:
    """Fields as typed, one ``name: value`` a line. Raises ``BadInput('memory.field')``."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon or not name.strip():
            raise BadInput(
                "memory.field", f"Line {number} of the fields is not “name: value”.", advice="Write one field a line."
            )
        found[name.strip()] = value.strip()
    return found


def typed_tags(tags: Iterable[str]) -> str:
    """Tags as they are typed; those that cannot be are left out (see ``untyped``)."""
    return ", ".join(tag for tag in tags if read_tags(tag) == [tag])


def typed_fields(fields: Mapping[str, str]) -> str:
    """Fields as they are typed; those that cannot be are left out."""
    rest = untyped(fields)
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if name not in rest)


def untyped(fields: Mapping[str, str]) -> dict[str, str]:
    """Fields that a line ``name: value`` does not tell as they are: of several lines, or with a colon in the name. A
    form does not show them, and must not lose them."""
    return {name: value for name, value in fields.items() if not _typed(name, value)}


def _typed(name: str, value: str) -> bool:
    line = f"{name}: {value}"
    plain = bool(name.strip()) and ":" not in name and len(line.splitlines()) == 1
    return plain and read_fields(line) == {name: value}


def settled(field: str, value: str) -> Edit:
    """The edit that makes one of several values the only one. Raises ``BadInput('memory.field')``."""
    room, _, name = field.partition("/")
    if room == "fields" and name:
        return Edit(fields={name: value})
    if room == "tags" and name:
        return Edit(add_tags=[name]) if value else Edit(remove_tags=[name])
    if room in ("text", "kind", "source", "sensitivity", "subject"):
        return Edit(**{room: value})  # type: ignore[arg-type]  # these are all text
    if room in ("confidence", "valid_from", "expires_at") and value.isdecimal():
        return Edit(**{room: int(value)})  # type: ignore[arg-type]  # and these all numbers
    if room == "pinned":
        return Edit(pinned=value == "True")
    raise BadInput("memory.field", f"{field!r} cannot be settled here.", advice="Edit the item instead.")
