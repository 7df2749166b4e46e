"""Does the workloads of the language race on any engine that computes logits of the tokens it is given."""

from __future__ import annotations

import abc

import numpy as np
from language.workloads import DECODE_TOKENS, PROMPT, Workload, prompt_tokens
from race.engine import Array


class LanguageEngine(abc.ABC):
    """Reads and writes without a sampler: the likeliest token each time, chosen by numpy for every engine alike."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._next = 0

    @abc.abstractmethod
    def _clear(self) -> None:
        """Forgets what was read."""

    @abc.abstractmethod
    def _decode(self, tokens: Array) -> Array:
        """Logits after the last token, [vocabulary]; positions go on from what the cache holds."""

    @abc.abstractmethod
    def _decode_all(self, tokens: Array) -> Array:
        """Logits after every token, [tokens, vocabulary]."""

    def warm_up(self, workload: str) -> None:
        self._clear()
        self._decode(prompt_tokens(16, self._vocabulary))

    def prepare(self, workload: str) -> None:
        self._clear()
        if Workload(workload) is Workload.DECODE_64:
            self._next = int(np.argmax(self._decode(prompt_tokens(PROMPT, self._vocabulary))))

    def run(self, workload: str) -> None:
        kind = Workload(workload)
        if kind is Workload.DECODE_64:
            self._generate(DECODE_TOKENS)
        else:
            self._decode(prompt_tokens(kind.rows, self._vocabulary))

    def answer(self) -> dict[str, Array]:
        """`choices`: after each token of a prompt; `logits`: after its last; `greedy`: how it goes on."""
        self._clear()
        logits = self._decode_all(prompt_tokens(Workload.PREFILL_256.rows, self._vocabulary))
        self._next = int(np.argmax(logits[-1]))
        greedy = [self._next, *self._generate(DECODE_TOKENS - 1)]
        return {"choices": logits.argmax(axis=1), "logits": logits[-1].copy(), "greedy": np.array(greedy)}

    def _generate(self, count: int) -> list[int]:
        written = []
        for _ in range(count):
            self._next = int(np.argmax(self._decode(np.array([self._next], np.int32))))
            written.append(self._next)
        return written
