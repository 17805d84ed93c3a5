"""Checks of what stands between device and hub: log, release, lease, last sync, reach, clock.

What the hub is asked here is not verified: it makes a hint for a person. What the agent acts on goes through the link
and through TUF.
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from edge_agent.config import Home
from edge_agent.doctor.findings import Finding
from edge_agent.identity import Identity
from edge_agent.journal import LogReader
from shared import limits
from shared.errors import OutriderError, Tampered
from shared.keys import split_note, verify_cosignature
from shared.runs import Device

_SECOND = 1_000_000
_CLOCK_DRIFT_S = 60
_SYNC_AGE_S = 24 * 3600
_METADATA_BYTES = 4 * 1024 * 1024

Fetch = Callable[[str], tuple[bytes, str]]  # URL -> body and Date header; raises OSError


# --- the log, the lease, the hub ----------------------------------------------------------------------------------


class _Record(msgspec.Struct, frozen=True):
    """What the log says. ``last`` is its newest entry's time, ``synced`` the last countersignature's, in seconds."""

    device: Device
    size: int
    held: int
    last: int
    synced: int | None


def findings(home: Home, identity: Identity, now: Callable[[], int], fetch: Fetch) -> Iterator[Finding]:
    record: _Record | None = None
    try:
        record = _read(home, identity)
    except OutriderError as error:
        yield Finding("log", "fail", error.message, error.advice)
    if record is not None:
        yield from _log(record, now())
    yield from _hub(record, identity, now, fetch)


def _read(home: Home, identity: Identity) -> _Record:
    device, last = Device(), 0
    reader = LogReader(home.log)
    try:
        for entry in reader.entries():
            device.fold(entry)
            last = entry.at
        held = reader.cosigned_size()
        device.synced(held)
        return _Record(device, reader.size, held, last, _last_sync(reader, identity))
    finally:
        reader.close()


def _log(record: _Record, now: int) -> Iterator[Finding]:
    waiting = record.size - record.held
    yield Finding("log", "ok", f"{record.size} entries, {waiting} of them not yet countersigned")
    if record.last > now + _SECOND:
        behind = (record.last - now) // _SECOND
        yield Finding("clock", "warn", f"it stands {behind} s before the newest entry", "set the clock (NTP)")
    release = record.device.release
    if release is None:
        advice = "start the agent while it can reach the hub"
        yield Finding("release", "warn", "none is installed: nothing is allowed", advice)
    else:
        yield Finding("release", "ok", f"{release.release} is installed")
    yield _lease(record.device, now)
    yield _sync(record.synced, waiting, now)


def _last_sync(reader: LogReader, identity: Identity) -> int | None:
    """When the hub last countersigned, in seconds since 1970, by its own signature; ``None`` if it never did."""
    newest = reader.cosigned()
    if newest is None:
        return None
    for name, _ in split_note(newest[1])[1]:
        try:
            return verify_cosignature(newest[1], name, identity.hub_public)
        except Tampered:
            continue  # the device's own signature, or another witness
    raise Tampered(
        "log.cosignature", "the hub's countersignature does not hold", advice="run: outrider audit verify --device"
    )


def _lease(device: Device, now: int) -> Finding:
    lease = device.lease
    if lease is None:
        return Finding("lease", "warn", "none: the agent may not act", "start the agent while it can reach the hub")
    left = lease.expires_at - now
    if left <= 0:
        return Finding("lease", "warn", f"ended {_span(-left)} ago: runs wait", "connect the agent to its hub")
    used = f"{device.actions_since_sync} of {lease.actions} actions used since the last sync"
    return Finding("lease", "ok", f"ends in {_span(left)}, {used}")


def _sync(at_s: int | None, waiting: int, now: int) -> Finding:
    if at_s is None:
        return Finding(
            "sync", "warn", "the hub has countersigned nothing yet", "start the agent while it can reach the hub"
        )
    age = now // _SECOND - at_s
    text = f"last {_span(age * _SECOND)} ago"
    if waiting and age > _SYNC_AGE_S:
        return Finding(
            "sync", "warn", f"{text}, {waiting} entries wait", "connect: an unsynced tail can be lost with the disk"
        )
    return Finding("sync", "ok", text)


def _hub(record: _Record | None, identity: Identity, now: Callable[[], int], fetch: Fetch) -> Iterator[Finding]:
    url = identity.hub_url.rstrip("/")
    before = now()
    try:
        _, date = fetch(f"{url}/healthz")
    except OSError as error:
        advice = "work goes on under the lease; check the network, and that the hub runs"
        yield Finding("hub", "warn", f"{identity.hub} at {url} is out of reach: {_why(error)}", advice)
        return
    yield Finding("hub", "ok", f"{identity.hub} at {url}")
    yield from _clock(date, before, now())
    installed = record.device.release.release if record and record.device.release else 0
    newest = _newest(url, fetch)
    if newest > installed:
        said = f"the hub offers release {newest}, {installed or 'none'} is installed"
        yield Finding("release", "warn", said, "start the agent; a staged rollout may hold it back on purpose")


def _clock(date: str, before: int, after: int) -> Iterator[Finding]:
    """Against the hub's Date header, which is whole seconds: the time between asking and answering does not count."""
    try:
        hub = int(parsedate_to_datetime(date).timestamp())
    except (TypeError, ValueError):
        return
    off = max(before // _SECOND - hub - 1, hub - after // _SECOND - 1, 0)
    text = f"{off} s off the hub's" if off else "agrees with the hub's"
    if off > limits.CLOCK_SKEW_SECONDS:
        yield Finding("clock", "fail", text, "set it (NTP): leases, releases and questions are judged by it")
    elif off > _CLOCK_DRIFT_S:
        yield Finding("clock", "warn", text, "set it (NTP)")
    else:
        yield Finding("clock", "ok", text)


def _newest(url: str, fetch: Fetch) -> int:
    """The newest release that the hub's repository lists; 0 where that cannot be told."""
    try:
        timestamp = msgspec.json.decode(fetch(f"{url}/tuf/metadata/timestamp.json")[0])
        number = timestamp["signed"]["meta"]["snapshot.json"]["version"]
        snapshot = msgspec.json.decode(fetch(f"{url}/tuf/metadata/{int(number)}.snapshot.json")[0])
        number = snapshot["signed"]["meta"]["policy.json"]["version"]
        policy: Any = msgspec.json.decode(fetch(f"{url}/tuf/metadata/{int(number)}.policy.json")[0])
        paths = list(policy["signed"]["targets"])
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
        return 0
    numbers = [int(match[1]) for path in paths if (match := re.match(r"release/(\d+)/", str(path)))]
    return max(numbers, default=0)


def _why(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return str(getattr(reason, "strerror", None) or reason or error.strerror or error)


def _span(us: int) -> str:
    seconds = max(us // _SECOND, 0)
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def fetch_url(url: str) -> tuple[bytes, str]:
    """GET with short patience. Raises ``OSError`` on anything but an answer of success."""
    if not url.startswith(("http://", "https://")):
        raise urllib.error.URLError("not an http address")
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - the scheme is checked above
        return answer.read(_METADATA_BYTES), answer.headers.get("Date", "")
