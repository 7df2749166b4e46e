"""Reads the shape and the weights of a Llama model from a GGUF file; refuses what the programs would not compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.compile.gguf_source import GgufSource
from mobile_multimodal.errors import ModelFormatError, UnsupportedError

_ARCHITECTURE: Final = "llama"
_HINT: Final = "the importer takes plain Llama models: RMS norm, grouped attention, rope, SwiGLU."
# Keys that say nothing about the computation, or that this module reads. Any other key of the architecture changes it.
_KNOWN_KEYS: Final = frozenset(
    {
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.layer_norm_rms_epsilon",
        "attention.value_length",
        "block_count",
        "context_length",
        "embedding_length",
        "expert_count",
        "expert_used_count",
        "feed_forward_length",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scaling.type",
        "vocab_size",
    }
)


@dataclass(frozen=True)
class LlamaShape:
    """The sizes of a model; `context` is the longest text it was made for, in tokens."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    context: int
    rope_theta: float
    norm_eps: float


class LlamaWeights:
    """A model's matrices [n, k] and vectors as float32, in the order in which our operations take them."""

    def __init__(self, source: GgufSource) -> None:
        """Reads the shape and checks that every tensor of the file is one that the programs use."""
        self._source = source
        self.shape = _read_shape(source)
        self.has_own_head = "output.weight" in source.tensor_names()
        _refuse_unknown_tensors(source, self.shape)

    def embedding(self) -> NDArray[np.float32]:
        return self._matrix("token_embd.weight", self.shape.vocabulary, self.shape.width)

    def head(self) -> NDArray[np.float32]:
        return self._matrix("output.weight", self.shape.vocabulary, self.shape.width)

    def qkv(self, layer: int) -> NDArray[np.float32]:
        """Queries, keys and values of a layer above each other, queries and keys in the order of `rope`."""
        shape = self.shape
        parts = []
        for name, heads in (("attn_q", shape.heads), ("attn_k", shape.kv_heads), ("attn_v", shape.kv_heads)):
            rows = self._matrix(f"blk.{layer}.{name}.weight", heads * shape.head_dim, shape.width)
            parts.append(rows if name == "attn_v" else _half_pairs(rows, heads))
        return np.concatenate(parts)

    def attention_out(self, layer: int) -> NDArray[np.float32]:
        return self._matrix(f"blk.{layer}.attn_output.weight", self.shape.width, self.shape.heads * self.shape.head_dim)

    def gate_up(self, layer: int) -> NDArray[np.float32]:
        """Gate rows above up rows, as `silu_mul` takes them."""
        names = (f"blk.{layer}.ffn_gate.weight", f"blk.{layer}.ffn_up.weight")
        return np.concatenate([self._matrix(name, self.shape.ffn, self.shape.width) for name in names])

    def down(self, layer: int) -> NDArray[np.float32]:
        return self._matrix(f"blk.{layer}.ffn_down.weight", self.shape.width, self.shape.ffn)

    def norm(self, name: str) -> NDArray[np.float32]:
        """`output_norm`, or `blk.N.attn_norm` and `blk.N.ffn_norm`."""
        return self._source.tensor(f"{name}.weight", (self.shape.width,))

    def _matrix(self, name: str, n: int, k: int) -> NDArray[np.float32]:
        return self._source.tensor(name, (n, k))


