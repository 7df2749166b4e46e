"""Programs are checked when they are built, and survive the way to words and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mobile_multimodal.compile.program import ProgramBuilder, State, TensorStore, Value, used_operations, validate
from mobile_multimodal.errors import InvalidInputError, ModelFormatError
from mobile_multimodal.model.program import OPERATIONS, Program, decode_words, encode_words, listing


def norm_program(tensors: TensorStore) -> Program:
    builder = ProgramBuilder("norm", tensors)
    x = builder.input("x", "f32")
    weight = builder.tensor("decoder.norm.weight", np.ones(4, dtype=np.float32))
    y = builder.apply("rms_norm", [x, weight], [1e-5])
    builder.output("y", builder.apply("reshape", [y], [-1, 4]))
    return builder.finish()


def test_slots_are_inputs_then_weights_then_results() -> None:
    program = norm_program(TensorStore())
    assert program.slots == 4
    assert program.instructions[0].inputs == (0, 1)
    assert program.instructions[0].outputs == (2,)
    assert program.output_slots == (3,)


def test_words_round_trip() -> None:
    program = norm_program(TensorStore())
    names = used_operations([program])
    assert names == ["rms_norm", "reshape"]
    again = decode_words(encode_words(program.instructions, names), names)
    assert again[0].attribute("epsilon") == pytest.approx(1e-5)
    assert again[1] == program.instructions[1]
    assert [step.inputs for step in again] == [step.inputs for step in program.instructions]


def test_absent_optional_inputs_are_written_out() -> None:
    builder = ProgramBuilder("p", TensorStore())
    x = builder.input("x", "f32")
    w = builder.tensor("a.w", np.ones((4, 4), dtype=np.float32))
    builder.apply("linear_f32", [x, w, None, x], [0])
    builder.apply("linear_f32", [x, w], [0])
    assert [step.inputs for step in builder.finish().instructions] == [(0, 1, None, 0), (0, 1, None, None)]


def test_listing_names_inputs_weights_and_attributes() -> None:
    text = listing(norm_program(TensorStore()))
    assert "inputs x: f32" in text
    assert "%2 = rms_norm(x, decoder.norm.weight) epsilon=1e-05" in text
    assert "%3 = reshape(%2) dims=[-1, 4]" in text
    assert "outputs y = %3" in text


@pytest.mark.parametrize("words", [[0], [0, 1, 1, 0, 0], [5, 0, 0, 0], [0, 0xFFFFFFFF, 0, 0]])
def test_broken_words_are_refused(words: list[int]) -> None:
    with pytest.raises(ModelFormatError, match="breaks off at word 0"):
        decode_words(words, ["softmax"])


def test_unknown_operations_and_wrong_attribute_counts_are_refused() -> None:
    with pytest.raises(ModelFormatError, match="`warp` at word 0 is unknown"):
        decode_words([0, 0, 0, 0], ["warp"])
    with pytest.raises(ModelFormatError, match="`softmax` has 1 attributes, expected 0"):
        decode_words([0, 0, 0, 1, 7], ["softmax"])


def test_the_builder_refuses_what_the_table_does_not_allow() -> None:
    builder = ProgramBuilder("p", TensorStore())
    x = builder.input("x", "f32")
    with pytest.raises(InvalidInputError, match="unknown operation `warp`"):
        builder.emit("warp", [x])
    with pytest.raises(InvalidInputError, match="has 1 inputs, expected a, b"):
        builder.emit("add", [x])
    with pytest.raises(InvalidInputError, match="lacks its input `b`"):
        builder.emit("add", [x, None])
    with pytest.raises(InvalidInputError, match="has 0 attributes, expected activation"):
        builder.emit("activation", [x])
    with pytest.raises(InvalidInputError, match="epsilon:f = nan"):
        builder.emit("rms_norm", [x, x], [float("nan")])
    with pytest.raises(InvalidInputError, match="not computed yet"):
        builder.emit("softmax", [Value("result", 0)])
    with pytest.raises(InvalidInputError, match="type `f64`"):
        builder.input("z", "f64")
    with pytest.raises(InvalidInputError, match="nobody added"):
        builder.tensor("a.missing")


def test_one_name_is_one_tensor() -> None:
    tensors = TensorStore()
    tensors.add("a.w", np.zeros(2, dtype=np.float32))
    tensors.add("a.w", np.zeros(2, dtype=np.float32))
    assert len(tensors) == 1
    with pytest.raises(InvalidInputError, match="twice with different content"):
        tensors.add("a.w", np.ones(2, dtype=np.float32))


def test_validate_finds_what_the_core_would_refuse() -> None:
    tensors = TensorStore()
    program = norm_program(tensors)
    validate(program, tensors, [])
    first, second = program.instructions
    cases = {
        "reads slot 3 before": (replace(first, inputs=(3, 1)), second),
        "writes slot 2, taken": (first, replace(second, outputs=(2,))),
        "writes slot 9, taken or out": (first, replace(second, outputs=(9,))),
    }
    for complaint, steps in cases.items():
        with pytest.raises(InvalidInputError, match=complaint):
            validate(replace(program, instructions=steps), tensors, [])
    with pytest.raises(InvalidInputError, match="never written"):
        validate(replace(program, instructions=(first,)), tensors, [])
    with pytest.raises(InvalidInputError, match="does not hold"):
        validate(program, TensorStore(), [])


def test_validate_checks_states_and_activations() -> None:
    tensors = TensorStore()
    builder = ProgramBuilder("p", tensors)
    x = builder.input("x", "f32")
    builder.emit("state_write", [x], [0])
    program = builder.finish()
    validate(program, tensors, [State("m", "memory", 4, 4)])
    with pytest.raises(InvalidInputError, match="names state 0 of 0"):
        validate(program, tensors, [])
    with pytest.raises(InvalidInputError, match="to be a memory"):
        validate(program, tensors, [State("m", "cache", 4, 4)])
    builder.emit("activation", [x], [9])
    with pytest.raises(InvalidInputError, match="unknown activation 9"):
        validate(builder.finish(), tensors, [State("m", "memory", 4, 4)])


def test_the_core_has_every_operation() -> None:
    from mobile_multimodal import native

    assert set(OPERATIONS) <= set(native.operations())
