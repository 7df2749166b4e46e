"""Reads the byte-level BPE tokenizer of a GGUF file, and which of its tokens begin and end a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from mobile_multimodal.compile.container import Metadata
from mobile_multimodal.compile.gguf_source import GgufSource
from mobile_multimodal.compile.tokenizer import BytePairVocabulary, check_pieces
from mobile_multimodal.errors import ModelFormatError, UnsupportedError

_HINT: Final = "the importer takes byte-level BPE as GPT-2 or SmolLM cut words."
# How llama.cpp cuts words for these values of `tokenizer.ggml.pre`: GPT-2's expression alone, or digits first.
_WORD_RULES: Final = {"gpt-2": "gpt-2", "phi-2": "gpt-2", "smollm": "smollm", "starcoder": "smollm", "refact": "smollm"}
_NORMAL, _UNKNOWN, _CONTROL, _UNUSED = 1, 2, 3, 5
# Names by which models end a turn or a text, whatever the file says of them (llama.cpp knows them by name too).
_END_NAMES: Final = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end|>", "<|end_of_text|>")
_END_KEYS: Final = ("eos_token_id", "eot_token_id")


@dataclass(frozen=True)
class TextTokenizer:
    """A vocabulary, the tokens that end a text, and the one that stands in front of every text (None: there is none).

    names: what the chat template calls `bos_token` and `eos_token`.
    """

    vocabulary: BytePairVocabulary
    end_tokens: tuple[int, ...]
    begin_token: int | None
    names: dict[str, str]

    def add_to(self, metadata: Metadata) -> None:
        """Adds the keys `tokenizer.ggml.*` and `mm.generate.*`."""
        self.vocabulary.add_to(metadata)
        metadata.words("mm.generate.end_tokens", self.end_tokens)
        if self.begin_token is not None:
            metadata.u32("mm.generate.begin_token", self.begin_token)


def read_text_tokenizer(source: GgufSource, vocabulary_size: int) -> TextTokenizer:
    """Checks `tokenizer.ggml.*` of the file; whatever the core would not do is refused.

    vocabulary_size: rows of the model's embedding. Raises ModelFormatError, UnsupportedError.
    """
    model = source.metadata.get("tokenizer.ggml.model")
    if model != "gpt2":
        raise UnsupportedError(f"{source.path}: `tokenizer.ggml.model` is {model!r}, expected 'gpt2'", hint=_HINT)
    rule = source.metadata.get("tokenizer.ggml.pre")
    if rule not in _WORD_RULES:
        raise UnsupportedError(
            f"{source.path}: `tokenizer.ggml.pre` is {rule!r}, expected one of {', '.join(_WORD_RULES)}", hint=_HINT
        )
    tokens = _list(source, "tokens", str)
    types = _list(source, "token_type", int)
    merges = tuple(_pair(source, merge) for merge in _list(source, "merges", str))
    if len(tokens) != vocabulary_size or len(types) != vocabulary_size:
        raise ModelFormatError(
            f"{source.path}: the tokenizer has {len(tokens)} tokens and {len(types)} types, the model "
            f"{vocabulary_size} rows of its embedding",
            hint="the file mixes two models: fetch it again.",
        )
    for index, kind in enumerate(types):
        if kind not in (_NORMAL, _UNKNOWN, _CONTROL, _UNUSED):
            raise UnsupportedError(
                f"{source.path}: token {index}, {tokens[index]!r}, is of type {kind} (user-defined or a byte), which "
                "is cut out of texts before words are",
                hint=_HINT,
            )
    control = frozenset(index for index, kind in enumerate(types) if kind != _NORMAL)
    check_pieces(tokens, merges, control)
    vocabulary = BytePairVocabulary(tokens, merges, control, adds_space_prefix=False, word_rule=_WORD_RULES[rule])

    begin = _token_id(source, "bos_token_id", vocabulary_size)
    ends = [_token_id(source, key, vocabulary_size) for key in _END_KEYS]
    found = {end for end in ends if end is not None}
    found |= {index for index in control if tokens[index] in _END_NAMES}
    if not found:
        raise ModelFormatError(
            f"{source.path}: `tokenizer.ggml.eos_token_id` is missing and no token is named {' or '.join(_END_NAMES)}",
            hint="without an end token no text would ever end.",
        )
    specials = {"bos_token": begin, "eos_token": ends[0]}
    names = {name: "" if token is None else tokens[token] for name, token in specials.items()}
    is_added = source.metadata.get("tokenizer.ggml.add_bos_token", False)
    return TextTokenizer(vocabulary, tuple(sorted(found)), begin if is_added else None, names)


def _list(source: GgufSource, name: str, kind: type) -> tuple[Any, ...]:
    values = source.metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise ModelFormatError(
            f"{source.path}: `tokenizer.ggml.{name}` is missing or no list of {kind.__name__}", hint="fetch it again."
        )
    return tuple(values)


def _pair(source: GgufSource, merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    if not left or not right or " " in right:
        raise ModelFormatError(
            f"{source.path}: `tokenizer.ggml.merges` holds {merge!r:.60}, expected two pieces with a space between",
            hint="fetch the file again.",
        )
    return left, right


def _token_id(source: GgufSource, name: str, vocabulary_size: int) -> int | None:
    value = source.metadata.get(f"tokenizer.ggml.{name}")
    if value is not None and (not isinstance(value, int) or not 0 <= value < vocabulary_size):
        raise ModelFormatError(
            f"{source.path}: `tokenizer.ggml.{name}` is {value!r:.60}, expected a token below {vocabulary_size}",
            hint="fetch the file again.",
        )
    return value
