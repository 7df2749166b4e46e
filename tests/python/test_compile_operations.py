"""Every operation of the model format gives in the core what its twin in numpy gives.

Integer parts are exact, so that only float32 rounding is left: sums of k terms may differ by about k * 2^-24 of their
largest term in either order; TOLERANCE covers the k of these tests with room for the functions' own rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import BothModels, relative_error, write_program

from mobile_multimodal.compile.pack import linear, linear_codes, linear_pair, matrix_tensors
from mobile_multimodal.compile.program import ProgramBuilder, State, Value
from mobile_multimodal.compile.weight_codes import QuantizedMatrix, quantize
from mobile_multimodal.model.program import ACTIVATIONS, OPERATIONS

TOLERANCE = 3e-6
COVERED: set[str] = set()


def normal(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def check(
    folder: Path,
    fill: Callable[..., Value | None],
    *,
    tolerance: float = TOLERANCE,
    states: tuple[State, ...] = (),
    **inputs: np.ndarray[Any, Any],
) -> tuple[np.ndarray[Any, Any], BothModels]:
    """Runs a program `test` with inputs in the twin and in the core; returns the core's `y`."""
    kinds = {"float32": "f32", "uint8": "u8", "int32": "i32"}
    types = {name: kinds[array.dtype.name] for name, array in inputs.items()}
    path = write_program(folder / "test.gguf", types, fill, states)
    both = BothModels(path)
    COVERED.update(both.twin.metadata["mm.op_names"])
    expected, found = both.run("test", inputs)
    if "y" not in expected:
        return np.zeros(0), both
    assert relative_error(found["y"], expected["y"]) <= tolerance
    return found["y"], both


def test_image_normalize(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(6, 5, 3), dtype=np.uint8)
    attributes = [127.0, 120.5, 110.25, 1 / 128, 1 / 64, 1 / 57.3]
    check(tmp_path, lambda b, x: b.apply("image_normalize", [x], attributes), x=pixels)


@pytest.mark.parametrize("operation", ["conv2d", "conv2d_depthwise"])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 0, 1, 1), (1, 2, 2, 1), (2, 0, 0, 2)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 2)])
def test_convolutions(tmp_path: Path, operation: str, pads: tuple[int, ...], stride: tuple[int, int]) -> None:
    w = normal(3, 5, 19) if operation == "conv2d_depthwise" else normal(3, 5, 19, 21)
    bias = normal(w.shape[-1])

    def fill(b: ProgramBuilder, x: Value) -> Value:
        return b.apply(operation, [x, b.tensor("t.w", w), b.tensor("t.b", bias)], [*stride, *pads, 2])

    check(tmp_path, fill, x=normal(9, 11, 19))


@pytest.mark.parametrize("operation", ["conv2d", "conv2d_depthwise"])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
def test_convolution_kernels_without_bias(tmp_path: Path, operation: str, kernel: int) -> None:
    w = normal(kernel, kernel, 8) if operation == "conv2d_depthwise" else normal(kernel, kernel, 8, 16)
    check(tmp_path, lambda b, x: b.apply(operation, [x, b.tensor("t.w", w)], [1, 1, 0, 0, 0, 0, 0]), x=normal(8, 7, 8))


