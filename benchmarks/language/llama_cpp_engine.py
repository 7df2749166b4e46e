"""llama.cpp behind the race's interface: its C library by llama-cpp-python's thinnest layer, no Python sampler."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from language.workloads import CONTEXT, DECODE_TOKENS, PROMPT, Workload, prompt_tokens
from race.engine import Array


class LlamaCppEngine:
    """One GGUF file. Logits of the last token alone, float16 caches, physical batches of 512 tokens."""

    def __init__(self, model: str, threads: int, flash_attention: bool = True) -> None:
        import llama_cpp

        self._api = api = llama_cpp
        self._quiet = api.llama_log_callback(lambda level, text, data: None)
        api.llama_log_set(self._quiet, ctypes.c_void_p())
        api.llama_backend_init()
        model_settings = api.llama_model_default_params()
        model_settings.n_gpu_layers = 0
        self._model = api.llama_model_load_from_file(model.encode(), model_settings)
        if not self._model:
            raise SystemExit(f"llama.cpp cannot open {model}")
        settings = api.llama_context_default_params()
        settings.n_ctx = CONTEXT
        settings.n_batch = settings.n_ubatch = 512
        settings.n_threads = settings.n_threads_batch = threads
        settings.flash_attn_type = int(flash_attention)
        settings.no_perf = True
        self._context = api.llama_init_from_model(self._model, settings)
        if not self._context:
            raise SystemExit(f"llama.cpp cannot make a context for {Path(model).name}")
        self._vocabulary: int = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model))
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
        logits = self._decode_all(tokens)
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
        buffer = np.ascontiguousarray(tokens, dtype=np.int32)
        pointer = buffer.ctypes.data_as(ctypes.POINTER(self._api.llama_token))
        status = self._api.llama_decode(self._context, self._api.llama_batch_get_one(pointer, len(buffer)))
        if status != 0:
            raise SystemExit(f"llama_decode gave status {status}")
        return self._logits(-1)

    def _decode_all(self, tokens: Array) -> Array:
        """Logits after every token, [tokens, vocabulary]."""
        batch: Any = self._api.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index] = int(token), index
            batch.n_seq_id[index], batch.seq_id[index][0], batch.logits[index] = 1, 0, 1
        status = self._api.llama_decode(self._context, batch)
        if status != 0:
            raise SystemExit(f"llama_decode gave status {status}")
        rows = np.stack([self._logits(index).copy() for index in range(len(tokens))])
        self._api.llama_batch_free(batch)
        return rows

    def _logits(self, index: int) -> Array:
        row = self._api.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(row, shape=(self._vocabulary,))

    def _clear(self) -> None:
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), False)


def open_engine(model: str, threads: int, flash_attention: bool = True) -> LlamaCppEngine:
    """An engine for the race."""
    return LlamaCppEngine(model, threads, flash_attention)
