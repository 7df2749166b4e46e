"""What detectors and recognizers of text are made of, in float and 8 bits, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from small_models import BothModels, relative_error, write_model
from test_compile_onnx_import import GraphWriter, check, compile_graph


def erf_gelu(g: GraphWriter, x: str, *, half_first: bool = False) -> str:
    """As exporters spell GELU out."""
    gate = g.node("Add", g.node("Erf", g.node("Div", x, g.constant(np.sqrt(2)))), g.constant(1.0))
    if half_first:
        return g.node("Mul", x, g.node("Mul", g.constant(0.5), gate))
    return g.node("Mul", g.node("Mul", x, gate), g.constant(0.5))


def gate(g: GraphWriter, x: str, channels: int, alpha: float) -> str:
    """Squeeze and excite, with biases as sums of their own."""
    y = g.node("ReduceMean", x, axes=[2, 3], keepdims=1)
    y = g.node("Add", g.convolution(y, channels, 4, bias=False), g.weight(1, 4, 1, 1))
    y = g.node("Add", g.convolution(g.node("Relu", y), 4, channels, bias=False), g.weight(1, channels, 1, 1))
    return g.node("HardSigmoid", y, alpha=alpha, beta=0.5)


@pytest.mark.parametrize("half_first", [False, True])
def test_gelu_written_with_erf(tmp_path: Path, half_first: bool) -> None:
    g = GraphWriter(1, 8, 6, 6)
    y = erf_gelu(g, g.convolution("x", 8, 12), half_first=half_first)
    program = check(tmp_path, g, y, {"linear_f32": 1})
    assert program.instructions[0].attribute("activation") == 4


def test_a_bias_and_a_factor_of_their_own_join_the_weights(tmp_path: Path) -> None:
    g = GraphWriter(1, 8, 6, 6)
    y = g.node("Add", g.convolution("x", 8, 12, 3, bias=False), g.weight(1, 12, 1, 1))
    y = g.node("Mul", g.weight(12, 1, 1), y)
    y = g.node("Add", g.node("Mul", y, g.constant(2.0)), g.constant(0.25))
    check(tmp_path, g, y, {"conv2d": 1})


@pytest.mark.parametrize("alpha", [1 / 6, 0.2])
def test_hard_sigmoid_of_any_slope(tmp_path: Path, alpha: float) -> None:
    g = GraphWriter(1, 8, 6, 7)
    y = g.node("Mul", "x", gate(g, "x", 8, alpha))
    check(tmp_path, g, y, {"global_average_pool": 1, "linear_f32": 2, "mul": 1})


def test_a_picture_plus_its_gated_self_is_one_product(tmp_path: Path) -> None:
    g = GraphWriter(1, 8, 6, 7)
    y = g.node("Add", "x", g.node("Mul", "x", gate(g, "x", 8, 0.2)))
    check(tmp_path, g, y, {"global_average_pool": 1, "linear_f32": 2, "add": 1, "mul": 1})


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("kernel", [2, 3])
def test_same_padding_of_stride_1(tmp_path: Path, auto_pad: str, kernel: int) -> None:
    g = GraphWriter(1, 5, 6, 7)
    shape = [kernel, kernel]
    pool = g.node("MaxPool", "x", kernel_shape=shape, strides=[1, 1], auto_pad=auto_pad)
    y = g.convolution(pool, 5, 4, kernel, kernel_shape=shape, auto_pad=auto_pad)
    check(tmp_path, g, y, {"max_pool2d": 1, "conv2d": 1})


def test_average_pool(tmp_path: Path) -> None:
    g = GraphWriter(1, 5, 7, 9)
    y = g.node("AveragePool", "x", kernel_shape=[3, 2], strides=[3, 2], pads=[1, 0, 1, 1])
    check(tmp_path, g, y, {"average_pool2d": 1})


def test_upsampling_joins_the_sum_after_it(tmp_path: Path) -> None:
    g = GraphWriter(1, 5, 8, 6)
    small = g.node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2])
    modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    y = g.node("Add", "x", g.node("Resize", small, "", g.constant([1, 1, 2, 2]), **modes))
    y = g.node("Resize", y, "", g.constant([1, 1, 3, 1]), mode="nearest")
    check(tmp_path, g, y, {"max_pool2d": 1, "upsample_nearest": 2})


def chain_of_transposed(g: GraphWriter, channels: int) -> str:
    y = g.node("Relu", g.node("ConvTranspose", "x", g.weight(channels, 6, 2, 2), g.weight(6), strides=[2, 2]))
    return g.node("Sigmoid", g.node("ConvTranspose", y, g.weight(6, 2, 3, 3), g.weight(2), strides=[3, 3]))


def test_transposed_convolutions(tmp_path: Path) -> None:
    g = GraphWriter(1, 5, 4, 6)
    check(tmp_path, g, chain_of_transposed(g, 5), {"linear_f32": 2, "depth_to_space": 2})


def test_layout_changes_around_sequence_layers(tmp_path: Path) -> None:
    """As recognizers do it: squeeze, turn, turn back, unsqueeze; batch norm over [n, c, w]; rows at the end."""
    g = GraphWriter(1, 6, 3, 16)
    axis, turn = g.constant([2], kind=np.int64), {"perm": [0, 2, 1]}
    y = g.node("AveragePool", "x", kernel_shape=[3, 2], strides=[3, 2])
    y = g.node("Transpose", g.node("Transpose", g.node("Squeeze", y, axis), **turn), **turn)
    y = g.node("Conv", g.node("Unsqueeze", y, axis), g.weight(6, 1, 1, 5), group=6, pads=[0, 2, 0, 2])
    y = g.batch_norm(g.node("Squeeze", y, axis), 6)
    y = g.node("Mul", g.node("HardSigmoid", y, alpha=1 / 6, beta=0.5), y)
    y = g.node("Squeeze", g.convolution(g.node("Unsqueeze", y, axis), 6, 8, bias=False), axis)
    y = g.node("Transpose", g.batch_norm(y, 8), **turn)
    y = g.node("Softmax", g.node("Add", g.node("MatMul", y, g.weight(8, 10)), g.weight(10)), axis=2)
    operations = {"average_pool2d": 1, "conv2d_depthwise": 1, "linear_f32": 2, "softmax": 1}
    program = check(tmp_path, g, y, operations)
    assert program.instructions[1].attribute("activation") == 6


def quantized_error(folder: Path, g: GraphWriter, y: str, operations: list[str]) -> float:
    """How far 8 bits are from float, in the core; the program has just these operations."""
    path = g.save(folder / "graph.onnx", y)
    x = np.random.default_rng(9).normal(size=(*g.shape[2:], g.shape[1])).astype(np.float32)
    results = []
    for bits in (32, 8):
        program, tensors = compile_graph(path, bits)
        found = [step.operation for step in program.instructions]
        twin, core = BothModels(write_model(folder / f"{bits}.gguf", [program], tensors)).run("test", {"x": x})
        assert relative_error(core["y"], twin["y"]) < 5e-3  # GELU's last bit may move a code
        results.append(core["y"])
    assert found == operations
    return relative_error(results[1], results[0])


def test_8_bits_pair_products_with_their_gate_and_residual(tmp_path: Path) -> None:
    g = GraphWriter(1, 16, 9, 8)
    gated = g.node("Mul", "x", gate(g, "x", 16, 1 / 6))
    inner = erf_gelu(g, g.convolution(gated, 16, 32))
    y = g.node("Add", gated, g.convolution(inner, 32, 16))
    operations = ["global_average_pool", "linear_f32", "linear_f32", "linear_pair"]
    assert quantized_error(tmp_path, g, y, operations) < 0.02


def test_8_bits_join_the_pictures_of_a_convolution(tmp_path: Path) -> None:
    g = GraphWriter(1, 8, 12, 8)
    small = g.node("MaxPool", "x", kernel_shape=[4, 2], strides=[4, 2])
    large = g.node("Resize", small, "", g.constant([1, 1, 4, 2]), mode="nearest")
    y = g.node("Concat", large, "x", axis=1)
    y = g.node("Relu", g.convolution(y, 16, 8, 3, pads=[1, 1, 1, 1]))
    assert quantized_error(tmp_path, g, y, ["max_pool2d", "conv2d_packed"]) < 0.02


def test_8_bits_chain_transposed_convolutions(tmp_path: Path) -> None:
    g = GraphWriter(1, 16, 4, 6)
    assert quantized_error(tmp_path, g, chain_of_transposed(g, 16), ["linear_pair", "depth_to_space"]) < 0.03


def bottleneck(g: GraphWriter, *, narrowing: str = "Clip", reads_twice: bool = False) -> str:
    """Product, depthwise convolution, product, and the sum with the input; a ReLU6 after the first two."""

    def activated(y: str) -> str:
        return g.node("Clip", y, g.constant(0.0), g.constant(6.0)) if narrowing == "Clip" else g.node(narrowing, y)

    wide = activated(g.batch_norm(g.convolution("x", 16, 64, bias=False), 64))
    y = g.node("Conv", wide, g.weight(64, 1, 3, 3), g.weight(64), group=64, pads=[1, 1, 1, 1])
    y = g.convolution(activated(y), 64, 64 if reads_twice else 16)
    return g.node("Add", y, wide if reads_twice else "x")


def test_8_bits_pass_codes_through_a_bottleneck(tmp_path: Path) -> None:
    g = GraphWriter(1, 16, 9, 8)
    assert quantized_error(tmp_path, g, bottleneck(g), ["linear_codes", "conv2d_depthwise_codes", "linear"]) < 0.03


@pytest.mark.parametrize("options", [{"narrowing": "Relu"}, {"narrowing": "HardSwish"}, {"reads_twice": True}])
def test_what_has_no_bound_or_other_readers_stays_float(tmp_path: Path, options: dict[str, Any]) -> None:
    g = GraphWriter(1, 16, 9, 8)
    assert quantized_error(tmp_path, g, bottleneck(g, **options), ["linear", "conv2d_depthwise", "linear"]) < 0.03