@pytest.mark.parametrize("operation", ["conv2d", "conv2d_depthwise"])
def test_convolutions_of_a_stack(tmp_path: Path, operation: str) -> None:
    w = normal(3, 3, 20) if operation == "conv2d_depthwise" else normal(3, 3, 20, 8)
    check(
        tmp_path,
        lambda b, x: b.apply(operation, [x, b.tensor("t.w", w)], [2, 1, 1, 1, 1, 1, 0]),
        x=normal(3, 7, 6, 20),
    )


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 1, 1, 1), (7, 0, 9, 3)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("channels", [(19,), (16, 5), (8, 3, 4, 2, 1)])
def test_conv2d_packed(
    tmp_path: Path, bits: int, pads: tuple[int, ...], stride: tuple[int, int], channels: tuple[int, ...]
) -> None:
    """Several sources, each further one half the size of the first: whole bands may lie in the padding."""
    matrix = quantize(normal(21, 15 * sum(channels)), bits)
    assert isinstance(matrix, QuantizedMatrix)

    def fill(b: ProgramBuilder, x: Value, *more: Value) -> Value:
        packed, scale = matrix_tensors(b, "t.m", matrix)
        attributes = [bits, 21, matrix.zero2, 5, 3, *stride, *pads, 1]
        return b.apply("conv2d_packed", [x, packed, scale, b.tensor("t.b", normal(21)), *more], attributes)

    sources = {f"x{i}": normal(14 if i else 28, 33 if i else 66, c, seed=i) for i, c in enumerate(channels)}
    check(tmp_path, fill, **sources)
    if len(channels) == 2:
        check(tmp_path, fill, **{name: np.stack([x, x * 3]) for name, x in sources.items()})


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 1, 1, 1), (2, 0, 1, 3)])
@pytest.mark.parametrize(("side", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (2, 1)])
@pytest.mark.parametrize(("channels", "pictures"), [(70, 1), (20, 1), (24, 3)])
def test_codes(
    tmp_path: Path, bits: int, pads: tuple[int, ...], side: int, stride: int, channels: int, pictures: int
) -> None:
    """From floats to codes, from codes to codes, and back: all three are exact, so that the end differs by rounding."""
    first, last = quantize(normal(channels, 12) * 20, bits), quantize(normal(9, channels), bits)
    assert isinstance(first, QuantizedMatrix)
    taps = np.random.default_rng(1).integers(-128, 128, (side, side, channels), dtype=np.int8)

    def fill(b: ProgramBuilder, x: Value) -> Value:
        codes = linear_codes(b, "t.first", x, first, 60 + 30 * normal(channels))
        scale, bias = np.abs(normal(channels)) / (60 * side), 50 + normal(channels)
        inputs = [codes, b.tensor("t.w", taps), b.tensor("t.s", scale), b.tensor("t.b", bias)]
        codes = b.apply("conv2d_depthwise_codes", inputs, [stride, stride, *pads])
        return linear(b, "t.last", codes, last, bias=normal(9))

    shape = (9, 21, 12) if pictures == 1 else (pictures, 9, 21, 12)
    y, _ = check(tmp_path, fill, x=normal(*shape))
    assert y.std() > 0


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("k", "hidden", "n"), [(16, 64, 16), (33, 70, 5), (48, 400, 48)])
@pytest.mark.parametrize("kind", ["plain", "residual", "gate", "both"])
def test_linear_pair(tmp_path: Path, bits: int, k: int, hidden: int, n: int, kind: str) -> None:
    has_residual, has_gate = kind in ("residual", "both"), kind in ("gate", "both")
    n = k if has_residual else n
    matrices = quantize(normal(hidden, k), bits), quantize(normal(n, hidden), 8)

    def fill(b: ProgramBuilder, x: Value, *gate: Value) -> Value:
        biases = (normal(hidden), None)
        names, kinds = ("t.a", "t.b"), (4, 0)
        return linear_pair(
            b, names, x, matrices, biases, kinds, has_residual=has_residual, gate=gate[0] if gate else None
        )

    # GELU's last bit may move a code of the hidden row: half a step of one of `hidden` terms.
    inputs = {"x": normal(5, 11, k), **({"g": normal(k, seed=1)} if has_gate else {})}
    check(tmp_path, fill, tolerance=2e-3, **inputs)
    if has_gate:
        check(tmp_path, fill, tolerance=2e-3, x=normal(2, 5, 11, k), g=normal(2, 1, 1, k, seed=1))


