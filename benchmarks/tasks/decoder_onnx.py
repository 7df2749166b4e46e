"""The caption decoder's twin as ONNX graphs, and what a beam search needs to run them in onnxruntime."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mobile_multimodal.training.caption_model import CaptionConfig, CaptionModel, attend, rotate

PREFILL_FILE, STEP_FILE = "prefill.onnx", "step.onnx"


class _Prefill(nn.Module):
    """Features [1, 49, width] -> keys and values of every layer's cross-attention [layers, 2, 1, heads, 49, head]."""

    def __init__(self, model: CaptionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        memory = self.model.memory(features)
        return torch.stack([torch.stack(layer.cross_key_value(memory)) for layer in self.model._layers()])


class _Step(nn.Module):
    """A token a row, keys and values so far [layers, 2, rows, heads, length, head] -> logits, those longer by 1."""

    def __init__(self, model: CaptionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, past: Tensor, cross: Tensor) -> tuple[Tensor, Tensor]:
        model = self.model
        x = model.embedding.lookup(tokens)
        here = model.rotary[:, past.shape[4]][:, None]
        present = []
        for index, layer in enumerate(model._layers()):
            q, k, v = (layer._heads(part[:, None]) for part in layer.self_query_key_value(x))
            keys = torch.cat([past[index, 0], rotate(k, here)], dim=2)
            values = torch.cat([past[index, 1], v], dim=2)
            present.append(torch.stack([keys, values]))
            mixed = attend(rotate(q, here), keys, values).transpose(1, 2).reshape(-1, model.config.width)
            x = x + layer.self_out(mixed)
            q = layer._heads(layer.cross_q(layer.cross_norm(x))[None])
            mixed = attend(q, cross[index, 0], cross[index, 1]).transpose(1, 2).reshape(-1, model.config.width)
            x = x + layer.cross_out(mixed)
            x = x + layer.feed_forward(x)
        return model.embedding(model.norm(x)), torch.stack(present)


def export_decoder(model: CaptionModel, folder: Path) -> None:
    """Writes both graphs into a new folder; rows and length stay free."""
    folder.mkdir(parents=True)
    prefill, step = folder / PREFILL_FILE, folder / STEP_FILE
    config = model.config
    heads, head = config.kv_heads, config.head_width
    features = torch.zeros(1, config.memory_length, config.memory_width)
    cross = torch.zeros(config.layers, 2, 1, heads, config.memory_length, head)
    past = torch.zeros(config.layers, 2, 3, heads, 5, head)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about itself
        torch.onnx.export(
            _Prefill(model).eval(),
            (features,),
            str(prefill),
            input_names=["features"],
            output_names=["cross"],
            opset_version=17,
            dynamo=False,
        )
        torch.onnx.export(
            _Step(model).eval(),
            (torch.zeros(3, dtype=torch.long), past, cross),
            str(step),
            input_names=["tokens", "past", "cross"],
            output_names=["logits", "present"],
            dynamic_axes={
                "tokens": {0: "rows"},
                "past": {2: "rows", 4: "length"},
                "logits": {0: "rows"},
                "present": {2: "rows", 4: "longer"},
            },
            opset_version=17,
            dynamo=False,
        )


class _Past:
    """Keys and values so far, as onnxruntime gave them."""

    def __init__(self, config: CaptionConfig, rows: int) -> None:
        self.store = np.zeros((config.layers, 2, rows, config.kv_heads, 0, config.head_width), np.float32)
        self.length = 0

    def reorder(self, rows: Tensor) -> None:
        """Row i continues what row rows[i] held."""
        if not torch.equal(rows, torch.arange(len(rows))):
            self.store = np.ascontiguousarray(self.store[:, :, rows.numpy()])


class OnnxDecoder(nn.Module):
    """Answers `start` and `step` as CaptionModel does, so that the same beam search drives it."""

    def __init__(self, config: CaptionConfig, prefill: Any, step: Any) -> None:
        super().__init__()
        self.config = config
        self._prefill, self._step = prefill, step

    def start(self, features: Tensor, rows_per_picture: int) -> tuple[Any, _Past]:
        (cross,) = self._prefill.run(None, {"features": features.numpy()})
        return cross, _Past(self.config, rows_per_picture)

    def step(self, tokens: Tensor, cross: Any, cache: _Past) -> Tensor:
        feed = {"tokens": tokens.numpy(), "past": cache.store, "cross": cross}
        logits, cache.store = self._step.run(None, feed)
        cache.length += 1
        return torch.from_numpy(logits)
