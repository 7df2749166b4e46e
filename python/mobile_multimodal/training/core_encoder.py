"""Runs the image encoder of a model file for training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.model.hub import find_model


class CoreEncoder:
    """Features of pictures from the program `encode_image` of a model file, run by the C++ core."""

    def __init__(self, model: str, threads: int) -> None:
        from mobile_multimodal import native

        self._engine = native.Engine(str(find_model(model)))
        self._session = native.Session(self._engine, threads)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        outputs = [self._session.run("encode_image", {"pixels": image})["features"] for image in images]
        return np.stack(outputs).reshape(len(images), -1, outputs[0].shape[-1]).astype(np.float32)
