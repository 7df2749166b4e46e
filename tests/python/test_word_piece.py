"""Holds the core's word pieces to BertWordPieceTokenizer of the package `tokenizers`, for nasty strings too."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobile_multimodal.compile.container import Metadata, write_container
from mobile_multimodal.compile.program import TensorStore
from mobile_multimodal.errors import InvalidInputError, ModelFormatError

tokenizers = pytest.importorskip("tokenizers")
native = pytest.importorskip("mobile_multimodal.native")

CONTROL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
SENTENCES = [
    "What colour is the dog's collar?",
    "How many people sit at the café, and what do they drink?",
    "Ist das Straßenschild größer als die Tür?",
    "Où est la fenêtre du château? ÇA VA!",
    "¿Qué está haciendo el niño en el árbol?",
    "Ποιο είναι το χρώμα της βάρκας; ΌΧΙ",
    "Какого цвета машина? Ёж и Йод",
    "这只狗是什么颜色的?東京都 はなガギ カタカナ",
    "이 사진에는 몇 명이 있습니까?",
    "ما لون السيارة؟ مَدْرَسَة",
    "מה הצבע של הכלב? שָׁלוֹם",
    "इस तस्वीर में क्या है? क़लम",
    "รถคันนี้สีอะไร น้ำ",
    "Bu fotoğrafta İstanbul ve ısı var mı?",
    "Con chó màu gì? Đường phố Việt Nam",
]
NASTY = [
    "", " ", "\t\n\r", "\x00", "a\x00b", "\x0b\x0c\x1c\x85", "\ufffd", "\ufeffa", "a\u200bb", "a\u00adb",
    "\u2028\u2029\u3000x", "[CLS]", "[SEP] x [UNK]", "##s", "# # #", "a##s", "'s n't", "e\u0301\u0302", "\u0301",
    "\u0344a", "\u0f73", "İ", "ǅ Ǆ ǆ", "ſ ß ẞ", "Å Å K Ω ; · `", "\ufb01\ufb03", "ñandú ÑANDÚ",
    "한국 \u1112\u1161\u11ab", "\uf900\ufa0e\U0002f800", "\U00020000\U0002a6e0", "\ufe0f", "\U0001f600",
    "\U0001f469\u200d\U0001f467", "\U0001d15e\U0001d160", "\U0001d165\u302e\u0334", "a\u302e\u0334b",
    "a\u302e\u0903\u0334b", "a\u302e\u093e\u0334b", "a\u1b44\u302e\u05b0b", "a\u302e\u3099\u0334",
    "\u09cb\u0bca\u0ddd", "$^+=<>|~` €£ ± ×", "…–—“”«»„", "1/2 ½ ² Ⅷ ٣", "x" * 99, "x" * 100, "x" * 101,
    "é" * 100, "e\u0301" * 101, "ab" * 3000, "dog" * 40, "\U0010ffff\u0378", "A" * 5000 + " dog",
]  # fmt: skip


def random_texts() -> list[str]:
    """Texts over characters that decide the rules, and over code points of the first four planes, assigned or not."""
    generator = random.Random(3)
    marks = "\u0300\u0301\u0327\u0334\u0345\u302e\u302f\u1b44\u0f73\u0f71\u093c\u09be\u3099"
    marks += "\ua953\U0001d165\U0001d16d\U0001e944"
    letters = [
        *"abdgosxyABDGOS?!.,'-#[] \t\n",
        *marks,
        *"éÉßİıſǅΣςσΩKÅ東字가각ガｶ",
        "\u00a0",
        "\u200d",
        "\x1f",
        "dog",
        "##s",
    ]
    texts = ["".join(generator.choices(letters, k=generator.randint(1, 30))) for _ in range(4000)]
    code_points = [c for c in range(0x40000) if not 0xD800 <= c < 0xE000]
    texts += ["".join(map(chr, generator.sample(code_points, 12))) for _ in range(3000)]
    combining = [c for c in code_points if unicodedata.category(chr(c))[0] == "M"]
    texts += ["a" + "".join(map(chr, generator.choices(combining, k=6))) + "b" for _ in range(3000)]
    return texts


def write_pieces(path: Path, pieces: list[str], max_length: int | None = 64, answers: list[str] | None = None) -> Path:
    metadata = Metadata()
    metadata.string("general.architecture", "mobile-mm")
    metadata.u32("general.alignment", 64)
    metadata.u32("mm.format_version", 1)
    metadata.strings("mm.programs", [])
    metadata.strings("mm.op_names", [])
    metadata.strings("mm.wordpiece.tokens", pieces)
    if max_length is not None:
        metadata.u32("mm.text.max_length", max_length)
    if answers is not None:
        metadata.strings("mm.answers", answers)
    tensors = TensorStore()
    tensors.add("test.unused", np.zeros(1, dtype=np.float32))
    write_container(path, metadata, tensors)
    return path


@pytest.fixture(scope="module")
def vocabulary() -> list[str]:
    """Pieces of every script of the tests, and single characters: few words are unknown, most fall into pieces."""
    trained = tokenizers.BertWordPieceTokenizer(lowercase=True)
    trained.train_from_iterator(SENTENCES * 20, vocab_size=700, show_progress=False, min_frequency=1)
    found = trained.get_vocab()
    singles = [
        chr(c) for c in (*range(33, 127), *range(0xC0, 0x180), 0x302E, 0x302F, 0x1B44, 0x1D165, 0x1D16D, 0x1E922)
    ]
    extra = [piece for single in singles for piece in (single, f"##{single}")]
    return [*CONTROL, *sorted((set(found) | set(extra)) - set(CONTROL))]


@pytest.fixture(scope="module")
def pair(vocabulary: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The package's tokenizer and an engine over a file with the same vocabulary.

    The package finds the names of control tokens in a text; without that list it reads them as text, as the core does.
    """
    ids = {piece: index for index, piece in enumerate(vocabulary)}
    whole = tokenizers.BertWordPieceTokenizer(ids, lowercase=True)
    reference = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    reference.normalizer = whole.normalizer
    reference.pre_tokenizer = whole.pre_tokenizer
    path = write_pieces(tmp_path_factory.mktemp("pieces") / "model.gguf", vocabulary)
    return reference, native.Engine(str(path))


