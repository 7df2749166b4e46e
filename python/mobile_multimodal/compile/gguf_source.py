"""Reads a GGUF file that another program wrote: every count is checked against the file before anything is made of it.

Own code for the header, because the `gguf` package trusts its counts (a hostile one lets it run without end); the
blocks of quantized tensors are turned into floats by `gguf.quants`.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.errors import ModelFormatError, NotFoundError, UnsupportedError

_MOST_ENTRIES: Final = 1 << 16  # metadata pairs and tensors; models in use have a few hundred of either
_DEFAULT_ALIGNMENT: Final = 32
_SCALARS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING: Final = 8
_ARRAY: Final = 9
_HINT: Final = "the file is damaged or no GGUF file: fetch it again."


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]  # outermost first
    kind: int
    offset: int  # in the file


class GgufSource:
    """Metadata (numbers, strings and lists by key) and tensors of a GGUF file, little-endian, version 2 or 3."""

    def __init__(self, path: Path) -> None:
        """Maps the file and reads its header. Raises NotFoundError, ModelFormatError."""
        self.path = path
        if not path.is_file():
            raise NotFoundError(f"there is no GGUF file {path}", hint="check the path.")
        with path.open("rb") as file:
            if path.stat().st_size < 24:
                raise self._damaged(f"it has {path.stat().st_size} bytes, expected at least 24")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._at = 0
        self.metadata: dict[str, Any] = {}
        self._tensors: dict[str, _Tensor] = {}
        self._read_header()

    def tensor_names(self) -> tuple[str, ...]:
        return tuple(self._tensors)

    def tensor(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The values of a tensor of that shape (outermost dimension first), dequantized.

        Raises ModelFormatError where it is missing, has another shape, passes the end of the file or holds what is no
        number; UnsupportedError for a type that cannot be read.
        """
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
        from gguf.quants import dequantize

        found = self._tensors.get(name)
        if found is None:
            raise ModelFormatError(
                f"{self.path}: there is no tensor `{name}`, expected one of shape {list(shape)}", hint=_HINT
            )
        if found.shape != shape:
            raise ModelFormatError(
                f"{self.path}: tensor `{name}` has shape {list(found.shape)}, expected {list(shape)}",
                hint="its metadata speaks of another model: fetch the file again.",
            )
        try:
            kind = GGMLQuantizationType(found.kind)
        except ValueError:
            raise UnsupportedError(
                f"{self.path}: tensor `{name}` is of type {found.kind}, which this version does not know",
                hint="convert the file to Q8_0 or F16.",
            ) from None
        block, block_bytes = GGML_QUANT_SIZES[kind]
        if shape[-1] % block:
            raise self._damaged(f"rows of tensor `{name}` have {shape[-1]} values, no multiple of the {block} a block")
        row_bytes = shape[-1] // block * block_bytes
        rows = int(np.prod(shape[:-1], dtype=np.int64))
        if found.offset + rows * row_bytes > len(self._bytes):
            raise self._damaged(f"tensor `{name}` ends after the file")
        raw = np.frombuffer(self._bytes, np.uint8, rows * row_bytes, found.offset).reshape(rows, row_bytes)
        try:
            values = np.array(dequantize(raw, kind), dtype=np.float32).reshape(shape)
        except NotImplementedError as error:
            raise UnsupportedError(
                f"{self.path}: tensor `{name}` is of type {kind.name}, which cannot be turned into numbers",
                hint="convert the file to Q8_0 or F16.",
            ) from error
        if not np.isfinite(values).all():
            raise self._damaged(f"tensor `{name}` holds NaN or infinity")
        return values

    def _damaged(self, complaint: str) -> ModelFormatError:
        return ModelFormatError(f"{self.path}: {complaint}", hint=_HINT)

    def _read_header(self) -> None:
        magic, version, tensors, pairs = struct.unpack_from("<4sIQQ", self._bytes)
        if magic != b"GGUF":
            raise self._damaged(f"it begins with {magic!r}, expected b'GGUF'")
        if version not in (2, 3):
            raise self._damaged(f"it is GGUF version {version}, expected 2 or 3, little-endian")
        for count, what in ((tensors, "tensors"), (pairs, "metadata pairs")):
            if count > _MOST_ENTRIES:
                raise self._damaged(f"it says it has {count} {what}, expected at most {_MOST_ENTRIES}")
        self._at = 24
        for _ in range(pairs):
            key = self._string()
            if key in self.metadata:
                raise self._damaged(f"metadata key `{key}` occurs twice")
            self.metadata[key] = self._value(self._scalar("<I"), key)
        for _ in range(tensors):
            self._read_tensor()
        alignment = self.metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise self._damaged(f"`general.alignment` is {alignment!r}, expected 1 to 1048576")
        begin = -(-self._at // alignment) * alignment
        self._tensors = {
            name: _Tensor(tensor.shape, tensor.kind, begin + tensor.offset) for name, tensor in self._tensors.items()
        }

    def _read_tensor(self) -> None:
        name = self._string()
        rank = self._scalar("<I")
        if not 1 <= rank <= 4:
            raise self._damaged(f"tensor `{name}` has {rank} dimensions, expected 1 to 4")
        dims = tuple(self._scalar("<Q") for _ in range(rank))
        kind, offset = self._scalar("<I"), self._scalar("<Q")
        if name in self._tensors:
            raise self._damaged(f"tensor `{name}` occurs twice")
        if 0 in dims or int(np.prod(np.array(dims, dtype=object))) > 1 << 40:
            raise self._damaged(f"tensor `{name}` has dimensions {dims}, expected 1 to 2^40 values")
        if offset > len(self._bytes):
            raise self._damaged(f"tensor `{name}` begins after the file's end")
        self._tensors[name] = _Tensor(dims[::-1], kind, offset)

    def _value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array(self._scalar("<I"), self._scalar("<Q"), key)
        if kind not in _SCALARS:
            raise self._damaged(f"metadata key `{key}` is of type {kind}, expected 0 to 12")
        return self._scalar(_SCALARS[kind])

    def _array(self, kind: int, count: int, key: str) -> list[Any]:
        left = len(self._bytes) - self._at
        if kind == _STRING and count <= left // 8:  # a string takes 8 bytes at least
            return [self._string() for _ in range(count)]
        if kind not in _SCALARS:
            raise self._damaged(f"metadata key `{key}` is a list of type {kind} and {count} entries, which cannot be")
        size = struct.calcsize(_SCALARS[kind])
        if count > left // size:
            raise self._damaged(f"metadata key `{key}` says it has {count} entries, more than the file has bytes for")
        values = np.frombuffer(self._bytes, _SCALARS[kind].replace("?", "u1"), count, self._at)
        self._at += count * size
        return list(values.tolist())

    def _string(self) -> str:
        size = self._scalar("<Q")
        if size > len(self._bytes) - self._at:
            raise self._damaged(f"a string of {size} bytes at byte {self._at} ends after the file")
        data = self._bytes[self._at : self._at + size]
        self._at += size
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._damaged(f"the string at byte {self._at - size} is not UTF-8") from error

    def _scalar(self, form: str) -> Any:
        size = struct.calcsize(form)
        if size > len(self._bytes) - self._at:
            raise self._damaged(f"it ends at byte {len(self._bytes)}, inside its header")
        (value,) = struct.unpack_from(form, self._bytes, self._at)
        self._at += size
        return value
