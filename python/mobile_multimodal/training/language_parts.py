"""Saves and loads the parts of a language tower that train apart, and starts low-bit parts from their float twins."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mobile_multimodal.errors import InvalidInputError, NotFoundError
from mobile_multimodal.training.caption_model import FULL_PRECISION
from mobile_multimodal.training.checkpoint import write_atomically
from mobile_multimodal.training.language_model import LanguageConfig, QuestionModel, RetrievalModel, SharedText
from mobile_multimodal.training.minilm import reset_scales
from mobile_multimodal.training.pooled_chooser import PooledChooser

PartT = TypeVar("PartT", SharedText, RetrievalModel, QuestionModel, PooledChooser)
_BITS = ("bits", "shared_bits", "head_bits", "project_bits", "embedding_bits")


@dataclass(frozen=True)
class Part:
    """The weights of a trained part; `meta` holds its figures and settings."""

    config: LanguageConfig
    state_dict: dict[str, Tensor]
    meta: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the weights: equal for equal weights, whatever is known of them."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.state_dict.items()):
            found.update(name.encode())
            found.update(tensor.detach().contiguous().numpy().tobytes())
        return found.hexdigest()

    def fill(self, model: PartT) -> PartT:
        """The model with these weights, ready to use."""
        if model.config != self.config:
            raise InvalidInputError(
                f"the part was trained as {self.config}, expected {model.config}",
                hint="choose another --out, or train the stage again",
            )
        model.load_state_dict(self.state_dict)
        return model.eval()


def twin_config(config: LanguageConfig) -> LanguageConfig:
    """The same shape in full precision."""
    return replace(config, **dict.fromkeys(_BITS, FULL_PRECISION))


def save_part(
    path: Path, model: SharedText | RetrievalModel | QuestionModel | PooledChooser, meta: dict[str, Any]
) -> None:
    """Writes config, weights and what is known of them."""
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    write_atomically(path, {"config": asdict(model.config), "state_dict": weights, "meta": meta})


def load_part(path: Path, stage: str) -> Part:
    """Reads a file of save_part; `stage` is the one that makes it. Runs no code from the file."""
    if not path.is_file():
        raise NotFoundError(f"{path} is not there", hint=f"run --stage {stage} first")
    content = torch.load(path, map_location="cpu", weights_only=True)
    return Part(LanguageConfig(**content["config"]), content["state_dict"], content["meta"])


def start_from_twin(student: PartT, twin: Mapping[str, Tensor]) -> PartT:
    """The low-bit model with its float twin's weights, and scales fitted to them."""
    missing, unexpected = student.load_state_dict(dict(twin), strict=False)
    wrong = [name for name in missing if not name.endswith(".scale")] + list(unexpected)
    if wrong:
        raise InvalidInputError(f"twin and student differ in {wrong}", hint="change bit widths only")
    reset_scales(student)
    return student


def freeze_tables(model: SharedText) -> SharedText:
    """Keeps the tables as they are: what the 8-bit words lose, the layers can make good."""
    tables: tuple[nn.Module, ...] = (model.embedding, model.position, model.segment)
    for table in tables:
        table.requires_grad_(False)
    return model
