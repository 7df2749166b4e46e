"""This core behind the race's interface: a session's program `decode_text`, token by token, no sampler."""

from __future__ import annotations

import numpy as np
from language.workloads import DECODE_TOKENS, PROMPT, Workload, prompt_tokens
from race.engine import Array

from mobile_multimodal import native


class CoreEngine:
    """One model file of `mobile-mm build --from-gguf`. Logits of the last row alone."""

    def __init__(self, model: str, threads: int) -> None:
        engine = native.Engine(model)
        self._session = native.Session(engine, threads)
        self._vocabulary = len(engine.metadata()["tokenizer.ggml.tokens"])
        self._length = 0
        self._next = 0

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
        tokens = prompt_tokens(Workload.PREFILL_256.rows, self._vocabulary)
        logits = self._run("score_text", tokens)
        self._next = int(np.argmax(logits[-1]))
        greedy = [self._next, *self._generate(DECODE_TOKENS - 1)]
        return {"choices": logits.argmax(axis=1), "logits": logits[-1].copy(), "greedy": np.array(greedy)}

    def _generate(self, count: int) -> list[int]:
        written = []
        for _ in range(count):
            self._next = int(np.argmax(self._decode(np.array([self._next], np.int32))))
            written.append(self._next)
        return written

    def _decode(self, tokens: Array) -> Array:
        """Logits after the last token; positions go on from what the cache holds."""
        return self._run("decode_text", tokens)[0]

    def _run(self, program: str, tokens: Array) -> Array:
        rows = len(tokens)
        positions = np.arange(self._length, self._length + rows, dtype=np.int32)
        inputs = {"tokens": tokens, "positions": positions, "sequences": np.zeros(rows, np.int32)}
        self._length += rows
        return self._session.run(program, inputs)["logits"]

    def _clear(self) -> None:
        self._session.reset()
        self._length = 0


def open_engine(model: str, threads: int) -> CoreEngine:
    """An engine for the race."""
    return CoreEngine(model, threads)
