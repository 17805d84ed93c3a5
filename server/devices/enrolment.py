"""Enrolment: a one-time token, two proven keys, and the hub's sealed answer.

A token is ``SECRET.FINGERPRINT``. The secret (32 random bytes) is stored as its hash only, works once, and expires. The
fingerprint is of the hub's key and never sent: the device accepts only an answer that this key signed, so whoever sits
between the two can neither enrol itself nor pose as the hub.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Connection, insert, select, update

from server.store import HubLog
from server.store.tables import DEVICES, TOKENS, DeviceRow
from server.throttle import Throttle
from shared.codec import canonical
from shared.entries import DeviceEnrolled, Draft, TokenIssued, Written
from shared.errors import BadInput, Conflict, OutriderError, Refused
from shared.keys import Envelope, PublicKey, seal
from shared.protocol import PROTOCOL_VERSION, Join, Joined, join_bytes

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
_SECRET = re.compile(r"[0-9a-f]{64}")
_WEEK = 7 * 24 * 3600


class Trust(Protocol):
    """What a new device is given to check releases against; ``releases`` provides it."""

    def root_bytes(self) -> bytes: ...

    def minimum(self) -> dict[str, int]: ...


class Enrolment:
    """Issues tokens and enrols devices."""

    def __init__(self, hublog: HubLog, trust: Trust) -> None:
        self._log = hublog
        self._trust = trust
        self._throttle = Throttle(20, 60, hublog.clock, code="join.throttled")

    def issue_token(self, by: str, ttl_s: int) -> str:
        """A new ``SECRET.FINGERPRINT``, good for ``ttl_s`` seconds and one device."""
        if not 1 <= ttl_s <= _WEEK:
            raise BadInput("token.ttl", f"{ttl_s} seconds is no life for a token", advice="use 1 second to 7 days")
        secret, name = self._log.random(32).hex(), f"t-{self._log.random(6).hex()}"
        expires_at = self._log.clock() + ttl_s * 1_000_000

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            row = {
                "id": name,
                "secret_sha256": _hash(secret),
                "by": by,
                "issued_at": written[0].entry.at,
                "expires_at": expires_at,
                "used_at": None,
                "device": "",
            }
            conn.execute(insert(TOKENS), [row])

        self._log.append([Draft(TokenIssued(token=name, expires_at=expires_at))], rows)
        return f"{secret}.{self._log.key.public.fingerprint}"

    def join(self, join: Join, client: str) -> tuple[Envelope, str]:
        """Enrol; the sealed answer and the new device's id. ``client`` (an address) is throttled when it fails.

        Raises ``BadInput('join.version' | 'device.name' | 'join.keys')``, ``Tampered('join.proof')``,
        ``Refused('token.unknown' | 'token.used' | 'token.expired' | 'join.throttled')``,
        ``Conflict('device.name-taken')``.
        """
        self._throttle.check(client)
        try:
            return self._join(join)
        except OutriderError:
            self._throttle.fail(client)
            raise

    def _join(self, join: Join) -> tuple[Envelope, str]:
        log_key, link_key = _check(join, self._log.key.public.fingerprint)
        token = self._find(join.token)
        root, minimum = self._trust.root_bytes().decode(), self._trust.minimum()
        device = f"d-{self._log.random(8).hex()}"
        origin = f"{self._log.hub}/device/{device}"
        facts = DeviceEnrolled(device=device, token=token, log_key=log_key.text, link_key=link_key.text)

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            at = written[0].entry.at
            mine = update(TOKENS).where(TOKENS.c.id == token, TOKENS.c.used_at.is_(None))
            if conn.execute(mine.values(used_at=at, device=device)).rowcount != 1:
                raise _used()
            active = select(DEVICES.c.id).where(DEVICES.c.name == join.name, DEVICES.c.state == "active")
            if conn.execute(active).first():
                raise Conflict(
                    "device.name-taken",
                    f"a device called {join.name} is enrolled already",
                    advice="give this one another --name, or revoke the old one first",
                )
            conn.execute(insert(DEVICES), [_row(device, join, origin, at)])

        self._log.append([Draft(facts)], rows)
        answer = Joined(
            device=device,
            hub=self._log.hub,
            hub_key=self._log.key.public.text,
            origin=origin,
            root=root,
            minimum=minimum,
        )
        return seal("joined", canonical(answer), self._log.key), device

    def _find(self, secret: str) -> str:
        """The id of the token with this secret. Found by hash, so timing tells nothing of the secret."""
        with self._log.store.read() as conn:
            row = conn.execute(select(TOKENS).where(TOKENS.c.secret_sha256 == _hash(secret))).first()
        if row is None or not _SECRET.fullmatch(secret):
            raise Refused("token.unknown", "this hub did not issue that token", advice="copy the token again, whole")
        if row.used_at is not None:
            raise _used()
        if row.expires_at <= self._log.clock():
            raise Refused("token.expired", "the token has expired", advice="ask for a new one: outrider hub token")
        return str(row.id)


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise BadInput("join.keys", "a key's proof is not hex", advice="update the device's software") from error


def _used() -> Refused:
    return Refused("token.used", "the token was used already", advice="ask for a new one: outrider hub token")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _row(device: str, join: Join, origin: str, at: int) -> dict[str, object]:
    row = DeviceRow(
        id=device,
        name=join.name,
        state="active",
        origin=origin,
        log_key=join.log_key,
        link_key=join.link_key,
        software=join.software,
        enrolled_at=at,
    )
    return row.model_dump()


def _check(join: Join, fingerprint: str) -> tuple[PublicKey, PublicKey]:
    """Everything that can be judged without the store. Returns the log key and the link key."""
    if join.version != PROTOCOL_VERSION:
        raise BadInput(
            "join.version",
            f"the device speaks version {join.version}, this hub {PROTOCOL_VERSION}",
            advice="bring both to the same release of the software",
        )
    if not _NAME.fullmatch(join.name) or join.name != join.name.strip():
        raise BadInput(
            "device.name",
            f"{join.name[:80]!r} cannot name a device",
            advice="use up to 64 letters, digits, spaces and . _ -",
        )
    if len(join.software) > 100 or not join.software.isprintable():
        raise BadInput("join.software", "the software's name is too long or not printable", advice="shorten it")
    log_key, link_key = PublicKey.from_text(join.log_key), PublicKey.from_text(join.link_key)
    if log_key == link_key or log_key.text != join.log_key or link_key.text != join.link_key:
        raise BadInput(
            "join.keys", "a device has two different keys", advice="make a key for the log and one for the link"
        )
    message = join_bytes(fingerprint, join)
    for key, proof in ((log_key, join.log_proof), (link_key, join.link_proof)):
        key.verify(_unhex(proof), message, code="join.proof", what="the request to join")
    return log_key, link_key
