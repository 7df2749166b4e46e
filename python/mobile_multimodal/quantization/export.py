"""Turns trained low-bit layers into what the compiler packs: codes, scales, bits and zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mobile_multimodal.quantization.linear import QuantizedLinear


@dataclass(frozen=True)
class PackedWeight:
    """value[n, k] = scale[n] * (codes[n, k] - zero)."""

    codes: NDArray[np.uint8]
    scale: NDArray[np.float32]
    bits: int
    zero: float

    def values(self) -> NDArray[np.float32]:
        """The weights in float32, [N, K]."""
        levels = self.codes.astype(np.float32) - np.float32(self.zero)
        return np.asarray(levels * self.scale[:, None], dtype=np.float32)


@torch.no_grad()
def export_weights(model: nn.Module) -> dict[str, PackedWeight]:
    """The quantized weight of every low-bit layer, by the layer's name in the module."""
    packed = {}
    for name, layer in model.named_modules():
        if isinstance(layer, QuantizedLinear):
            codes = (layer.levels() + layer.grid.zero).to(torch.uint8)
            scale = layer.current_scale().detach()[:, 0].float()
            packed[name] = PackedWeight(codes.numpy(), scale.numpy().copy(), layer.grid.bits, layer.grid.zero)
    return packed
