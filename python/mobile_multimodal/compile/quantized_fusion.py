"""Rewrites that pay only with 8-bit weights: pairs of products, joined pictures inside a convolution, chained blocks.

Each keeps what would be a whole picture in memory inside one instruction: the wide rows between two products, the
pictures that a Concat would copy, the picture between two transposed convolutions. And inverted bottlenecks pass codes
of a byte from product to depthwise convolution to product, where floats would take four.
"""

from __future__ import annotations

from mobile_multimodal.compile.fusion import is_linear
from mobile_multimodal.compile.onnx_graph import Graph, Node
from mobile_multimodal.compile.onnx_pictures import repeat_factors
from mobile_multimodal.model.program import ACTIVATIONS

# From so many inputs on a dense convolution gains from int8: below, gathering windows costs more than multiplying
# floats (measured with 2 x 2 windows of 8 and 16 channels and 3 x 3 of 3).
MIN_PACKED_INPUTS = 128
MAX_SOURCES = 5
_RELU6 = ACTIVATIONS.index("relu6")


def fuse_quantized(graph: Graph) -> Graph:
    """Applies every rewrite. Changes the graph in place."""
    chain_transposed(graph)
    join_sources(graph)
    pair_products(graph)
    pass_codes(graph)
    return graph


def is_packed_convolution(graph: Graph, node: Node) -> bool:
    """True for a dense convolution that becomes one with 8-bit weights."""
    if node.operation != "Conv" or is_linear(graph, node) or node.attributes.get("group", 1) != 1:
        return False
    weight = graph.constants.get(node.inputs[1])
    return weight is not None and weight.ndim == 4 and weight[0].size >= MIN_PACKED_INPUTS


def chain_transposed(graph: Graph) -> None:
    """ConvTranspose after ConvTranspose becomes one: two products of the same pixel, the second block by block."""
    for node in list(graph.nodes):
        before = graph.producer(node.inputs[0]) if node.operation == "ConvTranspose" else None
        if before is None or before.operation != "ConvTranspose" or "second" in before.attributes:
            continue
        if graph.only_reader(node.inputs[0]) is node and _is_apart(graph, before) and _is_apart(graph, node):
            graph.nodes.remove(before)
            node.attributes["first"] = before
            node.inputs = [before.inputs[0], *node.inputs[1:]]


def join_sources(graph: Graph) -> None:
    """A convolution of joined pictures reads the pictures themselves, those repeated by Resize in their own size."""
    for node in graph.nodes:
        if not is_packed_convolution(graph, node):
            continue
        concat = graph.producer(node.inputs[0])
        if concat is None or concat.operation != "Concat" or len(concat.inputs) > MAX_SOURCES:
            continue
        if graph.only_reader(node.inputs[0]) is not node or concat.attributes["axis"] % 4 != 1:
            continue
        full = graph.shapes.get(concat.inputs[0], ())[2:]
        sources = []
        for name in concat.inputs:
            resize = graph.producer(name)
            sources.append(name)
            if resize is None or resize.operation != "Resize" or "residual" in resize.attributes:
                continue
            if graph.only_reader(name) is concat and repeat_factors(graph, resize) is not None:
                sources[-1] = resize.inputs[0]
        if all(graph.shapes.get(name, ())[2:] != full for name in sources):
            continue  # one of them must tell the size
        node.attributes["sources"] = sources
        graph.nodes.remove(concat)
        node.inputs = [sources[0], *node.inputs[1:]]
        _drop_unread(graph)


def pair_products(graph: Graph) -> None:
    """A product over pixels of a product over pixels becomes one node, with its residual and the gate before it."""
    for node in list(graph.nodes):
        if node not in graph.nodes or not _is_over_pixels(graph, node):
            continue
        first = graph.producer(node.inputs[0])
        if first is None or not _is_over_pixels(graph, first) or "residual" in first.attributes:
            continue
        if graph.only_reader(node.inputs[0]) is not node or {"first", "statistics"} & set(first.attributes):
            continue
        x, residual = first.inputs[0], node.attributes.get("residual")
        if residual not in (None, x):
            continue
        graph.nodes.remove(first)
        node.attributes["first"] = first
        node.inputs = [x, *node.inputs[1:]]
        _take_gate(graph, node)


def pass_codes(graph: Graph) -> None:
    """Product, depthwise convolution, product, with a ReLU6 after the first two: their results pass as codes.

    A ReLU6 says itself what the largest code stands for. Ranges from batch norm's statistics were no better: on
    photographs channels reach 18 deviations above their mean (docs/experiments/0010-codes-between-layers.md).
    """
    for node in graph.nodes:
        before, after = graph.producer(node.inputs[0]), graph.only_reader(node.outputs[0])
        if before is None or after is None or not is_depthwise(graph, node):
            continue
        if graph.only_reader(node.inputs[0]) is not node or "residual" in before.attributes:
            continue
        is_read_once = after.inputs.count(node.outputs[0]) == 1 and after.inputs[0] == node.outputs[0]
        if not is_read_once or not _is_over_pixels(graph, before) or not _is_over_pixels(graph, after):
            continue
        if all(part.attributes.get("activation") == _RELU6 for part in (before, node)):
            before.attributes["gives_codes"] = node.attributes["gives_codes"] = True


def is_depthwise(graph: Graph, node: Node) -> bool:
    """A convolution with constant weights and a bias, of one channel each."""
    if node.operation != "Conv" or len(node.inputs) < 3 or any(name not in graph.constants for name in node.inputs[1:]):
        return False
    weight = graph.constants[node.inputs[1]]
    return weight.ndim == 4 and weight.shape[1] == 1 and node.attributes.get("group", 1) == weight.shape[0] > 1


def _take_gate(graph: Graph, node: Node) -> None:
    """mul(x, gate) whose product the pair alone reads moves into it."""
    product = graph.producer(node.inputs[0])
    if product is None or product.operation != "Mul" or set(map(id, graph.readers(node.inputs[0]))) != {id(node)}:
        return
    for x, gate in (product.inputs, product.inputs[::-1]):
        is_gate = gate not in graph.constants and graph.shapes.get(gate, ())[2:] == (1, 1)
        if is_gate and x not in graph.constants and product.outputs[0] not in graph.outputs:
            graph.nodes.remove(product)
            node.attributes["gate"] = gate
            old = node.inputs[0]
            node.inputs = [x, *(gate if name == old else name for name in node.inputs[1:])]
            return


def _is_over_pixels(graph: Graph, node: Node) -> bool:
    shape = graph.shapes.get(node.inputs[0], ()) if node.inputs else ()
    return (
        node.operation == "Conv" and is_linear(graph, node) and shape[2:] != (1, 1) and "first" not in node.attributes
    )


def _is_apart(graph: Graph, node: Node) -> bool:
    """A transposed convolution whose windows do not overlap, and that one product expresses."""
    weight = graph.constants.get(node.inputs[1])
    side = () if weight is None else weight.shape[2:]
    return len(side) == 2 and side[0] == side[1] and list(node.attributes.get("strides", [1, 1])) == list(side)


def _drop_unread(graph: Graph) -> None:
    """Removes the Resize nodes that nothing reads any more."""
    for node in list(graph.nodes):
        if node.operation == "Resize" and not graph.readers(node.outputs[0]) and node.outputs[0] not in graph.outputs:
            graph.nodes.remove(node)
