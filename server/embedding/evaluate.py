"""Which embedder finds best, on an organisation's own questions: candidates side by side, with what they cost.

A file of judged questions is JSON Lines, one question a line:

    {"query": "what may be built without a permit?", "relevant": ["mem_3f...", "A fence up to two metres is exempt."]}

``relevant`` names texts by id, or gives them whole. What is searched is team memory, or a file of texts (JSON Lines of
``id`` and ``text``); texts given whole in a question are added to it. Every candidate embeds the same texts and
questions in a process of its own; search by words alone is the line that all of them have to beat.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from server.embedding.encoder import Encoder
from server.embedding.judging import ndcg, recall
from server.embedding.messages import Kind
from server.embedding.words import asked, bm25, counted
from shared.codec import hex_sha256, parse
from shared.errors import BadInput, Unavailable
from shared.memory.ranking import mix
from shared.memory.vector import Embedding

_TEXTS = 100_000
_QUESTIONS = 10_000
_BATCH = 64
_CANDIDATES = 200


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One judged question."""

    query: str
    relevant: list[str]


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One text to search."""

    id: str
    text: str


class Score(msgspec.Struct, frozen=True):
    """One way to search: ``words`` alone, or a candidate. nDCG@10 and recall@10 are permille; ``query_us`` is the
    median time to embed a question, ``texts_s`` texts embedded in a second, ``size`` bytes of files."""

    name: str
    model: str
    ndcg: int
    recall: int
    mixed_ndcg: int
    mixed_recall: int
    query_us: int
    texts_s: int
    size: int


class Evaluation(msgspec.Struct, frozen=True):
    """What was measured, and on what. ``at`` is microseconds since 1970 UTC; ``judged`` the hash of the questions."""

    at: int
    judged: str
    questions: int
    texts: int
    scores: list[Score]


class Judged(msgspec.Struct, frozen=True):
    """Questions whose relevant texts are ids of ``texts``."""

    questions: list[Question]
    texts: dict[str, str]
    sha256: str


def read_lines(path: Path, kind: type[Question] | type[Text], most: int) -> list[Question] | list[Text]:
    """A JSON Lines file. Raises ``BadInput('embedder.judged')`` with the line."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise _bad(f"it cannot be read: {error.strerror}", str(path)) from error
    if len(lines) > most:
        raise _bad(f"it has {len(lines)} lines", f"{path}, at most {most}")
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(parse(line, kind, code="embedder.judged", what="the line"))
            except BadInput as error:
                raise _bad(error.message, f"{path} line {number}") from error
    return found  # type: ignore[return-value] # all of one kind


def judged(queries: Path, texts: dict[str, str]) -> Judged:
    """Read questions, and add the texts they give whole. Raises ``BadInput('embedder.judged')``."""
    known, every = {text: name for name, text in texts.items()}, dict(texts)
    found = []
    for place, one in enumerate(read_lines(queries, Question, _QUESTIONS), 1):
        assert isinstance(one, Question)
        if not one.query.strip() or not one.relevant:
            raise _bad("a question without words, or without a relevant text", f"{queries} question {place}")
        names = []
        for entry in one.relevant:
            if entry not in every and entry.startswith("mem_") and " " not in entry:
                raise _bad(f"there is no text {entry}", f"{queries} question {place}")
            name = entry if entry in every else known.setdefault(entry, f"text-{len(every)}")
            every.setdefault(name, entry)
            names.append(name)
        found.append(Question(one.query, sorted(set(names))))
    if not found:
        raise _bad("it has no questions", str(queries))
    return Judged(found, every, hex_sha256(queries.read_bytes()))


def read_texts(path: Path) -> dict[str, str]:
    return {one.id: one.text for one in read_lines(path, Text, _TEXTS) if isinstance(one, Text)}


