"""Drops the changes of layout that text recognizers make around their sequence layers.

A picture of height 1, [n, c, 1, w], is squeezed to [n, c, w], turned to [n, w, c] and back. Channels last, all of these
are the same memory, so that only the meaning of axes is followed: changes that undo each other go, a Squeeze of the
height moves behind what works per channel, and Squeeze with Transpose becomes one node `Rows`.
"""

from __future__ import annotations

from mobile_multimodal.compile.onnx_graph import Graph, Node

_PER_CHANNEL = ("BatchNormalization", "Activation")


def drop_layout_changes(graph: Graph) -> None:
    """Applies the rules until none fits. Changes the graph in place."""
    while any(_drop_pair(graph, node) or _sink_squeeze(graph, node) for node in list(graph.nodes)):
        pass
    for node in list(graph.nodes):
        _name_rows(graph, node)


def axes_of(graph: Graph, node: Node) -> list[int] | None:
    """The axes of a Squeeze or Unsqueeze, an attribute before opset 13 and an input since."""
    if "axes" in node.attributes:
        return [int(axis) for axis in node.attributes["axes"]]
    if len(node.inputs) > 1 and node.inputs[1] in graph.constants:
        return [int(axis) for axis in graph.constants[node.inputs[1]].reshape(-1)]
    return None


def _drop_pair(graph: Graph, node: Node) -> bool:
    """x -> change -> its inverse becomes x."""
    before = graph.producer(node.inputs[0]) if node in graph.nodes and node.inputs else None
    if before is None or not _undoes(graph, node, before):
        return False
    graph.nodes.remove(node)
    graph.rename(node.outputs[0], before.inputs[0])
    if not graph.readers(before.outputs[0]) and before.outputs[0] not in graph.outputs:
        graph.nodes.remove(before)
    return True


def _undoes(graph: Graph, node: Node, before: Node) -> bool:
    if (node.operation, before.operation) == ("Transpose", "Transpose"):
        first, second = before.attributes.get("perm"), node.attributes.get("perm")
        return first is not None and second is not None and [first[i] for i in second] == list(range(len(first)))
    if (node.operation, before.operation) == ("Unsqueeze", "Squeeze"):
        return axes_of(graph, node) == axes_of(graph, before) == [2]
    return False


def _sink_squeeze(graph: Graph, node: Node) -> bool:
    """Squeeze -> per channel becomes per channel -> Squeeze."""
    if node not in graph.nodes or node.operation != "Squeeze" or axes_of(graph, node) != [2]:
        return False
    reader = graph.only_reader(node.outputs[0])
    if reader is None or reader.operation not in _PER_CHANNEL:
        return False
    source, squeezed, result = node.inputs[0], node.outputs[0], reader.outputs[0]
    wide = f"{result}@picture"
    graph.shapes[wide] = graph.shapes.get(source, ())
    graph.shapes[result] = graph.shapes.get(squeezed, ())
    reader.inputs = [source, *reader.inputs[1:]]
    reader.outputs = [wide]
    node.inputs, node.outputs = [wide, *node.inputs[1:]], [result]
    graph.nodes.remove(node)
    graph.nodes.insert(graph.nodes.index(reader) + 1, node)
    return True


def _name_rows(graph: Graph, node: Node) -> None:
    """Squeeze of the height and Transpose to [n, w, c] are one step: a picture's pixels as rows."""
    if node.operation != "Transpose" or list(node.attributes.get("perm", ())) != [0, 2, 1]:
        return
    squeeze = graph.producer(node.inputs[0])
    if squeeze is None or squeeze.operation != "Squeeze" or axes_of(graph, squeeze) != [2]:
        return
    if graph.only_reader(node.inputs[0]) is node and len(graph.shapes.get(squeeze.inputs[0], ())) == 4:
        graph.nodes.remove(squeeze)
        node.operation, node.inputs, node.attributes = "Rows", [squeeze.inputs[0]], {}
