"""This core behind the race's interface: a session's program `decode_text`, token by token, no sampler."""

from __future__ import annotations

import numpy as np
from language.language_engine import LanguageEngine
from race.engine import Array

from mobile_multimodal import native


class CoreEngine(LanguageEngine):
    """One model file of `mobile-mm build --from-gguf`. Logits of the last row alone."""

    def __init__(self, model: str, threads: int) -> None:
        engine = native.Engine(model)
        self._session = native.Session(engine, threads)
        super().__init__(len(engine.metadata()["tokenizer.ggml.tokens"]))
        self._length = 0

    def _decode(self, tokens: Array) -> Array:
        return self._run("decode_text", tokens)[0]

    def _decode_all(self, tokens: Array) -> Array:
        return self._run("score_text", tokens)

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
