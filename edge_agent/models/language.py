"""A language model through llama.cpp's low-level interface. Lives in the worker process only.

The high-level ``Llama`` class is not used: it keeps context x vocabulary floats of scores, pickles them into its saved
states, and cannot be cancelled inside a prompt. Here one context holds one sequence; what it holds is remembered as a
list of tokens, and a new prompt that begins the same way continues from there. Flash attention is off: it is three
times slower for a short suffix after a long kept prefix.
"""

from __future__ import annotations

import ctypes
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from edge_agent.models.messages import Cancelled, Choice, ChoiceResult, Completion, CompletionResult, Timings
from edge_agent.models.sampler import Greedy
from edge_agent.models.states import StateFolder
from shared.errors import BadInput, Unavailable

Logits = NDArray[np.float32]

_BATCH = 256  # tokens per decode
_SEQUENCE = 0
_KEEP_AT_LEAST = 64  # a shorter prefix is computed faster than it is read
_ABORTED = 2


class Language:
    """One loaded GGUF and its context. Not for two threads: llama.cpp aborts the process when one context is shared."""

    def __init__(self, path: Path, sha256: str, states: StateFolder, *, context: int = 2048, threads: int = 1) -> None:
        self.sha256, self._states, self.context = sha256, states, context
        self._quiet = llama.llama_log_callback(_no_log)
        llama.llama_log_set(self._quiet, ctypes.c_void_p(0))
        llama.llama_backend_init()
        params = llama.llama_model_default_params()
        params.n_gpu_layers = 0
        self._model = llama.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise BadInput("model.load", "llama.cpp cannot load this GGUF", advice="add another model", where=str(path))
        self._vocab = llama.llama_model_get_vocab(self._model)
        self._size = llama.llama_vocab_n_tokens(self._vocab)
        self._stop = ctypes.c_char(0)
        self._abort = llama.ggml_abort_callback(lambda _: self._stop.value != b"\0")
        self._ctx = llama.llama_init_from_model(self._model, self._context_params(threads))
        if not self._ctx:
            raise Unavailable("model.load", "no memory for the context", advice="choose a smaller model or context")
        self._memory = llama.llama_get_memory(self._ctx)
        self._batch = llama.llama_batch_init(_BATCH, 0, 1)
        self._held: list[int] = []
        self._kept = 0  # how many of the held tokens are a finished prefix
        self._neutral: dict[str, list[float]] = {}
        self._key = f"{sha256}:{llama.__version__}:{context}:f16:{_BATCH}"

    def _context_params(self, threads: int) -> Any:
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = self.context, _BATCH, _BATCH, 1
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.no_perf = True
        params.abort_callback = self._abort
        return params

    def close(self) -> None:
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._ctx)
        llama.llama_model_free(self._model)

    # --- cancelling: called from the worker's reading thread ---

    def cancel(self) -> None:
        self._stop.value = b"\1"

    def resume(self) -> None:
        self._stop.value = b"\0"

    # --- jobs ---

    def complete(self, job: Completion) -> CompletionResult:
        """Continue the text greedily. Raises ``BadInput('model.too-long' | 'model.grammar')``, ``Cancelled``."""
        began = time.perf_counter_ns()
        prefix, tokens = self._tokens(job.prefix, job.prompt, job.suffix)
        self._check_length(len(tokens), job.max_tokens)
        with Greedy(self._vocab, self._size, job.grammar) as sampler:
            reused, origin = self._prefill(tokens, len(prefix))
            ready = time.perf_counter_ns()
            text, finish, count = self._generate(sampler, job)
            confidence, per_token = sampler.confidence()
        return CompletionResult(
            text=text,
            finish=finish,
            prompt_tokens=len(tokens),
            reused_tokens=reused,
            reused_from=origin,
            generated_tokens=count,
            confidence=confidence,
            token_confidence=per_token,
            model=self.sha256,
            timings=Timings(prompt_us=(ready - began) // 1000, generation_us=(time.perf_counter_ns() - ready) // 1000),
        )

    def _generate(self, sampler: Greedy, job: Completion) -> tuple[str, Literal["end", "stop", "length"], int]:
        out, count = bytearray(), 0
        stops = [stop.encode() for stop in job.stop if stop]
        while True:
            token = sampler.pick(self._logits())
            if llama.llama_vocab_is_eog(self._vocab, token):
                return out.decode("utf-8", "ignore"), "end", count
            sampler.accept(token)
            before = len(out)
            out += self._piece(token)
            count += 1
            for stop in stops:
                at = out.find(stop, max(0, before - len(stop)))
                if at >= 0:
                    return out[:at].decode("utf-8", "ignore"), "stop", count
            if count >= job.max_tokens:
                return out.decode("utf-8", "ignore"), "length", count
            self._decode([token])

    def choose(self, job: Choice) -> ChoiceResult:
        """Score the options. Raises ``BadInput('model.too-long' | 'model.options')``, ``Cancelled``."""
        began = time.perf_counter_ns()
        if not 1 <= len(job.options) <= 64 or not all(job.options):
            raise BadInput("model.options", "1 to 64 options, none empty", advice="name what can be chosen")
        options = [self._tokenize(option, special=False, start=False) for option in job.options]
        longest = max(len(option) for option in options)
        prefix, tokens = self._tokens(job.prefix, job.prompt, job.suffix)
        self._check_length(len(tokens), longest)
        neutral = [0.0] * len(options)
        if job.neutral is not None:
            key = "\0".join((job.prefix, job.neutral, job.suffix, *job.options))
            if key not in self._neutral:
                start, whole = self._tokens(job.prefix, job.neutral, job.suffix)
                self._check_length(len(whole), longest)
                if len(self._neutral) >= 64:
                    self._neutral.clear()
                self._neutral[key] = self._scores(whole, len(start), options)[0]
            neutral = self._neutral[key]
        scores, reused = self._scores(tokens, len(prefix), options)
        final = np.array(scores) - np.array(neutral)
        shares = np.exp(final - final.max())
        shares /= shares.sum()
        return ChoiceResult(
            best=int(final.argmax()),
            shares=tuple(round(float(share) * 1000) for share in shares),
            prompt_tokens=len(tokens),
            reused_tokens=reused,
            model=self.sha256,
            timings=Timings(prompt_us=(time.perf_counter_ns() - began) // 1000),
        )

    def _scores(self, tokens: list[int], kept: int, options: list[list[int]]) -> tuple[list[float], int]:
        """Log-probability of each option after ``tokens``, and how many of those were reused."""
        reused, _ = self._prefill(tokens, kept)
        first = _log_softmax(self._logits())
        scores = []
        for option in options:
            score = float(first[option[0]])
            if len(option) > 1:
                rows = self._decode(option[:-1], every=True)
                score += sum(float(_log_softmax(row)[token]) for row, token in zip(rows, option[1:], strict=True))
                self._truncate(len(tokens))
            scores.append(score)
        return scores, reused

    def forget(self) -> int:
        """Drop what the context holds and every saved state; return how many files went."""
        self._clear()
        self._neutral.clear()
        return self._states.clear()

    # --- tokens ---

    def _tokenize(self, text: str, *, special: bool, start: bool) -> list[int]:
        data = text.encode()
        room = len(data) + 8
        buffer = (llama.llama_token * room)()
        count = llama.llama_tokenize(self._vocab, data, len(data), buffer, room, start, special)
        if count < 0:
            raise BadInput("model.tokens", "the text does not tokenize", advice="shorten it")
        return list(buffer[:count])

    def _tokens(self, prefix: str, prompt: str, suffix: str) -> tuple[list[int], list[int]]:
        """Tokens of the prefix, and of the whole. Tokenized apart, so a prefix is the same under any prompt."""
        if len(prefix) + len(prompt) + len(suffix) > 64 * self.context:
            self._check_length(64 * self.context, 0)  # no tokenizer packs 64 characters into each token of a prompt
        head = self._tokenize(prefix, special=True, start=True)
        whole = head + self._tokenize(prompt, special=False, start=False)
        whole += self._tokenize(suffix, special=True, start=False)
        if not whole:
            raise BadInput("model.empty", "there is nothing to continue", advice="give a prompt")
        return head, whole

    def _check_length(self, prompt: int, more: int) -> None:
        if more < 1 or prompt + more > self.context:
            raise BadInput(
                "model.too-long",
                f"{prompt} prompt tokens and {more} more do not fit a context of {self.context}",
                advice="retrieve less, split the text, or set a larger context",
            )

    def _piece(self, token: int) -> bytes:
        room = 128
        buffer = ctypes.create_string_buffer(room)
        count = llama.llama_token_to_piece(self._vocab, token, buffer, room, 0, False)
        return buffer.raw[: max(count, 0)]

    # --- the context ---

    def _prefill(self, tokens: list[int], prefix: int) -> tuple[int, Literal["", "memory", "disk"]]:
        """Make the context hold exactly ``tokens``, with logits for the last. Returns how many were reused."""
        common = _common(self._held, tokens)
        origin: Literal["", "memory", "disk"] = "memory" if common else ""
        worth = prefix >= _KEEP_AT_LEAST
        if common < prefix and worth and self._restore(tokens[:prefix]):
            common, origin = prefix, "disk"
        # The last token is computed in any case: its logits are what comes next.
        common = min(common, len(tokens) - 1)
        self._truncate(common)
        common = min(common, len(self._held))
        if common < prefix and worth:
            self._decode(tokens[common:prefix])
            self._save(tokens[:prefix])
        if len(self._held) < len(tokens):
            self._decode(tokens[len(self._held) :])
        return common, origin if common else ""

    def _decode(self, tokens: Sequence[int], *, every: bool = False) -> list[Logits]:
        """Append tokens to the context; with ``every``, return the logits after each of them."""
        rows: list[Logits] = []
        for start in range(0, len(tokens), _BATCH):
            part = tokens[start : start + _BATCH]
            for place, token in enumerate(part):
                self._batch.token[place] = token
                self._batch.pos[place] = len(self._held) + place
                self._batch.n_seq_id[place] = 1
                self._batch.seq_id[place][0] = _SEQUENCE
                self._batch.logits[place] = every or place == len(part) - 1
            self._batch.n_tokens = len(part)
            result = llama.llama_decode(self._ctx, self._batch)
            if self._stop.value != b"\0" or result == _ABORTED:
                self._truncate(len(self._held))
                raise Cancelled
            if result:
                self._clear()
                raise Unavailable(
                    "model.decode", f"llama.cpp could not decode ({result})", advice="run 'outrider doctor'"
                )
            self._held.extend(part)
            if every:
                rows += [self._logits(place).copy() for place in range(len(part))]
        return rows

    def _logits(self, place: int = -1) -> Logits:
        pointer = llama.llama_get_logits_ith(self._ctx, place)
        return np.ctypeslib.as_array(pointer, shape=(self._size,))

    def _truncate(self, length: int) -> None:
        """Keep the first ``length`` tokens. Recurrent models cannot, and start again."""
        if llama.llama_memory_seq_rm(self._memory, _SEQUENCE, length, -1):
            del self._held[length:]
        else:
            self._clear()

    def _clear(self) -> None:
        llama.llama_memory_clear(self._memory, True)
        self._held.clear()

    def _state_key(self, tokens: list[int]) -> str:
        return hashlib.sha256(f"{self._key}:{tokens}".encode()).hexdigest()

    def _save(self, tokens: list[int]) -> None:
        array = (llama.llama_token * len(tokens))(*tokens)

        def write(path: Path) -> bool:
            return bool(llama.llama_state_seq_save_file(self._ctx, str(path).encode(), _SEQUENCE, array, len(tokens)))

        self._states.save(self._state_key(tokens), write)

    def _restore(self, tokens: list[int]) -> bool:
        path = self._states.find(self._state_key(tokens))
        if path is None:
            return False
        self._clear()
        array, count = (llama.llama_token * len(tokens))(), ctypes.c_size_t(0)
        done = llama.llama_state_seq_load_file(
            self._ctx, str(path).encode(), _SEQUENCE, array, len(tokens), ctypes.byref(count)
        )
        if not done or list(array[: count.value]) != tokens:
            self._clear()
            return False
        self._held = list(tokens)
        return True


def _no_log(_level: int, _text: bytes, _data: object) -> None: ...


def _common(one: list[int], other: list[int]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count


def _log_softmax(row: Logits) -> Logits:
    shifted = row - row.max()
    result: Logits = shifted - np.log(np.exp(shifted).sum())
    return result
