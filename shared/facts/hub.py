"""What the hub writes of its own acts."""

from __future__ import annotations

from shared.facts.base import Facts


class UserAdded(Facts, frozen=True):
    user: str
    roles: list[str]


class TokenIssued(Facts, frozen=True):
    """A one-time enrolment token; only the hash of its secret is kept, and not here."""

    token: str
    expires_at: int


class DeviceEnrolled(Facts, frozen=True):
    device: str
    token: str
    log_key: str
    link_key: str


class DeviceRevoked(Facts, frozen=True):
    device: str
    by: str
    code: str


class ReleasePublishedV1(Facts, frozen=True):
    """The first version of ``release.published``: for all devices at once."""

    release: int
    by: str
    files: dict[str, str]


class ReleasePublished(ReleasePublishedV1, frozen=True):
    """A release was signed. A ``staged`` one is for nobody until its rollout starts."""

    staged: bool = False


class OfferSigned(Facts, frozen=True):
    """A person's signature of a proposed release or root was taken. ``signer`` is the fingerprint of their key, ``by``
    who handed it in."""

    offer: str
    kind: str
    number: int
    signer: str
    by: str


class RootChanged(Facts, frozen=True):
    """A root came into force. ``keys`` maps each role to how many of which fingerprints must sign for it."""

    version: int
    by: str
    keys: dict[str, str]


class ApprovalDecidedV1(Facts, frozen=True):
    """The first version of ``approval.decided``: for one action only."""

    approval: str
    device: str
    action: str
    answer: str
    corrected: str
    by: str


class ApprovalDecided(ApprovalDecidedV1, frozen=True):
    """A person's answer, as signed and sent to the device. Where several people are needed, each answer is one. Body:
    the reason and any correction."""

    similar_until: int = 0


class OrderGiven(Facts, frozen=True):
    """A person's order about a run, as signed and sent to the device. Body: the envelope, with the reason."""

    order: str
    id: str
    device: str
    run: str
    step: str
    by: str


class LeaseIssued(Facts, frozen=True):
    lease: str
    device: str
    expires_at: int
    actions: int
    value_cents: int


class SwitchPressed(Facts, frozen=True):
    """A person stopped a device, a playbook, a tool or the fleet. Body: what they said."""

    switch: str
    kind: str
    name: str
    by: str
    reason_code: str


class SwitchReleased(Facts, frozen=True):
    """A person let go on what a switch had stopped. Body: what they said."""

    switch: str
    by: str


class BatchRefused(Facts, frozen=True):
    """A device's upload did not fit what the hub holds: a gap, a fork, a rollback, a bad signature."""

    device: str
    code: str
    held: int
    start: int
    claimed: int
