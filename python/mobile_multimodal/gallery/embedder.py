"""Says what a gallery needs of a model, and checks what it gets."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from mobile_multimodal.errors import InternalError
from mobile_multimodal.images import ImageSource
from mobile_multimodal.model.identity import EmbeddingIdentity

Vector: TypeAlias = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Turns pictures and texts into unit vectors of one space; MobileMultiModalLLM is one."""

    @property
    def image_size(self) -> int:
        """Side of the square that pictures are brought to: big JPEGs need not be decoded in full."""
        ...

    def get_embedding_identity(self) -> EmbeddingIdentity:
        """What the vectors come from: an index keeps it and refuses others."""
        ...

    def embed_image(self, image: ImageSource, /) -> Vector:
        """The unit vector [d] of a picture."""
        ...

    def embed_text(self, text: str, /) -> Vector:
        """The unit vector [d] of a text."""
        ...


def checked_vector(made: Any) -> Vector:
    """The vector as contiguous float32 [d]; an embedder that gives anything else breaks its promise."""
    vector = np.ascontiguousarray(made, dtype=np.float32)
    if vector.ndim != 1 or not len(vector) or not np.isfinite(vector).all():
        raise InternalError(f"an embedding has shape {vector.shape}, or is not finite; expected finite numbers [d]")
    return vector
