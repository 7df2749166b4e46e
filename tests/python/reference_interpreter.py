"""Runs the programs of a model file in plain numpy: the twin of every operation, against which the core is measured.

Reads the file with the `gguf` package, so that nothing here shares code with our own reader and writer. Integer parts
(row quantization, code products) are exact; float parts are float32 with sums in float64 where that is simpler.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from math import erf
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
F32 = np.float32
NO_SLOT = 0xFFFFFFFF
ACTIVATION_NAMES = ("none", "relu", "relu6", "silu", "gelu", "sigmoid", "hard_swish", "tanh", "hard_sigmoid")


def code_at(packed: Array, bits: int, k_padded: int, row: int, column: int) -> int:
    """The code at (row, column), written as `code_at` of core/src/quant/layout.h is."""
    tile_k = 32 // bits
    tiles_per_row = k_padded // tile_k
    tile = row // 16 * tiles_per_row + column // tile_k
    within = column % tile_k
    byte = int(packed.reshape(-1).view(np.uint8)[tile * 64 + row % 16 * 4 + within % 4])
    return byte >> (within // 4 * bits) & ((1 << bits) - 1)


def unpack(packed: Array, bits: int, n: int, k: int) -> Array:
    """Codes [n, k] from tiles [n_tiles, k_tiles, 64], tile by tile."""
    n_tiles, k_tiles, _ = packed.shape
    columns = 32 // bits
    data = packed.view(np.uint8)
    codes = np.zeros((n_tiles * 16, k_tiles * columns), dtype=np.uint8)
    for row in range(16):
        for j in range(4):
            byte = data[:, :, row * 4 + j]
            for plane in range(8 // bits):
                codes[row::16, 4 * plane + j :: columns] = (byte >> (plane * bits)) & ((1 << bits) - 1)
    return codes[:n, :k]


def quantize_rows(x: Array) -> tuple[Array, Array, Array]:
    """(q int32 [m, k], scale f32 [m], sum int32 [m]) as `quantize_rows` of core/src/kernels/kernels.h says."""
    x = np.where(np.isnan(x), F32(0), x).astype(F32)
    largest = np.abs(x).max(axis=1, initial=F32(0))
    limit = np.minimum(largest, np.finfo(F32).max)
    is_zero = largest < F32(1e-30)
    safe = np.where(is_zero, F32(1), limit)
    with np.errstate(over="ignore"):
        q = np.clip(np.rint(x * (F32(127) / safe)[:, None]), -127, 127)
    q = np.where(is_zero[:, None], 0, q).astype(np.int32)
    scale = np.where(is_zero, F32(0), limit / F32(127)).astype(F32)
    return q, scale, q.sum(axis=1, dtype=np.int32)


def activate(kind: int, x: Array) -> Array:
    """The activations of docs/model-format.md in float32."""
    name = ACTIVATION_NAMES[kind]
    if name == "none":
        return x
    if name == "relu":
        return np.maximum(x, F32(0))
    if name == "relu6":
        return np.clip(x, F32(0), F32(6))
    wide = x.astype(np.float64)
    sigmoid = 1 / (1 + np.exp(-np.clip(wide, -700, 700)))
    erf_half = np.vectorize(erf, otypes=[np.float64])
    results = {
        "silu": wide * sigmoid,
        "gelu": 0.5 * wide * (1 + erf_half(wide / np.sqrt(2))) if name == "gelu" else wide,
        "sigmoid": sigmoid,
        "hard_swish": wide * np.clip(wide + 3, 0, 6) / 6,
        "tanh": np.tanh(wide),
        "hard_sigmoid": np.clip(wide + 3, 0, 6) / 6,
    }
    return results[name].astype(F32)


@dataclass
class StateStore:
    """Caches by (state, sequence) and memories by state."""

    caches: dict[tuple[int, int], dict[int, Array]] = field(default_factory=dict)
    memories: dict[int, Array] = field(default_factory=dict)


class ReferenceModel:
    """A model file opened with the `gguf` package; `run` executes a program, `reset` forgets the states."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(str(path))
        self.metadata: dict[str, Any] = {name: _contents(item) for name, item in reader.fields.items()}
        self.tensors: dict[str, Array] = {item.name: item.data for item in reader.tensors}
        self.state = StateStore()
        self.trace: list[tuple[str, Array]] = []
        self._unpacked: dict[str, Array] = {}

    def reset(self) -> None:
        self.state = StateStore()

    def run(self, program: str, inputs: dict[str, Array], *, keep_trace: bool = False) -> dict[str, Array]:
        """Outputs by name. With keep_trace, `trace` holds the operation and the result of every instruction."""
        prefix = f"mm.program.{program}."
        meta = self.metadata
        operations = meta["mm.op_names"]
        slots: dict[int, Any] = {}
        for slot, name in enumerate(meta[prefix + "inputs"]):
            slots[slot] = inputs[name]
        names: dict[int, str] = {}
        for slot, name in enumerate(meta[prefix + "tensors"], start=len(slots)):
            slots[slot], names[slot] = self.tensors[name], name
        self.trace = []
        words = meta[prefix + "code"]
        at = 0
        while at < len(words):
            operation = operations[words[at]]
            n_in, n_out, n_attributes = words[at + 1 : at + 4]
            at += 4
            sources = words[at : at + n_in]
            targets = words[at + n_in : at + n_in + n_out]
            attributes = words[at + n_in + n_out : at + n_in + n_out + n_attributes]
            at += n_in + n_out + n_attributes
            arguments = [None if slot == NO_SLOT else slots[slot] for slot in sources]
            result = getattr(self, f"_{operation}")(
                arguments, [_Word(word) for word in attributes], [names.get(slot, "") for slot in sources]
            )
            if n_out:
                (target,) = targets
                assert target not in slots, f"slot {target} is written twice"
                assert result.dtype in (F32, np.int8), f"{operation} gave {result.dtype}"
                slots[target] = result
                if keep_trace:
                    self.trace.append((operation, result))
        return {
            name: slots[slot]
            for name, slot in zip(meta[prefix + "outputs"], meta[prefix + "output_slots"], strict=True)
        }

    # -- pictures ---------------------------------------------------------------------------------------------------

    def _image_normalize(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        (x,) = arguments
        mean = np.array([word.f for word in attributes[:3]], dtype=F32)
        inverse = np.array([word.f for word in attributes[3:]], dtype=F32)
        return (x.astype(F32) - mean) * inverse

    def _conv2d(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        if arguments[0].ndim == 4:
            return np.stack([self._conv2d([x, *arguments[1:]], attributes, names) for x in arguments[0]])
        x, w, bias = _padded(arguments, 3)
        kernel_h, kernel_w, channels_in, channels_out = w.shape
        windows, kind = _windows(x, kernel_h, kernel_w, attributes)
        y = windows.reshape(*windows.shape[:2], -1) @ w.reshape(kernel_h * kernel_w * channels_in, channels_out)
        return activate(kind, y if bias is None else y + bias)

    def _conv2d_depthwise(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        if arguments[0].ndim == 4:
            return np.stack([self._conv2d_depthwise([x, *arguments[1:]], attributes, names) for x in arguments[0]])
        x, w, bias = _padded(arguments, 3)
        windows, kind = _windows(x, w.shape[0], w.shape[1], attributes)
        y = np.zeros((*windows.shape[:2], w.shape[2]), dtype=F32)
        for row in range(w.shape[0]):
            for column in range(w.shape[1]):
                y += windows[:, :, row, column] * w[row, column]
        return activate(kind, y if bias is None else y + bias)

    def _conv2d_depthwise_codes(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        x, w, scale, bias = arguments
        if x.ndim == 4:
            return np.stack([self._conv2d_depthwise_codes([each, w, scale, bias], attributes, names) for each in x])
        windows, _ = _windows(x.astype(np.int32), w.shape[0], w.shape[1], [*attributes, _Word(0)])
        sums = np.einsum("hwijc,ijc->hwc", windows, w.astype(np.int32))
        return _as_codes(sums, scale, bias)

    def _global_average_pool(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        x = arguments[0]
        return x.mean(axis=(-3, -2), dtype=np.float64, keepdims=x.ndim == 4).astype(F32)

    def _conv2d_packed(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        """Bands of four output rows share the scale of their input rows."""
        x, packed, weight_scale, bias, *more = _padded(arguments, 8)
        sources = [x, *(source for source in more if source is not None)]
        if x.ndim == 4:
            rest = [packed, weight_scale, bias]
            pictures = [[source[i] for source in sources] for i in range(len(x))]
            results = [self._conv2d_packed([p[0], *rest, *p[1:]], attributes, names) for p in pictures]
            return np.stack(results)
        height, width = (max(source.shape[axis] for source in sources) for axis in (0, 1))
        whole = [s.repeat(height // s.shape[0], axis=0).repeat(width // s.shape[1], axis=1) for s in sources]
        x = np.concatenate(whole, axis=2)
        bits, n, zero2, kernel_h, kernel_w, stride_h, stride_w, top, left, bottom, right, kind = (
            w.i for w in attributes
        )
        k = kernel_h * kernel_w * x.shape[2]
        codes = self._codes(names[1], packed, bits, n, k).astype(np.float64)
        out_height = (height + top + bottom - kernel_h) // stride_h + 1
        bands = []
        for begin in range(0, out_height, 4):
            end = min(begin + 4, out_height)
            first, last = max(0, begin * stride_h - top), min(height, (end - 1) * stride_h - top + kernel_h)
            rows = x[first:last] if first < last else np.zeros((0, width, x.shape[2]), dtype=F32)
            q, scale, _ = quantize_rows(rows.reshape(1, -1))
            above, below = first - (begin * stride_h - top), (end - 1) * stride_h - top + kernel_h - last
            if not len(rows):
                above, below = (end - 1 - begin) * stride_h + kernel_h, 0
            band = np.pad(q.reshape(rows.shape), ((above, below), (left, right), (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(band, (kernel_h, kernel_w), axis=(0, 1))
            taken = windows[::stride_h, ::stride_w].transpose(0, 1, 3, 4, 2)
            taken = taken.reshape(*taken.shape[:2], k).astype(np.float64)
            acc = 2 * (taken @ codes.T) - zero2 * taken.sum(axis=-1, keepdims=True)
            bands.append(acc.astype(np.int32).astype(F32) * (scale[0] * (F32(0.5) * weight_scale)))
        return self._finish(np.concatenate(bands), bias, None, kind)

    def _max_pool2d(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        return _pooled(arguments[0], attributes, lambda windows: np.nanmax(windows, axis=(2, 3)))

    def _average_pool2d(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        return _pooled(arguments[0], attributes, lambda windows: np.nanmean(windows, axis=(2, 3), dtype=np.float64))

    def _concat(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        return np.concatenate([argument for argument in arguments if argument is not None], axis=-1)

    def _upsample_nearest(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        x, residual = _padded(arguments, 2)
        y = x.repeat(attributes[0].i, axis=-3).repeat(attributes[1].i, axis=-2)
        return y if residual is None else y + residual

    def _depth_to_space(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        (x,), block = arguments, attributes[0].i
        *lead, height, width, channels = x.shape
        parts = x.reshape(*lead, height, width, block, block, channels // block**2)
        return np.moveaxis(parts, -3, -4).reshape(*lead, height * block, width * block, -1)

    # -- matrix products --------------------------------------------------------------------------------------------

    def _linear(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        x, packed, weight_scale, bias, residual = _padded(arguments, 5)
        bits, n, k, zero2, kind = (word.i for word in attributes)
        assert x.shape[-1] == k
        assert weight_scale.shape == (n,)
        codes = self._codes(names[1], packed, bits, n, k)
        acc, scale = _products(x.reshape(-1, k), codes, zero2)
        y = acc.astype(F32) * (scale[:, None] * (F32(0.5) * weight_scale))
        return self._finish(y.reshape(*x.shape[:-1], n), bias, residual, kind)

    def _linear_codes(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        x, packed, weight_scale, bias = _padded(arguments, 4)
        bits, n, k, zero2 = (word.i for word in attributes)
        acc, scale = _products(x.reshape(-1, k), self._codes(names[1], packed, bits, n, k), zero2)
        y = _as_codes(acc, scale[:, None] * (F32(0.5) * weight_scale), F32(0) if bias is None else bias)
        return y.reshape(*x.shape[:-1], n)

    def _linear_pair(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        x, packed_1, scale_1, packed_2, scale_2, bias_1, bias_2, gate = _padded(arguments, 8)
        k, hidden, n, bits_1, zero2_1, kind_1, bits_2, zero2_2, kind_2, has_residual = attributes
        if gate is not None:
            x = x * gate
        first = [bits_1, hidden, k, zero2_1, kind_1]
        h = self._linear([x, packed_1, scale_1, bias_1], first, ["", names[1]])
        second = [bits_2, n, hidden, zero2_2, kind_2]
        residual = x if has_residual.i else None
        return self._linear([h, packed_2, scale_2, bias_2, residual], second, ["", names[3]])

    def _linear_f32(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        x, w, bias, residual = _padded(arguments, 4)
        return self._finish((x @ w).astype(F32), bias, residual, attributes[0].i)

    def _finish(self, y: Array, bias: Array | None, residual: Array | None, kind: int) -> Array:
        y = activate(kind, y if bias is None else y + bias)
        return y if residual is None else y + residual.reshape(y.shape)

    def _embedding(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        tokens, packed, scale = arguments
        bits, n, k, zero2 = (word.i for word in attributes)
        codes = self._codes(names[1], packed, bits, n, k)[tokens]
        return ((codes.astype(F32) - F32(zero2 / 2)) * scale[tokens][:, None]).astype(F32)

    def _embedding_f32(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        tokens, table = arguments
        return np.array(table[tokens], dtype=F32)

    def _codes(self, name: str, packed: Array, bits: int, n: int, k: int) -> Array:
        if name not in self._unpacked:
            self._unpacked[name] = unpack(packed, bits, n, k)
        return self._unpacked[name]

    # -- elementwise and norms --------------------------------------------------------------------------------------

    def _add(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        return (arguments[0] + arguments[1]).astype(F32)

    def _mul(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        return (arguments[0] * arguments[1]).astype(F32)

    def _activation(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        return activate(attributes[0].i, arguments[0])

    def _silu_mul(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        gate, up = np.split(arguments[0], 2, axis=-1)
        return activate(ACTIVATION_NAMES.index("silu"), gate) * up

    def _rms_norm(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        x, weight = arguments
        mean = np.square(x.astype(np.float64)).mean(axis=-1, keepdims=True)
        return (x / np.sqrt(mean + attributes[0].f) * weight).astype(F32)

    def _layer_norm(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        x, weight, bias = arguments
        centred = x.astype(np.float64) - x.mean(axis=-1, dtype=np.float64, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        return (centred / np.sqrt(variance + attributes[0].f) * weight + bias).astype(F32)

    def _softmax(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        x = arguments[0].astype(np.float64)
        weights = np.exp(x - x.max(axis=-1, keepdims=True))
        return (weights / weights.sum(axis=-1, keepdims=True)).astype(F32)

    def _hadamard(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        x, block = arguments[0], attributes[0].i
        index = np.arange(block)
        ones = np.array([[bin(i & j).count("1") for j in index] for i in index])  # Sylvester: (-1)^(common bits)
        blocks = x.reshape(-1, block).astype(np.float64) @ (1.0 - 2.0 * (ones % 2)) / np.sqrt(block)
        return blocks.reshape(x.shape).astype(F32)

    def _reshape(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        return arguments[0].reshape([word.i for word in attributes])

    def _last_row(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        last: Array = arguments[0][-1:].copy()
        return last

    # -- attention --------------------------------------------------------------------------------------------------

    def _rope(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        x, positions = arguments
        heads, head_dim, theta = attributes[0].i, attributes[1].i, attributes[2].f
        half = head_dim // 2
        angles = positions[:, None].astype(np.float64) * theta ** (-np.arange(half) / half)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        turned = x[:, : heads * head_dim].reshape(len(x), heads, 2, half).astype(np.float64)
        first, second = turned[:, :, 0], turned[:, :, 1]
        result = x.astype(F32).copy()
        rotated = np.stack([first * cos - second * sin, second * cos + first * sin], axis=2)
        result[:, : heads * head_dim] = rotated.reshape(len(x), -1).astype(F32)
        return result

    def _attention(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        heads, kv_heads, head_dim = (word.i for word in attributes)
        q, k, v = np.split(arguments[0], [heads * head_dim, (heads + kv_heads) * head_dim], axis=1)
        return np.stack([_attend(row, k, v, heads, kv_heads, head_dim) for row in q])

    def _attention_cached(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        qkv, positions, sequences = arguments
        key_state, value_state, heads, kv_heads, head_dim = (word.i for word in attributes)
        q, k, v = np.split(qkv, [heads * head_dim, (heads + kv_heads) * head_dim], axis=1)
        for row, (position, sequence) in enumerate(zip(positions.tolist(), sequences.tolist(), strict=True)):
            self.state.caches.setdefault((key_state, sequence), {})[position] = k[row]
            self.state.caches.setdefault((value_state, sequence), {})[position] = v[row]
        results = []
        for row, (position, sequence) in enumerate(zip(positions.tolist(), sequences.tolist(), strict=True)):
            keys = np.stack([self.state.caches[key_state, sequence][at] for at in range(position + 1)])
            values = np.stack([self.state.caches[value_state, sequence][at] for at in range(position + 1)])
            results.append(_attend(q[row], keys, values, heads, kv_heads, head_dim))
        return np.stack(results)

    def copy_sequence(self, source: int, target: int) -> None:
        """Lets a sequence continue what another one holds: what a beam does when it splits."""
        for (state, sequence), rows in list(self.state.caches.items()):
            if sequence == source:
                self.state.caches[state, target] = dict(rows)

    def _state_write(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> None:
        self.state.memories[attributes[0].i] = arguments[0].copy()

    def _attention_memory(self, arguments: list[Any], attributes: list[_Word], names: list[str]) -> Array:
        state, heads, kv_heads, head_dim = (word.i for word in attributes)
        keys, values = np.split(self.state.memories[state], 2, axis=1)
        return np.stack([_attend(q, keys, values, heads, kv_heads, head_dim) for q in arguments[0]])


class _Word:
    """An attribute word, read as int32 or as float32."""

    def __init__(self, word: int) -> None:
        self.i = int(struct.unpack("<i", struct.pack("<I", word))[0])
        self.f = float(struct.unpack("<f", struct.pack("<I", word))[0])


def _products(x: Array, codes: Array, zero2: int) -> tuple[Array, Array]:
    """(acc int32 [m, n], scale f32 [m]) of rows that are floats, or codes already."""
    q, scale, total = quantize_rows(x) if x.dtype == F32 else (x, np.ones(len(x), F32), x.sum(axis=1, dtype=np.int32))
    # float64 holds every sum exactly: |sum| < 2^31.
    acc = 2 * (q.astype(np.float64) @ codes.T.astype(np.float64)) - zero2 * total[:, None].astype(np.float64)
    return acc.astype(np.int32), scale


def _as_codes(acc: Array, factor: Array, bias: Array) -> Array:
    """One fused multiply-add, rounded to a float once; float64 holds the product exactly."""
    value = (acc.astype(F32).astype(np.float64) * factor.astype(np.float64) + bias.astype(np.float64)).astype(F32)
    return np.clip(np.rint(value), 0, 127).astype(np.int8)


def _attend(q: Array, keys: Array, values: Array, heads: int, kv_heads: int, head_dim: int) -> Array:
    """One query row [heads * head_dim] over n rows of keys and values."""
    group = heads // kv_heads
    queries = q.reshape(kv_heads, group, head_dim).astype(np.float64)
    k = keys.reshape(len(keys), kv_heads, head_dim).astype(np.float64)
    v = values.reshape(len(values), kv_heads, head_dim).astype(np.float64)
    scores = np.einsum("hgd,nhd->hgn", queries, k) / np.sqrt(head_dim)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("hgn,nhd->hgd", weights, v).reshape(-1).astype(F32)


def _windows(x: Array, kernel_h: int, kernel_w: int, attributes: list[_Word]) -> tuple[Array, int]:
    """Windows [out_h, out_w, kernel_h, kernel_w, channels] of a zero-padded picture, and the activation."""
    stride_h, stride_w, top, left, bottom, right, kind = (word.i for word in attributes)
    padded = np.pad(x, ((top, bottom), (left, right), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (kernel_h, kernel_w), axis=(0, 1))
    return view[::stride_h, ::stride_w].transpose(0, 1, 3, 4, 2), kind


def _pooled(x: Array, attributes: list[_Word], join: Any) -> Array:
    """Windows of a picture, or of each of a stack, joined; what lies outside is NaN and does not count."""
    if x.ndim == 4:
        return np.stack([_pooled(picture, attributes, join) for picture in x])
    kernel_h, kernel_w, stride_h, stride_w, top, left, bottom, right = (word.i for word in attributes)
    padded = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=np.nan)
    view = np.lib.stride_tricks.sliding_window_view(padded, (kernel_h, kernel_w), axis=(0, 1))
    result: Array = join(view[::stride_h, ::stride_w].transpose(0, 1, 3, 4, 2)).astype(F32)
    return result


def _padded(arguments: list[Any], count: int) -> list[Any]:
    return arguments + [None] * (count - len(arguments))


def _contents(item: Any) -> Any:
    """The Python value of a `gguf` field; an empty array has no parts that `contents` could read."""
    if item.types[0] == gguf.GGUFValueType.ARRAY and not item.data:
        return []
    return item.contents()
