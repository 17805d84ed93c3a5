"""Asking devices near by for a model, instead of the hub: who they are says the hub, and both sides prove themselves.

Only where the release in force lets devices hand models to each other, and lists this one. Nothing here is ever an
error to a person: where nobody helps, the hub sends the file. Protocol: ``shared/spec/link.md``.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence

import msgspec
import urllib3

from edge_agent.identity import Identity
from edge_agent.models.hub import Broken, Source, get
from edge_agent.models.pace import Pace
from shared import limits
from shared.codec import b64, parse
from shared.errors import OutriderError
from shared.keys import Envelope, PublicKey, SigningKey
from shared.peering import (
    PROOF_HEADER,
    TICKET_HEADER,
    Found,
    Peer,
    Wanted,
    answering_bytes,
    asking_bytes,
    read_address,
    wanted_bytes,
)
from shared.release import ModelRef, Release, Ticket, open_signed

_log = logging.getLogger("outrider.models")
_HUB_S = urllib3.Timeout(connect=10.0, read=20.0)
_PEER_S = urllib3.Timeout(connect=3.0, read=10.0)
_ANSWER_BYTES = 64 * 1024


class PeerFinder:
    """``release`` is the one in force, ``key`` the link key, ``now`` microseconds since 1970 UTC. For a thread."""

    def __init__(
        self, identity: Identity, key: SigningKey, release: Callable[[], Release | None], now: Callable[[], int]
    ) -> None:
        self._identity = identity
        self._key = key
        self._release = release
        self._now = now

    def __call__(self, model: ModelRef) -> Sequence[Source]:
        """Who has the model, in the order in which to ask; nobody where there is any reason not to."""
        try:
            release = self._release()
            if release is None or not release.manifest.peers or release.permitted(model.sha256) is None:
                return ()
            found = self._found(model.sha256).peers[: limits.PEERS_OFFERED]
            return [self._source(peer, model) for peer in found]
        except (OutriderError, urllib3.exceptions.HTTPError) as error:
            _log.info("nobody near by is asked for %s: %s", model.name, error)
            return ()

    def _found(self, sha256: str) -> Found:
        me = self._identity
        blank = Wanted(device=me.device, sha256=sha256, at=self._now(), signature="")
        signed = self._key.sign(wanted_bytes(me.hub, blank)).hex()
        with urllib3.PoolManager(retries=False, timeout=_HUB_S) as pool:
            answer = pool.request(
                "POST",
                f"{me.hub_url}/api/peers",
                body=msgspec.json.encode(msgspec.structs.replace(blank, signature=signed)),
                headers={"Content-Type": "application/json"},
                preload_content=False,
                redirect=False,
            )
            try:
                return parse(answer.read(_ANSWER_BYTES), Found, code="peers.answer", what="the hub's answer")
            finally:
                answer.close()

    def _source(self, peer: Peer, model: ModelRef) -> Source:
        ticket = open_signed(peer.ticket, Ticket, self._identity.hub_public, peer.device)
        read_address(ticket.address)  # a hub, too, may send nobody to other places than a local network
        return _PeerSource(self._key, peer.ticket, ticket, model)


class _PeerSource:
    """One device near by, by its ticket."""

    least = limits.PEER_LEAST_BYTES_S

    def __init__(self, key: SigningKey, sealed: Envelope, ticket: Ticket, model: ModelRef) -> None:
        self._key, self._sealed, self._ticket, self._model = key, sealed, ticket, model
        self.name = f"{ticket.device} at {ticket.address}"
        self.pace = Pace(0)
        self._pool = urllib3.PoolManager(retries=False, timeout=_PEER_S, maxsize=1)

    def ask(self, start: int, end: int) -> urllib3.BaseHTTPResponse:
        nonce = secrets.token_hex(16)
        proof = self._key.sign(asking_bytes(self._sealed, nonce, start, end)).hex()
        headers = {
            "Range": f"bytes={start}-{end - 1}",
            TICKET_HEADER: b64(msgspec.json.encode(self._sealed)),
            PROOF_HEADER: f"{nonce} {proof}",
        }
        answer = get(self._pool, f"http://{self._ticket.address}/models/{self._model.sha256}", headers)
        try:
            if answer.status != 206:
                raise Broken("it does not answer as a device does")
            signature = bytes.fromhex(answer.headers.get(PROOF_HEADER, ""))
            signed = answering_bytes(self._sealed, nonce, start, end)
            key = PublicKey.from_text(self._ticket.key)
            key.verify(signature, signed, code="peer.proof", what="the answer")
        except (ValueError, OutriderError, Broken) as error:
            answer.close()
            raise Broken(str(error)) from error
        return answer
