"""What travels between `outrider release` and a hub: JSON, with files as base64."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping

import msgspec

from server.authoring.findings import Finding
from shared.errors import BadInput

BODY_BYTES = 32 * 1024 * 1024


class Pulled(msgspec.Struct, frozen=True):
    """A version as it travels; ``files`` maps paths to base64."""

    version: int
    by: str
    at: int
    release: int
    files: dict[str, str]


class Push(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``base`` is the version that the folder was pulled at; with ``replace`` it does not matter."""

    base: int
    files: dict[str, str]
    note: str = ""
    replace: bool = False


class Pushed(msgspec.Struct, frozen=True):
    version: int
    findings: list[Finding]


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    files: dict[str, str]


class Checked(msgspec.Struct, frozen=True):
    findings: list[Finding]


def pack(files: Mapping[str, bytes]) -> dict[str, str]:
    return {path: b64encode(data).decode() for path, data in files.items()}


def unpack(files: Mapping[str, str]) -> dict[str, bytes]:
    """Raises ``BadInput('http.body')``."""
    try:
        return {path: b64decode(data, validate=True) for path, data in files.items()}
    except (binascii.Error, ValueError) as error:
        raise BadInput("http.body", "a file is not base64", advice="bring both to the same release") from error
