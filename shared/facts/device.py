"""What a device writes of itself: what it was given, what it read, what it was told."""

from __future__ import annotations

from shared.facts.base import Facts, Switch


class DeviceJoined(Facts, frozen=True):
    """Enrolment: which hub this device trusts, from which TUF root, and the oldest metadata versions it will accept."""

    device: str
    hub: str
    hub_key: str
    root_sha256: str
    minimum: dict[str, int]


class ReleaseInstalled(Facts, frozen=True):
    """A verified release took effect. ``files`` maps release paths to SHA-256."""

    release: int
    files: dict[str, str]


class ReleaseRefused(Facts, frozen=True):
    """A release was offered and not installed; the one before it stays in force."""

    release: int
    code: str


class LeaseTaken(Facts, frozen=True):
    """Authority lent by the hub, bounded by time, number of actions and value."""

    lease: str
    issued_at: int
    expires_at: int
    actions: int
    value_cents: int


class SwitchesTaken(Facts, frozen=True):
    """The stops in force for this device, all of them. ``version`` rises: an older set is never taken."""

    version: int
    at: int
    switches: list[Switch]


class SourceRead(Facts, frozen=True):
    """A file was taken in whole. Its name, and what was wrong with refused rows, stand in the body."""

    sha256: str
    rows: int
    opened: int
    duplicates: int
    refused: int


class SourceRefused(Facts, frozen=True):
    """A file could not be read at all and was set aside untouched."""

    sha256: str
    code: str


class EventReceived(Facts, frozen=True):
    """Something happened outside that runs may open on or wait for. ``ref`` is the hash of its name and key, and comes
    once. Body: name, key and payload."""

    name: str
    ref: str


class HubPinned(Facts, frozen=True):
    """The device has seen this checkpoint of the hub's log and will hold the hub to it. Body: the signed note."""

    origin: str
    size: int
    root: str
