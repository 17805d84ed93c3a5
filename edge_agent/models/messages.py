"""What goes over the pipe between the agent and its model worker, and what callers hand in and get back.

Frames are a 4-byte big-endian length and a MessagePack body, both ways. Times are microseconds, ratios permille.
Nothing here imports a runtime. The pipe is private to one agent version, so its form may change between versions.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Literal

import msgspec

from edge_agent.vector import Embedding
from shared.errors import KINDS, OutriderError, Unavailable

FRAME_BYTES = 64 << 20  # a larger length is a broken pipe, not a message
HEAD = struct.Struct(">I")

# How urgent a request is. Batch work gives way while it is at work; all wait in this order.
INTERACTIVE, BACKGROUND, BATCH = 0, 1, 2


class Settings(msgspec.Struct, frozen=True, tag="settings"):
    """How the worker runs its models. ``home`` is the agent's data directory; an empty hash means: not chosen."""

    home: str
    language: str = ""
    embedder: str = ""
    threads: int = 1  # a second thread on a busy two-core host is slower than none
    context: int = 2048
    kept_states: int = 8  # prefix states on disk, 10 to 24 MB each


class Cancelled(Exception):
    """The parent no longer wants the answer. Raised and caught inside the worker."""


# --- what callers hand in ---------------------------------------------------------------------------------------


class Completion(msgspec.Struct, frozen=True, tag="complete"):
    """Text to continue, greedily: ``prefix`` + ``prompt`` + ``suffix``.

    ``prefix`` and ``suffix`` are the template's own words: control tokens in them (``<|im_start|>``) count. ``prompt``
    is data: control tokens in it are plain characters, so that a document cannot close its own turn. The state after
    ``prefix`` is kept in memory and on disk for the next plan, so nothing personal belongs in it. ``grammar`` is GBNF
    with a ``root`` rule. ``deadline_s`` bounds queueing, loading and generating together. ``urgency`` is
    ``INTERACTIVE``, ``BACKGROUND`` or ``BATCH``.
    """

    prompt: str
    prefix: str = ""
    suffix: str = ""
    grammar: str = ""
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    deadline_s: float | None = None
    urgency: int = BACKGROUND


class Choice(msgspec.Struct, frozen=True, tag="choose"):
    """Which of ``options`` best continues ``prefix`` + ``prompt`` + ``suffix``, by log-probability.

    With ``neutral`` (a prompt without content, as "N/A"), each option's log-probability after it is subtracted, which
    takes out how likely the option's words are anyway. Options are compared as they are: begin all with a space, or
    none.
    """

    options: tuple[str, ...]
    prompt: str
    prefix: str = ""
    suffix: str = ""
    neutral: str | None = None
    deadline_s: float | None = None
    urgency: int = BACKGROUND


class Embed(msgspec.Struct, frozen=True, tag="embed"):
    texts: tuple[str, ...]


class Forget(msgspec.Struct, frozen=True, tag="forget"):
    """Drop every kept prefix, in memory and on disk."""


Job = Completion | Choice | Embed | Forget


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    number: int
    job: Job


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    number: int


Down = Settings | Ask | Cancel


# --- what comes back --------------------------------------------------------------------------------------------


class Timings(msgspec.Struct, frozen=True):
    """Microseconds. ``queue_us`` is waiting for the worker, and work that was broken off for a more urgent request;
    ``load_us`` is the worker's start and the model's first load."""

    queue_us: int = 0
    load_us: int = 0
    prompt_us: int = 0
    generation_us: int = 0


class CompletionResult(msgspec.Struct, frozen=True, tag="completed"):
    """``finish``: ``end`` the model or grammar ended, ``stop`` a stop string came, ``length`` the text was cut off.

    ``reused_tokens`` of the ``prompt_tokens`` were not computed again; ``reused_from`` says where they came from.
    ``confidence`` is the product of the probabilities of the chosen tokens among those the grammar allowed (so a token
    the grammar forces counts 1), ``token_confidence`` their geometric mean; both permille.
    """

    text: str
    finish: Literal["end", "stop", "length"]
    prompt_tokens: int
    reused_tokens: int
    reused_from: Literal["", "memory", "disk"]
    generated_tokens: int
    confidence: int
    token_confidence: int
    model: str
    timings: Timings = Timings()


class ChoiceResult(msgspec.Struct, frozen=True, tag="chosen"):
    """``best`` indexes the options. ``shares`` (permille, same order) is the softmax of their scores."""

    best: int
    shares: tuple[int, ...]
    prompt_tokens: int
    reused_tokens: int
    model: str
    timings: Timings = Timings()


class EmbedResult(msgspec.Struct, frozen=True, tag="embedded"):
    """One embedding per text, in order. ``model`` is the hash to store beside each vector."""

    embeddings: tuple[Embedding, ...]
    model: str
    timings: Timings = Timings()


class Forgotten(msgspec.Struct, frozen=True, tag="forgotten"):
    states: int


class Failure(msgspec.Struct, frozen=True, tag="failed"):
    """One of our errors on its way to the parent."""

    kind: str
    code: str
    message: str
    advice: str
    where: str

    @classmethod
    def of(cls, error: OutriderError) -> Failure:
        return cls(type(error).__name__, error.code, error.message, error.advice, error.where)

    def error(self) -> OutriderError:
        return KINDS.get(self.kind, Unavailable)(self.code, self.message, advice=self.advice, where=self.where)


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The worker's own news, sent before the reply: a model is in memory now."""

    kind: Literal["language", "embedder"]
    model: str
    load_us: int


Result = CompletionResult | ChoiceResult | EmbedResult | Forgotten


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    number: int
    result: Result | Failure


Up = Reply | Loaded

_DOWN: msgspec.msgpack.Decoder[Settings | Ask | Cancel] = msgspec.msgpack.Decoder(Down)
_UP: msgspec.msgpack.Decoder[Reply | Loaded] = msgspec.msgpack.Decoder(Up)


def frame(message: Down | Up) -> bytes:
    body = msgspec.msgpack.encode(message)
    return HEAD.pack(len(body)) + body


def decode_down(body: bytes) -> Settings | Ask | Cancel:
    return _DOWN.decode(body)


def decode_up(body: bytes) -> Reply | Loaded:
    return _UP.decode(body)


def read_frame(source: BinaryIO) -> bytes | None:
    """The next body, or None when the other side is gone."""
    head = source.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    (length,) = HEAD.unpack(head)
    body = source.read(length)
    return body if len(body) == length <= FRAME_BYTES else None
