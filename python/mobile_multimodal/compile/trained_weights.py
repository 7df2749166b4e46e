"""Reads the weights of a trained checkpoint, by name and on the grid they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.compile.weight_codes import FLOAT_BITS, Weight, quantize
from mobile_multimodal.errors import ModelFormatError, NotFoundError


@dataclass(frozen=True)
class TrainedWeights:
    """Parameters by name; `hint` ends the message when one is missing or of another shape."""

    weights: Mapping[str, NDArray[np.float32]]
    hint: str

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
            raise ModelFormatError(f"the checkpoint lacks the weight `{name}`", hint=self.hint)
        if array.shape != shape:
            raise ModelFormatError(f"weight `{name}` has shape {array.shape}, expected {shape}", hint=self.hint)
        return array


def load_checkpoint(path: Path, parts: set[str], shape_type: type, hint: str) -> dict[str, Any]:
    """The content of a checkpoint whose `config` has the fields of shape_type; runs no code from the file.

    `state_dict` comes as float32 arrays, `config` as a shape_type, the other parts as they are.
    """
    import torch  # the rest of the compiler does without it

    if not path.is_file():
        raise NotFoundError(f"there is no checkpoint {path}", hint="check the path.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelFormatError(f"{path} is not a checkpoint: {error}", hint=hint) from error
    missing = ({"config", "state_dict"} | parts) - (set(content) if isinstance(content, dict) else set())
    if missing:
        raise ModelFormatError(f"{path} lacks {sorted(missing)}", hint=hint)
    known = {field.name for field in fields(shape_type)}
    if set(content["config"]) != known:
        odd = sorted(set(content["config"]) ^ known)
        raise ModelFormatError(f"{path}: settings {odd} are unknown or missing", hint=hint)
    weights = {name: tensor.detach().float().numpy() for name, tensor in content["state_dict"].items()}
    return {**content, "config": shape_type(**content["config"]), "state_dict": weights}
