"""Holds the state of one translation from ONNX: which value of the graph is which value of the program."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.compile import pack
from mobile_multimodal.compile.bias_correction import bias_shift, expected_output
from mobile_multimodal.compile.errors import unsupported
from mobile_multimodal.compile.onnx_graph import Graph, Node
from mobile_multimodal.compile.program import ProgramBuilder, Value
from mobile_multimodal.compile.weight_codes import FLOAT_BITS, QuantizedMatrix, Weight, quantize, symmetric_codes
from mobile_multimodal.errors import InvalidInputError

# What a step of the codes 0..127 stands for after a ReLU6.
CODE_UNIT = 6 / 127
_MEAN_KEEPING = ("GlobalAveragePool", "ReduceMean", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Rows")


class Importer:
    """The state of one translation: which ONNX value is which value of the program."""

    def __init__(self, graph: Graph, builder: ProgramBuilder, section: str, weight_bits: int) -> None:
        self.graph = graph
        self.builder = builder
        self.section = section
        self.weight_bits = weight_bits
        self.values: dict[str, Value] = {}
        # Expected value per channel, where batch norm tells it.
        self.means: dict[str, NDArray[np.float64]] = {}
        self._names: set[str] = set()

    @property
    def is_quantizing(self) -> bool:
        """Whether matrix products get packed weights."""
        return self.weight_bits != FLOAT_BITS

    def packed(self, weight: NDArray[np.float32]) -> QuantizedMatrix:
        """Codes of the translation's bits; asked for only while it is quantizing."""
        matrix = quantize(weight, self.weight_bits)
        assert isinstance(matrix, QuantizedMatrix)
        return matrix

    def value(self, name: str) -> Value:
        if name in self.values:
            return self.values[name]
        if name in self.graph.constants:
            raise InvalidInputError(f"`{name}` is constant", hint="drop constant outputs and inputs from the graph.")
        raise InvalidInputError(f"`{name}` is not computed by the graph", hint="export the ONNX file again.")

    def constant(self, node: Node, position: int) -> NDArray[np.float32] | None:
        """A constant input as float32; None when the node does not have it."""
        if len(node.inputs) <= position or node.inputs[position] == "":
            return None
        name = node.inputs[position]
        if name not in self.graph.constants:
            raise unsupported(node.name, node.operation, f"its input {position} is computed", ["constant weights"])
        return self.graph.constants[name].astype(np.float32)

    def rank(self, name: str) -> int:
        return len(self.graph.shapes.get(name, ()))

    def tensor_name(self, node: Node) -> str:
        """A readable, unique name from the weight's name: `blocks.3.expand.conv.weight@..` -> `blocks.3.expand`."""
        base = node.inputs[1].partition("@")[0].removesuffix(".weight").removesuffix(".w_0").removesuffix(".conv")
        base = re.sub(r"[^A-Za-z0-9_.]+", "_", base).strip("_.") or "weight"
        name, number = base, 2
        while name in self._names:
            name, number = f"{base}_{number}", number + 1
        self._names.add(name)
        return f"{self.section}.{name}"

    def is_pooled(self, name: str) -> bool:
        """True for [1, c, 1, 1]: products of one vector keep float weights, which cost nothing beside a picture's."""
        return self.graph.shapes.get(name, ())[2:] == (1, 1)

    def is_codes(self, name: str) -> bool:
        """Whether a value passes as codes (quantized_fusion.pass_codes)."""
        before = self.graph.producer(name)
        return before is not None and "gives_codes" in before.attributes

    def residual(self, node: Node) -> Value | None:
        name = node.attributes.get("residual")
        return None if name is None else self.value(name)

    def linear(self, node: Node, weight: NDArray[np.float32], bias: NDArray[np.float32] | None) -> None:
        """weight: [n, k]."""
        keeps_floats = not self.is_quantizing or self.is_pooled(node.inputs[0])
        expected = self.means.get(node.inputs[0])
        matrix: Weight = weight if keeps_floats else self.packed(weight)
        if isinstance(matrix, QuantizedMatrix) and expected is not None:
            shift = bias_shift(weight, matrix, expected)
            bias = shift if bias is None else bias + shift
        if isinstance(matrix, QuantizedMatrix) and self.is_codes(node.inputs[0]):
            matrix = _scaled(matrix, CODE_UNIT)
        if isinstance(matrix, QuantizedMatrix) and self.is_codes(node.outputs[0]):
            matrix, bias = _scaled(matrix, 1 / CODE_UNIT), None if bias is None else bias / np.float32(CODE_UNIT)
            value = self.value(node.inputs[0])
            self.values[node.outputs[0]] = pack.linear_codes(self.builder, self.tensor_name(node), value, matrix, bias)
            return
        self.values[node.outputs[0]] = pack.linear(
            self.builder,
            self.tensor_name(node),
            self.value(node.inputs[0]),
            matrix,
            bias=bias,
            residual=self.residual(node),
            activation=node.attributes.get("activation", 0),
        )

    def linear_pair(
        self,
        node: Node,
        first_weight: NDArray[np.float32],
        first_bias: NDArray[np.float32] | None,
        second_weight: NDArray[np.float32],
        second_bias: NDArray[np.float32] | None,
    ) -> None:
        """Two products over pixels; `node` is the second, its attribute `first` the first."""
        first: Node = node.attributes["first"]
        gate = node.attributes.get("gate")
        self.values[node.outputs[0]] = pack.linear_pair(
            self.builder,
            (self.tensor_name(first), self.tensor_name(node)),
            self.value(node.inputs[0]),
            (self.packed(first_weight), self.packed(second_weight)),
            (first_bias, second_bias),
            (first.attributes.get("activation", 0), node.attributes.get("activation", 0)),
            has_residual="residual" in node.attributes,
            gate=None if gate is None else self.value(gate),
        )

    def depthwise_codes(
        self, node: Node, weight: NDArray[np.float32], bias: NDArray[np.float32], window: list[int]
    ) -> None:
        """A depthwise convolution from codes to codes; weight: [channels, kernel_h, kernel_w]."""
        matrix = symmetric_codes(weight.reshape(len(weight), -1))
        expected = self.means.get(node.inputs[0])
        if expected is not None:
            error = weight.reshape(len(weight), -1) - matrix.dequantized()
            bias = bias + (error.sum(axis=1) * expected).astype(np.float32)
        name, tensor = self.tensor_name(node), self.builder.tensor
        levels = (matrix.codes.astype(np.int16) - matrix.zero2 // 2).astype(np.int8)
        table = levels.reshape(weight.shape).transpose(1, 2, 0)
        inputs = [
            self.value(node.inputs[0]),
            tensor(f"{name}.weight", np.ascontiguousarray(table)),
            tensor(f"{name}.scale", matrix.scale),
            tensor(f"{name}.bias", bias / np.float32(CODE_UNIT)),
        ]
        self.values[node.outputs[0]] = self.builder.apply("conv2d_depthwise_codes", inputs, window)

    def packed_convolution(
        self, node: Node, weight: NDArray[np.float32], bias: NDArray[np.float32] | None, window: list[int]
    ) -> None:
        """A dense convolution with packed weights, of one picture or of several whose channels stand side by side."""
        outputs, channels, kernel_h, kernel_w = weight.shape
        rows = np.ascontiguousarray(weight.transpose(0, 2, 3, 1).reshape(outputs, -1))
        matrix = self.packed(rows)
        sources = node.attributes.get("sources", [node.inputs[0]])
        expected = self.means.get(sources[0]) if len(sources) == 1 else None
        if expected is not None:
            shift = bias_shift(rows, matrix, np.tile(expected, kernel_h * kernel_w))
            bias = shift if bias is None else bias + shift
        name = self.tensor_name(node)
        packed, scale = pack.matrix_tensors(self.builder, name, matrix)
        offset = None if bias is None else self.builder.tensor(f"{name}.bias", bias)
        first, *more = (self.value(source) for source in sources)
        attributes = [matrix.bits, outputs, matrix.zero2, kernel_h, kernel_w, *window]
        self.values[node.outputs[0]] = self.builder.apply(
            "conv2d_packed", [first, packed, scale, offset, *more], attributes
        )

    def follow_means(self, node: Node) -> None:
        """Notes the expected value of a node's result, if it can be known."""
        if "statistics" in node.attributes:
            before_mean, before_deviation = node.attributes["statistics"]
            mean = expected_output(before_mean, before_deviation, node.attributes.get("activation", 0))
            if "residual" in node.attributes:
                other = self.means.get(node.attributes["residual"])
                if other is None:
                    return
                mean = mean + other
        elif node.operation == "Add" and all(name in self.means for name in node.inputs):
            mean = self.means[node.inputs[0]] + self.means[node.inputs[1]]
        elif node.operation in _MEAN_KEEPING and node.inputs[0] in self.means:
            mean = self.means[node.inputs[0]]
        else:
            return
        self.means[node.outputs[0]] = mean


def _scaled(matrix: QuantizedMatrix, factor: float) -> QuantizedMatrix:
    return replace(matrix, scale=matrix.scale * np.float32(factor))
