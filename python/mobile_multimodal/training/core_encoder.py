"""Runs the image encoder of a model file for training."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.model.hub import find_model


class CoreEncoder:
    """Features of pictures from the program `encode_image` of a model file, run by the C++ core.

    output: which of the program's outputs, `features` or, in a file of write_trunk_model, `trunk`.
    """

    def __init__(self, model: str, threads: int, output: str = "features") -> None:
        from mobile_multimodal import native

        self._engine = native.Engine(str(find_model(model)))
        self._session = native.Session(self._engine, threads)
        self._output = output

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        outputs = [self._session.run("encode_image", {"pixels": image})[self._output] for image in images]
        return np.stack(outputs).reshape(len(images), -1, outputs[0].shape[-1]).astype(np.float32)


def core_trunk(model: str, threads: int, first_block: int) -> CoreEncoder:
    """The cells [pictures, 49, width] that a model file's encoder gives before its block `first_block`."""
    from mobile_multimodal.compile.trunk_model import write_trunk_model

    with tempfile.TemporaryDirectory() as folder:
        path = write_trunk_model(find_model(model), Path(folder) / "trunk.gguf", first_block)
        return CoreEncoder(str(path), threads, "trunk")  # mapped: the file may go
