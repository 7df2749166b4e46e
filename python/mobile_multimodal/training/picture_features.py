"""Finds the cached features of a picture by its data set and name, whichever cache holds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mobile_multimodal.training.features import FEATURE_SHAPE, FeatureCache

_AT_ONCE = 256


def picture_key(source: str, image: str) -> str:
    """Names a picture within a split: "flickr8k/12.webp"; folders between a set and its pictures do not count."""
    return f"{source}/{PurePosixPath(image).name}"


def cache_name(source: str, split: str) -> str:
    return f"{source}_{split}"


class PictureFeatures:
    """Features of the pictures of one split, in the views that each set has."""

    def __init__(self, folder: Path, split: str, views: Mapping[str, int]) -> None:
        """views: how many views of each set's pictures were cached."""
        self._places: dict[str, tuple[FeatureCache, int]] = {}
        self._means: dict[tuple[FeatureCache, int], NDArray[np.float32]] = {}
        for source, count in views.items():
            cache = FeatureCache(folder, cache_name(source, split), count)
            self._places.update({f"{source}/{name}": (cache, row) for row, name in enumerate(cache.names)})

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def draw_views(
        self, keys: Sequence[str], has_sides: Iterable[bool], random: np.random.Generator, plain_share: float = 0.5
    ) -> list[int]:
        """A view of each picture, the plain one in `plain_share` of the cases.

        Mirror images and crops are out of the question where `has_sides`: a text says left or right.
        """
        views = []
        for key, is_sided in zip(keys, has_sides, strict=True):
            known = self._places[key][0].views
            drawn = known[int(random.integers(len(known)))]
            views.append(0 if is_sided or random.random() < plain_share else drawn)
        return views

    def read(self, keys: Sequence[str], views: Sequence[int] | None = None) -> Tensor:
        """Features [pictures, 49, 1280], of the plain view by default."""
        out = np.empty((len(keys), *FEATURE_SHAPE), np.float32)
        for row, (key, view) in enumerate(zip(keys, views or [0] * len(keys), strict=True)):
            cache, place = self._places[key]
            out[row] = cache.read([place], [view])[0]
        return torch.from_numpy(out)

    def read_means(self, keys: Sequence[str], views: Sequence[int] | None = None) -> Tensor:
        """Features averaged over the grid [pictures, 1280]; those of a whole cache are made and kept at its first."""
        out = np.empty((len(keys), FEATURE_SHAPE[1]), np.float32)
        for row, (key, view) in enumerate(zip(keys, views or [0] * len(keys), strict=True)):
            cache, place = self._places[key]
            if (cache, view) not in self._means:
                self._means[cache, view] = _means_of(cache, view)
            out[row] = self._means[cache, view][place]
        return torch.from_numpy(out)


def _means_of(cache: FeatureCache, view: int) -> NDArray[np.float32]:
    rows = range(len(cache.names))
    parts = [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]
    return np.concatenate([cache.read(part, [view] * len(part)).mean(axis=1) for part in parts])
