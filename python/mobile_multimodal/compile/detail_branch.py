"""Builds the encoder's second branch: `encode_image` gives the trunk beside its features, `encode_details` goes on.

Captions and retrieval read the first branch, which is not touched: its instructions and weights stay bit for bit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mobile_multimodal.compile.image_encoder import SECTION as ENCODER
from mobile_multimodal.compile.pack import linear
from mobile_multimodal.compile.program import ProgramBuilder, TensorStore, Value
from mobile_multimodal.compile.trained_weights import TrainedWeights
from mobile_multimodal.compile.weight_codes import FLOAT_BITS, quantize
from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.model.program import ACTIVATIONS, Program

SECTION = "details"
PROGRAM = "encode_details"
TRUNK = "trunk"
_NONE, _RELU6 = ACTIVATIONS.index("none"), ACTIVATIONS.index("relu6")


def with_trunk(program: Program, first_block: int) -> Program:
    """`encode_image` with one output more: what the block before `first_block` gives."""
    prefix = f"{ENCODER}.blocks.{first_block - 1}."
    slots = [
        step.outputs[0]
        for step in program.instructions
        if any(name.startswith(prefix) for name in _tensors_of(program, step.inputs))
    ]
    if not slots:
        raise InvalidInputError(
            f"the image encoder has no block {first_block - 1}, where the second branch starts",
            hint="build it with the encoder that the tower was trained on.",
        )
    plain = without_trunk(program)
    return replace(plain, outputs=(*plain.outputs, TRUNK), output_slots=(*plain.output_slots, slots[-1]))


def without_trunk(program: Program) -> Program:
    """The program as it is for captions alone."""
    kept = [(n, s) for n, s in zip(program.outputs, program.output_slots, strict=True) if n != TRUNK]
    return replace(program, outputs=tuple(n for n, _ in kept), output_slots=tuple(s for _, s in kept))


def build_encode_details(checkpoint: TrainedWeights, tensors: TensorStore, bits: int) -> Program:
    """The program `encode_details`: trunk [side, side, width] -> features [side, side, feature_width].

    bits: of the matrices; depthwise convolutions stay in float32, as in the first branch.
    """
    branch = _Branch(checkpoint, ProgramBuilder(PROGRAM, tensors), bits)
    x = branch.builder.input(TRUNK, "f32")
    for index in range(_count_blocks(checkpoint)):
        x = branch.block(f"blocks.{index}", x)
    branch.builder.output("features", branch.linear("head", x, activation=_RELU6))
    return branch.builder.finish()


class _Branch:
    """Looks weights up by their names and appends the instructions that use them."""

    def __init__(self, checkpoint: TrainedWeights, builder: ProgramBuilder, bits: int) -> None:
        self.builder = builder
        self._checkpoint, self._bits = checkpoint, bits

    def block(self, name: str, x: Value) -> Value:
        wide = self.linear(f"{name}.expand", x, activation=_RELU6)
        weight, bias = (self._checkpoint.weights[f"{SECTION}.{name}.depthwise.{part}"] for part in ("weight", "bias"))
        table = np.ascontiguousarray(weight[:, 0].transpose(1, 2, 0))
        pad = weight.shape[-1] // 2
        places = [
            self.builder.tensor(f"{SECTION}.{name}.depthwise.{part}", array)
            for part, array in (("weight", table), ("bias", bias))
        ]
        wide = self.builder.apply("conv2d_depthwise", [wide, *places], [1, 1, pad, pad, pad, pad, _RELU6])
        outputs, _ = self._checkpoint.weights[f"{SECTION}.{name}.project.weight"].shape
        _, inputs = self._checkpoint.weights[f"{SECTION}.{name}.expand.weight"].shape
        return self.linear(f"{name}.project", wide, residual=x if inputs == outputs else None)

    def linear(self, name: str, x: Value, *, residual: Value | None = None, activation: int = _NONE) -> Value:
        weight, bias = (self._checkpoint.weights[f"{SECTION}.{name}.{part}"] for part in ("weight", "bias"))
        matrix = quantize(weight, FLOAT_BITS if self._bits == FLOAT_BITS else 8)
        return linear(self.builder, f"{SECTION}.{name}", x, matrix, bias=bias, residual=residual, activation=activation)


def _count_blocks(checkpoint: TrainedWeights) -> int:
    prefix = f"{SECTION}.blocks."
    return len({name.removeprefix(prefix).partition(".")[0] for name in checkpoint.weights if name.startswith(prefix)})


def _tensors_of(program: Program, slots: tuple[int | None, ...]) -> list[str]:
    first = len(program.inputs)
    return [
        program.tensors[slot - first] for slot in slots if slot is not None and 0 <= slot - first < len(program.tensors)
    ]
