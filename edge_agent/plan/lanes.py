"""The index over past decisions: which lane would the desk choose, how sure, and after which precedents.

Similarity is half the cosine of MiniLM vectors, half the cosine of tf-idf words: vectors know that a lift is an
elevator, words know that *wreck and remove* is a term. By cross-validation on real permit decisions the mix decides
more cases at the same agreement than either half and than Naive Bayes, and as many as a ridge head over the same
features, which could not name its sources; here the neighbours are the sources.

``LaneModel.fit`` holds every case out once to calibrate its own confidence. 2,100 cases take about 0.6 s, so the
index is refitted when decisions arrive, rather than patched. It is derived data: memory items are the truth.

numpy is imported when enough decisions are there to be fitted, not before: an agent that has nothing to compare stays
light.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from edge_agent.plan import similar
from edge_agent.vector import Embedding
from shared.errors import BadInput, Unavailable
from shared.triage.text import key, words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

VECTOR_SHARE = 0.5
LEAST_CASES = 20  # fewer distinct past decisions than this settle nothing
CALIBRATED_CASES = 2_000  # held out at most; a larger memory is sampled evenly
UNLIKE_QUANTILE = 0.01  # of the nearest similarity of held-out cases; farther than that is unlike all the past
SHARED_WORDS = 4  # named in a reason
_BLOCK = 256
_PLAIN = {"also", "each", "existing", "from", "into", "only", "over", "same", "than", "that", "this", "under", "with"}


class PastCase(msgspec.Struct, frozen=True):
    """A decision from memory. ``vector`` is None where no embedder has run yet; all are of the embedder now in use."""

    item_id: str
    item_sha256: str
    text: str
    lane: str
    vector: Embedding | None = None


class Neighbour(msgspec.Struct, frozen=True):
    """A past decision beside the case at hand. ``similarity`` in permille; ``shared`` are the telling words that both
    hold, the rarest in memory first."""

    item_id: str
    item_sha256: str
    text: str
    lane: str
    similarity: int
    shared: list[str]


class Prediction(msgspec.Struct, frozen=True):
    """``confidence`` in permille is calibrated; ``lanes`` are vote shares in permille, best first; ``unlike`` says that
    nothing in memory is near enough to be a precedent."""

    lane: str
    confidence: int
    lanes: list[tuple[str, int]]
    neighbours: list[Neighbour]
    unlike: bool


class _Sight(msgspec.Struct, frozen=True):
    """What holding out taught about one way to compare: with vectors or by words alone."""

    calibration: similar.Calibration
    unlike_below: float
    held_out: list[tuple[float, bool]]


class LaneModel:
    """Fitted past decisions. Make it with ``fit``; ``predict`` changes nothing and is deterministic."""

    def __init__(self, cases: list[PastCase], nearest: int) -> None:
        self._cases = cases
        self._nearest = nearest
        self._lanes = [case.lane for case in cases]
        if not self.usable:
            return  # nothing below is looked at, and numpy is not needed
        self._vectors = _stacked(cases)
        documents = [words(case.text) for case in cases]
        self._idf = _idf(documents)
        weights = [_weights(have, self._idf) for have in documents]
        self._postings = _postings(weights)
        self._sights = self._hold_out(weights)

    @classmethod
    def fit(cls, cases: Sequence[PastCase], *, nearest: int = similar.NEAREST) -> LaneModel:
        """Index past decisions; their order does not matter. The same words decided the same way count once, however
        often. Raises ``Unavailable('plan.numpy')`` and ``BadInput('plan.vectors')``."""
        distinct: dict[tuple[str, str], PastCase] = {}
        for case in sorted(cases, key=lambda case: case.item_id):
            distinct.setdefault((key(case.text), case.lane), case)
        return cls(list(distinct.values()), nearest)

    @property
    def size(self) -> int:
        """Distinct past decisions."""
        return len(self._cases)

    @property
    def usable(self) -> bool:
        """Enough precedents, in more than one lane: with a single lane every answer would be that lane."""
        return self.size >= LEAST_CASES and len(set(self._lanes)) > 1

    def expected(self, alone: int) -> tuple[int, int]:
        """(share decided, agreement on those) in permille at confidence ``alone``, by the held-out past cases."""
        if not self.usable:
            return 0, 0
        sight = self._sights[self._vectors is not None]
        sure = [hit for share, hit in sight.held_out if sight.calibration.permille(share) >= alone]
        if not sure:
            return 0, 0
        return 1000 * len(sure) // len(sight.held_out), 1000 * sum(sure) // len(sure)

    def predict(self, text: str, vector: Embedding | None = None, *, held_out: bool = False) -> Prediction:
        """The lane that the nearest past decisions speak for. Without a vector, words alone are compared. ``held_out``
        leaves out what was decided on the very same words, as if it had not been decided yet."""
        if not self.usable:
            return Prediction("", 0, [], [], unlike=True)
        have = words(text)
        scores = self._words_similarity(_weights(have, self._idf))
        with_vectors = False
        if vector is not None and self._vectors is not None:
            with_vectors = True
            given = _unpacked([vector])[0]
            if given.shape != self._vectors.shape[1:]:
                raise BadInput("plan.vectors", "the case's vector has another length", advice="embed memory again")
            scores = VECTOR_SHARE * (self._vectors @ given) + (1 - VECTOR_SHARE) * scores
        if held_out:
            own = key(text)
            scores[[place for place, case in enumerate(self._cases) if key(case.text) == own]] = -1.0
        sight = self._sights[with_vectors]
        order = self._nearest_of(scores)
        ballot = similar.vote((self._lanes[place], float(scores[place])) for place in order)
        return Prediction(
            lane=ballot.lane,
            confidence=sight.calibration.permille(ballot.share),
            lanes=[(lane, int(1000 * share)) for lane, share in ballot.lanes],
            neighbours=[self._neighbour(place, float(scores[place]), have) for place in order],
            unlike=float(scores[order[0]]) < sight.unlike_below,
        )

    def _neighbour(self, place: int, similarity: float, have: Sequence[str]) -> Neighbour:
        case = self._cases[place]
        permille = max(0, min(1000, int(1000 * similarity)))
        both = {word for word in words(case.text) if self._telling(word)}.intersection(have)
        shared = sorted(both, key=lambda word: (-self._idf[word], word))[:SHARED_WORDS]
        return Neighbour(case.item_id, case.item_sha256, case.text, case.lane, permille, shared)

    def _telling(self, word: str) -> bool:
        """Says something of a case: not short, not a number, and in at most a tenth of memory."""
        return len(word) > 3 and word not in _PLAIN and self._idf.get(word, 0.0) >= math.log(11)

    def _nearest_of(self, scores: Floats) -> list[int]:
        """Best first; equal scores in the order of item ids."""
        np = _numpy()
        if self.size > self._nearest:  # a full sort only of those that can be among the nearest
            least = np.partition(scores, -self._nearest)[-self._nearest]
            able = np.flatnonzero(scores >= least)
        else:
            able = np.arange(self.size)
        order = able[np.argsort(-scores[able], kind="stable")]
        return [int(place) for place in order[: self._nearest]]

    def _words_similarity(self, weights: dict[str, float]) -> Floats:
        np = _numpy()
        scores: Floats = np.zeros(self.size, dtype=np.float32)
        for term, weight in weights.items():
            places, held = self._postings[term]
            scores[places] += np.float32(weight) * held
        return scores

    def _hold_out(self, weights: Sequence[dict[str, float]]) -> dict[bool, _Sight]:
        """Each case judged by the others, those with the same words left out too; by words alone and with vectors."""
        same: dict[str, list[int]] = {}
        for place, case in enumerate(self._cases):
            same.setdefault(key(case.text), []).append(place)
        sights = {False: _Tally()} if self._vectors is None else {False: _Tally(), True: _Tally()}
        places = range(0, self.size, math.ceil(self.size / CALIBRATED_CASES))
        for begin in range(0, len(places), _BLOCK):  # in blocks, so that memory stays flat
            block = places[begin : begin + _BLOCK]
            near: Any = None if self._vectors is None else self._vectors[list(block)] @ self._vectors.T
            for row, place in enumerate(block):
                scores = self._words_similarity(weights[place])
                for with_vectors, tally in sights.items():
                    mixed = VECTOR_SHARE * near[row] + (1 - VECTOR_SHARE) * scores if with_vectors else scores.copy()
                    mixed[same[key(self._cases[place].text)]] = -1.0
                    self._hold_one_out(tally, place, mixed)
        return {with_vectors: tally.sight() for with_vectors, tally in sights.items()}

    def _hold_one_out(self, tally: _Tally, place: int, scores: Floats) -> None:
        order = self._nearest_of(scores)
        ballot = similar.vote((self._lanes[other], float(scores[other])) for other in order)
        tally.outcomes.append((ballot.share, ballot.lane == self._lanes[place]))
        tally.nearest.append(float(scores[order[0]]))


class _Tally:
    """What came of holding cases out: (share, was right) and the similarity of the nearest."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[float, bool]] = []
        self.nearest: list[float] = []

    def sight(self) -> _Sight:
        lowest = sorted(self.nearest)[int(UNLIKE_QUANTILE * len(self.nearest))]
        return _Sight(similar.calibrate(self.outcomes), lowest, self.outcomes)