def test_a_linear_pair_is_two_linear_layers_bit_for_bit(tmp_path: Path) -> None:
    first, second = quantize(normal(96, 40), 8), quantize(normal(40, 96), 8)
    x = normal(20, 13, 40)

    def pair(b: ProgramBuilder, x: Value) -> Value:
        return linear_pair(b, ("t.a", "t.b"), x, (first, second), (normal(96), normal(40)), (4, 0), has_residual=True)

    def two(b: ProgramBuilder, x: Value) -> Value:
        hidden = linear(b, "t.a", x, first, bias=normal(96), activation=4)
        return linear(b, "t.b", hidden, second, bias=normal(40), residual=x)

    results = []
    for name, fill in (("pair", pair), ("two", two)):
        path = write_program(tmp_path / f"{name}.gguf", {"x": "f32"}, fill)
        results += [native_result(path, threads, x) for threads in (1, 2, 3)]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def native_result(path: Path, threads: int, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    result: np.ndarray[Any, Any] = BothModels(path, threads).session.run("test", {"x": x})["y"].copy()
    return result


@pytest.mark.parametrize("operation", ["max_pool2d", "average_pool2d"])
@pytest.mark.parametrize("window", [(2, 2, 1, 1, 0, 0, 1, 1), (3, 2, 3, 2, 0, 0, 0, 0), (3, 5, 2, 1, 2, 1, 1, 4)])
def test_pooling(tmp_path: Path, operation: str, window: tuple[int, ...]) -> None:
    check(tmp_path, lambda b, x: b.apply(operation, [x], window), x=normal(9, 11, 19) - np.float32(2))
    check(tmp_path, lambda b, x: b.apply(operation, [x], window), x=normal(2, 9, 11, 16))


def test_concat(tmp_path: Path) -> None:
    parts = {f"x{i}": normal(3, 5, channels, seed=i) for i, channels in enumerate((16, 1, 7, 33, 2, 4, 8, 64))}
    check(tmp_path, lambda b, *x: b.apply("concat", x), tolerance=0, **parts)
    check(tmp_path, lambda b, *x: b.apply("concat", x), tolerance=0, x=normal(70, 3), z=normal(70, 20))


@pytest.mark.parametrize("factors", [(1, 1), (2, 2), (8, 3)])
def test_upsample_nearest(tmp_path: Path, factors: tuple[int, int]) -> None:
    def fill(b: ProgramBuilder, x: Value, *residual: Value) -> Value:
        return b.apply("upsample_nearest", [x, *residual], factors)

    check(tmp_path, fill, tolerance=0, x=normal(5, 6, 19))
    residual = normal(2, 5 * factors[0], 6 * factors[1], 19)
    check(tmp_path, fill, tolerance=0, x=normal(2, 5, 6, 19), residual=residual)


@pytest.mark.parametrize(("block", "channels"), [(2, 4), (2, 64), (4, 16), (3, 45), (1, 5)])
def test_depth_to_space(tmp_path: Path, block: int, channels: int) -> None:
    for shape in ((5, 6, channels), (2, 5, 6, channels)):
        check(tmp_path, lambda b, x: b.apply("depth_to_space", [x], [block]), tolerance=0, x=normal(*shape))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 16, 16), (1, 100, 576), (7, 33, 50), (49, 48, 1280), (200, 17, 27)])
def test_linear(tmp_path: Path, bits: int, m: int, n: int, k: int) -> None:
    matrix = quantize(normal(n, k), bits)
    check(tmp_path, lambda b, x: linear(b, "t.m", x, matrix), x=normal(m, k, seed=1))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_linear_with_bias_activation_and_residual(tmp_path: Path, bits: int) -> None:
    matrix = quantize(normal(40, 64), bits)

    def fill(b: ProgramBuilder, x: Value, r: Value) -> Value:
        return linear(b, "t.m", x, matrix, bias=normal(40), residual=r, activation=2)

    check(tmp_path, fill, x=normal(3, 5, 64), r=normal(3, 5, 40))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_linear_is_exact_at_the_largest_codes(tmp_path: Path, bits: int) -> None:
    """All codes at the top and all activations at 127 or -127: no sum may saturate."""
    zero2 = 256 if bits == 8 else (1 << bits) - 1
    codes = np.full((32, 4096), (1 << bits) - 1, dtype=np.uint8)
    codes[::2] = 0
    matrix = QuantizedMatrix(codes, np.ones(32, dtype=np.float32), bits, zero2)
    x = np.ones((3, 4096), dtype=np.float32)
    x[1], x[2, ::2] = -1, -1
    y, _ = check(tmp_path, lambda b, v: linear(b, "t.m", v, matrix), tolerance=0, x=x)
    # x is 127 steps of scale 1 / 127: the product is 4096 * (code - zero), rounded twice.
    np.testing.assert_allclose(y[0], 4096 * (codes[:, 0].astype(np.float64) - zero2 / 2), rtol=1e-6)


def test_linear_of_odd_rows(tmp_path: Path) -> None:
    """A row of zeros stays zero; tiny and huge rows keep their relative precision."""
    matrix = quantize(normal(20, 48), 8)
    x = normal(5, 48)
    x[1] = 0
    x[2] *= np.float32(1e-20)
    x[3] *= np.float32(1e20)
    y, _ = check(tmp_path, lambda b, v: linear(b, "t.m", v, matrix), x=x)
    assert not y[1].any()


@pytest.mark.parametrize(("m", "n", "k"), [(1, 5, 7), (3, 64, 48), (65, 33, 100)])
def test_linear_f32(tmp_path: Path, m: int, n: int, k: int) -> None:
    def fill(b: ProgramBuilder, x: Value, r: Value) -> Value:
        return linear(b, "t.m", x, normal(n, k), bias=normal(n), residual=r, activation=1)

    check(tmp_path, fill, x=normal(m, k, seed=2), r=normal(m, n, seed=3))


