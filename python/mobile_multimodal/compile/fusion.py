"""Rewrites an ONNX graph so that what one instruction of the core does is one node.

Folded or fused: padding into the convolution after it; batch norm, constant sums and constant factors into the weights
before them; activations into the convolution or matrix product before them; and a sum into the 1x1 convolution, matrix
product or upsampling it directly follows.
"""

from __future__ import annotations

import numpy as np

from mobile_multimodal.compile.activation_patterns import name_activations
from mobile_multimodal.compile.errors import unsupported
from mobile_multimodal.compile.layout_changes import drop_layout_changes
from mobile_multimodal.compile.onnx_graph import Graph, Node

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def fuse(graph: Graph) -> Graph:
    """Applies every rewrite, in the order in which they feed each other. Changes the graph in place."""
    drop_identities(graph)
    name_activations(graph)
    drop_layout_changes(graph)
    resolve_auto_pads(graph)
    fold_pads(graph)
    fold_constants(graph)
    fold_batch_norms(graph)
    join_gates(graph)
    fuse_activations(graph)
    fuse_residuals(graph)
    return graph


def drop_identities(graph: Graph) -> None:
    """Removes Identity and Dropout (which does nothing at inference)."""
    for node in list(graph.nodes):
        if node.operation in ("Identity", "Dropout"):
            graph.nodes.remove(node)
            graph.rename(node.outputs[0], node.inputs[0])


