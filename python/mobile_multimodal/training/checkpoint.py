"""Saves and loads caption models: configuration, weights, tokenizer and figures in one file."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobile_multimodal.errors import ModelFormatError
from mobile_multimodal.training.caption_model import CaptionConfig, CaptionModel

_PARTS = {"config", "state_dict", "tokenizer", "meta"}


@dataclass(frozen=True)
class Checkpoint:
    """A trained caption model; `tokenizer` is the text of its tokenizer.json, `meta` holds metrics and settings."""

    config: CaptionConfig
    state_dict: dict[str, Tensor]
    tokenizer: str
    meta: dict[str, Any]

    def build_model(self, dropout: float = 0.0, seed: int = 0) -> CaptionModel:
        """The model with these weights; raises ModelFormatError when names or shapes differ."""
        model = CaptionModel(self.config, dropout, seed)
        try:
            model.load_state_dict(self.state_dict, strict=True)
        except RuntimeError as error:
            raise ModelFormatError(
                f"the weights do not fit their configuration: {error}", hint="train the model again with this version"
            ) from error
        return model


def save_checkpoint(path: Path, model: CaptionModel, tokenizer: str, meta: dict[str, Any]) -> None:
    """Writes the file in one piece: a reader sees the old one or the new one."""
    content = {
        "config": asdict(model.config),
        "state_dict": {name: tensor.detach().clone() for name, tensor in model.state_dict().items()},
        "tokenizer": tokenizer,
        "meta": meta,
    }
    write_atomically(path, content)


def write_atomically(path: Path, content: dict[str, Any]) -> None:
    """torch.save through a temporary file beside the target."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a file of save_checkpoint, refusing unknown parts and settings; runs no code from the file."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or set(content) != _PARTS:
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ModelFormatError(f"{path} holds {found}, expected {sorted(_PARTS)}", hint="pass a caption checkpoint")
    known = {field.name for field in fields(CaptionConfig)}
    if set(content["config"]) != known:
        odd = sorted(set(content["config"]) ^ known)
        raise ModelFormatError(f"{path}: settings {odd} are unknown or missing", hint="train the model again")
    return Checkpoint(CaptionConfig(**content["config"]), content["state_dict"], content["tokenizer"], content["meta"])
