"""llama.cpp behind the race's interface: its C library by llama-cpp-python's thinnest layer, no Python sampler."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from language.language_engine import LanguageEngine
from language.workloads import CONTEXT
from race.engine import Array


class LlamaCppEngine(LanguageEngine):
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
        super().__init__(api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model)))

    def _decode(self, tokens: Array) -> Array:
        buffer = np.ascontiguousarray(tokens, dtype=np.int32)
        pointer = buffer.ctypes.data_as(ctypes.POINTER(self._api.llama_token))
        status = self._api.llama_decode(self._context, self._api.llama_batch_get_one(pointer, len(buffer)))
        if status != 0:
            raise SystemExit(f"llama_decode gave status {status}")
        return self._logits(-1)

    def _decode_all(self, tokens: Array) -> Array:
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
