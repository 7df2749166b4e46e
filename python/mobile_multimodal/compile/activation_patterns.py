"""Finds activations in an ONNX graph, also those that exporters spell out in several nodes.

Every one becomes a node `Activation` with the attribute `kind`, an index into ACTIVATIONS.
"""

from __future__ import annotations

import math

import numpy as np

from mobile_multimodal.compile.errors import unsupported
from mobile_multimodal.compile.onnx_graph import Graph, Node
from mobile_multimodal.model.program import ACTIVATIONS

_SIMPLE_ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "HardSwish": "hard_swish", "Tanh": "tanh"}


def name_activations(graph: Graph) -> None:
    """Names what is gated, then what is written with erf, then the operations that are activations by themselves."""
    _name_gated(graph)
    _name_erf_gelus(graph)
    for node in list(graph.nodes):
        if node.operation in _SIMPLE_ACTIVATIONS:
            _become_activation(node, _SIMPLE_ACTIVATIONS[node.operation], node.inputs[0])
        elif node.operation == "Gelu":
            if node.attributes.get("approximate", b"none") != b"none":
                raise unsupported(node.name, "Gelu", "its tanh approximation", ["Gelu with approximate=none"])
            _become_activation(node, "gelu", node.inputs[0])
        elif node.operation == "Clip":
            _become_activation(node, _clip_kind(graph, node), node.inputs[0])
        elif node.operation == "HardSigmoid":
            _name_hard_sigmoid(graph, node)


def _name_gated(graph: Graph) -> None:
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


def _name_erf_gelus(graph: Graph) -> None:
    """0.5 * x * (1 + erf(x / sqrt(2))), its factors in any order, becomes gelu."""
    for erf in [node for node in graph.nodes if node.operation == "Erf"]:
        scaled = graph.producer(erf.inputs[0])
        x = None if scaled is None else _scaled_by(graph, scaled, math.sqrt(0.5))
        plus_one = graph.only_reader(erf.outputs[0])
        if scaled is None or x is None or plus_one is None or _constant_beside(graph, plus_one, "Add") != 1.0:
            raise unsupported(erf.name, "Erf", "it is not part of GELU", ["0.5 * x * (1 + erf(x / sqrt(2)))"])
        parts, last = [scaled, erf, plus_one], plus_one
        factors: list[str | float | None] = []
        while len(factors) < 2:
            product = graph.only_reader(last.outputs[0])
            if product is None or product.operation != "Mul":
                break
            factors.append(x if x in product.inputs else _constant_beside(graph, product, "Mul"))
            parts.append(product)
            last = product
        if set(factors) != {x, 0.5} or graph.only_reader(scaled.outputs[0]) is not erf:
            raise unsupported(erf.name, "Erf", f"its factors are {factors}", ["0.5 * x * (1 + erf(x / sqrt(2)))"])
        for part in parts[:-1]:
            graph.nodes.remove(part)
        _become_activation(last, "gelu", x)


def _name_hard_sigmoid(graph: Graph, node: Node) -> None:
    """clip(alpha * x + 1/2, 0, 1): ours has alpha 1/6, another one scales x first."""
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    if beta != 0.5 or alpha <= 0:
        raise unsupported(node.name, "HardSigmoid", f"alpha {alpha}, beta {beta}", ["HardSigmoid with beta 0.5"])
    x = node.inputs[0]
    if not math.isclose(alpha, 1 / 6, rel_tol=1e-5):
        factor, scaled = f"{node.name}@alpha", f"{node.outputs[0]}@scaled"
        graph.constants[factor] = np.asarray(6 * alpha, dtype=np.float32)
        graph.shapes[scaled] = graph.shapes.get(x, ())
        graph.nodes.insert(graph.nodes.index(node), Node("Mul", f"{node.name}@mul", [x, factor], [scaled]))
        x = scaled
    _become_activation(node, "hard_sigmoid", x)


def _become_activation(node: Node, kind: str, x: str) -> None:
    node.operation, node.inputs, node.attributes = "Activation", [x], {"kind": ACTIVATIONS.index(kind)}


def _gate_kind(gate: Node) -> str | None:
    if gate.operation == "Sigmoid":
        return "silu"
    if gate.operation == "HardSigmoid":
        alpha, beta = gate.attributes.get("alpha", 0.2), gate.attributes.get("beta", 0.5)
        return "hard_swish" if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5 else None
    return None


def _scaled_by(graph: Graph, node: Node, factor: float) -> str | None:
    """x where the node computes x * factor or x / (1 / factor)."""
    for x, other in (node.inputs, node.inputs[::-1]) if node.operation == "Mul" else (node.inputs,):
        value = _scalar(graph, other) if node.operation in ("Mul", "Div") else None
        if value is not None and math.isclose(value, factor if node.operation == "Mul" else 1 / factor, rel_tol=1e-5):
            return x
    return None


def _constant_beside(graph: Graph, node: Node, operation: str) -> float | None:
    """The single number that a sum or product has beside its computed input."""
    if node.operation != operation:
        return None
    return next((value for name in node.inputs if (value := _scalar(graph, name)) is not None), None)


def _scalar(graph: Graph, name: str) -> float | None:
    array = graph.constants.get(name)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


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
