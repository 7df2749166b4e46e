"""Two real embedders without trained heads: small gray pictures, and the shipped encoder with a random projection.

Pictures that look alike are near each other in both. A text is a random direction of its own: equal texts are equal,
and no text means anything.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobile_multimodal import load_image, native
from mobile_multimodal.images import ImageSource
from mobile_multimodal.model.hub import find_model
from mobile_multimodal.model.identity import EmbeddingIdentity

_SIDE = 16


class ThumbnailEmbedder:
    """The 16 x 16 gray thumbnail of a picture, without its mean, as a vector of 256."""

    image_size = 64

    def __init__(self, name: str = "thumbnails") -> None:
        self.name = name
        self.embedded = 0  # pictures

    def get_embedding_identity(self) -> EmbeddingIdentity:
        return EmbeddingIdentity(name=self.name, digest=hashlib.sha256(self.name.encode()).hexdigest())

    def embed_image(self, image: ImageSource, /) -> NDArray[np.float32]:
        self.embedded += 1
        small = Image.fromarray(load_image(image)).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
        values = np.asarray(small, dtype=np.float32).ravel()
        return unit(values - values.mean() + 1e-3)

    def embed_text(self, text: str, /) -> NDArray[np.float32]:
        return direction_of(text, _SIDE * _SIDE)


class ProjectedEncoder:
    """Mean-pooled features of the shipped `encode_image` times a fixed random matrix."""

    def __init__(self, width: int = 256) -> None:
        engine = native.Engine(str(find_model("mobile-mm-llm-int2")))
        self._session = native.Session(engine, threads=1)
        self._width = width
        self.image_size = engine.image_size
        channels = self._features(np.zeros((self.image_size, self.image_size, 3), dtype=np.uint8)).shape[-1]
        self._matrix = np.random.default_rng(0).standard_normal((channels, width)).astype(np.float32)

    def get_embedding_identity(self) -> EmbeddingIdentity:
        name = f"projected encoder {self._width}"
        return EmbeddingIdentity(name=name, digest=hashlib.sha256(name.encode()).hexdigest())

    def embed_image(self, image: ImageSource, /) -> NDArray[np.float32]:
        pixels = native.resize(load_image(image, model_side=self.image_size), self.image_size, self.image_size)
        return unit(self._features(pixels) @ self._matrix)

    def embed_text(self, text: str, /) -> NDArray[np.float32]:
        return direction_of(text, self._width)

    def _features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        features = self._session.run("encode_image", {"pixels": pixels})["features"]
        return np.asarray(features.reshape(-1, features.shape[-1]).mean(axis=0), dtype=np.float32)


def unit(vector: NDArray[Any]) -> NDArray[np.float32]:
    """The vector at length 1."""
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def direction_of(text: str, width: int) -> NDArray[np.float32]:
    """A random unit vector that the text alone decides."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return unit(np.random.default_rng(seed).standard_normal(width))


def draw_picture(seed: int, side: int = 32) -> Image.Image:
    """A picture of random blocks; another seed, another picture."""
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((side, side), Image.Resampling.NEAREST)
