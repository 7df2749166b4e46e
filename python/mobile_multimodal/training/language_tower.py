"""Joins shared layers, retrieval and questions to one checkpoint, the file that `mobile-mm build --language` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from mobile_multimodal.compile.language_checkpoint import load_language_checkpoint
from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.training.checkpoint import write_atomically
from mobile_multimodal.training.language_parts import Part
from mobile_multimodal.training.temperature import fold_temperature


def write_tower(
    path: Path,
    parts: Mapping[str, Part],
    temperatures: Mapping[str, float],
    vocabulary: Sequence[str],
    answers: Sequence[str],
    meta: Mapping[str, Any],
) -> None:
    """Writes the tower and reads it back as the compiler does.

    parts: by what they are for; their parameters have names of their own.
    temperatures: of the heads, divided out here, so that a softmax over what the programs give is calibrated.
    """
    configs = {part.config for part in parts.values()}
    if len(configs) != 1:
        raise InvalidInputError(f"the parts {sorted(parts)} differ in their shapes", hint="train them with one recipe")
    weights: dict[str, Tensor] = {}
    for name, part in parts.items():
        if twice := sorted(set(weights) & set(part.state_dict)):
            raise InvalidInputError(f"'{name}' holds {twice[:3]} a second time", hint="pass each part once")
        weights.update(part.state_dict)
    for head, temperature in temperatures.items():
        weights = fold_temperature(weights, head, temperature)
    content = {
        "config": asdict(configs.pop()),
        "state_dict": weights,
        "vocabulary": "\n".join(vocabulary) + "\n",
        "answers": list(answers),
        "meta": {**meta, "parts": {name: part.meta for name, part in parts.items()}},
    }
    write_atomically(path, content)
    load_language_checkpoint(path)