@pytest.mark.parametrize("operation", ["add", "mul"])
@pytest.mark.parametrize("narrow", [(4, 5, 24), (5, 24), (24,)])
def test_elementwise(tmp_path: Path, operation: str, narrow: tuple[int, ...]) -> None:
    check(tmp_path, lambda b, x, y: b.apply(operation, [x, y]), x=normal(4, 5, 24), z=normal(*narrow, seed=1))


@pytest.mark.parametrize("operation", ["add", "mul"])
def test_one_value_for_each_picture_and_channel(tmp_path: Path, operation: str) -> None:
    z = normal(3, 1, 1, 24, seed=1)
    check(tmp_path, lambda b, x, y: b.apply(operation, [x, y]), x=normal(3, 4, 5, 24), z=z)
    check(tmp_path, lambda b, x, y: b.apply(operation, [x, y]), x=normal(3, 1, 1, 24), z=z)


@pytest.mark.parametrize("kind", range(len(ACTIVATIONS)), ids=ACTIVATIONS)
def test_activations(tmp_path: Path, kind: int) -> None:
    x = np.concatenate([np.linspace(-12, 12, 481), [0.0, -0.0, 88.0, -88.0, 1e4, -1e4]]).astype(np.float32)
    check(tmp_path, lambda b, v: b.apply("activation", [v], [kind]), x=x[None], tolerance=2e-6)


def test_silu_mul(tmp_path: Path) -> None:
    check(tmp_path, lambda b, x: b.apply("silu_mul", [x]), x=4 * normal(5, 74))


def test_norms(tmp_path: Path) -> None:
    weight, bias = normal(72, seed=4), normal(72, seed=5)
    x = normal(6, 72) * np.float32(30)
    check(tmp_path, lambda b, v: b.apply("rms_norm", [v, b.tensor("t.w", weight)], [1e-5]), x=x)
    tensors = (weight, bias)

    def fill(b: ProgramBuilder, v: Value) -> Value:
        return b.apply("layer_norm", [v, b.tensor("t.w", tensors[0]), b.tensor("t.b", tensors[1])], [1e-6])

    check(tmp_path, fill, x=x + 100)


def test_softmax(tmp_path: Path) -> None:
    check(tmp_path, lambda b, x: b.apply("softmax", [x]), x=normal(5, 4, 37) * np.float32(20))


def test_rope(tmp_path: Path) -> None:
    """The first 5 heads turn, the last 16 columns are copied; positions need not be in order."""
    positions = np.array([0, 1, 2, 47, 5, 400], dtype=np.int32)

    def fill(b: ProgramBuilder, x: Value, p: Value) -> Value:
        return b.apply("rope", [x, p], [5, 16, 10000.0])

    x = normal(6, 96)
    # At position 400 float32 knows the angle to 400 * 2^-24 = 2.4e-5 only.
    y, _ = check(tmp_path, fill, x=x, positions=positions, tolerance=3e-5)
    np.testing.assert_array_equal(y[:, 80:], x[:, 80:])


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_embedding(tmp_path: Path, bits: int) -> None:
    matrix = quantize(normal(50, 36), bits)
    assert isinstance(matrix, QuantizedMatrix)

    def fill(b: ProgramBuilder, tokens: Value) -> Value:
        packed, scale = matrix_tensors(b, "t.e", matrix)
        return b.apply("embedding", [tokens, packed, scale], [bits, 50, 36, matrix.zero2])

    check(tmp_path, fill, tokens=np.array([0, 49, 7, 7], dtype=np.int32), tolerance=1e-7)


def test_embedding_f32(tmp_path: Path) -> None:
    table = normal(11, 6)
    tokens = np.array([10, 0, 3], dtype=np.int32)
    check(tmp_path, lambda b, t: b.apply("embedding_f32", [t, b.tensor("t.e", table)]), tokens=tokens, tolerance=0)


def test_global_average_pool(tmp_path: Path) -> None:
    check(tmp_path, lambda b, x: b.apply("global_average_pool", [x]), x=normal(40, 33, 17) + np.float32(1))
    check(tmp_path, lambda b, x: b.apply("global_average_pool", [x]), x=normal(3, 20, 33, 40) + np.float32(1))
    check(tmp_path, lambda b, x: b.apply("global_average_pool", [x]), x=normal(7, 9, 40) + np.float32(1))


