"""Opens hostile model files: each is refused with ModelFormatError, or loads and is harmless; nothing crashes.

The files are packed by hand, so that a mistake in the kit's writer cannot hide one in the reader. Published failures of
other GGUF readers stand here by their shape; where a report is public its address is given.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from mobile_multimodal.errors import MobileMultiModalError, ModelFormatError

native = pytest.importorskip("mobile_multimodal.native")

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
TENSOR_F32, TENSOR_I8 = 0, 24


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def u32(key: str, value: int) -> bytes:
    return pair(key, U32, struct.pack("<I", value))


def text(key: str, value: str) -> bytes:
    return pair(key, STRING, string(value))


def array(key: str, kind: int, count: int, values: bytes = b"") -> bytes:
    return pair(key, ARRAY, struct.pack("<IQ", kind, count) + values)


def strings(key: str, values: list[str]) -> bytes:
    return array(key, STRING, len(values), b"".join(map(string, values)))


def tensor(name: str | bytes, dims: list[int], kind: int = TENSOR_F32, offset: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


PAIRS = [
    text("general.architecture", "mobile-mm"),
    u32("general.alignment", 64),
    u32("mm.format_version", 1),
    strings("mm.op_names", []),
    strings("mm.programs", []),
]
TOKENIZER = [
    text("tokenizer.ggml.model", "gpt2"),
    strings("tokenizer.ggml.tokens", ["<|eos|>", "a", "b", "ab"]),
    strings("tokenizer.ggml.merges", ["a b"]),
    array("tokenizer.ggml.token_type", I32, 4, struct.pack("<4i", 3, 1, 1, 1)),
]
TENSORS = [tensor("encoder.a", [16]), tensor("encoder.b", [64], TENSOR_I8, 64)]
DATA = bytes(128)


WORD_PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##b"]
LANGUAGE = [
    strings("mm.wordpiece.tokens", WORD_PIECES),
    u32("mm.text.max_length", 64),
    strings("mm.answers", ["unanswerable", "yes"]),
]


def head(
    pairs: list[bytes], tensors: list[bytes], *, pair_count: int | None = None, tensor_count: int | None = None
) -> bytes:
    """Everything in front of the data section, padded."""
    counts = (len(tensors) if tensor_count is None else tensor_count, len(pairs) if pair_count is None else pair_count)
    raw = b"GGUF" + struct.pack("<IQQ", 3, *counts) + b"".join(pairs) + b"".join(tensors)
    return raw + bytes(-len(raw) % 64)


def small_file() -> bytes:
    return head(PAIRS + TOKENIZER + LANGUAGE, TENSORS) + DATA


def with_pair(hostile: bytes) -> bytes:
    return head([*PAIRS, hostile], TENSORS) + DATA


def with_tensor(hostile: bytes) -> bytes:
    return head(PAIRS, [*TENSORS, hostile]) + DATA + bytes(64)


def with_tokenizer(place: int, hostile: bytes) -> bytes:
    return head([*PAIRS, *TOKENIZER[:place], hostile, *TOKENIZER[place + 1 :]], TENSORS) + DATA


def with_language(place: int, *hostile: bytes) -> bytes:
    return head([*PAIRS, *LANGUAGE[:place], *hostile, *LANGUAGE[place + 1 :]], TENSORS) + DATA


# What is wrong with it -> the file's bytes.
HOSTILE: dict[str, bytes] = {
    # CVE-2025-53630 (https://github.com/ggml-org/llama.cpp/pull/14595) and its return as CVE-2026-27940: the sizes of
    # the tensors are added up until the sum wraps to a small number; too little is allocated for the data.
    "sizes whose sum passes 2^64": head(PAIRS, [tensor(f"encoder.{i}", [1 << 61]) for i in range(9)]) + DATA,
    "sizes that wrap only with their padding": with_tensor(tensor("encoder.c", [(1 << 64) - 1], TENSOR_I8, 128)),
    "offset and size whose sum passes 2^64": with_tensor(tensor("encoder.c", [64], TENSOR_I8, (1 << 64) - 64)),
    # https://github.com/ggml-org/llama.cpp/issues/27203 and CVE-2026-33298: the product of the dimensions wraps or
    # turns negative and so passes a check against a maximum; the tensor's place is small, its shape is not.
    "dimensions whose product turns negative": with_tensor(tensor("encoder.c", [(1 << 63) - 1, 2], TENSOR_I8, 128)),
    "dimensions whose product wraps to 0": with_tensor(tensor("encoder.c", [1 << 32, 1 << 32], TENSOR_I8, 128)),
    "dimensions whose product wraps to 64": with_tensor(tensor("encoder.c", [64, (1 << 58) + 1], TENSOR_I8, 128)),
    "dimensions whose bytes wrap": with_tensor(tensor("encoder.c", [(1 << 62) + 4], TENSOR_F32, 128)),
    # https://github.com/ggml-org/llama.cpp/pull/18674: dimension 2^42 + 1, whose stride times itself wraps to 0.
    "a dimension of 2^42 + 1": with_tensor(tensor("encoder.c", [1152, (1 << 42) + 1], TENSOR_I8, 128)),
    # CVE-2026-7482: dimensions claim more data than the file holds; what lies behind it in memory is read as weights.
    "a tensor larger than the file": with_tensor(tensor("encoder.c", [1 << 20], TENSOR_F32, 128)),
    "a tensor one element too large": with_tensor(tensor("encoder.c", [17], TENSOR_F32, 128)),
    "a tensor that begins behind the file": with_tensor(tensor("encoder.c", [1], TENSOR_F32, 1 << 40)),
    # https://github.com/ggml-org/llama.cpp/issues/15711: counts times a record's size wrap.
    "2^64 - 1 tensors": head(PAIRS, TENSORS, tensor_count=(1 << 64) - 1) + DATA,
    "2^63 / 80 tensors": head(PAIRS, TENSORS, tensor_count=(1 << 63) // 80) + DATA,
    "2^64 - 1 pairs": head(PAIRS, TENSORS, pair_count=(1 << 64) - 1) + DATA,
    "more pairs than fit": head(PAIRS, TENSORS, pair_count=60000) + DATA,
    "an array of 2^61 + 1 u64, whose bytes wrap to 8": with_pair(array("x", U64, (1 << 61) + 1, bytes(64))),
    "an array of 2^64 - 1 bytes": with_pair(array("x", U8, (1 << 64) - 1)),
    # https://github.com/ggml-org/llama.cpp/issues/19003: a string's length is believed and allocated.
    "a string of 2^64 - 1 bytes": with_pair(pair("x", STRING, struct.pack("<Q", (1 << 64) - 1))),
    "a string of 2^40 bytes": with_pair(pair("x", STRING, struct.pack("<Q", 1 << 40))),
    "a key of 2^32 bytes": with_pair(struct.pack("<Q", 1 << 32) + b"x"),
    "an array of strings that ends early": with_pair(array("x", STRING, 3, string("a") + string("b"))),
    # https://github.com/ggml-org/llama.cpp/issues/25378: more dimensions than the reader's array has places.
    "5 dimensions": with_tensor(tensor("encoder.c", [1] * 5, TENSOR_F32, 128)),
    "2^32 - 1 dimensions": with_tensor(string("encoder.c") + struct.pack("<I", (1 << 32) - 1) + bytes(64)),
    "no dimension": with_tensor(tensor("encoder.c", [], TENSOR_F32, 128)),
    "a dimension of 0": with_tensor(tensor("encoder.c", [4, 0], TENSOR_F32, 128)),
    # https://github.com/ggml-org/llama.cpp/pull/26318: the alignment key of another type, and sizes near 2^64 that wrap
    # when they are rounded up to it; an alignment of 0 divides by zero.
    "an i32 alignment": head([PAIRS[0], pair("general.alignment", I32, struct.pack("<i", 64)), *PAIRS[2:]], TENSORS)
    + DATA,
    "a string alignment": head([PAIRS[0], text("general.alignment", "64"), *PAIRS[2:]], TENSORS) + DATA,
    **{
        f"an alignment of {value}": head([PAIRS[0], u32("general.alignment", value), *PAIRS[2:]], TENSORS) + DATA
        for value in (0, 1, 32, 63, 96, 8192, 1 << 31, (1 << 32) - 1)
    },
    "no alignment": head([PAIRS[0], *PAIRS[2:]], TENSORS) + DATA,
    "two alignments": head([*PAIRS, u32("general.alignment", 128)], TENSORS) + DATA,
    # https://github.com/ggml-org/llama.cpp/pull/26690: an array of narrower elements than the code behind it reads.
    "token types of one byte": with_tokenizer(3, array("tokenizer.ggml.token_type", U8, 3, b"\x03\x01\x01")),
    "token types that are floats": with_tokenizer(3, array("tokenizer.ggml.token_type", F32, 4, bytes(16))),
    "token types that are one number": with_tokenizer(3, u32("tokenizer.ggml.token_type", 1)),
    "tokens that are numbers": with_tokenizer(1, array("tokenizer.ggml.tokens", U32, 4, bytes(16))),
    "no tokens": with_tokenizer(1, strings("tokenizer.ggml.tokens", [])),
    "a token twice": with_tokenizer(1, strings("tokenizer.ggml.tokens", ["<|eos|>", "a", "a", "ab"])),
    "a merge of unknown pieces": with_tokenizer(2, strings("tokenizer.ggml.merges", ["x y"])),
    "a merge that yields a control token": with_tokenizer(1, strings("tokenizer.ggml.tokens", ["ab", "a", "b", "c"])),
    "a merge without a space": with_tokenizer(2, strings("tokenizer.ggml.merges", ["ab"])),
    # Two tensors over the same bytes, and what else lets two readers see two models in one file.
    "overlapping tensors": with_tensor(tensor("encoder.c", [32], TENSOR_F32, 0)),
    "partly overlapping tensors": head(PAIRS, [tensor("encoder.a", [32]), tensor("encoder.b", [16], offset=64)]) + DATA,
    "one tensor name twice": with_tensor(tensor("encoder.a", [16], TENSOR_F32, 128)),
    # What a language tower reads: the lists are as hostile as any tokenizer, the length sizes every text.
    "word pieces that are numbers": with_language(0, array("mm.wordpiece.tokens", U32, 6, bytes(24))),
    "word pieces that are one string": with_language(0, text("mm.wordpiece.tokens", "[PAD]")),
    "no word pieces": with_language(0, strings("mm.wordpiece.tokens", [])),
    "word pieces without [CLS]": with_language(0, strings("mm.wordpiece.tokens", ["[PAD]", "[UNK]", "[SEP]", "a"])),
    "a word piece twice": with_language(0, strings("mm.wordpiece.tokens", [*WORD_PIECES, "a"])),
    "an empty word piece": with_language(0, strings("mm.wordpiece.tokens", [*WORD_PIECES, ""])),
    "a word piece that is no UTF-8": with_language(
        0, array("mm.wordpiece.tokens", STRING, 7, b"".join(map(string, [*WORD_PIECES, b"\xff"])))
    ),
    "no length of texts": with_language(1),
    "a length of texts that is a string": with_language(1, text("mm.text.max_length", "64")),
    "a negative length of texts": with_language(1, pair("mm.text.max_length", I32, struct.pack("<i", -1))),
    **{
        f"texts of {value} tokens": with_language(1, u32("mm.text.max_length", value))
        for value in (0, 4, 4097, 2**32 - 1)
    },
    "answers that are numbers": with_language(2, array("mm.answers", F32, 2, bytes(8))),
    "no answers": with_language(2, strings("mm.answers", [])),
    "one answer": with_language(2, strings("mm.answers", ["unanswerable"])),
    "an empty answer": with_language(2, strings("mm.answers", ["unanswerable", "yes", ""])),
    "answers without a place for unanswerable": with_language(2, strings("mm.answers", ["yes", "no"])),
    "65537 answers": with_language(2, strings("mm.answers", ["unanswerable", *map(str, range(65536))])),
    "one key twice": with_pair(u32("mm.format_version", 1)),
    "an unaligned offset": with_tensor(tensor("encoder.c", [8], TENSOR_F32, 96)),
    "a quantized tensor type": with_tensor(tensor("encoder.c", [32], 2, 128)),
    "tensor type 2^32 - 1": with_tensor(tensor("encoder.c", [16], (1 << 32) - 1, 128)),
    "an array of arrays": with_pair(array("x", ARRAY, 1, struct.pack("<IQ", ARRAY, 1) * 40)),
    "value type 13": with_pair(pair("x", 13, bytes(8))),
    "value type 2^32 - 1": with_pair(pair("x", (1 << 32) - 1, bytes(8))),
    "array type 13": with_pair(array("x", 13, 1, bytes(8))),
    "a boolean of 2": with_pair(pair("x", BOOL, b"\x02")),
    "an empty key": with_pair(u32("", 1)),
    "a key with a zero byte": with_pair(u32("a\0b", 1)),
    "a key that is no UTF-8": with_pair(pair(b"\xff\xfe", U32, bytes(4))),
    "a string that is no UTF-8": with_pair(pair("x", STRING, string(b"\xed\xa0\x80"))),
    "a tensor without a name": with_tensor(tensor("", [16], TENSOR_F32, 128)),
    "a scale that is not a number": head(PAIRS, [tensor("encoder.a.scale", [16])])
    + struct.pack("<16f", *[float("nan")] * 16),
    "a negative scale": head(PAIRS, [tensor("encoder.a.scale", [16])]) + struct.pack("<16f", *[-1.0] * 16),
    "another magic number": b"GGML" + small_file()[4:],
    "a big-endian file": b"GGUF" + struct.pack(">I", 3) + small_file()[8:],
    "version 2": b"GGUF" + struct.pack("<I", 2) + small_file()[8:],
    "a text file": b"this is no model\n" * 10,
    "one byte": b"G",
    "another architecture": head([text("general.architecture", "llama"), *PAIRS[1:]], TENSORS) + DATA,
    "a later format": head([*PAIRS[:2], u32("mm.format_version", 2), *PAIRS[3:]], TENSORS) + DATA,
}


def use(path: Path) -> None:
    """Opens the file and asks for everything that can be asked without running a program."""
    engine = native.Engine(str(path))
    engine.metadata()
    engine.tensors()
    engine.programs()
    try:
        engine.decode(engine.encode("ab <|eos|>"))
        engine.encode_word_pieces("ab [SEP]")
        engine.verify()
    except MobileMultiModalError:
        pass  # a file without a tokenizer or digests


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[bytes], None]:
    """Writes bytes and uses them as a model file."""
    path = tmp_path / "model.gguf"

    def write_and_use(raw: bytes) -> None:
        path.write_bytes(raw)
        use(path)

    return write_and_use


def test_the_unchanged_file_loads(opened: Callable[[bytes], None]) -> None:
    opened(small_file())


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_file_is_refused(opened: Callable[[bytes], None], raw: bytes) -> None:
    with pytest.raises(ModelFormatError) as caught:
        opened(raw)
    assert caught.value.message
    assert caught.value.hint
    assert len(caught.value.message) < 1000


def test_every_cut_is_refused_or_harmless(opened: Callable[[bytes], None]) -> None:
    raw = small_file()
    for length in range(1, len(raw)):
        with pytest.raises(ModelFormatError):
            opened(raw[:length])
    opened(raw)


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_changed_byte_is_refused_or_harmless(opened: Callable[[bytes], None], mask: int) -> None:
    raw = small_file()
    refused = 0
    for at in range(len(raw) - len(DATA)):
        changed = bytearray(raw)
        changed[at] ^= mask
        try:
            opened(bytes(changed))
        except ModelFormatError:
            refused += 1
    assert refused > len(raw) // 4


def test_control_characters_of_a_name_stay_out_of_the_message(opened: Callable[[bytes], None]) -> None:
    with pytest.raises(ModelFormatError) as caught:
        opened(with_pair(pair("x\n\x1b[31mforged", BOOL, b"\x02")))
    assert caught.value.message.isprintable()
