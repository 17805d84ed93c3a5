"""What another device asks for, read strictly and judged: bytes and values alone. Protocol: ``shared/spec/link.md``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.codec import parse, unb64
from shared.errors import BadInput, Refused
from shared.keys import Envelope, PublicKey
from shared.peering import PROOF_HEADER, TICKET_HEADER, asking_bytes
from shared.release import Ticket, open_signed

_LINE = re.compile(r"GET /models/([0-9a-f]{64}) HTTP/1\.1")
_FIELD = re.compile(r"([A-Za-z0-9-]{1,64}):[ \t]*([\x20-\x7e]*)")
_RANGE = re.compile(r"bytes=(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})")
_PROOF = re.compile(r"([0-9a-f]{32}) ([0-9a-f]{128})")
_WITH_BODY = {"content-length", "transfer-encoding"}


@dataclass(frozen=True)
class Asked:
    """The bytes from ``start`` up to ``end`` of the model with this hash, and why they should be given."""

    sha256: str
    start: int
    end: int
    ticket: Envelope
    nonce: str
    signature: bytes


def read(head: bytes) -> Asked:
    """A request's head, with the empty line that ends it. Raises ``BadInput('peer.request')`` for any other than the
    one there is, and ``BadInput`` for a ticket that is none."""
    try:
        first, *rest = head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
    except UnicodeDecodeError as error:
        raise _odd("it is not ASCII") from error
    line = _LINE.fullmatch(first)
    if line is None:
        raise _odd("only GET /models/SHA256 is answered")
    fields: dict[str, str] = {}
    for text in rest:
        field = _FIELD.fullmatch(text)
        name = field[1].lower() if field else ""
        if field is None or name in fields or name in _WITH_BODY:
            raise _odd("a header is malformed, stands twice, or announces a body")
        fields[name] = field[2]
    span = _RANGE.fullmatch(fields.get("range", ""))
    proof = _PROOF.fullmatch(fields.get(PROOF_HEADER.lower(), ""))
    if span is None or proof is None:
        raise _odd("it has no range, or no proof")
    sealed = unb64(fields.get(TICKET_HEADER.lower(), ""), what="the ticket")
    ticket = parse(sealed, Envelope, code="peer.request", what="the ticket")
    return Asked(line[1], int(span[1]), int(span[2]) + 1, ticket, proof[1], bytes.fromhex(proof[2]))


def judge(asked: Asked, hub: PublicKey, device: str, now: int) -> Ticket:
    """The ticket, if the hub gave it out for this device, this model and this time, and whoever asks is who it is for.

    Raises ``Tampered('envelope.purpose' | 'envelope.signature' | 'peer.proof')``, ``Refused('signed.device' |
    'peer.ticket')``.
    """
    ticket = open_signed(asked.ticket, Ticket, hub, device)
    if ticket.sha256 != asked.sha256 or now > ticket.expires_at:
        raise Refused("peer.ticket", "the ticket is for another model, or too old", advice="ask the hub for another")
    signed = asking_bytes(asked.ticket, asked.nonce, asked.start, asked.end)
    PublicKey.from_text(ticket.asker_key).verify(asked.signature, signed, code="peer.proof", what="the request")
    return ticket


def _odd(what: str) -> BadInput:
    return BadInput("peer.request", f"not a request of another device: {what}", advice="see the page on the link")
