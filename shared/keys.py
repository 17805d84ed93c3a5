"""Ed25519 keys, signed notes and cosignatures, and small signed envelopes.

Formats: signed notes and checkpoint cosignatures follow C2SP (signed-note, tlog-cosignature v1), so that tools not
written here can check them. An envelope is for our own messages (lease, answer): exact payload bytes, a purpose that
keeps one kind of signature from standing in for another, and the signer's key id.
"""

from __future__ import annotations

import hashlib
import re
import struct

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.codec import b64, unb64
from shared.errors import BadInput, Tampered

_ED25519 = b"\x01"
_COSIGNATURE = b"\x04"
_VKEY = re.compile(r"([^\s+]+)\+([0-9a-f]{8})\+(\S+)")


class PublicKey:
    """A verifying key. ``text`` is its base64 of 32 bytes, as pinned and shown."""

    def __init__(self, raw: bytes) -> None:
        if len(raw) != 32:
            raise BadInput("key.length", "an Ed25519 public key has 32 bytes", advice="copy the key again, whole")
        self.raw = raw
        self._key = Ed25519PublicKey.from_public_bytes(raw)

    @classmethod
    def from_text(cls, text: str) -> PublicKey:
        return cls(unb64(text, what="the public key"))

    @property
    def text(self) -> str:
        return b64(self.raw)

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of SHA-256 of the key: enough for a person to compare, not for a machine to trust."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    @property
    def verifier(self) -> Ed25519PublicKey:
        """For other libraries."""
        return self._key

    def verify(self, signature: bytes, message: bytes, *, code: str, what: str) -> None:
        try:
            self._key.verify(signature, message)
        except InvalidSignature as error:
            raise Tampered(
                code, f"the signature on {what} does not hold", advice="do not use it; find out who sent it"
            ) from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and other.raw == self.raw

    def __hash__(self) -> int:
        return hash(self.raw)


class SigningKey:
    """A private Ed25519 key. It prints as its public half, so that no log line can leak it."""

    def __init__(self, raw: bytes) -> None:
        if len(raw) != 32:
            raise BadInput("key.length", "an Ed25519 private key has 32 bytes", advice="restore the key file")
        self._raw = raw
        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        public = self._key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.public = PublicKey(public)

    def secret_bytes(self) -> bytes:
        """The 32 secret bytes, for the one caller that writes the key file."""
        return self._raw

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey({self.public.fingerprint})"


# --- signed notes (C2SP signed-note) ----------------------------------------------------------------------------


def key_id(name: str, key: PublicKey, kind: bytes = _ED25519) -> bytes:
    """The four bytes that select a verifier: SHA-256(name || 0x0A || type || key)[:4]."""
    return hashlib.sha256(name.encode() + b"\n" + kind + key.raw).digest()[:4]


def vkey(name: str, key: PublicKey, kind: bytes = _ED25519) -> str:
    """A key with its name on one line, in the form of C2SP signed-note: ``NAME+HASH+BASE64``. Other tools take it."""
    return f"{_name(name)}+{key_id(name, key, kind).hex()}+{b64(kind + key.raw)}"


def read_vkey(text: str, kind: bytes = _ED25519) -> tuple[str, PublicKey]:
    """The name and key in a line as ``vkey`` writes it; else ``BadInput('key.form')``."""
    found = _VKEY.fullmatch(text)
    name, digits, value = found.groups() if found else ("", "", "")
    raw = unb64(value, what="the public key")
    if len(raw) != 33 or raw[:1] != kind:
        raise BadInput("key.form", f"{text[:200]} is not a key of this kind: NAME+HASH+BASE64", advice="copy it whole")
    key = PublicKey(raw[1:])
    if key_id(name, key, kind).hex() != digits:
        raise BadInput("key.form", f"{text} was changed: its parts do not fit", advice="copy the key again, whole")
    return name, key


def _name(name: str) -> str:
    if not name or any(c.isspace() or c == "+" for c in name):
        raise BadInput("note.name", f"{name!r} cannot name a signer", advice="use a name without spaces or '+'")
    return name


def sign_note(text: str, name: str, key: SigningKey) -> bytes:
    """``text`` (ends in a newline, no blank line needed) and one signature line, as a signed note."""
    if not text.endswith("\n"):
        raise BadInput("note.text", "a note's text ends in a newline", advice="add it before signing")
    signature = key_id(_name(name), key.public) + key.sign(text.encode())
    return f"{text}\n— {name} {b64(signature)}\n".encode()


