"""Builds programs: values become slots, and every rule of the format is checked before anything is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.model.program import ACTIVATIONS, INPUT_TYPES, OPERATIONS, Instruction, Program

REBUILD_HINT = "this is a mistake of whoever builds the program: the message names the instruction."


@dataclass(frozen=True)
class Value:
    """Something an instruction can read: an input, a weight or an earlier result."""

    kind: str  # "input", "tensor" or "result"
    index: int


@dataclass(frozen=True)
class State:
    """A key-value cache (one row per position and sequence) or a memory (written whole)."""

    name: str
    kind: str  # "cache" or "memory"
    width: int
    rows: int


class TensorStore:
    """The tensors of one file in the order they were added; equal names must mean equal bytes."""

    def __init__(self) -> None:
        self._tensors: dict[str, NDArray[np.generic]] = {}

    def add(self, name: str, array: NDArray[np.generic]) -> str:
        """Adds a tensor and returns its name; a second add of the same name must carry the same bytes."""
        array = np.ascontiguousarray(array)
        known = self._tensors.get(name)
        if known is None:
            self._tensors[name] = array
        elif known.dtype != array.dtype or known.shape != array.shape or known.tobytes() != array.tobytes():
            raise InvalidInputError(
                f"tensor `{name}` was added twice with different content", hint="give each tensor its own name."
            )
        return name

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        return self._tensors[name]

    def items(self) -> Iterable[tuple[str, NDArray[np.generic]]]:
        return self._tensors.items()

    def __len__(self) -> int:
        return len(self._tensors)


class ProgramBuilder:
    """Collects instructions over values and turns them into a Program with slots."""

    def __init__(self, name: str, tensors: TensorStore) -> None:
        self.name = name
        self.tensors = tensors
        self._inputs: list[tuple[str, str]] = []
        self._tensor_names: dict[str, int] = {}
        self._results = 0
        self._steps: list[tuple[str, tuple[Value | None, ...], tuple[Value, ...], tuple[int | float, ...]]] = []
        self._outputs: list[tuple[str, Value]] = []

    def input(self, name: str, kind: str) -> Value:
        """Declares an input of type f32, u8 or i32."""
        if kind not in INPUT_TYPES:
            raise InvalidInputError(
                f"input `{name}` has type `{kind}`, expected one of {INPUT_TYPES}", hint=REBUILD_HINT
            )
        self._inputs.append((name, kind))
        return Value("input", len(self._inputs) - 1)

    def tensor(self, name: str, array: NDArray[np.generic] | None = None) -> Value:
        """A weight by name; with an array it is added to the store first."""
        if array is not None:
            self.tensors.add(name, array)
        if name not in self.tensors:
            raise InvalidInputError(
                f"program `{self.name}` reads tensor `{name}`, which nobody added", hint=REBUILD_HINT
            )
        return Value("tensor", self._tensor_names.setdefault(name, len(self._tensor_names)))

    def emit(
        self, operation: str, inputs: Sequence[Value | None], attributes: Sequence[int | float] = ()
    ) -> tuple[Value, ...]:
        """Appends an instruction and returns its results."""
        spec = OPERATIONS.get(operation)
        where = f"instruction {len(self._steps)} of program `{self.name}`"
        if spec is None:
            raise InvalidInputError(f"{where} uses unknown operation `{operation}`", hint=REBUILD_HINT)
        _check_inputs(operation, inputs, where)
        values = _checked_attributes(operation, attributes, where)
        inputs = [*inputs, *(None for _ in spec.inputs[len(inputs) :])]  # absent optional inputs are written out
        for value in inputs:
            if value is not None and value.kind == "result" and value.index >= self._results:
                raise InvalidInputError(f"{where} reads a value that is not computed yet", hint=REBUILD_HINT)
        outputs = tuple(Value("result", self._results + i) for i in range(spec.outputs))
        self._results += spec.outputs
        self._steps.append((operation, tuple(inputs), outputs, values))
        return outputs

    def apply(self, operation: str, inputs: Sequence[Value | None], attributes: Sequence[int | float] = ()) -> Value:
        """Appends an instruction of one result and returns it."""
        (result,) = self.emit(operation, inputs, attributes)
        return result

    def output(self, name: str, value: Value) -> None:
        self._outputs.append((name, value))

    def finish(self) -> Program:
        """The program with its slots: inputs, then weights, then results."""
        first_tensor, first_result = len(self._inputs), len(self._inputs) + len(self._tensor_names)
        base = {"input": 0, "tensor": first_tensor, "result": first_result}

        def slot(value: Value) -> int:
            return base[value.kind] + value.index

        return Program(
            name=self.name,
            inputs=tuple(name for name, _ in self._inputs),
            input_types=tuple(kind for _, kind in self._inputs),
            tensors=tuple(self._tensor_names),
            slots=first_result + self._results,
            outputs=tuple(name for name, _ in self._outputs),
            output_slots=tuple(slot(value) for _, value in self._outputs),
            instructions=tuple(
                Instruction(
                    operation,
                    tuple(None if value is None else slot(value) for value in inputs),
                    tuple(slot(value) for value in outputs),
                    attributes,
                )
                for operation, inputs, outputs, attributes in self._steps
            ),
        )


def validate(program: Program, tensors: TensorStore, states: Sequence[State]) -> None:
    """Checks what the core will check: slots in range, written once, read only after that; states that exist."""
    weights = range(len(program.inputs), len(program.inputs) + len(program.tensors))
    ready = set(range(len(program.inputs))) | set(weights)
    _require(program, all(name in tensors for name in program.tensors), "it names a tensor the file does not hold")
    for number, step in enumerate(program.instructions):
        where = f"instruction {number} ({step.operation})"
        for slot in step.inputs:
            _require(program, slot is None or slot in ready, f"{where} reads slot {slot} before it is written")
        for slot in step.outputs:
            _require(
                program,
                slot not in ready and slot < program.slots,
                f"{where} writes slot {slot}, taken or out of range",
            )
            ready.add(slot)
        for name, value in zip(OPERATIONS[step.operation].attributes, step.attributes, strict=False):
            if name.startswith("activation"):
                _require(program, 0 <= value < len(ACTIVATIONS), f"{where} has unknown activation {value}")
            if name == "state" or name.endswith("_state"):
                _require(program, 0 <= value < len(states), f"{where} names state {value} of {len(states)}")
                kind = "cache" if name.endswith("_state") else "memory"
                _require(program, states[int(value)].kind == kind, f"{where} needs state {value} to be a {kind}")
    for name, slot in zip(program.outputs, program.output_slots, strict=True):
        _require(program, slot in ready, f"output `{name}` is slot {slot}, which is never written")


def used_operations(programs: Iterable[Program]) -> list[str]:
    """The operations that programs use, in the order of the table: an older core runs a file that uses fewer."""
    used = {step.operation for program in programs for step in program.instructions}
    return [name for name in OPERATIONS if name in used]


def count_operations(program: Program) -> Mapping[str, int]:
    """How often each operation occurs."""
    counts: dict[str, int] = {}
    for step in program.instructions:
        counts[step.operation] = counts.get(step.operation, 0) + 1
    return counts


def _require(program: Program, is_right: bool, complaint: str) -> None:
    if not is_right:
        raise InvalidInputError(f"program `{program.name}` is not valid: {complaint}", hint=REBUILD_HINT)


def _check_inputs(operation: str, inputs: Sequence[Value | None], where: str) -> None:
    spec = OPERATIONS[operation]
    if not spec.required_inputs <= len(inputs) <= len(spec.inputs):
        raise InvalidInputError(
            f"{where} (`{operation}`) has {len(inputs)} inputs, expected {', '.join(spec.inputs)}", hint=REBUILD_HINT
        )
    for name, value in zip(spec.inputs, inputs, strict=False):
        if value is None and not name.endswith("?"):
            raise InvalidInputError(f"{where} (`{operation}`) lacks its input `{name}`", hint=REBUILD_HINT)


def _checked_attributes(operation: str, attributes: Sequence[int | float], where: str) -> tuple[int | float, ...]:
    spec = OPERATIONS[operation]
    if spec.is_variadic:
        return tuple(int(value) for value in attributes)
    if len(attributes) != len(spec.attributes):
        raise InvalidInputError(
            f"{where} (`{operation}`) has {len(attributes)} attributes, expected {', '.join(spec.attributes)}",
            hint=REBUILD_HINT,
        )
    values: list[int | float] = []
    for name, value in zip(spec.attributes, attributes, strict=True):
        if not math.isfinite(value):
            raise InvalidInputError(f"{where} (`{operation}`) has {name} = {value}", hint=REBUILD_HINT)
        values.append(float(value) if name.endswith(":f") else int(value))
    return tuple(values)
