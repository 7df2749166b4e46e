"""Offers true statements about pictures, and others that resemble them but belong to another picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# A statement's neighbours are sought among so many others; the nearest share of those counts as hard.
_CANDIDATES = 512
_NEAREST = 12


class Statements:
    """Statements put as questions ("a dog runs on grass?"), each with its picture and a vector of its meaning."""

    def __init__(self, pictures: Sequence[str], texts: Sequence[str], vectors: Tensor) -> None:
        """vectors: [statements, width]; their directions around the mean say what is alike."""
        self.pictures, self.texts = list(pictures), list(texts)
        self._vectors = F.normalize(vectors - vectors.mean(dim=0), dim=-1)

    def __len__(self) -> int:
        return len(self.texts)

    def other_than(self, chosen: Sequence[int], hard_share: float, random: np.random.Generator) -> list[int]:
        """For each of the chosen statements one of another picture, in `hard_share` of the cases one much like it."""
        candidates = random.integers(len(self), size=_CANDIDATES)
        alike = self._vectors[torch.as_tensor(chosen)] @ self._vectors[torch.from_numpy(candidates)].T
        others = []
        for row, statement in enumerate(chosen):
            foreign = [p for p, c in enumerate(candidates) if self.pictures[c] != self.pictures[statement]]
            if not foreign:
                continue
            if random.random() < hard_share:
                foreign.sort(key=lambda place: -float(alike[row, place]))
                foreign = foreign[:_NEAREST]
            others.append(int(candidates[foreign[int(random.integers(len(foreign)))]]))
        return others
