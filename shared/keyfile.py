"""A person's private key as a file: one line that says whose it is, then PKCS#8 PEM.

    alice+3e1f6c02+AaPHYecl1V9FbZ4...
    -----BEGIN ENCRYPTED PRIVATE KEY-----

``openssl pkey -in alice.key`` reads it too. A *sealed* file is encrypted under a random secret that is kept apart from
it: a password that a person made up would be guessed by whoever has the file. The first line can be read without the
secret; it is believed only after the key was opened and found to be the one.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import BadInput, Refused, Tampered
from shared.keys import PublicKey, SigningKey, read_vkey, vkey

_SECRET_BYTES = 20
_SEALED = b"ENCRYPTED PRIVATE KEY"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def new_secret(random: Callable[[int], bytes]) -> str:
    """160 random bits, as eight groups of four letters and digits that can be written on paper."""
    letters = base64.b32encode(random(_SECRET_BYTES)).decode()
    return "-".join(letters[at : at + 4] for at in range(0, len(letters), 4))


def write_key(name: str, key: SigningKey, secret: str = "") -> bytes:
    """The file of a key, sealed where there is a secret. Raises ``BadInput('key.name')``."""
    if _NAME.fullmatch(name) is None:
        raise BadInput("key.name", f"{name!r} cannot name a key", advice="use small letters, digits, . _ and -")
    sealing: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if secret:
        sealing = serialization.BestAvailableEncryption(_tidy(secret))
    private = Ed25519PrivateKey.from_private_bytes(key.secret_bytes())
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealing)
    return vkey(name, key.public).encode() + b"\n" + pem


def sealed(data: bytes) -> bool:
    return _SEALED in data


def read_public(data: bytes, name: str) -> tuple[str, PublicKey]:
    """Whose key a file says it is. One without the line, as a new hub makes root keys, is opened and called ``name``.

    Raises ``BadInput('key.file')``, ``Refused('key.sealed')``.
    """
    line = data.split(b"\n", 1)[0]
    if not line.startswith(b"-----"):
        return read_vkey(_ascii(line))
    return name, read_key(data, name)[1].public


def read_key(data: bytes, name: str, secret: str = "") -> tuple[str, SigningKey]:
    """The name and private key in a file; ``name`` is for one that does not say.

    Raises ``BadInput('key.file')``, ``Refused('key.sealed' | 'key.secret')``, ``Tampered('key.line')``.
    """
    if sealed(data) and not secret:
        raise Refused("key.sealed", "this key file is sealed", advice="have the secret at hand that was shown with it")
    try:
        private = serialization.load_pem_private_key(data, _tidy(secret) if sealed(data) else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if sealed(data):
            raise Refused("key.secret", "that secret does not open this key file", advice="type it again") from error
        raise _no_key() from error
    if not isinstance(private, Ed25519PrivateKey):
        raise _no_key()
    key = SigningKey(private.private_bytes_raw())
    line = data.split(b"\n", 1)[0]
    if not line.startswith(b"-----"):
        name, public = read_vkey(_ascii(line))
        if public != key.public:
            raise Tampered(
                "key.line", "the key in this file is not the one its first line names", advice="do not use it"
            )
    return name, key


def _tidy(secret: str) -> bytes:
    """As it was typed: in capitals or not, with dashes, spaces or nothing in between."""
    return re.sub(r"[\s-]", "", secret).upper().encode()


def _ascii(line: bytes) -> str:
    try:
        return line.decode("ascii")
    except UnicodeDecodeError as error:
        raise _no_key() from error


def _no_key() -> BadInput:
    return BadInput(
        "key.file", "this is no file with an Ed25519 key", advice="use one that `outrider keys new` made, whole"
    )
