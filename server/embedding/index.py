"""Team memory, found by words and by meaning: the index in the background, and the search over it.

Words come first: they need no model, so an item is found by its words moments after it arrived, and by its meaning when
the worker has come round to it. Where the model is missing, slow or crashed, the search goes by words and says so.
Vectors are read from the database for each question, in the scopes asked for; nothing is cached that an erasure
would have to find.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from server.embedding.encoder import Encoder
from server.embedding.folder import describe
from server.embedding.shelf import NONE, Filter, Shelf, Shown, Stale, key
from server.embedding.words import asked, bm25
from server.store import Store
from shared.errors import BadInput, OutriderError, Unavailable
from shared.memory.ranking import Ranked, mix
from shared.memory.vector import Embedding

_BATCH = 16  # items in one step: bounds how long a question waits behind it
_CANDIDATES = 200  # the best of each way that are mixed
_ROWS = 8192  # vectors compared at a time: 3 MB
_POLL_S = 30.0  # a net below `wake`
_RETRY_S = 60.0
_WAIT_S = 2.0  # a question waits no longer for its vector
_QUESTION_CHARS = 2_000
_NO_MODEL = "none"
_BY_A_TEXT = ("embedder.text", "embedder.crashed", "embedder.slow")
_log = logging.getLogger("outrider.hub")


class Hit(msgspec.Struct, frozen=True):
    """An item found and why: permille of the best by words and by meaning, their mix, and the words that matched."""

    shown: Shown
    score: int
    words: int
    meaning: int
    matched: tuple[str, ...]


class Found(msgspec.Struct, frozen=True):
    """Best first. ``trouble`` says why meaning had no part in it, where it had none."""

    hits: tuple[Hit, ...]
    trouble: str = ""


class Status(msgspec.Struct, frozen=True):
    """How far the index is: items with a vector of ``model``, items there are, and what is wrong."""

    model: str
    embedded: int
    items: int
    trouble: str


class TeamIndex:
    """``folder`` is the model's; ``None`` searches by words alone. For one event loop; ``clock`` is microseconds since
    1970 UTC. ``run`` is the background task, ``wake`` may be called from any thread when items have changed."""

    def __init__(
        self,
        store: Store,
        folder: Path | None,
        *,
        clock: Callable[[], int],
        wait_s: float = _WAIT_S,
        poll_s: float = _POLL_S,
    ) -> None:
        self._shelf = Shelf(store)
        self._folder, self._clock, self._wait_s, self._poll_s = folder, clock, wait_s, poll_s
        self._encoder = Encoder(folder) if folder is not None else None
        self._model = ""
        self._trouble: OutriderError | None = None
        self._careful = 0  # texts still to be embedded one at a time
        self._suspect: Stale | None = None  # what the worker met its end with
        self._lost = False  # whether the last one was given up
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asking: set[asyncio.Task[list[Embedding]]] = set()

    # --- in the background --------------------------------------------------------------------------------------

    def wake(self, *_: object) -> None:
        """Items have changed. Any thread; whatever a caller passes is ignored."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self) -> None:
        """Index for ever. Trouble with the model is kept for ``status`` and tried again; words go on."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            while await self.step():
                pass
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_S if self._lasting else self._poll_s):
                    await self._changed.wait()

    @property
    def _lasting(self) -> bool:
        """Whether the trouble is of a kind that a person has to mend; a worker that crashed is simply started again."""
        return self._trouble is not None and self._trouble.code != "embedder.crashed"

    async def step(self) -> int:
        """Index some items; 0 when nothing is left that can be done now."""
        items = await asyncio.to_thread(self._shelf.stale, "", _BATCH)
        if items:
            return await asyncio.to_thread(self._shelf.put, items, "", ())
        try:
            return await self._embed_some()
        except OutriderError as error:
            if self._trouble is None or self._trouble.code != error.code:
                _log.warning("team memory is searched by words alone: %s", error)
            self._trouble = error
            return 0

    async def _embed_some(self) -> int:
        if self._folder is None or self._encoder is None:
            return 0
        if not self._model:
            if not await asyncio.to_thread(self._shelf.stale, _NO_MODEL, 1):
                return 0  # a hub without team memory misses nothing
            self._model = (await asyncio.to_thread(describe, self._folder)).id
        items = await asyncio.to_thread(self._shelf.stale, self._model, 1 if self._careful else _BATCH)
        if not items:
            return 0
        try:
            made = await self._encoder.embed([one.text for one in items])
        except OutriderError as error:
            if error.code not in _BY_A_TEXT:
                raise
            return await self._without(items, error)
        self._careful, self._lost = max(0, self._careful - 1), False
        self._model, self._trouble = made.model, None
        await asyncio.to_thread(self._shelf.put, items, made.model, made.vectors)
        return len(items)

    async def _without(self, items: list[Stale], error: OutriderError) -> int:
        """One text may be what broke the worker: they are tried one at a time, and one that breaks it twice alone goes
        without a vector until it changes, so that it does not keep all others from theirs."""
        self._careful = max(self._careful, len(items))
        if len(items) > 1 or self._suspect != items[0]:
            self._suspect = items[0]
        elif self._lost:  # two in a row: then it is not the texts
            raise error
        else:
            self._lost = True
            _log.warning("%s in %s is found by its words alone: %s", items[0].item, items[0].scope, error)
            await asyncio.to_thread(self._shelf.put, items, self._model, [NONE])
        return len(items)

    async def close(self) -> None:
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        if self._encoder is not None:
            await self._encoder.close()

    @property
    def worker_pid(self) -> int | None:
        return self._encoder.pid if self._encoder is not None else None

    async def status(self) -> Status:
        embedded, items = await asyncio.to_thread(self._shelf.count, self._model)
        return Status(self._model, embedded, items, self._trouble.code if self._trouble else "")

    # --- searching ----------------------------------------------------------------------------------------------

    async def search(
        self, text: str, scopes: tuple[str, ...], *, kinds: tuple[str, ...] = (), limit: int = 20
    ) -> Found:
        """Items in ``scopes`` (those the asker may read: it is not judged here) that match, best first.

        Raises ``BadInput('memory.search')`` for a question that is too long.
        """
        if len(text) > _QUESTION_CHARS:
            raise BadInput(
                "memory.search", f"the question has {len(text)} characters", advice=f"keep to {_QUESTION_CHARS}"
            )
        where = Filter(scopes, self._clock(), kinds)
        stems = asked(text)
        if not stems or not scopes:
            return Found(())
        postings = await asyncio.to_thread(self._shelf.postings, tuple(stems), where)
        words = _best(bm25(postings.found, postings.lengths, postings.items, postings.average))
        trouble, meaning = "", dict[str, float]()
        try:
            vector = await self._question(text)
            meaning = await asyncio.to_thread(self._closest, vector, where, frozenset(words))
        except OutriderError as error:
            trouble = error.code
        ranked = mix(words, meaning, limit=limit)
        shown = await asyncio.to_thread(self._shelf.show, [one.id for one in ranked])
        said = {word: set(postings.found.get(word, ())) for word in stems}
        hits = [
            _hit(one, shown[one.id], tuple(stems[word] for word in stems if one.id in said[word]))
            for one in ranked
            if one.id in shown
        ]
        return Found(tuple(hits), trouble)

    async def _question(self, text: str) -> Embedding:
        """The question's vector, if the worker has it soon; it goes on loading for the next one."""
        if self._encoder is None:
            raise Unavailable("embedder.none", "this hub has no embedder", advice="run `outrider hub embedder add`")
        task = asyncio.create_task(self._embed_question(self._encoder, text))
        self._asking.add(task)
        task.add_done_callback(self._asked)
        done, _ = await asyncio.wait({task}, timeout=self._wait_s)
        if not done:
            raise Unavailable("embedder.slow", "the embedder is busy or still loading", advice="ask again in a moment")
        return task.result()[0]

    async def _embed_question(self, encoder: Encoder, text: str) -> list[Embedding]:
        made = await encoder.embed([text], "query")
        self._model = made.model
        return made.vectors

    def _asked(self, task: asyncio.Task[list[Embedding]]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # what became of a question that nobody waits for any more is of no interest

    def _closest(self, question: Embedding, where: Filter, also: frozenset[str]) -> dict[str, float]:
        """Cosines of the closest items, and of those in ``also``."""
        try:
            import numpy as np
        except ImportError as error:
            raise Unavailable(
                "embedder.missing", "numpy is not installed", advice="pip install 'outrider[hub-embeddings]'"
            ) from error
        wanted = np.frombuffer(question.values, np.int8).astype(np.float32) * (question.scale / 1e9)
        near: dict[str, float] = {}
        kept: dict[str, float] = {}
        for part in self._shelf.vectors(self._model, where, _ROWS):
            rows = np.frombuffer(b"".join([row[2] for row in part]), np.int8).reshape(len(part), -1)
            scales = np.array([row[3] for row in part], np.float32) / 1e9
            scores = (rows.astype(np.float32) @ wanted) * scales
            for place in np.argsort(-scores, kind="stable")[:_CANDIDATES]:
                near[key(part[place][0], part[place][1])] = float(scores[place])
            near = _best(near)
            if also:
                names = (key(row[0], row[1]) for row in part)
                kept |= {name: float(scores[place]) for place, name in enumerate(names) if name in also}
        return kept | near


def _best(scores: dict[str, float]) -> dict[str, float]:
    return dict(sorted(scores.items(), key=lambda one: (-one[1], one[0]))[:_CANDIDATES])


def _hit(one: Ranked, shown: Shown, matched: tuple[str, ...]) -> Hit:
    return Hit(shown, round(one.score * 1000), round(one.words * 1000), round(one.meaning * 1000), matched)
