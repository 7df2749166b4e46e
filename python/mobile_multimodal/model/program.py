"""Names the operations of a model file and reads and writes their instruction words (docs/model-format.md)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from mobile_multimodal.errors import ModelFormatError

NO_SLOT = 0xFFFFFFFF
ACTIVATIONS = ("none", "relu", "relu6", "silu", "gelu", "sigmoid", "hard_swish", "tanh", "hard_sigmoid")
INPUT_TYPES = ("f32", "u8", "i32")


@dataclass(frozen=True)
class Operation:
    """What one operation takes: names of inputs (a trailing ? marks an optional one) and of attributes.

    An attribute is `name` (int32), `name:f` (float32) or, alone and last, `name...` (any number of int32).
    """

    inputs: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    outputs: int = 1

    @property
    def required_inputs(self) -> int:
        return sum(not name.endswith("?") for name in self.inputs)

    @property
    def is_variadic(self) -> bool:
        return bool(self.attributes) and self.attributes[-1].endswith("...")


_WINDOW = ("stride_h", "stride_w", "pad_top", "pad_left", "pad_bottom", "pad_right")
_CONVOLUTION = (*_WINDOW, "activation")
_POOL = ("kernel_h", "kernel_w", *_WINDOW)
_FIRST = ("bits_1", "zero2_1", "activation_1")
_SECOND = ("bits_2", "zero2_2", "activation_2")
_HEADS = ("heads", "kv_heads", "head_dim")

OPERATIONS: dict[str, Operation] = {
    "image_normalize": Operation(
        ("x",), ("mean_r:f", "mean_g:f", "mean_b:f", "inverse_std_r:f", "inverse_std_g:f", "inverse_std_b:f")
    ),
    "conv2d": Operation(("x", "w", "bias?"), _CONVOLUTION),
    "conv2d_depthwise": Operation(("x", "w", "bias?"), _CONVOLUTION),
    "conv2d_depthwise_codes": Operation(("x", "w", "scale", "bias"), _WINDOW),
    "conv2d_packed": Operation(
        ("x", "packed", "scale", "bias?", "x2?", "x3?", "x4?", "x5?"),
        ("bits", "n", "zero2", "kernel_h", "kernel_w", *_CONVOLUTION),
    ),
    "linear": Operation(("x", "packed", "scale", "bias?", "residual?"), ("bits", "n", "k", "zero2", "activation")),
    "linear_codes": Operation(("x", "packed", "scale", "bias?"), ("bits", "n", "k", "zero2")),
    "linear_pair": Operation(
        ("x", "packed_1", "scale_1", "packed_2", "scale_2", "bias_1?", "bias_2?", "gate?"),
        ("k", "hidden", "n", *_FIRST, *_SECOND, "residual"),
    ),
    "linear_f32": Operation(("x", "w", "bias?", "residual?"), ("activation",)),
    "add": Operation(("a", "b")),
    "mul": Operation(("a", "b")),
    "activation": Operation(("x",), ("activation",)),
    "silu_mul": Operation(("x",)),
    "rms_norm": Operation(("x", "weight"), ("epsilon:f",)),
    "layer_norm": Operation(("x", "weight", "bias"), ("epsilon:f",)),
    "softmax": Operation(("x",)),
    "hadamard": Operation(("x",), ("block",)),
    "rope": Operation(("x", "positions"), ("heads", "head_dim", "theta:f")),
    "attention": Operation(("qkv",), _HEADS),
    "attention_cached": Operation(("qkv", "positions", "sequences"), ("key_state", "value_state", *_HEADS)),
    "state_write": Operation(("x",), ("state",), outputs=0),
    "attention_memory": Operation(("q",), ("state", *_HEADS)),
    "embedding": Operation(("tokens", "packed", "scale"), ("bits", "n", "k", "zero2")),
    "embedding_f32": Operation(("tokens", "table")),
    "global_average_pool": Operation(("x",)),
    "max_pool2d": Operation(("x",), _POOL),
    "average_pool2d": Operation(("x",), _POOL),
    "reshape": Operation(("x",), ("dims...",)),
    "last_row": Operation(("x",)),
    "concat": Operation(("a", "b", "c?", "d?", "e?", "f?", "g?", "h?")),
    "upsample_nearest": Operation(("x", "residual?"), ("factor_h", "factor_w")),
    "depth_to_space": Operation(("x",), ("block",)),
}


@dataclass(frozen=True)
class Instruction:
    """One step of a program. Slots are numbers; an absent optional input is None."""

    operation: str
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]
    attributes: tuple[int | float, ...]

    def attribute(self, name: str) -> int | float:
        """The attribute of that name."""
        for spec, value in zip(OPERATIONS[self.operation].attributes, self.attributes, strict=False):
            if spec.removesuffix(":f") == name:
                return value
        raise KeyError(name)


@dataclass(frozen=True)
class Program:
    """A flat list of instructions over slots: inputs first, then weights, then what instructions write."""

    name: str
    inputs: tuple[str, ...]
    input_types: tuple[str, ...]
    tensors: tuple[str, ...]
    slots: int
    outputs: tuple[str, ...]
    output_slots: tuple[int, ...]
    instructions: tuple[Instruction, ...]


def encode_words(instructions: Sequence[Instruction], operation_names: Sequence[str]) -> list[int]:
    """The u32 words of instructions; word 0 of each indexes operation_names."""
    index = {name: i for i, name in enumerate(operation_names)}
    words: list[int] = []
    for step in instructions:
        words += [index[step.operation], len(step.inputs), len(step.outputs), len(step.attributes)]
        words += [NO_SLOT if slot is None else slot for slot in step.inputs]
        words += step.outputs
        words += [_attribute_word(value) for value in step.attributes]
    return words


def decode_words(words: Sequence[int], operation_names: Sequence[str]) -> tuple[Instruction, ...]:
    """The inverse of encode_words; raises ModelFormatError where the words end early or name no known operation."""
    steps: list[Instruction] = []
    at = 0
    while at < len(words):
        header = words[at : at + 4]
        if len(header) < 4 or header[0] >= len(operation_names) or at + 4 + sum(header[1:]) > len(words):
            raise ModelFormatError(
                f"the program's code breaks off at word {at} of {len(words)}",
                hint="the file is damaged: build it again with `mobile-mm build`.",
            )
        name = operation_names[header[0]]
        if name not in OPERATIONS:
            raise ModelFormatError(
                f"operation `{name}` at word {at} is unknown to this version, which knows {', '.join(OPERATIONS)}",
                hint="the file was made by a newer version: update mobile-multimodal.",
            )
        at += 4
        inputs = tuple(None if word == NO_SLOT else word for word in words[at : at + header[1]])
        at += header[1]
        outputs = tuple(words[at : at + header[2]])
        at += header[2]
        values = words[at : at + header[3]]
        at += header[3]
        steps.append(Instruction(name, inputs, outputs, _attribute_values(name, values)))
    return tuple(steps)


def listing(program: Program) -> str:
    """The program as text, one instruction a line: `%12 = linear(%9, encoder.head.w8, ...) bits=8 ...`."""
    names: dict[int, str] = dict(enumerate((*program.inputs, *program.tensors)))
    lines = [f"program {program.name}"]
    typed = [f"{name}: {kind}" for name, kind in zip(program.inputs, program.input_types, strict=True)]
    lines.append(f"  inputs {', '.join(typed) or 'none'}")
    for step in program.instructions:
        arguments = ["-" if slot is None else names.get(slot, f"%{slot}") for slot in step.inputs]
        results = ", ".join(f"%{slot}" for slot in step.outputs)
        text = f"{step.operation}({', '.join(arguments)})"
        attributes = _attribute_text(step)
        lines.append("  " + (f"{results} = " if results else "") + text + (f" {attributes}" if attributes else ""))
    outputs = zip(program.outputs, program.output_slots, strict=True)
    ends = [f"{name} = {names.get(slot, f'%{slot}')}" for name, slot in outputs]
    lines.append(f"  outputs {', '.join(ends) or 'none'}")
    return "\n".join(lines)


def _attribute_word(value: int | float) -> int:
    packed = struct.pack("<f", value) if isinstance(value, float) else struct.pack("<i", value)
    return int(struct.unpack("<I", packed)[0])


def _attribute_values(operation: str, words: Sequence[int]) -> tuple[int | float, ...]:
    spec = OPERATIONS[operation]
    if not spec.is_variadic and len(words) != len(spec.attributes):
        raise ModelFormatError(
            f"`{operation}` has {len(words)} attributes, expected {len(spec.attributes)}",
            hint="the file is damaged: build it again with `mobile-mm build`.",
        )
    values: list[int | float] = []
    for position, word in enumerate(words):
        is_float = not spec.is_variadic and spec.attributes[position].endswith(":f")
        values.append(struct.unpack("<f" if is_float else "<i", struct.pack("<I", word))[0])
    return tuple(values)


def _attribute_text(step: Instruction) -> str:
    spec = OPERATIONS[step.operation]
    if spec.is_variadic:
        return f"{spec.attributes[0].removesuffix('...')}={list(step.attributes)}"
    parts = []
    for name, value in zip(spec.attributes, step.attributes, strict=True):
        if name.startswith("activation"):
            parts.append(f"{name}={ACTIVATIONS[int(value)] if 0 <= value < len(ACTIVATIONS) else value}")
        elif name.endswith(":f"):
            parts.append(f"{name.removesuffix(':f')}={value:.6g}")
        else:
            parts.append(f"{name}={value}")
    return " ".join(parts)
