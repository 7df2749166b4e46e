"""The linear layers of SmolLM2-135M alone, with the same codes in this core and in ONNX Runtime's MatMulNBits.

For each shape one graph: the sum over 30 layers of W x, with other weights in each layer, so that they come from where
a model's weights come from, and nothing can be left out. Value: scale[row] * (code - zero), zero 1.5 (2 bits) or 7.5
(4 bits) in this core. MatMulNBits takes whole zeros: 2 and 8, and half a scale times the sum of x is added, once a
graph rather than once a layer, which is in its favour. Its scales stand for 64 weights each (576 divides by no more).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from race.cache import cache_folder, made
from race.engine import Array

from mobile_multimodal import native
from mobile_multimodal.compile.container import ALIGNMENT, ARCHITECTURE, Metadata, add_programs, write_container
from mobile_multimodal.compile.pack import linear
from mobile_multimodal.compile.program import ProgramBuilder, TensorStore
from mobile_multimodal.compile.weight_codes import QuantizedMatrix

LAYERS = 30
SHAPES = {"qkv": (960, 576), "attention_out": (576, 576), "gate_up": (3072, 576), "down": (576, 1536)}
ROWS = (1, 64)
BLOCK = 64
WORKLOADS = {f"{shape}_rows_{rows}": (shape, rows) for rows in ROWS for shape in SHAPES}


@dataclass(frozen=True)
class Matrix:
    """Codes [rows, columns] and a scale a row."""

    codes: Array
    scale: Array


def draw_matrices(shape: str, bits: int) -> list[Matrix]:
    """The same random weights for every engine, one matrix a layer."""
    rows, columns = SHAPES[shape]
    random = np.random.default_rng([bits, *shape.encode()])
    return [
        Matrix(
            random.integers(0, 1 << bits, (rows, columns), dtype=np.uint8),
            (random.uniform(0.5, 1.5, rows) / columns**0.5).astype(np.float32),
        )
        for _ in range(LAYERS)
    ]


def weights_of(shape: str) -> int:
    """Weights of all layers of a shape."""
    return LAYERS * SHAPES[shape][0] * SHAPES[shape][1]


def activations(shape: str, rows: int) -> Array:
    """Rows of the input, normally distributed."""
    return np.random.default_rng(7).standard_normal((rows, SHAPES[shape][1])).astype(np.float32)


class LinearEngine:
    """Runs the graph of a shape on so many rows."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._inputs = {name: activations(*WORKLOADS[name]) for name in WORKLOADS}

    def warm_up(self, workload: str) -> None:
        self.run(workload)

    def prepare(self, workload: str) -> None:
        pass

    def run(self, workload: str) -> None:
        self._run(WORKLOADS[workload][0], self._inputs[workload])

    def answer(self) -> dict[str, Array]:
        """The output of each graph."""
        return {name: self._run(WORKLOADS[name][0], self._inputs[name]) for name in WORKLOADS}


def open_core(bits: int, threads: int) -> LinearEngine:
    """A program for each shape, in one model file."""
    session = native.Session(native.Engine(str(_core_file(bits))), threads)
    return LinearEngine(lambda shape, x: session.run(shape, {"x": x})["y"])


def open_onnxruntime(bits: int, threads: int, with_table: bool = False) -> LinearEngine:
    """A session for each shape. with_table: products looked up in tables (session option mlas.use_lut_gemm)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    if with_table:
        options.add_session_config_entry("mlas.use_lut_gemm", "1")
    sessions = {
        shape: onnxruntime.InferenceSession(_onnx_graph(shape, bits), options, providers=["CPUExecutionProvider"])
        for shape in SHAPES
    }
    return LinearEngine(lambda shape, x: sessions[shape].run(None, {"x": x})[0])


def _core_file(bits: int) -> Path:
    def write(path: Path) -> None:
        tensors, programs = TensorStore(), []
        for shape in SHAPES:
            builder = ProgramBuilder(shape, tensors)
            x, y = builder.input("x", "f32"), None
            for layer, matrix in enumerate(draw_matrices(shape, bits)):
                weight = QuantizedMatrix(matrix.codes, matrix.scale, bits, (1 << bits) - 1)
                y = linear(builder, f"linear.{shape}.{layer}", x, weight, residual=y)
            assert y is not None
            builder.output("y", y)
            programs.append(builder.finish())
        metadata = Metadata()
        metadata.string("general.architecture", ARCHITECTURE)
        metadata.u32("general.alignment", ALIGNMENT)
        metadata.u32("mm.format_version", 1)
        add_programs(metadata, programs, tensors, ())
        write_container(path, metadata, tensors)

    return made(cache_folder() / f"linear-layers-w{bits}.gguf", write)


def _onnx_graph(shape: str, bits: int) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    rows, columns = SHAPES[shape]
    nodes, initializers, parts = [], [], []
    half_scales = np.zeros(rows, np.float32)
    for layer, matrix in enumerate(draw_matrices(shape, bits)):
        packed = pack_blocks(matrix.codes, bits)
        scales = np.repeat(matrix.scale[:, None], columns // BLOCK, axis=1).reshape(-1)
        initializers += [
            numpy_helper.from_array(packed, f"b{layer}"),
            numpy_helper.from_array(np.ascontiguousarray(scales), f"s{layer}"),
        ]
        nodes.append(
            helper.make_node(
                "MatMulNBits",
                ["x", f"b{layer}", f"s{layer}"],
                [f"y{layer}"],
                domain="com.microsoft",
                K=columns,
                N=rows,
                bits=bits,
                block_size=BLOCK,
                accuracy_level=4,  # int8 activations
            )
        )
        parts.append(f"y{layer}")
        half_scales += matrix.scale / 2
    initializers += [numpy_helper.from_array(half_scales, "half"), numpy_helper.from_array(np.array([1]), "last")]
    nodes += [
        helper.make_node("ReduceSum", ["x", "last"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "half"], ["correction"]),
        helper.make_node("Sum", [*parts, "correction"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        shape,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", rows])],
        initializers,
    )
    operators = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=operators, ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def pack_blocks(codes: Array, bits: int) -> Array:
    """Codes [rows, columns] as MatMulNBits holds them: [rows, blocks, bytes], the first code in the lowest bits."""
    rows, columns = codes.shape
    each = 8 // bits
    shifts = np.arange(each, dtype=np.uint8) * np.uint8(bits)
    groups = codes.reshape(rows, columns // BLOCK, BLOCK // each, each)
    return np.bitwise_or.reduce(groups << shifts, axis=-1)
