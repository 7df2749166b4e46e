"""Holds what a deployment chooses for a model, and checks it against what the model file has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mobile_multimodal.errors import InvalidInputError, UnsupportedError
from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.settings import (
    DEFAULT_FEATURE_CACHE_BYTES,
    MAX_DEADLINE_SECONDS,
    MAX_FEATURE_CACHE_BYTES,
    MAX_NEW_TOKENS,
    check_integer,
    check_number,
    settings_from,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from mobile_multimodal.native import Engine

_PACKED_SUFFIXES = {".w2": 2, ".w4": 4, ".w8": 8}


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """What `MobileMultiModalLLM.from_config` loads, and the defaults of its calls.

    model_name           a name or a path, as `from_pretrained` takes it
    max_sequence_length  at most this many tokens a caption, where a call does not say; None is the model file's own
    image_size           side of the model's square in pixels. A file has one: another is refused. None takes it
    quantization_bits    2, 4 or 8: the fewest bits of the file's packed weights. Another is refused. None takes them
    enable_caching       keep the encodings of the last pictures: the next task on one of them starts from there
    feature_cache_bytes  what these encodings may take; None is 1 MiB, 4 pictures of the default model
    timeout_seconds      DeadlineExceededError after this long, where a call does not say; 0 is no deadline
    """

    model_name: str = DEFAULT_MODEL
    max_sequence_length: int | None = None
    image_size: int | None = None
    quantization_bits: int | None = None
    enable_caching: bool = True
    feature_cache_bytes: int | None = None
    timeout_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.model_name, str) or not self.model_name:
            raise InvalidInputError(
                f"setting model_name is {self.model_name!r}, expected a name or a path",
                f"for example {DEFAULT_MODEL!r}",
            )
        if self.max_sequence_length is not None:
            check_integer("max_sequence_length", self.max_sequence_length, 1, MAX_NEW_TOKENS)
        if self.image_size is not None:
            check_integer("image_size", self.image_size, 1, 4096)
        if self.quantization_bits not in (None, 2, 4, 8) or isinstance(self.quantization_bits, bool):
            raise InvalidInputError(
                f"setting quantization_bits is {self.quantization_bits!r}, expected 2, 4 or 8", "leave it out"
            )
        if not isinstance(self.enable_caching, bool):
            raise InvalidInputError(
                f"setting enable_caching is {self.enable_caching!r}, expected True or False", "pass one of them"
            )
        if self.feature_cache_bytes is not None:
            check_integer("feature_cache_bytes", self.feature_cache_bytes, 0, MAX_FEATURE_CACHE_BYTES)
            if self.feature_cache_bytes > 0 and not self.enable_caching:
                raise InvalidInputError(
                    f"settings enable_caching=False and feature_cache_bytes={self.feature_cache_bytes} exclude each "
                    "other",
                    "drop one of them",
                )
        check_number("timeout_seconds", self.timeout_seconds, 0.0, MAX_DEADLINE_SECONDS)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From JSON or keywords; an unknown name is refused with the closest one."""
        return settings_from(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for JSON."""
        return asdict(self)

    @property
    def cache_bytes(self) -> int:
        """What the encodings of pictures may take; 0 keeps none."""
        if not self.enable_caching:
            return 0
        return DEFAULT_FEATURE_CACHE_BYTES if self.feature_cache_bytes is None else self.feature_cache_bytes

    def check_file(self, engine: Engine) -> None:
        """Raises UnsupportedError where the file has another picture size, or other bits, than were asked for."""
        name = f"model file {engine.path!r}"
        if self.image_size is not None and self.image_size != engine.image_size:
            raise UnsupportedError(
                f"setting image_size is {self.image_size}, but {name} sees pictures at "
                f"{engine.image_size} x {engine.image_size}",
                f"leave it out, or set image_size={engine.image_size}: pictures of any size are brought to it",
            )
        if self.quantization_bits is not None:
            bits = packed_bits([tensor[0] for tensor in engine.tensors()])
            fewest = min(bits, default=None)
            if fewest != self.quantization_bits:
                held = ", ".join(f"{count} bits ({', '.join(sections)})" for count, sections in bits.items())
                raise UnsupportedError(
                    f"setting quantization_bits is {self.quantization_bits}, but the weights of {name} have "
                    f"{held or 'no packed bits'}",
                    f"leave it out, or set quantization_bits={fewest}" if bits else "leave it out",
                )


def packed_bits(tensor_names: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """The parts of a file that hold weights of so many bits, fewest first."""
    found: dict[int, dict[str, None]] = {}
    for name in tensor_names:
        bits = next((bits for suffix, bits in _PACKED_SUFFIXES.items() if name.endswith(suffix)), None)
        if bits is not None:
            found.setdefault(bits, {})[name.split(".")[0]] = None
    return {bits: tuple(found[bits]) for bits in sorted(found)}
