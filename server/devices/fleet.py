"""The devices of one hub: what is known of each, what it is lent and sent, and how it is revoked."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, bindparam, select, update

from server.bus import Bus
from server.config import HubConfig
from server.devices.enrolment import Enrolment, Trust
from server.devices.views import DeviceView, Presence, view
from server.store import HubLog
from server.store.tables import APPROVALS, DEVICES, OUTBOX
from shared import release
from shared.codec import parse
from shared.entries import DeviceRevoked, Draft, LeaseIssued, Written
from shared.errors import BadInput, Conflict, Refused
from shared.keys import Envelope, PublicKey
from shared.protocol import Hello, Join, Status

_PULL_MESSAGES = 64
_PULL_BYTES = 2 * 1024 * 1024


Envelopes = list[Envelope]  # named here, because ``Devices.list`` hides the type inside its class


@dataclass(frozen=True)
class Pinned:
    """What the link must know of a device to recognise it. ``revocation`` is sealed, and empty while it is active."""

    id: str
    state: str
    origin: str
    log_key: PublicKey
    link_key: PublicKey
    acknowledged: int
    revocation: Envelope | None


class Devices:
    """``trust`` gives the TUF root and minimum versions that a new device starts from."""

    def __init__(self, hublog: HubLog, bus: Bus, config: HubConfig, trust: Trust) -> None:
        self._log = hublog
        self._store = hublog.store
        self._bus = bus
        self._config = config
        self._enrolment = Enrolment(hublog, trust)
        self._presence = Presence()
        self._leasing = threading.Lock()

    # --- looking ----------------------------------------------------------------------------------------------

    def list(self) -> list[DeviceView]:
        """All devices, active ones first, then by name."""
        with self._store.read() as conn:
            rows = conn.execute(select(DEVICES).order_by(DEVICES.c.state, DEVICES.c.name, DEVICES.c.id)).all()
        return [view(row, self._presence.get(row.id)) for row in rows]

    def get(self, device: str) -> DeviceView:
        with self._store.read() as conn:
            row = conn.execute(select(DEVICES).where(DEVICES.c.id == device)).first()
        if row is None:
            raise _unknown(device)
        return view(row, self._presence.get(device))

    def pinned(self, device: str) -> Pinned:
        """Raises ``Refused('device.unknown')``: whoever asks over the link is not one of ours."""
        with self._store.read() as conn:
            row = conn.execute(select(DEVICES).where(DEVICES.c.id == device)).first()
        if row is None:
            raise Refused("device.unknown", "this hub knows no such device", advice="join the hub again")
        return Pinned(
            id=row.id,
            state=row.state,
            origin=row.origin,
            log_key=PublicKey.from_text(row.log_key),
            link_key=PublicKey.from_text(row.link_key),
            acknowledged=row.acknowledged,
            revocation=_envelope(row.revocation) if row.revocation else None,
        )

    # --- coming and going -------------------------------------------------------------------------------------

    def issue_token(self, by: str, ttl_s: int) -> str:
        return self._enrolment.issue_token(by, ttl_s)

    def join(self, join: Join, client: str = "") -> Envelope:
        envelope, device = self._enrolment.join(join, client)
        self._bus.publish("devices", {"device": device})
        return envelope

    def near(self, network: str) -> dict[str, str]:
        """The connected devices of a network that hand models to others: where each of them does."""
        return self._presence.near(network)

    def arrive(self, hello: Hello, source: str = "") -> int:
        """A device finished the handshake; the number to ``leave`` with. ``source`` is the address it comes from."""
        connection = self._presence.arrive(hello.device, self._log.clock(), hello.release, hello.size, source)
        self._bus.publish("devices", {"device": hello.device})
        return connection

    def status(self, device: str, status: Status) -> None:
        self._presence.status(device, self._log.clock(), status)
        self._bus.publish("devices", {"device": device})

    def leave(self, device: str, connection: int) -> None:
        if self._presence.leave(device, connection, self._log.clock()):
            self._bus.publish("devices", {"device": device})

    def flush(self) -> None:
        """Store how devices were last seen; called now and then, and at the end."""
        changed = self._presence.take()
        if not changed:
            return
        statement = (
            update(DEVICES)
            .where(DEVICES.c.id == bindparam("device"))
            .values({name: bindparam(f"new_{name}") for name in _SEEN})
        )
        rows = [
            {"device": device}
            | {
                "new_last_seen_at": seen.at,
                "new_release": seen.release,
                "new_log_size": seen.log_size,
                "new_open_runs": seen.open_runs,
                "new_waiting": seen.waiting,
            }
            for device, seen in changed.items()
        ]
        with self._store.write() as conn:
            conn.execute(statement, rows)

    def revoke(self, device: str, by: str, code: str = "operator") -> None:
        """Let a device go: it may not sync, is lent nothing, and its waiting questions are void."""
        name = self.get(device).name
        at = self._log.clock()
        sealed = release.sign(release.Revocation(device=device, at=at, code=code), self._log.key)

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            active = update(DEVICES).where(DEVICES.c.id == device, DEVICES.c.state == "active")
            values = {"state": "revoked", "revoked_at": at, "revocation": _text(sealed), "lease": ""}
            if conn.execute(active.values(values | {"lease_expires_at": 0})).rowcount != 1:
                raise Conflict("device.revoked", f"{name} is revoked already", advice="nothing is left to do")
            waiting = update(APPROVALS).where(APPROVALS.c.device == device, APPROVALS.c.state == "waiting")
            conn.execute(waiting.values(state="void", void_code="device.revoked"))

        self._log.append([Draft(DeviceRevoked(device=device, by=by, code=code))], rows)
        for topic in ("devices", "approvals", f"device:{device}"):
            self._bus.publish(topic, {"device": device, "revoked": True})

    # --- lent and sent ----------------------------------------------------------------------------------------

    def lease(self, device: str) -> Envelope:
        """The device's lease; a fresh one once half of its time is gone, or what the hub lends has changed."""
        with self._leasing:  # so that two pulls at once are not lent twice
            with self._store.read() as conn:
                row = conn.execute(select(DEVICES.c.state, DEVICES.c.lease).where(DEVICES.c.id == device)).first()
            if row is None:
                raise _unknown(device)
            if row.state != "active":
                raise revoked()
            return self._current(row.lease) or self._issue(device)

    def _current(self, stored: str) -> Envelope | None:
        if not stored:
            return None
        envelope = _envelope(stored)
        lease = parse(envelope.payload, release.Lease, code="signed.form", what="a stored lease")
        config, age = self._config, self._log.clock() - lease.issued_at
        same = (lease.actions, lease.value_cents) == (config.lease_actions, config.lease_value_cents)
        lasts = lease.expires_at - lease.issued_at == config.lease_seconds * 1_000_000
        return envelope if same and lasts and 0 <= age < config.lease_seconds * 500_000 else None

    def _issue(self, device: str) -> Envelope:
        at, config = self._log.clock(), self._config
        lease = release.Lease(
            lease=f"l-{self._log.random(8).hex()}",
            device=device,
            issued_at=at,
            expires_at=at + config.lease_seconds * 1_000_000,
            actions=config.lease_actions,
            value_cents=config.lease_value_cents,
        )
        sealed = release.sign(lease, self._log.key)
        facts = LeaseIssued(lease.lease, device, lease.expires_at, lease.actions, lease.value_cents)

        def rows(conn: Connection, written: Sequence[Written]) -> None:
            active = update(DEVICES).where(DEVICES.c.id == device, DEVICES.c.state == "active")
            values = {"lease": _text(sealed), "lease_issued_at": at, "lease_expires_at": lease.expires_at}
            if conn.execute(active.values(values)).rowcount != 1:
                raise revoked()

        self._log.append([Draft(facts)], rows)
        self._bus.publish("devices", {"device": device})
        return sealed

    def outbox(self, device: str, cursor: int) -> tuple[Envelopes, int, bool]:
        """Messages beyond ``cursor`` in order, the cursor after them, and whether more wait.

        Asking beyond a message says that it was kept: the furthest cursor asked from is remembered.
        """
        beyond = select(OUTBOX).where(OUTBOX.c.device == device, OUTBOX.c.n > cursor).order_by(OUTBOX.c.n)
        with self._store.read() as conn:
            rows = conn.execute(beyond.limit(_PULL_MESSAGES + 1)).all()
            known = conn.execute(select(DEVICES.c.acknowledged).where(DEVICES.c.id == device)).scalar() or 0
        if cursor > known:
            self._acknowledge(device, cursor)
        taken: Envelopes = []
        size = 0
        for row in rows[:_PULL_MESSAGES]:
            size += len(row.envelope)
            if taken and size > _PULL_BYTES:
                break
            taken.append(_envelope(row.envelope))
            cursor = row.n
        return taken, cursor, len(taken) < len(rows)

    def _acknowledge(self, device: str, cursor: int) -> None:
        """Never beyond what was sent, whatever the device claims."""
        with self._store.write() as conn:
            newest = select(OUTBOX.c.n).where(OUTBOX.c.device == device).order_by(OUTBOX.c.n.desc()).limit(1)
            sent = conn.execute(newest).scalar() or 0
            conn.execute(update(DEVICES).where(DEVICES.c.id == device).values(acknowledged=min(cursor, sent)))


_SEEN = ("last_seen_at", "release", "log_size", "open_runs", "waiting")


def _unknown(device: str) -> BadInput:
    return BadInput("device.unknown", f"there is no device {device[:80]!r}", advice="see the list of devices")


def revoked() -> Refused:
    return Refused("device.revoked", "this device was revoked", advice="ask the hub's operator; then join again")


def _text(envelope: Envelope) -> str:
    return msgspec.json.encode(envelope).decode()


def _envelope(text: str) -> Envelope:
    return parse(text, Envelope, code="envelope.form", what="a stored message")
