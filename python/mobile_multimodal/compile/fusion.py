"""Rewrites an ONNX graph so that what one instruction of the core does is one node.

Folded or fused: padding into the convolution after it, batch norm into the weights before it, activations into the
convolution or matrix product before them, and a sum into the 1x1 convolution or matrix product it directly follows.
"""

from __future__ import annotations

import math

import numpy as np

from mobile_multimodal.compile.errors import unsupported
from mobile_multimodal.compile.onnx_graph import Graph, Node
from mobile_multimodal.model.program import ACTIVATIONS

WEIGHTED = ("Conv", "Gemm", "MatMul")
_SIMPLE_ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "HardSwish": "hard_swish", "Tanh": "tanh"}


def fuse(graph: Graph) -> Graph:
    """Applies every rewrite, in the order in which they feed each other. Changes the graph in place."""
    drop_identities(graph)
    name_gated_activations(graph)
    name_activations(graph)
    fold_pads(graph)
    fold_batch_norms(graph)
    fuse_activations(graph)
    fuse_residuals(graph)
    return graph


def drop_identities(graph: Graph) -> None:
    """Removes Identity and Dropout (which does nothing at inference)."""
    for node in list(graph.nodes):
        if node.operation in ("Identity", "Dropout"):
            graph.nodes.remove(node)
            graph.rename(node.outputs[0], node.inputs[0])


def name_gated_activations(graph: Graph) -> None:
    """x * sigmoid(x) becomes silu, x * hard_sigmoid(x) becomes hard_swish."""
    for node in list(graph.nodes):
        if node.operation != "Mul":
            continue
        for x, gate_name in (node.inputs, node.inputs[::-1]):
            gate = graph.producer(gate_name)
            if gate is None or gate.inputs[0] != x or graph.only_reader(gate_name) is not node:
                continue
            kind = _gate_kind(gate)
            if kind is not None:
                graph.nodes.remove(gate)
                _become_activation(node, kind, x)
                break


def name_activations(graph: Graph) -> None:
    """Every activation becomes a node `Activation` with attribute `kind`, an index into ACTIVATIONS."""
    for node in graph.nodes:
        if node.operation in _SIMPLE_ACTIVATIONS:
            _become_activation(node, _SIMPLE_ACTIVATIONS[node.operation], node.inputs[0])
        elif node.operation == "Gelu":
            if node.attributes.get("approximate", b"none") != b"none":
                raise unsupported(node.name, "Gelu", "its tanh approximation", ["Gelu with approximate=none"])
            _become_activation(node, "gelu", node.inputs[0])
        elif node.operation == "Clip":
            _become_activation(node, _clip_kind(graph, node), node.inputs[0])


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
        weight = graph.constants[before.inputs[1]].astype(np.float64)
        bias = graph.constants[before.inputs[2]].astype(np.float64) if len(before.inputs) > 2 else 0.0
        shape = (-1,) + (1,) * (weight.ndim - 1)
        # New names: another node may share the old weights.
        weight_name, bias_name = f"{before.inputs[1]}@{node.name}", f"{before.inputs[1]}.bias@{node.name}"
        graph.constants[weight_name] = (weight * gain.reshape(shape)).astype(np.float32)
        graph.constants[bias_name] = ((bias - mean) * gain + beta).astype(np.float32)
        before.inputs = [before.inputs[0], weight_name, bias_name]
        before.outputs = node.outputs
        before.attributes["statistics"] = (beta, np.abs(gamma))  # of its outputs, before the activation
        graph.nodes.remove(node)


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
    """linear(x) + y becomes linear(x, residual=y), in the place of the sum so that y is known by then."""
    for node in list(graph.nodes):
        if node.operation != "Add":
            continue
        for own, other in (node.inputs, node.inputs[::-1]):
            before = graph.producer(own)
            same_shape = graph.shapes.get(own) == graph.shapes.get(other) is not None
            if before is None or not same_shape or other in graph.constants or graph.only_reader(own) is not node:
                continue
            if is_linear(graph, before) and "residual" not in before.attributes:
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
        return node.operation in WEIGHTED
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


def _become_activation(node: Node, kind: str, x: str) -> None:
    node.operation, node.inputs, node.attributes = "Activation", [x], {"kind": ACTIVATIONS.index(kind)}


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


def _gate_kind(gate: Node) -> str | None:
    if gate.operation == "Sigmoid":
        return "silu"
    if gate.operation == "HardSigmoid":
        alpha, beta = gate.attributes.get("alpha", 0.2), gate.attributes.get("beta", 0.5)
        return "hard_swish" if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5 else None
    return None


def _clip_kind(graph: Graph, node: Node) -> str:
    bounds = [node.attributes.get("min", -math.inf), node.attributes.get("max", math.inf)]  # before opset 11
    for position, name in enumerate(node.inputs[1:3]):
        if name and name not in graph.constants:
            raise unsupported(node.name, "Clip", "its bounds are computed", ["constant bounds"])
        if name:
            bounds[position] = float(graph.constants[name])
    if bounds == [0, 6]:
        return "relu6"
    if bounds[0] == 0 and bounds[1] >= np.finfo(np.float32).max:
        return "relu"
    raise unsupported(node.name, "Clip", f"bounds {bounds}", ["0 to 6 (relu6)", "0 to infinity (relu)"])


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
