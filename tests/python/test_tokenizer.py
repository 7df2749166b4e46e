"""Holds the core's tokenizer to the `tokenizers` package: the same ids and the same text, for nasty strings too."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobile_multimodal.compile.container import Metadata, write_container
from mobile_multimodal.compile.program import TensorStore

tokenizers = pytest.importorskip("tokenizers")
native = pytest.importorskip("mobile_multimodal.native")

CONTROL = ["<|bos|>", "<|eos|>", "<|pad|>"]
CORPUS = [
    "a small brown dog jumps over the lazy cats in the garden while children are playing",
    "I'll say they've seen it's mine, he'd go, we're here, don't, that'm, O'Neill's",
    "numbers 1 12 123 2024 3.14 and marks (well): ... !!! --- #1 @home",
    "été naïve café über straße привет мир 東京都 مرحبا שלום ½ ² Ⅷ",
] * 20
NASTY = [
    "", " ", "  ", "   a", "a   ", "a   b", "\n", "\n\n a", "a \n b", "\t\r\n", "\u00a0a", "\u3000\u3000a", "\u2028",
    "it's", "IT'S", "'s", "''s", " 's", "a'lls", "’s", "I'll've", "<|bos|>", "<|bos|>hello<|eos|>", "<|",
    "\x00", "a\x00b", "\x1c\x1f", "\x85", "\ufeff", "\u200b", "e\u0301", "\u0301", "\U0001f600",
    "\U0001f469\u200d\U0001f467", "1½²Ⅷ\u0663", "\U0010ffff", "x" * 5000, "ab" * 3000, " " * 1000 + "a",
]  # fmt: skip


def random_texts() -> list[str]:
    """Texts over characters that decide the word rule, and over assigned code points of the first three planes."""
    generator = random.Random(1)
    marks = "\u00a0\u1680\u2003\u3000\u200b\u0301é½²Ⅷ東\U0001f600"
    letters = [*"aeTH's\"tl d01 \t\n\r\x0b\x1c\x85\x00.,-<|>bos", *marks, "'ll", "  "]
    texts = ["".join(generator.choices(letters, k=generator.randint(1, 30))) for _ in range(2000)]
    assigned = [c for c in range(0x30000) if unicodedata.category(chr(c)) not in {"Cn", "Cs"}]
    texts += ["".join(map(chr, generator.sample(assigned, 12))) for _ in range(500)]
    return texts


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "space-prefix"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The package's tokenizer and an engine over a file with the same vocabulary."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=request.param)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=CONTROL,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]

    # The package splits the names of special tokens out of the text; without that list it reads them as text, as the
    # core does.
    reference = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=model["vocab"], merges=merges))
    reference.pre_tokenizer = tokenizer.pre_tokenizer
    reference.decoder = tokenizers.decoders.ByteLevel()

    metadata = Metadata()
    metadata.string("general.architecture", "mobile-mm")
    metadata.u32("general.alignment", 64)
    metadata.u32("mm.format_version", 1)
    metadata.strings("mm.programs", [])
    metadata.strings("mm.op_names", [])
    metadata.string("tokenizer.ggml.model", "gpt2")
    metadata.strings("tokenizer.ggml.tokens", tokens)
    metadata.strings("tokenizer.ggml.merges", [" ".join(merge) for merge in merges])
    metadata.integers("tokenizer.ggml.token_type", [3 if token in CONTROL else 1 for token in tokens])
    if request.param:
        metadata.boolean("tokenizer.ggml.add_space_prefix", True)
    tensors = TensorStore()
    tensors.add("test.unused", np.zeros(1, dtype=np.float32))
    path: Path = tmp_path_factory.mktemp("tokenizer") / "model.gguf"
    write_container(path, metadata, tensors)
    return reference, native.Engine(str(path))


@pytest.mark.parametrize("texts", [NASTY, CORPUS[:4], random_texts()], ids=["nasty", "corpus", "random"])
def test_ids_and_text_are_those_of_the_tokenizers_package(pair: tuple[Any, Any], texts: list[str]) -> None:
    reference, engine = pair
    for text in texts:
        expected = reference.encode(text).ids
        assert engine.encode(text) == expected, repr(text)
        assert engine.decode(expected) == reference.decode(expected), repr(text)


def test_text_never_becomes_a_control_token(pair: tuple[Any, Any]) -> None:
    _, engine = pair
    for name in CONTROL:
        assert min(engine.encode(f"{name} {name}x{name}")) >= len(CONTROL)


def test_cut_code_points_decode_to_replacement_characters(pair: tuple[Any, Any]) -> None:
    reference, engine = pair
    ids = engine.encode("😀")
    for end in range(len(ids) + 1):
        assert engine.decode(ids[:end]) == reference.decode(ids[:end])
