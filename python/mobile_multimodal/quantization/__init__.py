"""Low-bit weights and int8 activations for training, in the arithmetic that the core's integer kernels run."""

from mobile_multimodal.quantization.activations import quantize_rows
from mobile_multimodal.quantization.linear import QuantizedEmbedding, QuantizedLinear, frozen_weights
from mobile_multimodal.quantization.seq import LevelGrid, level_grid

__all__ = [
    "LevelGrid",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "frozen_weights",
    "level_grid",
    "quantize_rows",
]