def _half_pairs(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undoes the order of llama.cpp's converter, which rotates neighbours (2i, 2i + 1) where `rope` rotates
    (i, i + head_dim / 2)."""
    half = len(rows) // heads // 2
    turned = rows.reshape(heads, half, 2, -1).swapaxes(1, 2)
    return np.ascontiguousarray(turned.reshape(rows.shape))


def _read_shape(source: GgufSource) -> LlamaShape:
    architecture = source.metadata.get("general.architecture")
    if architecture != _ARCHITECTURE:
        raise UnsupportedError(
            f"{source.path}: `general.architecture` is {architecture!r}, expected {_ARCHITECTURE!r}", hint=_HINT
        )
    for key, value in source.metadata.items():
        name = key.removeprefix(f"{_ARCHITECTURE}.")
        if name != key and name not in _KNOWN_KEYS:
            raise UnsupportedError(
                f"{source.path}: `{key}` is {value!r:.60}, which the importer does not know", hint=_HINT
            )
    _require_off(source, "expert_count", (0,))
    _require_off(source, "expert_used_count", (0,))
    _require_off(source, "rope.scaling.type", ("none",))
    width = _integer(source, "embedding_length", 4, 32752)
    heads = _integer(source, "attention.head_count", 1, 256)
    kv_heads = _integer(source, "attention.head_count_kv", 1, heads, default=heads)
    if heads % kv_heads:
        raise ModelFormatError(
            f"{source.path}: {heads} heads share {kv_heads} of keys and values, expected a divisor", hint=_HINT
        )
    head_dim = _integer(source, "attention.key_length", 4, 1024, default=width // heads)
    for name in ("attention.value_length", "rope.dimension_count"):
        length = _integer(source, name, 1, 1024, default=head_dim)
        if length != head_dim:
            raise UnsupportedError(
                f"{source.path}: `{_ARCHITECTURE}.{name}` is {length}, expected the {head_dim} of a head", hint=_HINT
            )
    if head_dim % 4:
        raise UnsupportedError(f"{source.path}: a head has {head_dim} values, expected a multiple of 4", hint=_HINT)
    tokens = source.metadata.get("tokenizer.ggml.tokens")
    vocabulary = _integer(source, "vocab_size", 1, 1 << 20, default=len(tokens) if isinstance(tokens, list) else None)
    return LlamaShape(
        vocabulary=vocabulary,
        width=width,
        layers=_integer(source, "block_count", 1, 512),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=_integer(source, "feed_forward_length", 1, 32752),
        context=_integer(source, "context_length", 1, 1 << 24),
        rope_theta=_number(source, "rope.freq_base", 10000.0),
        norm_eps=_number(source, "attention.layer_norm_rms_epsilon", None),
    )


def _refuse_unknown_tensors(source: GgufSource, shape: LlamaShape) -> None:
    parts = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
    known = {f"blk.{layer}.{part}.weight" for layer in range(shape.layers) for part in parts}
    known |= {"token_embd.weight", "output_norm.weight", "output.weight"}
    for name in source.tensor_names():
        if name not in known:
            raise UnsupportedError(
                f"{source.path}: tensor `{name}` is none that the importer knows (biases, rope factors and experts "
                "are not supported)",
                hint=_HINT,
            )


def _integer(source: GgufSource, name: str, least: int, most: int, default: int | None = None) -> int:
    value = _value(source, name, default)
    if isinstance(value, list):
        raise UnsupportedError(
            f"{source.path}: `{_ARCHITECTURE}.{name}` is a list, one value for each layer, expected one for all",
            hint=_HINT,
        )
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ModelFormatError(
            f"{source.path}: `{_ARCHITECTURE}.{name}` is {value!r:.60}, expected an integer from {least} to {most}",
            hint="fetch the file again.",
        )
    return value


def _number(source: GgufSource, name: str, default: float | None) -> float:
    value = _value(source, name, default)
    if not isinstance(value, float) or not 0 < value < 1e12:
        raise ModelFormatError(
            f"{source.path}: `{_ARCHITECTURE}.{name}` is {value!r:.60}, expected a number above 0",
            hint="fetch the file again.",
        )
    return value


def _value(source: GgufSource, name: str, default: Any) -> Any:
    key = f"{_ARCHITECTURE}.{name}"
    if key not in source.metadata and default is None:
        raise ModelFormatError(f"{source.path}: metadata key `{key}` is missing", hint="fetch the file again.")
    return source.metadata.get(key, default)


def _require_off(source: GgufSource, name: str, harmless: tuple[Any, ...]) -> None:
    key = f"{_ARCHITECTURE}.{name}"
    if key in source.metadata and source.metadata[key] not in harmless:
        raise UnsupportedError(
            f"{source.path}: `{key}` is {source.metadata[key]!r}, which is not supported", hint=_HINT
        )
