"""What an operator orders about trust, as one message: a command sends it to the running hub, or carries it out."""

from __future__ import annotations

from typing import Any

import msgspec

from server.releases.ceremony import RootChange
from server.releases.proposals import Proposal
from server.releases.publisher import Releases
from shared.errors import BadInput
from shared.offer import Signature


class TrustOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``act`` says which of the other fields count. ``id`` is a proposal's."""

    act: str
    id: str = ""
    change: RootChange = RootChange()
    signatures: list[Signature] = []


def carry_out(releases: Releases, order: TrustOrder, by: str) -> dict[str, Any]:
    """Do it; JSON-plain values to show. Raises what ``Releases`` raises, ``BadInput('trust.order')`` for none."""
    match order.act:
        case "show":
            return releases.trust() | {"ending": releases.ending()}
        case "offer":
            proposal = releases.offer_root(order.change, by)
            return _told(proposal) | {"offer": proposal.offer.data().decode()}
        case "offered":
            proposal = releases.proposal(order.id)
            return _told(proposal) | {"offer": proposal.offer.data().decode()}
        case "proposals":
            return {"proposals": [_told(proposal) for proposal in releases.proposals()]}
        case "sign":
            return _sign(releases, order, by)
        case "withdraw":
            releases.withdraw(order.id, by)
            return _told(releases.proposal(order.id))
    raise BadInput("trust.order", f"{order.act[:40]!r} is no order", advice="bring both to the same release")


def _sign(releases: Releases, order: TrustOrder, by: str) -> dict[str, Any]:
    """Take signatures of one proposal, and complete it when that was the last that it wanted."""
    ids = {signature.offer for signature in order.signatures}
    if len(ids) != 1:
        raise BadInput("trust.order", "these signatures are of several offers", advice="hand in those of one")
    (id,) = ids
    for signature in order.signatures:
        proposal = releases.add_signature(id, signature, by)
    if not proposal.missing:
        releases.complete(id, by)
    return _told(releases.proposal(id))


def _told(proposal: Proposal) -> dict[str, Any]:
    told = {name: getattr(proposal, name) for name in ("id", "kind", "number", "by", "at", "state", "signers")}
    return told | {"missing": proposal.missing if proposal.state == "open" else {}}