def test_reshape(tmp_path: Path) -> None:
    check(tmp_path, lambda b, x: b.apply("reshape", [x], [2, -1, 3]), x=normal(4, 9), tolerance=0)


@pytest.mark.parametrize(("columns", "block"), [(2, 2), (12, 4), (24, 8), (96, 32), (512, 512)])
def test_hadamard(tmp_path: Path, columns: int, block: int) -> None:
    check(tmp_path, lambda b, x: b.apply("hadamard", [x], [block]), x=normal(5, columns))
    check(tmp_path, lambda b, x: b.apply("hadamard", [x], [block]), x=normal(300, columns))  # split between threads


@pytest.mark.parametrize("rows", [1, 2, 33])
def test_last_row(tmp_path: Path, rows: int) -> None:
    check(tmp_path, lambda b, x: b.apply("last_row", [x]), x=normal(rows, 9), tolerance=0)


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(4, 4, 8), (6, 2, 16), (3, 1, 12)])
def test_attention_memory(tmp_path: Path, heads: int, kv_heads: int, head_dim: int) -> None:
    width = 2 * kv_heads * head_dim

    def fill(b: ProgramBuilder, q: Value, memory: Value) -> Value:
        b.emit("state_write", [memory], [0])
        return b.apply("attention_memory", [q], [0, heads, kv_heads, head_dim])

    states = (State("memory", "memory", width, 49),)
    check(tmp_path, fill, states=states, q=3 * normal(4, heads * head_dim), memory=normal(49, width, seed=1))
    check(tmp_path, fill, states=states, q=normal(1, heads * head_dim), memory=normal(1, width, seed=1))


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(4, 4, 8), (6, 2, 16), (12, 12, 32)])
@pytest.mark.parametrize("rows", [1, 5, 64])
def test_attention(tmp_path: Path, heads: int, kv_heads: int, head_dim: int, rows: int) -> None:
    columns = (heads + 2 * kv_heads) * head_dim
    check(tmp_path, lambda b, x: b.apply("attention", [x], [heads, kv_heads, head_dim]), x=2 * normal(rows, columns))


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(4, 4, 8), (6, 2, 16)])
def test_attention_cached(tmp_path: Path, heads: int, kv_heads: int, head_dim: int) -> None:
    """Two sequences side by side, several rows at once and one by one, then beams that share a past."""
    width = kv_heads * head_dim

    def fill(b: ProgramBuilder, qkv: Value, positions: Value, sequences: Value) -> Value:
        return b.apply("attention_cached", [qkv, positions, sequences], [0, 1, heads, kv_heads, head_dim])

    states = (State("key", "cache", width, 12), State("value", "cache", width, 12))
    columns = (heads + 2 * kv_heads) * head_dim

    def inputs(rows: list[tuple[int, int]], seed: int) -> dict[str, np.ndarray[Any, Any]]:
        return {
            "qkv": 2 * normal(len(rows), columns, seed=seed),
            "positions": np.array([position for position, _ in rows], dtype=np.int32),
            "sequences": np.array([sequence for _, sequence in rows], dtype=np.int32),
        }

    _, both = check(tmp_path, fill, states=states, **inputs([(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)], seed=0))
    expected, found = both.run("test", inputs([(3, 0), (2, 1)], seed=1))
    assert relative_error(found["y"], expected["y"]) <= TOLERANCE

    both.session.reorder([0, 0, 1])  # sequence 0 splits in two, sequence 1 becomes 2
    for source, target in ((1, 2), (0, 1)):
        both.twin.copy_sequence(source, target)
    for seed, position in enumerate((4, 5), start=2):
        rows = [(position, 0), (position, 1), (position - 1, 2)]
        expected, found = both.run("test", inputs(rows, seed=seed))
        assert relative_error(found["y"], expected["y"]) <= TOLERANCE


def test_thread_counts_agree_bit_for_bit(tmp_path: Path) -> None:
    matrix = quantize(normal(200, 256), 2)
    path = write_program(tmp_path / "t.gguf", {"x": "f32"}, lambda b, x: linear(b, "t.m", x, matrix))
    results = [BothModels(path, threads).run("test", {"x": normal(49, 256)})[1]["y"] for threads in (1, 2, 3, 5)]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_every_operation_was_run() -> None:
    """Stands last in this file: an operation without a test above fails here."""
    assert set(OPERATIONS) <= COVERED, f"untested: {sorted(set(OPERATIONS) - COVERED)}"