def resolve_auto_pads(graph: Graph) -> None:
    """SAME with stride 1 pads by the kernel alone; with another stride it depends on the picture's size and stays."""
    for node in graph.nodes:
        auto = node.attributes.get("auto_pad", b"NOTSET")
        kernel = node.attributes.get("kernel_shape")
        if auto not in (b"SAME_UPPER", b"SAME_LOWER") or kernel is None or len(kernel) != 2:
            continue
        if set(node.attributes.get("strides", [1, 1])) != {1} or set(node.attributes.get("dilations", [1, 1])) != {1}:
            continue
        small, large = [(side - 1) // 2 for side in kernel], [side // 2 for side in kernel]
        node.attributes["pads"] = [*small, *large] if auto == b"SAME_UPPER" else [*large, *small]
        node.attributes["auto_pad"] = b"NOTSET"


def fold_pads(graph: Graph) -> None:
    """Zero padding of height and width moves into the `pads` of the convolutions that alone read it."""
    for node in list(graph.nodes):
        if node.operation != "Pad":
            continue
        pads = _pad_amounts(graph, node)
        readers = graph.readers(node.outputs[0])
        rest = [pads[axis] for axis in range(len(pads)) if axis % 4 < 2]
        if len(pads) != 8 or any(rest) or node.outputs[0] in graph.outputs or not readers:
            raise unsupported(node.name, "Pad", f"pads {pads}", ["zero padding of height and width before Conv"])
        for reader in readers:
            if reader.operation != "Conv" or reader.inputs[0] != node.outputs[0]:
                raise unsupported(node.name, "Pad", f"it feeds {reader.operation}", ["Pad before Conv"])
        for reader in readers:
            own = reader.attributes.get("pads", [0, 0, 0, 0])
            reader.attributes["pads"] = [a + b for a, b in zip(own, [pads[2], pads[3], pads[6], pads[7]], strict=True)]
            reader.inputs[0] = node.inputs[0]
        graph.nodes.remove(node)


def fold_constants(graph: Graph) -> None:
    """A constant per channel that is added to a product or multiplies it joins its bias and weights."""
    for node in list(graph.nodes):
        if node.operation not in ("Add", "Mul"):
            continue
        for own, other in (node.inputs, node.inputs[::-1]):
            before = graph.producer(own)
            if before is None or other not in graph.constants or graph.only_reader(own) is not node:
                continue
            values = _per_output(graph, before, graph.constants[other])
            if values is None:
                continue
            gain, shift = (1.0, values) if node.operation == "Add" else (values, 0.0)
            _scale_and_shift(graph, before, node.name, gain, shift)
            before.outputs = node.outputs
            graph.nodes.remove(node)
            break


def fold_batch_norms(graph: Graph) -> None:
    """y = (conv(x) - mean) * gain + beta becomes conv with weights * gain and bias (b - mean) * gain + beta."""
    for node in list(graph.nodes):
        if node.operation != "BatchNormalization":
            continue
        names = node.inputs[1:5]
        if any(name not in graph.constants for name in names):
            raise unsupported(node.name, node.operation, "its statistics are computed", ["constant statistics"])
        gamma, beta, mean, variance = (graph.constants[name].astype(np.float64) for name in names)
        gain = gamma / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
        before = graph.producer(node.inputs[0])
        if before is None or not _takes_gain(graph, before) or graph.only_reader(node.inputs[0]) is not node:
            _become_scale_and_shift(graph, node, gain, beta - mean * gain)
            continue
        _scale_and_shift(graph, before, node.name, gain, beta - mean * gain)
        before.outputs = node.outputs
        before.attributes["statistics"] = (beta, np.abs(gamma))  # of its outputs, before the activation
        graph.nodes.remove(node)


def join_gates(graph: Graph) -> None:
    """x + x * gate, with one gate per channel, becomes x * (gate + 1): one pass over the picture, not two."""
    for node in list(graph.nodes):
        if node.operation != "Add":
            continue
        for x, gated in (node.inputs, node.inputs[::-1]):
            product = graph.producer(gated)
            if product is None or product.operation != "Mul" or graph.only_reader(gated) is not node:
                continue
            gate = next((name for name in product.inputs if name != x), None)
            shape = graph.shapes.get(gate or "", ())
            if gate is None or x not in product.inputs or shape[2:] != (1, 1) or gate in graph.constants:
                continue
            one, moved = f"{node.name}@one", f"{gate}@plus_one"
            graph.constants[one] = np.ones((), dtype=np.float32)
            graph.shapes[moved] = shape
            graph.nodes.remove(product)
            position = graph.nodes.index(node)
            graph.nodes.insert(position, Node("Add", f"{node.name}@gate", [gate, one], [moved]))
            node.operation, node.inputs = "Mul", [x, moved]
            break


def fuse_activations(graph: Graph) -> None:
    """Activations join the convolution or matrix product whose result they alone read."""
    for node in list(graph.nodes):
        if node.operation != "Activation":
            continue
        before = graph.producer(node.inputs[0])
        if before is None or before.operation not in WEIGHTED or "activation" in before.attributes:
            continue
        if graph.only_reader(node.inputs[0]) is node and _has_constant_weight(graph, before):
            before.attributes["activation"] = node.attributes["kind"]
            before.outputs = node.outputs
            graph.nodes.remove(node)


def fuse_residuals(graph: Graph) -> None:
    """f(x) + y becomes f(x, residual=y) for products and upsampling, in the place of the sum so that y is known."""
    for node in list(graph.nodes):
        if node.operation != "Add":
            continue
        for own, other in (node.inputs, node.inputs[::-1]):
            before = graph.producer(own)
            same_shape = graph.shapes.get(own) == graph.shapes.get(other) is not None
            if before is None or not same_shape or other in graph.constants or graph.only_reader(own) is not node:
                continue
            takes_residual = is_linear(graph, before) or before.operation == "Resize"
            if takes_residual and "residual" not in before.attributes:
                graph.nodes.remove(before)
                before.attributes["residual"] = other
                before.inputs = [*before.inputs, *([""] if len(before.inputs) == 2 else []), other]
                before.outputs = node.outputs
                graph.nodes[graph.nodes.index(node)] = before
                break


def is_linear(graph: Graph, node: Node) -> bool:
    """True for a matrix product with constant weights, and for a 1x1 convolution of stride 1: one over pixels."""
    if not _has_constant_weight(graph, node):
        return False
    if node.operation != "Conv":
        return node.operation in ("Gemm", "MatMul")
    weight = graph.constants[node.inputs[1]]
    return (
        weight.shape[2:] == (1, 1)
        and node.attributes.get("group", 1) == 1
        and set(node.attributes.get("strides", [1, 1])) == {1}
        and not any(node.attributes.get("pads", [0]))
    )


def _has_constant_weight(graph: Graph, node: Node) -> bool:
    return node.operation in WEIGHTED and len(node.inputs) > 1 and node.inputs[1] in graph.constants


def _takes_gain(graph: Graph, node: Node) -> bool:
    has_constant_bias = len(node.inputs) < 3 or node.inputs[2] in graph.constants
    return node.operation == "Conv" and _has_constant_weight(graph, node) and has_constant_bias


def _output_axis(node: Node) -> int:
    """The axis of the weights that counts outputs."""
    return 1 if node.operation in ("ConvTranspose", "MatMul") else 0


def _per_output(graph: Graph, node: Node, values: np.ndarray) -> np.ndarray | None:
    """One value for each output of a product, or None where it cannot take them."""
    can_take = node.operation in ("Conv", "ConvTranspose", "MatMul") and _has_constant_weight(graph, node)
    if not can_take or (node.attributes.get("group", 1) != 1 and node.operation == "ConvTranspose"):
        return None
    if "statistics" in node.attributes or (len(node.inputs) > 2 and node.inputs[2] not in graph.constants):
        return None
    outputs = graph.constants[node.inputs[1]].shape[_output_axis(node)]
    axis = -1 if node.operation == "MatMul" else -3
    if values.size == 1:
        return np.full(outputs, values.reshape(-1)[0], dtype=np.float64)
    is_per_output = values.size == outputs and values.ndim >= -axis and values.shape[axis] == outputs
    return values.reshape(-1).astype(np.float64) if is_per_output else None


def _scale_and_shift(graph: Graph, node: Node, name: str, gain: np.ndarray | float, shift: np.ndarray | float) -> None:
    """Lets a product give gain * y + shift. Its tensors get new names: another node may share the old ones."""
    weight = graph.constants[node.inputs[1]].astype(np.float64)
    axis = _output_axis(node)
    bias = graph.constants[node.inputs[2]].astype(np.float64) if len(node.inputs) > 2 else np.zeros(weight.shape[axis])
    shape = [1] * weight.ndim
    shape[axis] = -1
    base = node.inputs[1].partition("@")[0]
    weight_name, bias_name = f"{base}@{name}", f"{base}.bias@{name}"
    gains = np.broadcast_to(gain, bias.shape).reshape(shape)
    graph.constants[weight_name] = (weight * gains).astype(np.float32)
    graph.constants[bias_name] = (bias * gain + shift).astype(np.float32)
    node.inputs = [node.inputs[0], weight_name, bias_name]


def _become_scale_and_shift(graph: Graph, node: Node, gain: np.ndarray, shift: np.ndarray) -> None:
    """A batch norm that follows no convolution: multiply and add per channel."""
    scaled, gain_name, shift_name = f"{node.outputs[0]}@scaled", f"{node.name}@gain", f"{node.name}@shift"
    shape = (1, -1) + (1,) * (len(graph.shapes.get(node.inputs[0], (0, 0, 0, 0))) - 2)
    graph.constants[gain_name] = gain.astype(np.float32).reshape(shape)
    graph.constants[shift_name] = shift.astype(np.float32).reshape(shape)
    graph.shapes[scaled] = graph.shapes.get(node.inputs[0], ())
    position = graph.nodes.index(node)
    graph.nodes[position : position + 1] = [
        Node("Mul", f"{node.name}@mul", [node.inputs[0], gain_name], [scaled]),
        Node("Add", f"{node.name}@add", [scaled, shift_name], node.outputs),
    ]


def _pad_amounts(graph: Graph, node: Node) -> list[int]:
    if node.attributes.get("mode", b"constant") != b"constant":
        raise unsupported(node.name, "Pad", f"mode {node.attributes['mode'].decode()}", ["constant zero"])
    if len(node.inputs) < 2:  # before opset 11
        return [int(amount) for amount in node.attributes["pads"]]
    if any(name and name not in graph.constants for name in node.inputs[1:]):
        raise unsupported(node.name, "Pad", "its amounts are computed", ["constant amounts"])
    if len(node.inputs) > 2 and node.inputs[2] and float(graph.constants[node.inputs[2]].reshape(-1)[0]) != 0:
        raise unsupported(node.name, "Pad", "its value is not 0", ["constant zero"])
    if len(node.inputs) > 3 and node.inputs[3]:
        raise unsupported(node.name, "Pad", "it names axes", ["Pad of all four axes"])
    return [int(amount) for amount in graph.constants[node.inputs[1]]]
