"""Writes this core's file of the shared 2-bit weights: those of the GGUF file as they are.

`mobile-mm build` turns a model before it rounds it (docs/compiler.md), which would give other weights than the peer's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from language.same_weights import share_of_same_rows

from mobile_multimodal.compile.weight_codes import QuantizedMatrix, balanced_codes

BITS, OUTERMOST = 2, 1.5
_CONTEXT = 2048


class GridWeights:
    """The importer's weights, each matrix as the codes that it already consists of."""

    def __init__(self, weights: Any) -> None:
        self._weights = weights
        self.shape, self.has_own_head, self.norm = weights.shape, weights.has_own_head, weights.norm

    def embedding(self) -> QuantizedMatrix:
        return on_grid(self._weights.embedding())

    def qkv(self, layer: int) -> QuantizedMatrix:
        return on_grid(self._weights.qkv(layer))

    def attention_out(self, layer: int) -> QuantizedMatrix:
        return on_grid(self._weights.attention_out(layer))

    def gate_up(self, layer: int) -> QuantizedMatrix:
        return on_grid(self._weights.gate_up(layer))

    def down(self, layer: int) -> QuantizedMatrix:
        return on_grid(self._weights.down(layer))


def on_grid(values: npt.NDArray[np.float32]) -> QuantizedMatrix:
    """The codes of values scale * (code - 1.5), with the outermost level in every row; raises ValueError for others."""
    scale = np.abs(values).max(axis=1) / np.float32(OUTERMOST)
    matrix = balanced_codes(values, BITS, scale)
    if not np.array_equal(matrix.dequantized(), values):
        raise ValueError("the weights do not lie on a grid of four balanced levels a row")
    return matrix


def write_shared_file(out: Path, gguf: Path) -> None:
    """Writes the file and checks that every row of the GGUF file is in it, bit for bit."""
    from mobile_multimodal.compile.build import ModelCard, card_metadata
    from mobile_multimodal.compile.container import add_programs, write_container
    from mobile_multimodal.compile.gguf_source import GgufSource
    from mobile_multimodal.compile.llama_decoder import build_text_decoder
    from mobile_multimodal.compile.llama_gguf import LlamaWeights
    from mobile_multimodal.compile.llama_tokenizer import read_text_tokenizer
    from mobile_multimodal.compile.program import TensorStore
    from mobile_multimodal.compile.weight_codes import FLOAT_BITS

    source, tensors = GgufSource(gguf), TensorStore()
    weights: Any = GridWeights(LlamaWeights(source))
    # "Floats" are taken as they come, without turning: here they come as codes.
    decoder = build_text_decoder(weights, tensors, context=_CONTEXT, bits=FLOAT_BITS, head_bits=FLOAT_BITS)
    metadata = card_metadata(ModelCard("shared-weights"))
    add_programs(metadata, decoder.programs, tensors, decoder.states)
    read_text_tokenizer(source, weights.shape.vocabulary).add_to(metadata)
    write_container(out, metadata, tensors)
    if (share := share_of_same_rows(out, gguf)) != 1.0:
        raise SystemExit(f"race: only {share:.4f} of the rows of {gguf.name} are in our file: the race would be unfair")
