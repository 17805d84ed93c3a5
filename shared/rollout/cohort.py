"""Who comes first: a device's fixed place in the order of one rollout."""

from __future__ import annotations

from shared.codec import sha256

BUCKETS = 10_000
PARTS = 10  # of the devices, each of which is left out once when evidence is weighed
_DOMAIN = b"outrider/cohort/v1\n"


def bucket(salt: str, device: str) -> int:
    """0 to 9999, the same for ever. Another salt gives another order, so that no device is always the first."""
    return int.from_bytes(sha256(_DOMAIN + salt.encode() + b"\n" + device.encode())[:8], "big") % BUCKETS


def takes_part(salt: str, device: str, permille: int) -> bool:
    """Whether the device is among the first ``permille``. Who is among them is so among any greater share."""
    return bucket(salt, device) < permille * BUCKETS // 1000


def part(salt: str, device: str) -> int:
    """Which part of the devices this one is in, 0 to 9. It has nothing to do with who comes first."""
    return bucket(f"{salt}/part", device) % PARTS
