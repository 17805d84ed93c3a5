"""Unsigned LEB128 numbers: seven bits to a byte, lowest first."""

from __future__ import annotations

from shared.errors import BadInput

_MOST = 9  # bytes: 63 bits are more than any length or count here


def read(data: bytes, at: int) -> tuple[int, int]:
    """The number at ``at``, and where it ends. Raises ``BadInput('repo.sync')`` where it does not end, or has more
    bytes than it needs."""
    number = 0
    for count in range(_MOST):
        if at + count >= len(data):
            break
        byte = data[at + count]
        number |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if count and not byte:
                break
            return number, at + count + 1
    raise BadInput("repo.sync", "a number does not read", advice="speak Automerge's sync protocol")


def write(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