def _stacked(cases: Sequence[PastCase]) -> Floats | None:
    """All vectors as rows, or None if a case has none."""
    vectors = [case.vector for case in cases if case.vector is not None]
    if not vectors or len(vectors) < len(cases):
        return None
    if len({len(vector.values) for vector in vectors}) > 1:
        raise BadInput("plan.vectors", "past decisions carry vectors of two lengths", advice="embed memory again")
    return _unpacked(vectors)


def _unpacked(vectors: Sequence[Embedding]) -> Floats:
    np = _numpy()
    rows = np.frombuffer(b"".join(vector.values for vector in vectors), dtype=np.int8).reshape(len(vectors), -1)
    scales = np.asarray([vector.scale / 1e9 for vector in vectors], dtype=np.float32)
    unit: Floats = rows.astype(np.float32) * scales[:, None]
    return unit


def _idf(documents: Sequence[Sequence[str]]) -> dict[str, float]:
    """Inverse document frequency of every term that stands in two documents or more."""
    frequency = Counter(term for have in documents for term in {_shape(word) for word in have})
    return {term: math.log(1 + len(documents) / count) for term, count in frequency.items() if count > 1}


def _postings(weights: Sequence[dict[str, float]]) -> dict[str, tuple[Any, Any]]:
    """Per term: the places of the documents that hold it, and its weight in each."""
    np = _numpy()
    gathered: dict[str, tuple[list[int], list[float]]] = {}
    for place, document in enumerate(weights):
        for term, weight in document.items():
            places, held = gathered.setdefault(term, ([], []))
            places.append(place)
            held.append(weight)
    return {t: (np.asarray(p, dtype=np.int32), np.asarray(w, dtype=np.float32)) for t, (p, w) in gathered.items()}


def _weights(have: Sequence[str], idf: dict[str, float]) -> dict[str, float]:
    """Tf-idf of unit length over the known terms; repetition counts by its logarithm, so shouting gains little."""
    counts = Counter(term for word in have if (term := _shape(word)) in idf)
    weights = {term: (1 + math.log(count)) * idf[term] for term, count in counts.items()}
    length = math.sqrt(sum(weight * weight for weight in weights.values()))
    return {term: weight / length for term, weight in weights.items()} if length else {}


def _shape(word: str) -> str:
    """A number stands for its length: which permit number is quoted says nothing, that one is quoted does."""
    return "#" * min(len(word), 4) if word.isdigit() else word


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise Unavailable("plan.numpy", "numpy is not installed", advice="install the [agent] extra") from error
    return numpy
