"""Greedy choice under a grammar, with the probabilities that confidence is made of. Worker process only.

Checking all 49,000 to 150,000 tokens against a grammar costs more than computing them, so the 64 best are checked first
and all of them only when none of those is allowed. The chosen token is the same either way.
"""

from __future__ import annotations

import ctypes
import math
from types import TracebackType
from typing import Any, Self

import llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from shared.errors import BadInput

_FIRST = 64
_ROW = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])


class Greedy:
    """Picks tokens and remembers how sure it was. A context manager: the grammar is native memory."""

    def __init__(self, vocab: Any, size: int, grammar: str) -> None:
        self._size = size
        self._log, self._count = 0.0, 0
        self._grammar: Any = None
        if grammar:
            self._grammar = llama.llama_sampler_init_grammar(vocab, grammar.encode(), b"root")
            if not self._grammar:
                raise BadInput(
                    "model.grammar",
                    "the grammar does not parse",
                    advice="it needs a rule named root; rule names take no underscore; no line may begin with '|'",
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._grammar:
            llama.llama_sampler_free(self._grammar)
            self._grammar = None

    def pick(self, logits: NDArray[np.float32]) -> int:
        """The likeliest allowed token. Its probability is taken among the allowed tokens that were looked at."""
        if self._grammar is None:
            best = int(logits.argmax())
            self._note(1.0 / float(np.exp(logits - logits[best]).sum()))
            return best
        rows = self._allowed(np.argpartition(logits, -_FIRST)[-_FIRST:], logits)
        if not len(rows):
            rows = self._allowed(np.arange(self._size), logits)
        place = int(rows["logit"].argmax())
        self._note(1.0 / float(np.exp(rows["logit"] - rows["logit"][place]).sum()))
        return int(rows["id"][place])

    def _allowed(self, ids: NDArray[np.intp], logits: NDArray[np.float32]) -> NDArray[np.void]:
        rows = np.zeros(len(ids), _ROW)
        rows["id"], rows["logit"] = ids, logits[ids]
        array = llama.llama_token_data_array(
            data=rows.ctypes.data_as(llama.llama_token_data_p), size=len(rows), selected=-1, sorted=False
        )
        llama.llama_sampler_apply(self._grammar, ctypes.byref(array))
        allowed: NDArray[np.void] = rows[np.isfinite(rows["logit"])]
        return allowed

    def _note(self, probability: float) -> None:
        self._log += math.log(max(probability, 1e-12))
        self._count += 1

    def accept(self, token: int) -> None:
        if self._grammar is not None:
            llama.llama_sampler_accept(self._grammar, token)

    def confidence(self) -> tuple[int, int]:
        """Product and geometric mean of the probabilities of the picks so far, permille."""
        if not self._count:
            return 0, 0
        return round(math.exp(self._log) * 1000), round(math.exp(self._log / self._count) * 1000)
