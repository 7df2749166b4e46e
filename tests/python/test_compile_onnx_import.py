"""ONNX graphs give in our programs what onnxruntime gives, and what cannot be translated is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from small_models import BothModels, relative_error, write_model  # noqa: E402

from mobile_multimodal.compile.errors import UnsupportedOperationError  # noqa: E402
from mobile_multimodal.compile.fusion import fuse  # noqa: E402
from mobile_multimodal.compile.image_encoder import build_image_encoder  # noqa: E402
from mobile_multimodal.compile.onnx_graph import load_graph  # noqa: E402
from mobile_multimodal.compile.onnx_import import import_graph  # noqa: E402
from mobile_multimodal.compile.program import ProgramBuilder, TensorStore  # noqa: E402
from mobile_multimodal.errors import InvalidInputError, ModelFormatError, NotFoundError  # noqa: E402
from mobile_multimodal.model.program import Program  # noqa: E402

Array = np.ndarray[Any, Any]


class GraphWriter:
    """Collects nodes and weights, each node with one output."""

    def __init__(self, *shape: int, seed: int = 0) -> None:
        self.shape = shape
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.random = np.random.default_rng(seed)

    def weight(self, *shape: int, scale: float = 1.0, positive: bool = False) -> str:
        values = self.random.normal(size=shape) * scale
        return self.constant(np.abs(values) + 0.1 if positive else values, f"layer{len(self.weights)}.weight")

    def constant(self, values: Any, name: str = "", kind: type = np.float32) -> str:
        name = name or f"constant{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype=kind), name))
        return name

    def node(self, operation: str, *inputs: str, **attributes: Any) -> str:
        output = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [output], name=f"n_{output}", **attributes))
        return output

    def convolution(
        self, x: str, inputs: int, outputs: int, kernel: int = 1, *, bias: bool = True, **attributes: Any
    ) -> str:
        groups = attributes.get("group", 1)
        weight = self.weight(outputs, inputs // groups, kernel, kernel, scale=(inputs // groups * kernel**2) ** -0.5)
        return self.node("Conv", x, weight, *([self.weight(outputs)] if bias else []), **attributes)

    def batch_norm(self, x: str, channels: int) -> str:
        parts = [self.weight(channels, positive=index in (0, 3)) for index in range(4)]
        return self.node("BatchNormalization", x, *parts, epsilon=1e-3)

    def save(self, path: Path, output: str, opset: int = 17) -> Path:
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_value_info(output, helper.make_tensor_type_proto(TensorProto.FLOAT, None))],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(model), str(path))
        return path


def compile_graph(path: Path, bits: int = 32) -> tuple[Program, TensorStore]:
    tensors = TensorStore()
    builder = ProgramBuilder("test", tensors)
    graph = fuse(load_graph(path))
    outputs = import_graph(graph, builder, "encoder", {"x": builder.input("x", "f32")}, bits)
    builder.output("y", outputs[graph.outputs[0]])
    return builder.finish(), tensors


def check(folder: Path, writer: GraphWriter, output: str, expected_operations: dict[str, int] | None = None) -> Program:
    """Twin and core agree with onnxruntime on random input; the program has just the expected instructions."""
    path = writer.save(folder / "graph.onnx", output)
    program, tensors = compile_graph(path)
    if expected_operations is not None:
        assert Counter(step.operation for step in program.instructions) == expected_operations
    both = BothModels(write_model(folder / "graph.gguf", [program], tensors))
    x = np.random.default_rng(9).normal(size=writer.shape).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path))
    reference = session.run(None, {"x": x})[0]
    reference = reference[0].transpose(1, 2, 0) if reference.ndim == 4 else reference
    stored = np.ascontiguousarray(x[0].transpose(1, 2, 0)) if x.ndim == 4 else x
    twin, core = both.run("test", {"x": stored})
    for found in (twin["y"], core["y"]):
        assert found.size == reference.size
        assert relative_error(found.reshape(reference.shape), reference) < 1e-5
    return program


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], [2, 1, 0, 2]])
@pytest.mark.parametrize("stride", [1, 2])
def test_dense_convolution_with_batch_norm_and_relu6(tmp_path: Path, pads: list[int], stride: int) -> None:
    g = GraphWriter(1, 5, 12, 10)
    y = g.convolution("x", 5, 7, 3, bias=False, pads=pads, strides=[stride, stride])
    y = g.node("Clip", g.batch_norm(y, 7), g.constant(0.0), g.constant(6.0))
    program = check(tmp_path, g, y, {"conv2d": 1})
    assert program.instructions[0].attribute("activation") == 2


@pytest.mark.parametrize("kernel", [3, 5])
def test_depthwise_convolution_takes_the_pad_before_it(tmp_path: Path, kernel: int) -> None:
    g = GraphWriter(1, 6, 11, 11)
    padded = g.node("Pad", "x", g.constant([0, 0, 0, 1, 0, 0, 1, 2], kind=np.int64))
    y = g.convolution(padded, 6, 6, kernel, group=6, pads=[1, 0, 0, 0], strides=[2, 2])
    program = check(tmp_path, g, g.node("Relu", g.batch_norm(y, 6)), {"conv2d_depthwise": 1})
    assert program.instructions[0].attributes == (2, 2, 1, 1, 1, 2, 1)


def test_pointwise_convolution_becomes_linear_with_the_sum_inside(tmp_path: Path) -> None:
    g = GraphWriter(1, 8, 6, 6)
    y = g.convolution("x", 8, 24)
    y = g.node("HardSwish", g.batch_norm(y, 24))
    y = g.batch_norm(g.convolution(y, 24, 8, bias=False), 8)
    program = check(tmp_path, g, g.node("Add", "x", y), {"linear_f32": 2})
    assert program.instructions[1].inputs[3] == 0  # the residual is the program's input


def test_a_sum_waits_for_the_later_of_its_parts(tmp_path: Path) -> None:
    g = GraphWriter(1, 8, 6, 6)
    early = g.convolution("x", 8, 8)
    late = g.node("Relu", g.convolution("x", 8, 8, 3, pads=[1, 1, 1, 1]))
    check(tmp_path, g, g.node("Add", early, late), {"conv2d": 1, "linear_f32": 1})


def test_a_value_with_two_readers_is_not_fused_away(tmp_path: Path) -> None:
    g = GraphWriter(1, 8, 6, 6)
    y = g.convolution("x", 8, 8)
    check(tmp_path, g, g.node("Add", y, g.node("Relu", y)), {"linear_f32": 1, "activation": 1, "add": 1})


def test_strided_or_padded_pointwise_convolution_stays_a_convolution(tmp_path: Path) -> None:
    g = GraphWriter(1, 8, 7, 7)
    y = g.convolution(g.convolution("x", 8, 8, strides=[2, 2]), 8, 4, pads=[1, 1, 1, 1])
    check(tmp_path, g, y, {"conv2d": 2})


def test_squeeze_and_excite(tmp_path: Path) -> None:
    g = GraphWriter(1, 16, 7, 7)
    gate = g.node("GlobalAveragePool", "x")
    gate = g.node("Relu", g.convolution(gate, 16, 4))
    gate = g.node("Sigmoid", g.convolution(gate, 4, 16))
    check(tmp_path, g, g.node("Mul", gate, "x"), {"global_average_pool": 1, "linear_f32": 2, "mul": 1})


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "ReduceMean"])
@pytest.mark.parametrize("flatten", ["Flatten", "Reshape", "Squeeze"])
def test_classifier(tmp_path: Path, pool: str, flatten: str) -> None:
    g = GraphWriter(1, 12, 5, 5)
    y = g.node(pool, "x", **({"axes": [2, 3], "keepdims": 1} if pool == "ReduceMean" else {}))
    extra = {"Reshape": [[1, -1]], "Squeeze": [[2, 3]]}.get(flatten, [])
    y = g.node(flatten, y, *(g.constant(values, kind=np.int64) for values in extra))
    y = g.node("Gemm", y, g.weight(10, 12), g.weight(10), transB=1, alpha=0.5, beta=2.0)
    y = g.node("Softmax", g.node("MatMul", y, g.weight(10, 6)))
    check(tmp_path, g, y, {"global_average_pool": 1, "linear_f32": 2, "softmax": 1})


@pytest.mark.parametrize(
    ("gate", "name", "attributes"),
    [("Sigmoid", "silu", {}), ("HardSigmoid", "hard_swish", {"alpha": 1 / 6, "beta": 0.5})],
)
def test_gated_activations(tmp_path: Path, gate: str, name: str, attributes: dict[str, float]) -> None:
    g = GraphWriter(1, 8, 6, 6)
    y = g.convolution("x", 8, 8)
    program = check(tmp_path, g, g.node("Mul", y, g.node(gate, y, **attributes)), {"linear_f32": 1})
    assert program.instructions[0].attribute("activation") == {"silu": 3, "hard_swish": 6}[name]


def test_batch_norm_alone_and_constants_per_channel(tmp_path: Path) -> None:
    g = GraphWriter(1, 6, 4, 4)
    y = g.batch_norm(g.node("Relu", "x"), 6)
    y = g.node("Add", g.node("Mul", y, g.constant(0.25)), g.weight(1, 6, 1, 1))
    y = g.node("Identity", g.node("Dropout", g.node("Tanh", y)))
    check(tmp_path, g, y, {"activation": 2, "mul": 2, "add": 2})


def test_shared_weights_keep_their_own_batch_norms(tmp_path: Path) -> None:
    g = GraphWriter(1, 4, 6, 6)
    weight = g.weight(4, 4, 1, 1)
    y = g.batch_norm(g.node("Conv", "x", weight), 4)
    y = g.batch_norm(g.node("Conv", y, weight), 4)
    check(tmp_path, g, y, {"linear_f32": 2})


def test_8_bit_weights_follow_the_means_of_batch_norm(tmp_path: Path) -> None:
    """With inputs spread as batch norm says, the mean output of 8 bits equals that of float weights."""
    g = GraphWriter(1, 8, 40, 40)
    y = g.node("Relu", g.batch_norm(g.convolution("x", 8, 32, bias=False), 32))
    path = g.save(tmp_path / "g.onnx", g.convolution(y, 32, 16))
    program, tensors = compile_graph(path, bits=8)
    assert [step.operation for step in program.instructions] == ["linear", "linear"]
    float_bias = numpy_helper.to_array(onnx.load(str(path)).graph.initializer[-1])
    bias = tensors[[name for name in program.tensors if name.endswith(".bias")][-1]]
    assert 0 < np.abs(bias - float_bias).max() < 0.1


def unsupported_graphs() -> dict[str, tuple[GraphWriter, str, str]]:
    """What stands in the error, by case: graph, output, text."""
    cases = {}
    g = GraphWriter(1, 4, 8, 8)
    cases["unknown"] = (g, g.node("Sinh", "x"), r"n_value0` \(Sinh\).*no such operation")
    g = GraphWriter(1, 4, 8, 8)
    cases["pool"] = (g, g.node("MaxPool", "x", kernel_shape=[2, 2], ceil_mode=1), r"n_value0` \(MaxPool\).*ceil_mode")
    g = GraphWriter(1, 4, 8, 8)
    average = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}
    cases["average"] = (g, g.node("AveragePool", "x", **average), r"\(AveragePool\).*counts its padding")
    g = GraphWriter(1, 4, 8, 8)
    scales = g.constant([1, 1, 1.5, 2])
    cases["resize"] = (g, g.node("Resize", "x", "", scales, mode="nearest"), r"\(Resize\).*nearest")
    g = GraphWriter(1, 4, 8, 8)
    scales = g.constant([1, 1, 2, 2])
    cases["linear resize"] = (g, g.node("Resize", "x", "", scales, mode="linear"), r"\(Resize\).*linear")
    g = GraphWriter(1, 4, 8, 8)
    cases["concat"] = (g, g.node("Concat", "x", "x", axis=2), r"\(Concat\).*axis 2 of 4")
    g = GraphWriter(1, 4, 8, 8)
    transposed = g.node("ConvTranspose", "x", g.weight(4, 4, 3, 3), strides=[2, 2])
    cases["transposed"] = (g, transposed, r"\(ConvTranspose\).*kernel 3 x 3, strides \[2, 2\]")
    g = GraphWriter(1, 4, 8, 8)
    cases["erf"] = (g, g.node("Erf", g.node("Mul", "x", g.constant(0.5))), r"\(Erf\).*not part of GELU")
    g = GraphWriter(1, 4, 8, 8)
    cases["hard sigmoid"] = (g, g.node("HardSigmoid", "x", beta=0.4), r"\(HardSigmoid\).*beta 0.4")
    g = GraphWriter(1, 4, 8, 8)
    cases["groups"] = (g, g.convolution("x", 4, 4, 3, group=2), r"\(Conv\).*group 2 of 4 outputs")
    g = GraphWriter(1, 4, 8, 8)
    cases["dilation"] = (g, g.convolution("x", 4, 4, 3, dilations=[2, 2]), r"\(Conv\).*dilations \[2, 2\]")
    g = GraphWriter(1, 4, 8, 8)
    strided = g.convolution("x", 4, 4, 3, auto_pad="SAME_UPPER", strides=[2, 2])
    cases["auto_pad"] = (g, strided, r"auto_pad")
    g = GraphWriter(1, 4, 8, 8)
    cases["clip"] = (g, g.node("Clip", "x", g.constant(-1.0), g.constant(1.0)), r"\(Clip\).*bounds \[-1\.0, 1\.0\]")
    g = GraphWriter(1, 4, 8, 8)
    pad = g.node("Pad", "x", g.constant([0, 0, 1, 1, 0, 0, 1, 1], kind=np.int64), mode="reflect")
    cases["reflect"] = (g, g.convolution(pad, 4, 4, 3), r"\(Pad\).*mode reflect")
    g = GraphWriter(1, 4, 8, 8)
    pad = g.node("Pad", "x", g.constant([0, 0, 1, 1, 0, 0, 1, 1], kind=np.int64))
    cases["pad"] = (g, g.node("Relu", pad), r"\(Pad\).*feeds Activation")
    g = GraphWriter(1, 4, 8, 8)
    cases["flatten"] = (g, g.node("Flatten", "x"), r"\(Flatten\).*a picture \(1, 4, 8, 8\)")
    g = GraphWriter(1, 4, 8, 8)
    cases["mean"] = (g, g.node("ReduceMean", "x", axes=[1]), r"\(ReduceMean\).*axes \[1\]")
    g = GraphWriter(1, 4, 8, 8)
    cases["constant"] = (g, g.node("Add", "x", g.weight(8)), r"\(Add\).*constant of shape \(8,\)")
    g = GraphWriter(1, 4, 8, 8)
    cases["softmax"] = (g, g.node("Softmax", "x", axis=3), r"\(Softmax\).*axis 3")
    g = GraphWriter(3, 4)
    cases["matmul"] = (g, g.node("MatMul", "x", g.node("Gemm", g.weight(4, 4), "x", transB=1)), r"\((Gemm|MatMul)\)")
    return cases


@pytest.mark.parametrize("case", sorted(unsupported_graphs()))
def test_what_cannot_be_translated_is_named(tmp_path: Path, case: str) -> None:
    writer, output, text = unsupported_graphs()[case]
    path = writer.save(tmp_path / "g.onnx", output)
    with pytest.raises(UnsupportedOperationError, match=text) as caught:
        compile_graph(path)
    assert "supported: " in caught.value.hint


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no ONNX file"):
        load_graph(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not protobuf at all")
    with pytest.raises(ModelFormatError, match="not a valid ONNX file"):
        load_graph(tmp_path / "bad.onnx")


def test_an_encoder_must_say_its_size_and_normalisation(tmp_path: Path) -> None:
    g = GraphWriter(1, 3, 32, 32)
    path = g.save(tmp_path / "g.onnx", g.convolution("x", 3, 8, 3, strides=[2, 2]))
    with pytest.raises(InvalidInputError, match="does not say its normalisation"):
        build_image_encoder(path, TensorStore(), weight_bits=32)
    encoder = build_image_encoder(path, TensorStore(), weight_bits=32, mean=[10.0], std=[2.0, 4.0, 8.0])
    assert encoder.image_size == 32
    assert encoder.program.instructions[0].attributes == (10.0, 10.0, 10.0, 0.5, 0.25, 0.125)
    with pytest.raises(InvalidInputError, match="expected positive"):
        build_image_encoder(path, TensorStore(), weight_bits=32, mean=[0.0], std=[0.0])
    with pytest.raises(InvalidInputError, match="has 2 numbers"):
        build_image_encoder(path, TensorStore(), weight_bits=32, mean=[0.0, 1.0], std=[1.0])
    with pytest.raises(InvalidInputError, match="of 3 bits"):
        build_image_encoder(path, TensorStore(), weight_bits=3, mean=[0.0], std=[1.0])
    g = GraphWriter(1, 4, 32, 32)
    path = g.save(tmp_path / "g.onnx", g.convolution("x", 4, 8, 3))
    with pytest.raises(UnsupportedOperationError, match=r"takes \(1, 4, 32, 32\)"):
        build_image_encoder(path, TensorStore(), weight_bits=32, mean=[0.0], std=[1.0])
