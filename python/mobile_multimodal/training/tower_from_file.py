"""Reads the language tower of a model file back into trainable parts: training goes on where no checkpoint is left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mobile_multimodal.compile.pack import stored_matrix
from mobile_multimodal.compile.popularity import BETA
from mobile_multimodal.compile.weight_codes import QuantizedMatrix
from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.model.info import read_program

ModelT = TypeVar("ModelT", bound=torch.nn.Module)
_SECTION = "language."
_PROGRAMS = ("embed_text", "embed_image", "prepare_question", "answer_question")


class FileTower:
    """Weights by the names of the training modules; codes of 2 bits become the middles of their steps.

    The segments' table is kept as a difference in the file: `position.weight` holds segment 0's row, whose own row here
    is zero. The sums are the same.
    """

    def __init__(self, path: Path) -> None:
        from gguf import GGUFReader

        from mobile_multimodal import native

        self._path, self.name = path, path.name
        engine = native.Engine(str(path))
        if missing := [name for name in _PROGRAMS if name not in engine.programs()]:
            raise InvalidInputError(f"{path} lacks {', '.join(missing)}", hint="pass a file with a language tower")
        content = engine.metadata()
        self.vocabulary: list[str] = list(content["mm.wordpiece.tokens"])
        self.answers: list[str] = list(content["mm.answers"])
        self._arrays = {
            tensor.name.removeprefix(_SECTION): np.array(tensor.data)
            for tensor in GGUFReader(path).tensors
            if tensor.name.startswith(_SECTION)
        }
        self._columns = _matrix_columns(content)
        self._bits: dict[str, int] = {}
        self.weights = self._read()

    def popularity(self) -> dict[str, Tensor]:
        """`popularity.weight` and `popularity.level` as training made them (compile/popularity.py)."""
        if "popularity.weight" not in self.weights:
            raise InvalidInputError(f"{self._path} knows nothing of popularity", hint="pass a file of version 0.4")
        # Row 0 is the zero that the sentences are weighed against.
        table, offset = self.weights["popularity.weight"], self.weights["popularity.bias"]
        return {"popularity.weight": table[1:] / BETA, "popularity.level": -offset[1:2]}

    def fill(self, model: ModelT) -> ModelT:
        """A part of the tower with the file's parameters; its shape and bits have to be those of the file."""
        own = model.state_dict()
        unlike = [name for name in own if name not in self.weights or self.weights[name].shape != own[name].shape]
        if unlike:
            raise InvalidInputError(
                f"the tower of {self._path} differs from the recipe in {', '.join(unlike[:3])}",
                hint="take a file of the same shape and bits, or train without --start",
            )
        model.load_state_dict({name: self.weights[name] for name in own})
        return model

    def _read(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = {}
        for name, array in self._arrays.items():
            base, _, kind = name.rpartition(".")
            if kind in ("w2", "w4", "w8"):
                matrix = self._matrix(base, int(kind[1]), array)
                weights[f"{base}.weight"] = torch.from_numpy(matrix.dequantized())
                if matrix.bits < 8:
                    weights[f"{base}.scale"] = torch.from_numpy(matrix.scale[:, None].copy())
            elif kind != "scale":
                weights[name] = torch.from_numpy(array.astype(np.float32))
        weights["position.weight"] = weights.pop("position.table")
        weights["segment.weight"] = weights.pop("segment.table")
        return weights

    def _matrix(self, base: str, bits: int, packed: NDArray[np.int8]) -> QuantizedMatrix:
        return stored_matrix(packed, bits, self._arrays[f"{base}.scale"], self._columns[base])


def _matrix_columns(content: Mapping[str, Any]) -> dict[str, int]:
    """Columns of each packed matrix, from the instructions that use it."""
    columns: dict[str, int] = {}
    for name in _PROGRAMS:
        program = read_program(content, name)
        for step in program.instructions:
            if step.operation in ("linear", "embedding"):
                slot = step.inputs[1]
                assert slot is not None
                tensor = program.tensors[slot - len(program.inputs)]
                base = tensor.removeprefix(_SECTION).rpartition(".")[0]
                columns[base] = int(step.attributes[2])
    return columns
