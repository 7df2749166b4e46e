"""Turns a tokenizer.json (byte-level BPE) into the tokenizer keys of the model file."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mobile_multimodal.compile.container import Metadata
from mobile_multimodal.errors import ModelFormatError, UnsupportedError

NORMAL, CONTROL = 1, 3
BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
_HINT = "train a byte-level BPE tokenizer, as `mobile-mm train caption` does."


@dataclass(frozen=True)
class BytePairVocabulary:
    """Pieces by id in the GPT-2 byte alphabet, merges best first, and which pieces are control tokens."""

    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    control: frozenset[int]
    adds_space_prefix: bool
    word_rule: str = "gpt-2"  # or "smollm", which makes every digit a word of its own first

    def id_of(self, token: str) -> int:
        """The id of a control token; raises ModelFormatError when the vocabulary lacks it."""
        if token not in self.tokens or self.tokens.index(token) not in self.control:
            raise ModelFormatError(f"the tokenizer has no control token {token}", hint=_HINT)
        return self.tokens.index(token)

    def add_to(self, metadata: Metadata) -> None:
        """Adds the keys `tokenizer.ggml.*`."""
        metadata.string("tokenizer.ggml.model", "gpt2")
        if self.word_rule != "gpt-2":
            metadata.string("tokenizer.ggml.pre", self.word_rule)
        metadata.strings("tokenizer.ggml.tokens", self.tokens)
        metadata.strings("tokenizer.ggml.merges", [f"{left} {right}" for left, right in self.merges])
        types = [CONTROL if index in self.control else NORMAL for index in range(len(self.tokens))]
        metadata.integers("tokenizer.ggml.token_type", types)
        metadata.boolean("tokenizer.ggml.add_space_prefix", self.adds_space_prefix)


def read_tokenizer(text: str) -> BytePairVocabulary:
    """Checks the text of a tokenizer.json and returns its vocabulary; whatever the core would not do is refused."""
    try:
        content: dict[str, Any] = json.loads(text)
        model, vocabulary = content["model"], content["model"]["vocab"]
        merges = tuple(_pair(item) for item in model["merges"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFormatError(f"the tokenizer is not a tokenizer.json: {error!r}", hint=_HINT) from error
    step = content.get("pre_tokenizer") or {}
    _require(model.get("type") == "BPE", f"its model is {model.get('type')}")
    _require(step.get("type") == "ByteLevel" and step.get("use_regex", True), f"its pre-tokenizer is {step}")
    _require(content.get("normalizer") is None, "it has a normalizer")
    _require(content.get("post_processor") is None, "it has a post-processor")
    for option in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token", "dropout"):
        _require(not model.get(option), f"it sets {option}")
    _require(
        not model.get("byte_fallback") and not model.get("ignore_merges"), "it sets byte_fallback or ignore_merges"
    )

    pieces = {index: piece for piece, index in vocabulary.items()}
    control = set()
    for item in content.get("added_tokens", []):
        _require(item["special"], f"its added token {item['content']!r} is not special")
        pieces[item["id"]] = item["content"]
        control.add(item["id"])
    if set(pieces) != set(range(len(pieces))):
        raise ModelFormatError(f"the {len(pieces)} token ids are not 0 to {len(pieces) - 1}", hint=_HINT)
    tokens = tuple(pieces[index] for index in range(len(pieces)))
    check_pieces(tokens, merges, control)
    return BytePairVocabulary(tokens, merges, frozenset(control), bool(step.get("add_prefix_space", True)))


def check_pieces(tokens: Sequence[str], merges: Iterable[tuple[str, str]], control: Collection[int]) -> None:
    """Refuses pieces outside the byte alphabet and merges of what is no piece, as the core will."""
    alphabet = byte_alphabet()
    known = set(tokens)
    for index, piece in enumerate(tokens):
        if index not in control and not set(piece) <= alphabet:
            raise ModelFormatError(f"token {index} is {piece!r}, which is not in GPT-2's byte alphabet", hint=_HINT)
    for left, right in merges:
        if left not in known or right not in known or left + right not in known:
            raise ModelFormatError(f"merge `{left} {right}` joins or makes a piece that is no token", hint=_HINT)


def byte_alphabet() -> frozenset[str]:
    """The 256 letters that stand for bytes: printable Latin-1 as itself, the rest from U+0100 on."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return frozenset([chr(byte) for byte in own] + [chr(256 + index) for index in range(256 - len(own))])


def _pair(item: str | list[str]) -> tuple[str, str]:
    """A merge is `left right` in older files and [left, right] in newer ones."""
    left, right = item.split(" ") if isinstance(item, str) else item
    return left, right


def _require(is_right: bool, complaint: str) -> None:
    if not is_right:
        raise UnsupportedError(
            f"the tokenizer cannot be translated: {complaint}, expected plain byte-level BPE", hint=_HINT
        )
