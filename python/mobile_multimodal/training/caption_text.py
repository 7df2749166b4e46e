"""Turns captions into training text and tokens: normal form, byte-level BPE, special tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = ("<|bos|>", "<|eos|>", "<|pad|>")
BOS, EOS, PAD = range(3)

_CLITIC = re.compile(r"\s+(n't|'(?:s|re|ve|ll|d|m))\b")
_NOT_TEXT = re.compile(r"[^\w\s'-]|_")
_LOOSE_MARK = re.compile(r"(?<!\w)['-]+|['-]+(?!\w)")
_FLIPPED = {"left": "right", "right": "left"}
_SIDE = re.compile(r"\b(left|right)\b")


def normal_form(caption: str) -> str:
    """Lower case, single spaces, no punctuation but inner hyphens and apostrophes, clitics joined to their word.

    The core adds the capital and the full stop when it prints.
    """
    text = _CLITIC.sub(r"\1", caption.lower())
    text = _LOOSE_MARK.sub(" ", _NOT_TEXT.sub(" ", text))
    return " ".join(text.split())


def mirrored(caption: str) -> str:
    """The caption of the mirrored picture: left and right change places."""
    return _SIDE.sub(lambda match: _FLIPPED[match.group(1)], caption)


def train_tokenizer(captions: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE over captions in normal form, specials first (bos 0, eos 1, pad 2)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    return tokenizer


def decode(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    """Text of tokens up to the end token, without specials."""
    kept = []
    for token in tokens:
        if token == EOS:
            break
        if token > PAD:
            kept.append(token)
    return str(tokenizer.decode(kept)).strip()