def cosign_note(note: bytes, name: str, key: SigningKey, at_s: int) -> bytes:
    """Add a timestamped cosignature (tlog-cosignature v1) to a checkpoint note. ``at_s`` is seconds since 1970 UTC."""
    text, _ = split_note(note)
    signed = key.sign(f"cosignature/v1\ntime {at_s}\n{text}".encode())
    line = key_id(_name(name), key.public, _COSIGNATURE) + struct.pack(">Q", at_s) + signed
    return note + f"— {name} {b64(line)}\n".encode()


def split_note(note: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """A note's text and its (name, key id + signature) lines. Malformed notes are ``BadInput('note.form')``."""
    advice = "the note was cut or edited; fetch it again"
    try:
        whole = note.decode()
    except UnicodeDecodeError as error:
        raise BadInput("note.form", "a note is UTF-8", advice=advice) from error
    head, gap, tail = whole.rpartition("\n\n")
    if not gap or not tail.endswith("\n"):
        raise BadInput("note.form", "a note ends in a blank line and signature lines", advice=advice)
    lines = []
    for line in tail[:-1].split("\n"):
        dash, _, rest = line.partition(" ")
        name, _, value = rest.partition(" ")
        if dash != "—" or not name or not value:
            raise BadInput("note.form", "a signature line reads '— NAME BASE64'", advice=advice)
        signature = unb64(value, what="a note's signature")
        if len(signature) < 5:
            raise BadInput("note.form", "a note's signature is too short", advice=advice)
        lines.append((name, signature))
    return head + "\n", lines


def verify_note(note: bytes, name: str, key: PublicKey) -> str:
    """The text of a note that ``name`` signed with ``key``; ``Tampered`` if no such line, or if it does not hold."""
    text, lines = split_note(note)
    wanted = key_id(name, key)
    for who, signature in lines:
        if who == name and signature[:4] == wanted:
            key.verify(signature[4:], text.encode(), code="note.signature", what=f"{name}'s note")
            return text
    raise Tampered("note.unsigned", f"{name} did not sign this note", advice="ask its owner for a signed copy")


def verify_cosignature(note: bytes, name: str, key: PublicKey) -> int:
    """When (seconds since 1970 UTC) ``name`` cosigned a checkpoint with ``key``; ``Tampered`` if it did not."""
    text, lines = split_note(note)
    wanted = key_id(name, key, _COSIGNATURE)
    for who, line in lines:
        if who == name and line[:4] == wanted and len(line) == 4 + 8 + 64:
            (at_s,) = struct.unpack(">Q", line[4:12])
            message = f"cosignature/v1\ntime {at_s}\n{text}".encode()
            key.verify(line[12:], message, code="note.cosignature", what=f"{name}'s cosignature")
            return int(at_s)
    raise Tampered("note.uncosigned", f"{name} did not cosign this checkpoint", advice="sync with the hub first")


# --- envelopes --------------------------------------------------------------------------------------------------


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed bytes. The signature covers ``outrider/<purpose>/v1\\n`` and the payload: purposes cannot be swapped."""

    purpose: str
    payload: str
    signature: str


def _signed_bytes(purpose: str, payload: str) -> bytes:
    return f"outrider/{purpose}/v1\n{payload}".encode()


def seal(purpose: str, payload: bytes, key: SigningKey) -> Envelope:
    text = payload.decode()
    return Envelope(purpose=purpose, payload=text, signature=b64(key.sign(_signed_bytes(purpose, text))))


def unseal(envelope: Envelope, purpose: str, key: PublicKey) -> bytes:
    """The payload of an envelope that ``key`` signed for ``purpose``, else ``Tampered``."""
    if envelope.purpose != purpose:
        raise Tampered(
            "envelope.purpose",
            f"signed as {envelope.purpose!r}, not as {purpose!r}",
            advice="do not use it; find out who sent it",
        )
    signature = unb64(envelope.signature, what="the envelope's signature")
    message = _signed_bytes(purpose, envelope.payload)
    key.verify(signature, message, code="envelope.signature", what=f"the {purpose}")
    return envelope.payload.encode()
