"""Reads a trained caption decoder from its checkpoint: shape, weights as numpy arrays, tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.compile.weight_codes import FLOAT_BITS, Weight, quantize
from mobile_multimodal.errors import ModelFormatError, NotFoundError

_HINT = "pass a checkpoint that `mobile-mm train caption` wrote."


@dataclass(frozen=True)
class CaptionShape:
    """The shape and bit widths of a decoder, by the names of the checkpoint's `config`."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    memory_width: int
    memory_length: int
    max_length: int
    rope_theta: float
    norm_eps: float
    bits: int
    memory_bits: int
    embedding_bits: int

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim


@dataclass(frozen=True)
class CaptionCheckpoint:
    """A trained decoder; `tokenizer` is the text of its tokenizer.json."""

    shape: CaptionShape
    weights: Mapping[str, NDArray[np.float32]]
    tokenizer: str
    meta: Mapping[str, Any]

    def vector(self, name: str, size: int) -> NDArray[np.float32]:
        return self._array(name, (size,))

    def array(self, name: str, rows: int, columns: int) -> NDArray[np.float32]:
        return self._array(name, (rows, columns))

    def matrix(self, name: str, rows: int, columns: int, bits: int, bits_override: int | None = None) -> Weight:
        """The weight `<name>.weight` [rows, columns] on its trained grid, or on another one.

        bits: what it was trained with. bits_override: 32 dequantizes; a smaller number quantizes a float weight.
        """
        weight = self._array(f"{name}.weight", (rows, columns))
        scale_name = f"{name}.scale"
        scale = self._array(scale_name, (rows, 1)) if scale_name in self.weights else None
        trained = quantize(weight, bits, scale)
        if bits_override is None or bits_override == bits:
            return trained
        values = trained if isinstance(trained, np.ndarray) else trained.dequantized()
        return values if bits_override == FLOAT_BITS else quantize(values, bits_override)

    def _array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        array = self.weights.get(name)
        if array is None:
            raise ModelFormatError(f"the checkpoint lacks the weight `{name}`", hint=_HINT)
        if array.shape != shape:
            raise ModelFormatError(f"weight `{name}` has shape {array.shape}, expected {shape}", hint=_HINT)
        return array


def load_caption_checkpoint(path: Path) -> CaptionCheckpoint:
    """Reads a checkpoint; runs no code from the file."""
    import torch  # the rest of the compiler does without it

    if not path.is_file():
        raise NotFoundError(f"there is no checkpoint {path}", hint="check the path.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelFormatError(f"{path} is not a checkpoint: {error}", hint=_HINT) from error
    missing = {"config", "state_dict", "tokenizer", "meta"} - (set(content) if isinstance(content, dict) else set())
    if missing:
        raise ModelFormatError(f"{path} lacks {sorted(missing)}", hint=_HINT)
    known = {field.name for field in fields(CaptionShape)}
    if set(content["config"]) != known:
        odd = sorted(set(content["config"]) ^ known)
        raise ModelFormatError(f"{path}: settings {odd} are unknown or missing", hint=_HINT)
    weights = {name: tensor.detach().float().numpy() for name, tensor in content["state_dict"].items()}
    return CaptionCheckpoint(CaptionShape(**content["config"]), weights, content["tokenizer"], content["meta"])
