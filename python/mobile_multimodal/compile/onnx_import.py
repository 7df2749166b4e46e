"""Translates an ONNX graph (pictures as NCHW) into instructions of the core (pictures as height, width, channels).

Knows operations, not architectures. A 1x1 convolution of stride 1 is a matrix product over pixels, so that it can have
low-bit weights; other convolutions keep float weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from mobile_multimodal.compile import onnx_pictures
from mobile_multimodal.compile.errors import unsupported
from mobile_multimodal.compile.fusion import is_linear
from mobile_multimodal.compile.onnx_graph import Graph, Node
from mobile_multimodal.compile.onnx_importer import Importer
from mobile_multimodal.compile.program import ProgramBuilder, Value
from mobile_multimodal.compile.quantized_fusion import fuse_quantized, is_packed_convolution
from mobile_multimodal.compile.weight_codes import FLOAT_BITS
from mobile_multimodal.errors import InvalidInputError

ENCODER_BITS = (2, 4, 8, FLOAT_BITS)


def import_graph(
    graph: Graph, builder: ProgramBuilder, section: str, inputs: Mapping[str, Value], weight_bits: int
) -> dict[str, Value]:
    """Appends the instructions of a fused graph to a program; returns the graph's outputs.

    inputs: what each input of the graph is, pictures as [height, width, channels]. weight_bits: one of
    ENCODER_BITS, 32 for float; few bits are rounded without training.
    """
    if weight_bits not in ENCODER_BITS:
        raise InvalidInputError(f"encoder weights of {weight_bits} bits", hint="choose 2, 4, 8 or 32 bits.")
    importer = Importer(graph, builder, section, weight_bits)
    importer.values.update(inputs)
    if importer.is_quantizing:
        fuse_quantized(graph)
    for node in graph.nodes:
        lower = _LOWERINGS.get(node.operation)
        if lower is None:
            raise unsupported(node.name, node.operation, "the core has no such operation", SUPPORTED)
        lower(importer, node)
        importer.follow_means(node)
    return {name: importer.value(name) for name in graph.outputs}


def _lower_conv(self: Importer, node: Node) -> None:
    weight, bias = self.constant(node, 1), self.constant(node, 2)
    if weight is None or weight.ndim != 4:
        raise unsupported(node.name, "Conv", "it is not two-dimensional", ["Conv over pictures"])
    outputs, inputs_per_group, kernel_h, kernel_w = weight.shape
    groups = node.attributes.get("group", 1)
    if set(node.attributes.get("dilations", [1, 1])) != {1}:
        raise unsupported(node.name, "Conv", f"dilations {node.attributes['dilations']}", ["dilation 1"])
    if node.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise unsupported(node.name, "Conv", "auto_pad depends on the input size", ["explicit pads"])
    first: Node | None = node.attributes.get("first")
    if first is not None:
        first_weight, first_bias = self.constant(first, 1), self.constant(first, 2)
        assert first_weight is not None
        self.linear_pair(node, first_weight[:, :, 0, 0], first_bias, weight[:, :, 0, 0], bias)
        return
    if is_linear(self.graph, node):
        self.linear(node, weight[:, :, 0, 0], bias)
        return
    top, left, bottom, right = node.attributes.get("pads", [0, 0, 0, 0])
    attributes = [
        *node.attributes.get("strides", [1, 1]),
        top,
        left,
        bottom,
        right,
        node.attributes.get("activation", 0),
    ]
    if self.is_codes(node.outputs[0]):
        assert bias is not None
        self.depthwise_codes(node, weight[:, 0], bias, attributes[:-1])
        return
    if self.is_quantizing and is_packed_convolution(self.graph, node):
        self.packed_convolution(node, weight, bias, attributes)
        return
    name = self.tensor_name(node)
    if groups == 1:
        operation, table = "conv2d", weight.transpose(2, 3, 1, 0)
    elif groups == outputs and inputs_per_group == 1:
        operation, table = "conv2d_depthwise", weight[:, 0].transpose(1, 2, 0)
    else:
        raise unsupported(
            node.name,
            "Conv",
            f"group {groups} of {outputs} outputs",
            ["group 1", "depthwise (group = inputs = outputs)"],
        )
    tensors = [self.builder.tensor(f"{name}.weight", np.ascontiguousarray(table))]
    if bias is not None:
        tensors.append(self.builder.tensor(f"{name}.bias", bias))
    self.values[node.outputs[0]] = self.builder.apply(operation, [self.value(node.inputs[0]), *tensors], attributes)


def _lower_matmul(self: Importer, node: Node) -> None:
    weight, bias = self.constant(node, 1), self.constant(node, 2)
    if weight is None or weight.ndim != 2:
        raise unsupported(node.name, "MatMul", "its second input is not a constant matrix", ["constant weights [k, n]"])
    self.linear(node, weight.T, bias)


def _lower_gemm(self: Importer, node: Node) -> None:
    weight, bias = self.constant(node, 1), self.constant(node, 2)
    if weight is None or node.attributes.get("transA", 0):
        raise unsupported(node.name, "Gemm", "transA is set", ["Gemm with transA = 0"])
    rows = weight if node.attributes.get("transB", 0) else weight.T
    rows = rows * np.float32(node.attributes.get("alpha", 1.0))
    if bias is not None:
        bias = np.broadcast_to(bias.reshape(-1) * np.float32(node.attributes.get("beta", 1.0)), (rows.shape[0],)).copy()
    self.linear(node, rows, bias)


def _lower_activation(self: Importer, node: Node) -> None:
    kind = node.attributes["kind"]
    self.values[node.outputs[0]] = self.builder.apply("activation", [self.value(node.inputs[0])], [kind])


def _lower_elementwise(self: Importer, node: Node) -> None:
    operation = node.operation.lower()
    first, second = node.inputs
    if first in self.graph.constants or _is_wider(self.graph, second, first):
        first, second = second, first
    a = self.value(first)
    if second not in self.graph.constants:
        if not _broadcasts(self.graph, first, second):
            shapes = f"shapes {self.graph.shapes.get(first)} and {self.graph.shapes.get(second)}"
            raise unsupported(node.name, node.operation, shapes, ["equal shapes", "one value per channel"])
        b = self.value(second)
    else:
        channels = _channels(self.graph, first)
        array = self.graph.constants[second].astype(np.float32)
        if channels is None or array.size not in (1, channels):
            raise unsupported(
                node.name, node.operation, f"a constant of shape {array.shape}", ["one value per channel"]
            )
        if array.size > 1 and not _is_per_channel(array.shape, self.rank(first)):
            raise unsupported(
                node.name, node.operation, f"a constant of shape {array.shape}", ["one value per channel"]
            )
        name = re.sub(r"[^A-Za-z0-9_.]+", "_", second).strip("_.")
        b = self.builder.tensor(f"{self.section}.{name}", np.broadcast_to(array.reshape(-1), (channels,)).copy())
    self.values[node.outputs[0]] = self.builder.apply(operation, [a, b])


def _lower_reshape(self: Importer, node: Node) -> None:
    """Only where the order of the elements is the same in both layouts: pooled vectors and plain rows."""
    source, target = self.graph.shapes.get(node.inputs[0]), self.graph.shapes.get(node.outputs[0])
    if source is None or target is None or None in source or None in target:
        raise unsupported(node.name, node.operation, "its shapes are not known", ["fixed shapes"])
    if len(source) == 4 and source[2:] != (1, 1):
        raise unsupported(node.name, node.operation, f"a picture {source}", ["flattening after global pooling"])
    value = self.value(node.inputs[0])
    stored_source, stored_target = _stored(source), _stored(target)
    if stored_source != stored_target:
        value = self.builder.apply("reshape", [value], [int(dim or 0) for dim in stored_target])
    self.values[node.outputs[0]] = value


def _lower_softmax(self: Importer, node: Node) -> None:
    rank = self.rank(node.inputs[0])
    axis = node.attributes.get("axis", -1) % max(rank, 1)
    if axis != (1 if rank == 4 else rank - 1):
        raise unsupported(node.name, "Softmax", f"axis {axis} of {rank}", ["softmax over channels"])
    self.values[node.outputs[0]] = self.builder.apply("softmax", [self.value(node.inputs[0])])


_LOWERINGS: dict[str, Callable[[Importer, Node], None]] = {
    "Conv": _lower_conv,
    "MatMul": _lower_matmul,
    "Gemm": _lower_gemm,
    "Activation": _lower_activation,
    "Add": _lower_elementwise,
    "Mul": _lower_elementwise,
    "GlobalAveragePool": onnx_pictures.lower_global_average_pool,
    "ReduceMean": onnx_pictures.lower_global_average_pool,
    "MaxPool": onnx_pictures.lower_pool,
    "AveragePool": onnx_pictures.lower_pool,
    "ConvTranspose": onnx_pictures.lower_conv_transpose,
    "Resize": onnx_pictures.lower_resize,
    "Concat": onnx_pictures.lower_concat,
    "Rows": onnx_pictures.lower_rows,
    "Flatten": _lower_reshape,
    "Reshape": _lower_reshape,
    "Squeeze": _lower_reshape,
    "Unsqueeze": _lower_reshape,
    "Softmax": _lower_softmax,
}
_FUSED = (
    "BatchNormalization",
    "Pad",
    "Relu",
    "Clip",
    "Sigmoid",
    "HardSwish",
    "HardSigmoid",
    "Erf (in GELU)",
    "Tanh",
    "Gelu",
    "Identity",
)
SUPPORTED = sorted({*(name for name in _LOWERINGS if name not in ("Activation", "Rows")), *_FUSED})


def _stored(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """The shape that a pooled vector or rows have in the program: [1, C, 1, 1] and [1, C] are [C]."""
    if len(shape) == 4:
        return (shape[1],)
    kept = list(shape)
    while len(kept) > 1 and kept[0] == 1:
        kept.pop(0)
    return tuple(kept)


def _channels(graph: Graph, name: str) -> int | None:
    shape = graph.shapes.get(name, ())
    return shape[1] if len(shape) == 4 else (shape[-1] if shape else None)


def _is_wider(graph: Graph, a: str, b: str) -> bool:
    def size(name: str) -> int:
        return int(np.prod([dim or 1 for dim in graph.shapes.get(name, ())]))

    return size(a) > size(b)


def _broadcasts(graph: Graph, wide: str, narrow: str) -> bool:
    a, b = graph.shapes.get(wide), graph.shapes.get(narrow)
    if a is None or b is None or a == b:
        return a is not None and a == b
    return len(a) == 4 and b == (1, a[1], 1, 1)


def _is_per_channel(shape: tuple[int, ...], rank: int) -> bool:
    """True for [C, 1, 1] or [1, C, 1, 1] beside a picture, for [C] or [1, C] beside rows."""
    axis = -3 if rank == 4 else -1
    return len(shape) >= -axis and shape[axis] == int(np.prod(shape))
