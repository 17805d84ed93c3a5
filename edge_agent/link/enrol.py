"""Joining a hub: the device makes its keys, a token vouches for it, the hub's fingerprint in the token vouches back."""

from __future__ import annotations

import msgspec
import urllib3

from edge_agent.config import SOFTWARE, Home, now_us
from edge_agent.identity import Identity, load_identity, make_key, save_identity
from edge_agent.journal import Journal
from edge_agent.link.updates import Updates
from shared import limits
from shared.codec import hex_sha256, parse
from shared.entries import DeviceJoined, Draft
from shared.errors import KINDS, BadInput, Conflict, OutriderError, Tampered, Unavailable
from shared.keys import Envelope, PublicKey, SigningKey, unseal
from shared.protocol import PROTOCOL_VERSION, Join, Joined, join_bytes


class _Problem(msgspec.Struct):
    """An error as the hub's HTTP answers carry it."""

    code: str
    message: str
    advice: str
    kind: str = "Refused"


def join(home: Home, url: str, token: str, name: str) -> Identity:
    """Enrol this device; afterwards ``home`` holds its keys, its identity and the root of trust.

    Raises ``Conflict('agent.joined')`` when the home belongs to a hub already, and what the hub refuses with.
    """
    if home.identity.exists():
        known = load_identity(home)
        raise Conflict("agent.joined", f"{home.root} belongs to {known.hub}", advice="use another --home")
    secret, _, fingerprint = token.strip().partition(".")
    if not secret or not fingerprint:
        raise BadInput("token.form", "a token reads SECRET.FINGERPRINT", advice="copy the whole token")
    if not url.startswith(("http://", "https://")):
        raise BadInput("hub.url", f"{url!r} is no address", advice="write it as http://HOST:PORT")
    home.make()
    # A join that was cut short left keys that no hub knows: they are of no use, and a new pair is cheap.
    for stale in (home.keys / "log.key", home.keys / "link.key"):
        stale.unlink(missing_ok=True)
    log, link = make_key(home.keys / "log.key"), make_key(home.keys / "link.key")
    blank = Join(PROTOCOL_VERSION, secret, name, log.public.text, link.public.text, SOFTWARE, "", "")
    signed = join_bytes(fingerprint, blank)
    request = msgspec.structs.replace(blank, log_proof=log.sign(signed).hex(), link_proof=link.sign(signed).hex())
    joined = _open(_post(url, request), fingerprint)
    Updates(home.root, url).install_root(joined.root.encode(), joined.minimum)
    _begin_log(home, joined, log)
    identity = Identity(joined.device, name, joined.origin, joined.hub, joined.hub_key, url.rstrip("/"))
    save_identity(home, identity)  # last: what was cut short before this can simply be done again
    return identity


def _begin_log(home: Home, joined: Joined, key: SigningKey) -> None:
    """The log begins with whose it is and whom it trusts. What a join that was cut short left behind is removed."""
    for stale in home.root.glob(f"{home.log.name}*"):
        stale.unlink()
    journal = Journal(home.log, joined.origin, key, now=now_us, software=SOFTWARE)
    facts = DeviceJoined(
        device=joined.device,
        hub=joined.hub,
        hub_key=joined.hub_key,
        root_sha256=hex_sha256(joined.root.encode()),
        minimum=joined.minimum,
    )
    try:
        journal.append_blocking([Draft(facts)])
    finally:
        journal.close()


def _post(url: str, request: Join) -> bytes:
    pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(limits.HANDSHAKE_SECONDS))
    try:
        answer = pool.request(
            "POST",
            url.rstrip("/") + "/api/join",
            body=msgspec.json.encode(request),
            headers={"Content-Type": "application/json"},
        )
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable(
            "hub.unreachable", f"{url}: {error}", advice="check the address; is the hub running?"
        ) from error
    if answer.status != 200:
        raise _refusal(url, answer.status, answer.data)
    return answer.data


def _refusal(url: str, status: int, data: bytes) -> OutriderError:
    try:
        said = msgspec.json.decode(data, type=_Problem)
    except msgspec.DecodeError:
        return Unavailable("hub.answer", f"{url} answered {status}", advice="is this an Outrider hub?")
    return KINDS.get(said.kind, KINDS["Refused"])(said.code, said.message, advice=said.advice, where="hub")


def _open(data: bytes, fingerprint: str) -> Joined:
    """The hub's answer, if the key it is signed with is the one the token names."""
    envelope = parse(data, Envelope, code="join.answer", what="the hub's answer")
    joined = parse(envelope.payload, Joined, code="join.answer", what="the hub's answer")
    key = PublicKey.from_text(joined.hub_key)
    if key.fingerprint != fingerprint:
        raise Tampered(
            "join.fingerprint",
            f"the answer is signed by {key.fingerprint}, the token names {fingerprint}",
            advice="someone may stand between this device and the hub; do not go on",
        )
    unseal(envelope, "joined", key)
    return joined
