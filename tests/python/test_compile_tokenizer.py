"""Tokenizers the core would read otherwise than the trainer are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mobile_multimodal.compile.tokenizer import byte_alphabet, read_tokenizer
from mobile_multimodal.errors import ModelFormatError, UnsupportedError

BASE: dict[str, Any] = {
    "normalizer": None,
    "post_processor": None,
    "added_tokens": [{"id": 0, "content": "<|bos|>", "special": True}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True},
    "model": {"type": "BPE", "vocab": {"<|bos|>": 0, "a": 1, "b": 2, "ab": 3, "Ġ": 4}, "merges": [["a", "b"]]},
}


def changed(**parts: Any) -> str:
    return json.dumps({**BASE, **parts})


def test_tokens_merges_and_controls() -> None:
    vocabulary = read_tokenizer(changed())
    assert vocabulary.tokens == ("<|bos|>", "a", "b", "ab", "Ġ")
    assert vocabulary.merges == (("a", "b"),)
    assert vocabulary.control == {0}
    assert vocabulary.adds_space_prefix
    assert vocabulary.id_of("<|bos|>") == 0
    with pytest.raises(ModelFormatError, match="no control token a"):
        vocabulary.id_of("a")


def test_merges_of_older_files() -> None:
    assert read_tokenizer(changed(model={**BASE["model"], "merges": ["a b"]})).merges == (("a", "b"),)


def test_the_byte_alphabet_is_that_of_the_tokenizers_package() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    assert byte_alphabet() == set(tokenizers.pre_tokenizers.ByteLevel.alphabet())


@pytest.mark.parametrize(
    ("parts", "error", "text"),
    [
        ({"normalizer": {"type": "Lowercase"}}, UnsupportedError, "normalizer"),
        ({"post_processor": {"type": "ByteLevel"}}, UnsupportedError, "post-processor"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, UnsupportedError, "pre-tokenizer is"),
        ({"pre_tokenizer": None}, UnsupportedError, "pre-tokenizer is"),
        ({"model": {**BASE["model"], "type": "Unigram"}}, UnsupportedError, "Unigram"),
        ({"model": {**BASE["model"], "byte_fallback": True}}, UnsupportedError, "byte_fallback"),
        ({"model": {**BASE["model"], "unk_token": "a"}}, UnsupportedError, "unk_token"),
        ({"added_tokens": [{"id": 5, "content": "x", "special": False}]}, UnsupportedError, "not special"),
        ({"added_tokens": [{"id": 9, "content": "x", "special": True}]}, ModelFormatError, "token ids"),
        ({"added_tokens": []}, None, ""),
        ({"model": {**BASE["model"], "vocab": {**BASE["model"]["vocab"], "東": 5}}}, ModelFormatError, "alphabet"),
        ({"model": {**BASE["model"], "merges": [["a", "Ġ"]]}}, ModelFormatError, "no token"),
        ({"model": {"type": "BPE"}}, ModelFormatError, "not a tokenizer.json"),
    ],
)
def test_what_the_core_would_not_do_is_refused(parts: dict[str, Any], error: type[Exception] | None, text: str) -> None:
    if error is None:  # specials then are ordinary pieces, which the byte alphabet allows
        assert read_tokenizer(changed(**parts)).control == frozenset()
        return
    with pytest.raises(error, match=text):
        read_tokenizer(changed(**parts))


def test_other_text_is_refused() -> None:
    for text in ("", "[]", "{"):
        with pytest.raises(ModelFormatError, match=r"not a tokenizer\.json"):
            read_tokenizer(text)
