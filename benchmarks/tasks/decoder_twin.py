"""The caption decoder of a model file as a PyTorch module in float32: the same weights, dequantized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mobile_multimodal.compile.pack import stored_matrix, tile_columns
from mobile_multimodal.model.info import read_program
from mobile_multimodal.training.caption_model import FULL_PRECISION, CaptionConfig, CaptionModel

_SECTION = "decoder."


def decoder_twin(model_file: Path) -> CaptionModel:
    """The training kit's decoder with the file's weights; every tensor of the file's decoder is used, or it refuses."""
    from gguf import GGUFReader

    arrays = {
        tensor.name.removeprefix(_SECTION): np.array(tensor.data)
        for tensor in GGUFReader(model_file).tensors
        if tensor.name.startswith(_SECTION)
    }
    weights: dict[str, Tensor] = {}
    for name, array in arrays.items():
        base, _, kind = name.rpartition(".")
        if kind in ("w2", "w4", "w8"):
            bits = int(kind[1])
            # Columns of this decoder are multiples of 16: its tiles have no padding.
            matrix = stored_matrix(array, bits, arrays[f"{base}.scale"], array.shape[1] * tile_columns(bits))
            weights[f"{base}.weight"] = torch.from_numpy(matrix.dequantized())
        elif kind != "scale":
            weights[name] = torch.from_numpy(array.astype(np.float32))
    model = CaptionModel(_config(model_file, weights))
    model.load_state_dict(weights)
    return model.eval()


def _config(model_file: Path, weights: dict[str, Tensor]) -> CaptionConfig:
    from mobile_multimodal import native

    content = native.Engine(str(model_file)).metadata()
    steps = read_program(content, "decode").instructions
    attention = next(step for step in steps if step.operation == "attention_cached")
    norm = next(step for step in steps if step.operation == "rms_norm")
    rope = next(step for step in steps if step.operation == "rope")
    caches = dict(zip(content["mm.states"], content["mm.state.rows"], strict=True))
    return CaptionConfig(
        vocab_size=weights["embedding.weight"].shape[0],
        width=weights["embedding.weight"].shape[1],
        layers=sum(name.endswith(".self_norm.weight") for name in weights),
        heads=int(attention.attribute("heads")),
        kv_heads=int(attention.attribute("kv_heads")),
        ffn=weights["layers.0.down.weight"].shape[1],
        memory_width=weights["memory.project.weight"].shape[1],
        memory_length=weights["memory.position"].shape[0],
        max_length=int(caches["layers.0.key"]),
        rope_theta=float(rope.attribute("theta")),
        norm_eps=float(norm.attribute("epsilon")),
        bits=FULL_PRECISION,
        memory_bits=FULL_PRECISION,
        embedding_bits=FULL_PRECISION,
    )
