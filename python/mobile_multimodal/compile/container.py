"""Writes the model file (docs/model-format.md): GGUF v3, aligned to 64 bytes, with a SHA-256 for each section.

Own code rather than the `gguf` package, which cannot write an empty list (a program without outputs has one) and hides
the raw bytes that `mm.sha256.metadata` covers. The tests read the files back with that package.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.compile.program import State, TensorStore, used_operations, validate
from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.model.program import Program, encode_words

ALIGNMENT = 64
FORMAT_VERSION = 1
ARCHITECTURE = "mobile-mm"
HASH_PREFIX = "mm.sha256."
_MAGIC, _GGUF_VERSION = b"GGUF", 3
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_TENSOR_TYPES = {"float32": 0, "float16": 1, "int8": 24, "int32": 26}


class Metadata:
    """Typed key-value pairs in the order they were added, kept as the bytes they are in the file."""

    def __init__(self) -> None:
        self._pairs: dict[str, bytes] = {}

    def string(self, key: str, value: str) -> None:
        self._add(key, _STRING, _string_bytes(value))

    def u32(self, key: str, value: int) -> None:
        self._add(key, _U32, struct.pack("<I", value))

    def f32(self, key: str, value: float) -> None:
        self._add(key, _F32, struct.pack("<f", value))

    def boolean(self, key: str, value: bool) -> None:
        self._add(key, _BOOL, struct.pack("<?", value))

    def strings(self, key: str, values: Sequence[str]) -> None:
        self._add(key, _ARRAY, struct.pack("<IQ", _STRING, len(values)) + b"".join(map(_string_bytes, values)))

    def words(self, key: str, values: Sequence[int]) -> None:
        """An array of u32."""
        self._add(key, _ARRAY, struct.pack("<IQ", _U32, len(values)) + np.asarray(values, dtype="<u4").tobytes())

    def integers(self, key: str, values: Sequence[int]) -> None:
        """An array of i32."""
        self._add(key, _ARRAY, struct.pack("<IQ", _I32, len(values)) + np.asarray(values, dtype="<i4").tobytes())

    def sha256(self) -> str:
        """Over every pair but the hashes themselves."""
        digest = hashlib.sha256()
        for key, pair in self._pairs.items():
            if not key.startswith(HASH_PREFIX):
                digest.update(pair)
        return digest.hexdigest()

    def encoded(self) -> bytes:
        return b"".join(self._pairs.values())

    def __len__(self) -> int:
        return len(self._pairs)

    def _add(self, key: str, kind: int, value: bytes) -> None:
        if key in self._pairs:
            raise InvalidInputError(f"metadata key `{key}` was set twice", hint="set each key once.")
        self._pairs[key] = _string_bytes(key) + struct.pack("<I", kind) + value


def add_programs(
    metadata: Metadata, programs: Sequence[Program], tensors: TensorStore, states: Sequence[State]
) -> None:
    """Checks the programs and adds them, the operations they use and the states they share."""
    operations = used_operations(programs)
    metadata.strings("mm.op_names", operations)
    metadata.strings("mm.programs", [program.name for program in programs])
    for program in programs:
        validate(program, tensors, states)
        prefix = f"mm.program.{program.name}."
        metadata.strings(prefix + "inputs", program.inputs)
        metadata.strings(prefix + "input_types", program.input_types)
        metadata.strings(prefix + "tensors", program.tensors)
        metadata.u32(prefix + "slots", program.slots)
        metadata.strings(prefix + "outputs", program.outputs)
        metadata.words(prefix + "output_slots", program.output_slots)
        metadata.words(prefix + "code", encode_words(program.instructions, operations))
    metadata.strings("mm.states", [state.name for state in states])
    metadata.strings("mm.state.kinds", [state.kind for state in states])
    metadata.words("mm.state.widths", [state.width for state in states])
    metadata.words("mm.state.rows", [state.rows for state in states])


def write_container(path: Path, metadata: Metadata, tensors: TensorStore) -> int:
    """Writes the file in one step (temporary file, then rename) and returns its bytes.

    metadata: without `mm.sections` and the hashes, which are added here. Equal content gives equal bytes.
    """
    metadata.strings("mm.sections", section_names(tensors))
    for section in section_names(tensors):
        metadata.string(HASH_PREFIX + section, section_sha256(section, tensors))
    metadata.string(HASH_PREFIX + "metadata", metadata.sha256())

    head = _MAGIC + struct.pack("<IQQ", _GGUF_VERSION, len(tensors), len(metadata)) + metadata.encoded()
    offset = 0
    for name, array in tensors.items():
        dims = array.shape[::-1]  # innermost first
        head += _string_bytes(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        head += struct.pack("<IQ", _tensor_type(name, array), offset)
        offset += _padded(array.nbytes)
    head += bytes(_padded(len(head)) - len(head))

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(head)
            for _, array in tensors.items():
                data = _data_bytes(array)
                file.write(data + bytes(_padded(len(data)) - len(data)))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return len(head) + offset


def section_names(tensors: TensorStore) -> list[str]:
    """The parts before the first dot of the tensors' names, in file order."""
    return list(dict.fromkeys(name.partition(".")[0] for name, _ in tensors.items()))


def section_sha256(section: str, tensors: TensorStore) -> str:
    """Over the section's tensors in file order: name bytes, a zero byte, data bytes."""
    digest = hashlib.sha256()
    for name, array in tensors.items():
        if name.startswith(f"{section}."):
            digest.update(name.encode() + b"\0" + _data_bytes(array))
    return digest.hexdigest()


def _string_bytes(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _tensor_type(name: str, array: NDArray[np.generic]) -> int:
    kind = _TENSOR_TYPES.get(array.dtype.name)
    if kind is None or not 1 <= array.ndim <= 4 or array.size == 0:
        raise InvalidInputError(
            f"tensor `{name}` is {array.dtype} of shape {array.shape}, expected {', '.join(_TENSOR_TYPES)} of 1 to 4 "
            "dimensions",
            hint="convert it before adding it.",
        )
    return kind


def _data_bytes(array: NDArray[np.generic]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