@pytest.mark.parametrize("texts", [SENTENCES, NASTY, random_texts()], ids=["languages", "nasty", "random"])
def test_ids_are_those_of_the_tokenizers_package(pair: tuple[Any, Any], texts: list[str]) -> None:
    reference, engine = pair
    for text in texts:
        assert engine.encode_word_pieces(text) == reference.encode(text).ids, repr(text)


def test_every_code_point_is_folded_as_the_tokenizers_package_folds_it(pair: tuple[Any, Any]) -> None:
    """Between two letters, and behind a mark that others may pass: 32 code points a text."""
    reference, engine = pair
    code_points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for at in range(0, len(code_points), 32):
        text = " ".join(f"a{chr(c)}b a\u302e{chr(c)}\u1b44b" for c in code_points[at : at + 32])
        assert engine.encode_word_pieces(text) == reference.encode(text).ids, hex(code_points[at])


def test_text_never_becomes_a_control_token(pair: tuple[Any, Any]) -> None:
    _, engine = pair
    for name in CONTROL:
        assert min(engine.encode_word_pieces(f"{name} {name}x{name}")) >= len(CONTROL)


def test_texts_are_bounded(pair: tuple[Any, Any]) -> None:
    _, engine = pair
    assert len(engine.encode_word_pieces("? " * 32768)) == 32768
    with pytest.raises(InvalidInputError, match="65537 bytes, expected at most 65536"):
        engine.encode_word_pieces("a" * 65537)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([], "has 0 tokens"),
        ([*CONTROL, ""], "at place 4 is empty"),
        ([*CONTROL, "a", "b", "a"], "at place 6 repeats the token at place 4"),
        (["[PAD]", "[UNK]", "[SEP]", "a"], r"lacks `\[CLS\]`"),
    ],
)
def test_vocabularies_that_cannot_be_are_refused(tmp_path: Path, pieces: list[str], message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        native.Engine(str(write_pieces(tmp_path / "model.gguf", pieces)))


@pytest.mark.parametrize("max_length", [None, 0, 4, 4097, 2**32 - 1])
def test_lengths_that_cannot_be_are_refused(tmp_path: Path, max_length: int | None) -> None:
    with pytest.raises(ModelFormatError, match=r"mm\.text\.max_length"):
        native.Engine(str(write_pieces(tmp_path / "model.gguf", CONTROL, max_length)))


@pytest.mark.parametrize("answers", [[], ["unanswerable"], ["yes", "no"], ["unanswerable", ""]])
def test_answers_that_cannot_be_are_refused(tmp_path: Path, answers: list[str]) -> None:
    with pytest.raises(ModelFormatError, match=r"mm\.answers"):
        native.Engine(str(write_pieces(tmp_path / "model.gguf", CONTROL, answers=answers)))
