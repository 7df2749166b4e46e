"""Translates the operations over pictures that are no plain convolution: pooling, resizing, joining, transposed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.compile.errors import unsupported
from mobile_multimodal.compile.onnx_graph import Graph, Node
from mobile_multimodal.compile.onnx_importer import Importer

MAX_JOINED = 8


def lower_global_average_pool(self: Importer, node: Node) -> None:
    if node.operation == "ReduceMean":
        axes = node.attributes.get("axes")
        if len(node.inputs) > 1 and node.inputs[1] in self.graph.constants:
            axes = self.graph.constants[node.inputs[1]].tolist()
        rank = self.rank(node.inputs[0])
        if rank != 4 or axes is None or sorted(axis % rank for axis in axes) != [2, 3]:
            raise unsupported(node.name, "ReduceMean", f"axes {axes}", ["the mean over height and width"])
    self.values[node.outputs[0]] = self.builder.apply("global_average_pool", [self.value(node.inputs[0])])


def lower_pool(self: Importer, node: Node) -> None:
    kernel = node.attributes.get("kernel_shape", [])
    pads = node.attributes.get("pads", [0, 0, 0, 0])
    if len(kernel) != 2:
        raise unsupported(node.name, node.operation, "it is not two-dimensional", ["pooling over pictures"])
    if node.attributes.get("ceil_mode", 0) or set(node.attributes.get("dilations", [1, 1])) != {1}:
        raise unsupported(node.name, node.operation, "ceil_mode or dilations are set", ["neither of them"])
    if node.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise unsupported(node.name, node.operation, "auto_pad depends on the input size", ["explicit pads"])
    if any(pad >= side for pad, side in zip(pads, [*kernel, *kernel], strict=True)):
        raise unsupported(node.name, node.operation, f"pads {pads}", ["pads smaller than the kernel"])
    if node.operation == "AveragePool" and any(pads) and node.attributes.get("count_include_pad", 0):
        raise unsupported(node.name, node.operation, "it counts its padding", ["count_include_pad 0"])
    operation = "max_pool2d" if node.operation == "MaxPool" else "average_pool2d"
    attributes = [*kernel, *node.attributes.get("strides", [1, 1]), *pads]
    self.values[node.outputs[0]] = self.builder.apply(operation, [self.value(node.inputs[0])], attributes)


def lower_conv_transpose(self: Importer, node: Node) -> None:
    """Where windows do not overlap, each pixel gives a block of its own: a product over pixels, then blocks apart."""
    weight, bias = self.constant(node, 1), self.constant(node, 2)
    side = _block(self, node)
    assert weight is not None
    first = node.attributes.get("first")
    if first is None:
        self.linear(node, _block_rows(weight), None if bias is None else np.tile(bias, side * side))
    else:
        inner = _block(self, first)
        inner_weight, inner_bias = self.constant(first, 1), self.constant(first, 2)
        assert inner_weight is not None
        inner_bias = None if inner_bias is None else np.tile(inner_bias, inner * inner)
        bias = None if bias is None else np.tile(bias, (side * inner) ** 2)
        self.linear_pair(node, _block_rows(inner_weight), inner_bias, _nested_rows(weight, inner), bias)
        side *= inner
    product = self.values[node.outputs[0]]
    self.values[node.outputs[0]] = self.builder.apply("depth_to_space", [product], [side])


def _block(self: Importer, node: Node) -> int:
    """The side of the block that each pixel becomes."""
    weight = self.constant(node, 1)
    if weight is None or weight.ndim != 4 or node.attributes.get("group", 1) != 1:
        raise unsupported(node.name, node.operation, "groups, or not two-dimensional", ["group 1 over pictures"])
    side, width = weight.shape[2:]
    strides = list(node.attributes.get("strides", [1, 1]))
    extra = [*node.attributes.get("pads", []), *node.attributes.get("output_padding", [])]
    plain = not any(extra) and set(node.attributes.get("dilations", [1, 1])) == {1}
    if strides != [side, width] or side != width or not plain or "output_shape" in node.attributes:
        text = f"kernel {side} x {width}, strides {strides}"
        raise unsupported(node.name, node.operation, text, ["square kernels with stride = kernel, no pads"])
    return int(side)


def _block_rows(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """[inputs, outputs, side, side] to rows [side * side * outputs, inputs]."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0]))


def _nested_rows(weight: NDArray[np.float32], outer: int) -> NDArray[np.float32]:
    """The same for each pixel of blocks of outer x outer pixels, in the order of one block of outer * side."""
    inputs, outputs, side, _ = weight.shape
    rows = np.zeros((outer, side, outer, side, outputs, outer, outer, inputs), dtype=np.float32)
    for y, x in np.ndindex(outer, outer):
        rows[y, :, x, :, :, y, x, :] = weight.transpose(2, 3, 1, 0)
    return rows.reshape(-1, outer * outer * inputs)


def lower_resize(self: Importer, node: Node) -> None:
    factors = repeat_factors(self.graph, node)
    if factors is None:
        modes = ("mode", "coordinate_transformation_mode", "nearest_mode")
        text = ", ".join(node.attributes[mode].decode() for mode in modes if mode in node.attributes)
        known = ["nearest by constant whole factors of height and width: asymmetric with floor, half_pixel"]
        raise unsupported(node.name, "Resize", text or "its attributes are missing", known)
    operands = [self.value(node.inputs[0]), self.residual(node)]
    self.values[node.outputs[0]] = self.builder.apply("upsample_nearest", operands, factors)


def repeat_factors(graph: Graph, node: Node) -> tuple[int, int] | None:
    """How often a Resize repeats each pixel downwards and across; None where it does something else."""
    place = node.attributes.get("coordinate_transformation_mode", b"half_pixel")
    rounding = node.attributes.get("nearest_mode", b"round_prefer_floor")
    # Both repeat each pixel f times: floor(i / f), and round(i / f + (1 / f - 1) / 2), which is no tie for a whole f.
    is_repeat = (place, rounding) == (b"asymmetric", b"floor")
    is_repeat = is_repeat or (place == b"half_pixel" and rounding.startswith(b"round"))
    scales = graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
    if node.attributes.get("mode", b"nearest") != b"nearest" or not is_repeat or scales is None or scales.size != 4:
        return None
    count, channels, down, across = (float(scale) for scale in scales.reshape(-1))
    is_whole = (count, channels) == (1, 1) and min(down, across) >= 1 and down % 1 == across % 1 == 0
    return (int(down), int(across)) if is_whole else None


def lower_concat(self: Importer, node: Node) -> None:
    """Along the channels, which are the last dimension of our pictures."""
    rank = self.rank(node.outputs[0]) or self.rank(node.inputs[0])
    axis = node.attributes["axis"] % max(rank, 1)
    if axis != (1 if rank == 4 else rank - 1):
        raise unsupported(node.name, "Concat", f"axis {axis} of {rank}", ["joining channels"])
    if len(node.inputs) > MAX_JOINED:
        raise unsupported(node.name, "Concat", f"{len(node.inputs)} inputs", [f"at most {MAX_JOINED}"])
    self.values[node.outputs[0]] = self.builder.apply("concat", [self.value(name) for name in node.inputs])


def lower_rows(self: Importer, node: Node) -> None:
    """[n, c, 1, w] to [n, w, c]: channels last, the memory stays as it is."""
    self.values[node.outputs[0]] = self.value(node.inputs[0])