async def evaluate(
    given: Judged,
    candidates: Sequence[tuple[str, Path]],
    *,
    now: int,
    ticks: Callable[[], int] = time.perf_counter_ns,
    report: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Judge search by words and every candidate (name and path of a model folder or an artefact).

    Raises what ``Encoder.embed`` raises, and ``Unavailable('embedder.missing')`` without numpy.
    """
    words = _by_words(given)
    scores = [_score("words", "", given, words, words, 0, 0, 0)]
    for name, path in candidates:
        report(f"{name}: embedding {len(given.texts)} texts")
        encoder = Encoder(path)
        try:
            ready = await encoder.start()
            began = ticks()
            texts = await _embed(encoder, list(given.texts.values()), "text", _BATCH)
            spent = max(ticks() - began, 1)
            asked_at, times = [], []
            for one in given.questions:
                began = ticks()
                asked_at += await _embed(encoder, [one.query], "query", 1)
                times.append((ticks() - began) // 1000)
        finally:
            await encoder.close()
        near = _cosines(asked_at, list(given.texts), texts)
        mixed = [_ranked(spoken, meant) for spoken, meant in zip(words, near, strict=True)]
        speed = len(given.texts) * 1_000_000_000 // spent
        median = int(statistics.median(times))
        scores.append(_score(name, ready.model, given, near, mixed, median, speed, ready.size))
    return Evaluation(now, given.sha256, len(given.questions), len(given.texts), scores)


async def _embed(encoder: Encoder, texts: list[str], kind: Kind, batch: int) -> list[Embedding]:
    made: list[Embedding] = []
    for start in range(0, len(texts), batch):
        made += (await encoder.embed(texts[start : start + batch], kind)).vectors
    return made


def _by_words(given: Judged) -> list[dict[str, float]]:
    said = {name: counted(text) for name, text in given.texts.items()}
    lengths = {name: sum(words.values()) for name, words in said.items()}
    average = sum(lengths.values()) / max(len(lengths), 1)
    where: dict[str, dict[str, int]] = {}
    for name, words in said.items():
        for word, times in words.items():
            where.setdefault(word, {})[name] = times
    return [
        bm25({word: where[word] for word in asked(one.query) if word in where}, lengths, len(said), average)
        for one in given.questions
    ]


def _cosines(questions: list[Embedding], names: list[str], texts: list[Embedding]) -> list[dict[str, float]]:
    try:
        import numpy as np
    except ImportError as error:
        raise Unavailable(
            "embedder.missing", "numpy is not installed", advice="pip install 'outrider[hub-embeddings]'"
        ) from error

    def matrix(vectors: list[Embedding]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        rows = np.frombuffer(b"".join(one.values for one in vectors), np.int8).reshape(len(vectors), -1)
        return np.asarray(rows * np.array([one.scale / 1e9 for one in vectors])[:, None], np.float32)

    near = matrix(questions) @ matrix(texts).T
    return [dict(zip(names, map(float, row), strict=True)) for row in near]


def _ranked(words: dict[str, float], meaning: dict[str, float]) -> dict[str, float]:
    """The mix as the hub makes it: of the best of each way."""
    spoken = dict(_order(words)[:_CANDIDATES])
    meant = {name: meaning[name] for name in {*spoken, *(name for name, _ in _order(meaning)[:_CANDIDATES])}}
    return {one.id: one.score for one in mix(spoken, meant)}


def _order(scores: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(scores.items(), key=lambda one: (-one[1], one[0]))


def _score(
    name: str,
    model: str,
    given: Judged,
    alone: list[dict[str, float]],
    mixed: list[dict[str, float]],
    query_us: int,
    texts_s: int,
    size: int,
) -> Score:
    def mean(way: list[dict[str, float]], judge: Callable[[list[str], list[str]], float]) -> int:
        every = [
            judge([text for text, _ in _order(scores)[:_CANDIDATES]], one.relevant)
            for one, scores in zip(given.questions, way, strict=True)
        ]
        return round(math.fsum(every) / len(every) * 1000)

    return Score(
        name, model, mean(alone, ndcg), mean(alone, recall), mean(mixed, ndcg), mean(mixed, recall),
        query_us, texts_s, size,
    )  # fmt: skip


def _bad(said: str, where: str) -> BadInput:
    return BadInput(
        "embedder.judged",
        f"these are not judged questions: {said}",
        advice='write one JSON object a line: {"query": "...", "relevant": ["id or text"]}',
        where=where,
    )


def record(home: Path, made: Evaluation) -> Path:
    """Append the evaluation to ``HOME/embedder/evaluations.jsonl``; scores only, no text of the questions."""
    path = home / "embedder" / "evaluations.jsonl"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("ab") as file:
            file.write(msgspec.json.encode(made) + b"\n")
    except OSError as error:
        raise Unavailable(
            "embedder.disk",
            f"the scores cannot be written: {error.strerror}",
            advice="free some space",
            where=str(path),
        ) from error
    return path
