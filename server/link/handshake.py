"""Who is there: a challenge, an answer signed by a pinned key, and the hub's signed welcome."""

from __future__ import annotations

from collections.abc import Callable

from shared.errors import BadInput, Refused
from shared.keys import PublicKey, SigningKey
from shared.protocol import PROTOCOL_VERSION, Challenge, Hello, Message, Welcome, hello_bytes, welcome_bytes


def challenge(hub: str, now: int, random: Callable[[int], bytes]) -> Challenge:
    """A fresh challenge; its nonce is used once."""
    return Challenge(versions=[PROTOCOL_VERSION], hub=hub, nonce=random(32).hex(), now=now)


def expect_hello(message: Message) -> Hello:
    """The first thing an agent says must be a hello in a version we speak."""
    if not isinstance(message, Hello):
        raise BadInput("link.order", "a connection begins with hello", advice="speak the link protocol")
    if message.version != PROTOCOL_VERSION:
        raise Refused(
            "link.version",
            f"the agent speaks version {message.version}, this hub {PROTOCOL_VERSION}",
            advice="update the older of the two",
        )
    if message.size < 0 or message.release < 0 or len(message.nonce) > 128 or len(message.software) > 100:
        raise BadInput("link.message", "the hello is out of bounds", advice="speak the link protocol")
    return message


def verify_hello(asked: Challenge, hello: Hello, key: PublicKey) -> None:
    """Raise ``Tampered('link.signature')`` unless the device's pinned link key signed for this very challenge."""
    try:
        signature = bytes.fromhex(hello.signature)
    except ValueError as error:
        raise BadInput("link.message", "the hello's signature is not hex", advice="speak the link protocol") from error
    signed = hello_bytes(asked.hub, asked.nonce, hello)
    key.verify(signature, signed, code="link.signature", what="the hello")


def welcome(hello: Hello, held: int, cursor: int, key: SigningKey) -> Welcome:
    signed = welcome_bytes(hello.device, hello.nonce, held, cursor)
    return Welcome(held=held, cursor=cursor, signature=key.sign(signed).hex())
