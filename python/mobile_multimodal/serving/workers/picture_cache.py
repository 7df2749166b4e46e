"""Keeps pictures that were decoded and brought to the model's size, found again by the SHA-256 of their file."""

from __future__ import annotations

from collections import OrderedDict

from mobile_multimodal.images import Pixels


class PictureCache:
    """Least recently used go first when the bytes pass the bound; one picture above the bound is not kept."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._pictures: OrderedDict[str, Pixels] = OrderedDict()

    def find(self, key: str) -> Pixels | None:
        """The pixels of that file, or None."""
        pixels = self._pictures.get(key)
        if pixels is not None:
            self._pictures.move_to_end(key)
        return pixels

    def add(self, key: str, pixels: Pixels) -> None:
        """Keeps the pixels of a file that `find` did not know."""
        if pixels.nbytes > self._most_bytes or key in self._pictures:
            return
        self._pictures[key] = pixels
        self._bytes += pixels.nbytes
        while self._bytes > self._most_bytes:
            _, oldest = self._pictures.popitem(last=False)
            self._bytes -= oldest.nbytes

    @property
    def bytes(self) -> int:
        """Held by pixels at this moment."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._pictures)
