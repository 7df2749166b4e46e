"""Reads an ONNX file into a small graph: nodes in order, constants evaluated, shapes inferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from mobile_multimodal.compile.errors import UnsupportedOperationError
from mobile_multimodal.errors import ModelFormatError, NotFoundError

Array = NDArray[Any]
# Constants larger than this are weights: operations on them are not evaluated ahead of time, but for those that give
# each weight its value (weights stored as integers with a scale).
MAX_FOLDED_ELEMENTS = 1 << 16
_DEQUANTIZING = ("Cast", "Mul", "Sub", "DequantizeLinear", "Identity")


@dataclass
class Node:
    """One operation of the graph. Fused nodes keep their extra parts in `attributes`."""

    operation: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """Nodes in an order in which each reads only what came before."""

    nodes: list[Node]
    constants: dict[str, Array]
    inputs: list[str]
    outputs: list[str]
    shapes: dict[str, tuple[int | None, ...]]
    properties: dict[str, str]

    def producer(self, name: str) -> Node | None:
        """The node that writes a value; None for inputs and constants."""
        return next((node for node in self.nodes if name in node.outputs), None)

    def readers(self, name: str) -> list[Node]:
        """The nodes that read a value."""
        return [node for node in self.nodes if name in node.inputs]

    def only_reader(self, name: str) -> Node | None:
        """The node that alone reads a value that is no output of the graph."""
        readers = self.readers(name)
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def rename(self, old: str, new: str) -> None:
        """Lets every reader of `old`, and the outputs, use `new`."""
        for node in self.nodes:
            node.inputs = [new if name == old else name for name in node.inputs]
        self.outputs = [new if name == old else name for name in self.outputs]


def load_graph(path: Path, input_shape: Sequence[int] | None = None) -> Graph:
    """The graph of an ONNX file with one main graph, without control flow.

    input_shape: stands for the shape of the one input where the file leaves sizes open.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no ONNX file {path}", hint="check the path.")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
        if input_shape is not None:
            _fix_input_shape(model.graph, input_shape)
        model = shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise ModelFormatError(f"{path} is not a valid ONNX file: {error}", hint="export it again.") from error
    return graph_of(model)


def _fix_input_shape(proto: onnx.GraphProto, shape: Sequence[int]) -> None:
    """Gives the one input a shape and forgets every other one, so that all are inferred from it."""
    held = {item.name for item in proto.initializer}
    (info,) = (item for item in proto.input if item.name not in held)
    dims = info.type.tensor_type.shape.dim
    if len(dims) != len(shape):
        raise ValueError(f"input `{info.name}` has {len(dims)} dimensions, expected {len(shape)}")
    for dim, size in zip(dims, shape, strict=True):
        dim.Clear()
        dim.dim_value = size
    del proto.value_info[:]
    for output in proto.output:
        output.type.tensor_type.ClearField("shape")


def graph_of(model: onnx.ModelProto) -> Graph:
    """The graph of a loaded model."""
    proto = model.graph
    constants = {item.name: numpy_helper.to_array(item) for item in proto.initializer}
    shapes: dict[str, tuple[int | None, ...]] = {name: tuple(array.shape) for name, array in constants.items()}
    for info in (*proto.input, *proto.value_info, *proto.output):
        if info.type.tensor_type.HasField("shape"):
            dims = info.type.tensor_type.shape.dim
            shapes[info.name] = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
    nodes: list[Node] = []
    for index, item in enumerate(proto.node):
        name = item.name or f"node {index}"
        if item.domain not in ("", "ai.onnx"):
            raise UnsupportedOperationError(
                f"node `{name}` ({item.domain}::{item.op_type}) belongs to no standard operator set",
                hint="export with the standard ONNX operators alone.",
            )
        if all(source in constants or source == "" for source in item.input) and _is_small(item, constants):
            for output, value in zip(item.output, _evaluate(item, constants, model), strict=True):
                constants[output] = np.asarray(value)
                shapes[output] = constants[output].shape
            continue
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in item.attribute}
        nodes.append(Node(item.op_type, name, list(item.input), list(item.output), attributes))
    return Graph(
        nodes=nodes,
        constants=constants,
        inputs=[item.name for item in proto.input if item.name not in constants],
        outputs=[item.name for item in proto.output],
        shapes=shapes,
        properties={item.key: item.value for item in model.metadata_props},
    )


def _is_small(item: onnx.NodeProto, constants: dict[str, Array]) -> bool:
    if item.op_type == "Constant" or item.op_type in _DEQUANTIZING:
        return True
    return sum(constants[name].size for name in item.input if name) <= MAX_FOLDED_ELEMENTS


def _evaluate(item: onnx.NodeProto, constants: dict[str, Array], model: onnx.ModelProto) -> list[Array]:
    """The outputs of a node whose inputs are all known."""
    names = [name for name in dict.fromkeys(item.input) if name]
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(constants[name].dtype), None)
        for name in names
    ]
    outputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in item.output]
    graph = onnx.helper.make_graph([item], "constant", inputs, outputs)
    single = onnx.helper.make_model(graph, opset_imports=model.opset_import)
    results = ReferenceEvaluator(single).run(None, {name: constants[name] for name in names})
    return [np.asarray(result) for result in results]
