"""Caches what the frozen image encoder sees: float16 features of several views of each picture, on disk.

View 0 is the picture, view 1 its mirror image; from view 2 on, random crops (60-100 % of the area, aspect within
15 %), odd views mirrored. A crop depends on the picture's place and the view alone, so a cache can be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from mobile_multimodal.errors import InvalidInputError

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
SIDE = 224
FEATURE_SHAPE = (49, 1280)
_CROP_AREA = (0.6, 1.0)
_CROP_ASPECT = 1 / 0.85


def is_mirrored(view: int) -> bool:
    return view % 2 == 1


def render_view(picture: Image.Image, place: int, view: int) -> NDArray[np.uint8]:
    """Pixels [224, 224, 3] of a view of a picture; `place` is its row in the cache and seeds the crop."""
    if view >= 2:
        random = np.random.default_rng([place, view])
        area = random.uniform(*_CROP_AREA)
        aspect = np.exp(random.uniform(-np.log(_CROP_ASPECT), np.log(_CROP_ASPECT)))
        width = min(picture.width, round(picture.width * (area * aspect) ** 0.5))
        height = min(picture.height, round(picture.height * (area / aspect) ** 0.5))
        left = int(random.integers(0, picture.width - width + 1))
        top = int(random.integers(0, picture.height - height + 1))
        box = (left, top, left + width, top + height)
        picture = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
    elif picture.size != (SIDE, SIDE):
        picture = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, dtype=np.uint8)
    return np.ascontiguousarray(pixels[:, ::-1]) if is_mirrored(view) else pixels


class FeatureCache:
    """Features of the pictures of one split: `{split}.txt` names the rows, `{split}_v{view}.f16` hold them."""

    def __init__(self, folder: Path, split: str, views: int) -> None:
        names_file = folder / f"{split}.txt"
        if not names_file.is_file():
            raise InvalidInputError(f"no features of '{split}' in {folder}", hint="run the stage `features` first")
        self.names = names_file.read_text(encoding="utf-8").split("\n")
        shape = (len(self.names), *FEATURE_SHAPE)
        paths = [folder / f"{split}_v{view}.f16" for view in range(views)]
        self.views = [view for view, path in enumerate(paths) if path.is_file()]
        self._rows = {view: np.memmap(paths[view], np.float16, "r", shape=shape) for view in self.views}

    def read(
        self, rows: Sequence[int] | NDArray[np.int64], views: Sequence[int] | NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Features [len(rows), 49, 1280] of rows, each in its view."""
        return np.stack([self._rows[int(v)][int(r)] for r, v in zip(rows, views, strict=True)]).astype(np.float32)


def build_cache(
    folder: Path, split: str, pictures: Sequence[Path], views: int, encode: Encode, batch: int = 16
) -> None:
    """Computes the views that the folder does not hold yet; a view appears only when it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.txt").write_text("\n".join(path.name for path in pictures), encoding="utf-8")
    for view in range(views):
        target = folder / f"{split}_v{view}.f16"
        if target.is_file():
            continue
        partial = target.with_suffix(".partial")
        rows = np.memmap(partial, np.float16, "w+", shape=(len(pictures), *FEATURE_SHAPE))
        for start in tqdm(range(0, len(pictures), batch), desc=f"features {split} view {view}", mininterval=2):
            chosen = pictures[start : start + batch]
            pixels = [render_view(Image.open(path).convert("RGB"), start + i, view) for i, path in enumerate(chosen)]
            rows[start : start + len(chosen)] = encode(np.stack(pixels))
        rows.flush()
        del rows
        partial.rename(target)
