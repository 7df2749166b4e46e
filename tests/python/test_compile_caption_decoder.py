"""Caption decoders: the core's logits against the PyTorch module with the same quantized weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")

from small_models import BothModels, relative_error  # noqa: E402

from mobile_multimodal import native  # noqa: E402
from mobile_multimodal.compile.build import DecoderSource, ModelCard, build_model  # noqa: E402
from mobile_multimodal.compile.caption_checkpoint import load_caption_checkpoint  # noqa: E402
from mobile_multimodal.errors import InvalidInputError, ModelFormatError, NotFoundError  # noqa: E402
from mobile_multimodal.quantization.export import export_weights  # noqa: E402
from mobile_multimodal.quantization.linear import frozen_weights  # noqa: E402
from mobile_multimodal.training.caption_model import CaptionConfig, CaptionModel  # noqa: E402
from mobile_multimodal.training.caption_text import train_tokenizer  # noqa: E402
from mobile_multimodal.training.checkpoint import save_checkpoint  # noqa: E402

torch.set_num_threads(1)  # small layers: on a loaded machine two threads wait for each other more than they compute
Array = np.ndarray[Any, Any]
SENTENCES = ["a dog runs on the grass", "two men stand by the sea", "a child's red ball", "snow-covered café 12"] * 4
VOCABULARY = 320
PIECES = 316  # what the trainer finds in SENTENCES: the file leaves the other four rows out
# (bits, memory bits, embedding bits, heads, kv heads)
FORMS = {
    "2 bits": (2, 8, 8, 4, 4),
    "4 bits": (4, 8, 8, 4, 4),
    "8 bits, shared keys": (8, 8, 8, 4, 2),
    "2 bits throughout": (2, 2, 4, 4, 1),
    "float": (32, 32, 32, 4, 4),
}


def make_checkpoint(path: Path, form: str = "2 bits", seed: int = 0) -> tuple[Path, CaptionModel]:
    """A checkpoint of an untrained decoder with weights of a trained one's spread."""
    bits, memory_bits, embedding_bits, heads, kv_heads = FORMS[form]
    config = CaptionConfig(
        vocab_size=VOCABULARY,
        width=64,
        layers=2,
        heads=heads,
        kv_heads=kv_heads,
        ffn=96,
        memory_width=80,
        memory_length=9,
        max_length=16,
        bits=bits,
        memory_bits=memory_bits,
        embedding_bits=embedding_bits,
    )
    torch.manual_seed(seed)
    model = CaptionModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
            elif name == "memory.position":
                parameter.normal_(std=0.3)
    save_checkpoint(path, model, train_tokenizer(SENTENCES, VOCABULARY).to_str(), {"note": "test"})
    return path, model


def build(folder: Path, checkpoint: Path, bits: int | None = None) -> BothModels:
    path = folder / f"decoder-{bits}.gguf"
    source = DecoderSource(checkpoint, bits, max_tokens=12)
    build_model(path, ModelCard("test"), None, source, lambda line: None)
    return BothModels(path)


def rows(tokens: list[int], positions: list[int], sequences: list[int]) -> dict[str, Array]:
    parts = {"tokens": tokens, "positions": positions, "sequences": sequences}
    return {name: np.array(values, dtype=np.int32) for name, values in parts.items()}


def features(seed: int = 0) -> Array:
    return np.abs(np.random.default_rng(seed).normal(size=(9, 80))).astype(np.float32)


def torch_logits(model: CaptionModel, picture: Array, tokens: list[int]) -> Array:
    """Logits after each token, one step at a time."""
    with torch.no_grad(), frozen_weights(model):
        cross, cache = model.start(torch.from_numpy(picture)[None], 1)
        logits = [model.step(torch.tensor([token]), cross, cache)[0].numpy() for token in tokens]
    return np.stack(logits)[:, :PIECES]


TOKENS = [0, 17, 300, 255, 3, 3, 120]


@pytest.mark.parametrize("form", FORMS)
def test_logits_agree_with_pytorch(tmp_path: Path, form: str) -> None:
    checkpoint, model = make_checkpoint(tmp_path / "c.pt", form)
    both = build(tmp_path, checkpoint)
    both.run("prefill", {"features": features()})
    count = len(TOKENS)
    twin, core = both.run("decode", rows(TOKENS, list(range(count)), [0] * count))
    assert core["logits"].shape == (count, PIECES)
    expected = torch_logits(model, features(), TOKENS)
    assert relative_error(twin["logits"], expected) < 1e-3
    assert relative_error(core["logits"], expected) < 1e-3
    assert relative_error(core["logits"], twin["logits"]) < 1e-3


@pytest.mark.parametrize("form", ["2 bits", "8 bits, shared keys"])
def test_a_prompt_at_once_equals_step_by_step(tmp_path: Path, form: str) -> None:
    both = build(tmp_path, make_checkpoint(tmp_path / "c.pt", form)[0])
    session, count = both.session, len(TOKENS)
    session.run("prefill", {"features": features()})
    at_once = session.run("decode", rows(TOKENS, list(range(count)), [0] * count))["logits"]
    session.reset()
    session.run("prefill", {"features": features()})
    steps = [session.run("decode", rows([token], [at], [0]))["logits"] for at, token in enumerate(TOKENS)]
    np.testing.assert_array_equal(np.concatenate(steps), at_once)


def test_beams_share_the_past_and_then_part(tmp_path: Path) -> None:
    checkpoint, model = make_checkpoint(tmp_path / "c.pt")
    both = build(tmp_path, checkpoint)
    session = both.session
    session.run("prefill", {"features": features()})
    session.run("decode", rows([0, 17], [0, 1], [0, 0]))
    session.reorder([0, 0, 0])
    session.run("decode", rows([5, 6, 7], [2] * 3, [0, 1, 2]))
    session.reorder([2, 0, 2])
    found = session.run("decode", rows([8, 9, 10], [3] * 3, [0, 1, 2]))["logits"]
    for row, past in enumerate([[0, 17, 7, 8], [0, 17, 5, 9], [0, 17, 7, 10]]):
        assert relative_error(found[row], torch_logits(model, features(), past)[-1]) < 1e-3


def test_a_new_picture_replaces_the_old(tmp_path: Path) -> None:
    checkpoint, model = make_checkpoint(tmp_path / "c.pt")
    session = build(tmp_path, checkpoint).session
    for seed in (0, 1):
        session.reset()
        session.run("prefill", {"features": features(seed)})
        found = session.run("decode", rows(TOKENS[:2], [0, 1], [0, 0]))["logits"]
        assert relative_error(found, torch_logits(model, features(seed), TOKENS[:2])) < 1e-3


def test_features_may_keep_the_shape_of_the_picture(tmp_path: Path) -> None:
    session = build(tmp_path, make_checkpoint(tmp_path / "c.pt")[0]).session
    results = []
    for shape in ((9, 80), (3, 3, 80)):
        session.reset()
        session.run("prefill", {"features": features().reshape(shape)})
        results.append(session.run("decode", rows([0], [0], [0]))["logits"])
    np.testing.assert_array_equal(results[0], results[1])


def test_the_float_twin_holds_the_same_weights(tmp_path: Path) -> None:
    """32 bits: the dequantized weights with float activations, equal to PyTorch with those weights as floats."""
    checkpoint, model = make_checkpoint(tmp_path / "c.pt")
    both = build(tmp_path, checkpoint, 32)
    assert "linear" not in both.twin.metadata["mm.op_names"]
    config = {**vars(model.config), "bits": 32, "memory_bits": 32, "embedding_bits": 32}
    twin = CaptionModel(CaptionConfig(**config)).eval()
    state = {name: value for name, value in model.state_dict().items() if not name.endswith(".scale")}
    for name, weight in export_weights(model).items():
        state[f"{name}.weight"] = torch.from_numpy(weight.values())
    twin.load_state_dict(state, strict=True)
    both.run("prefill", {"features": features()})
    _, core = both.run("decode", rows(TOKENS, list(range(len(TOKENS))), [0] * len(TOKENS)))
    assert relative_error(core["logits"], torch_logits(twin, features(), TOKENS)) < 1e-5


@pytest.mark.parametrize(("bits", "bound"), [(8, 0.05), (4, 0.5)])
def test_a_float_decoder_can_be_quantized_when_it_is_built(tmp_path: Path, bits: int, bound: float) -> None:
    checkpoint, model = make_checkpoint(tmp_path / "c.pt", "float")
    both = build(tmp_path, checkpoint, bits)
    both.run("prefill", {"features": features()})
    _, core = both.run("decode", rows(TOKENS, list(range(len(TOKENS))), [0] * len(TOKENS)))
    error = relative_error(core["logits"], torch_logits(model, features(), TOKENS))
    assert 1e-4 < error < bound


def test_codes_and_scales_are_those_of_training(tmp_path: Path) -> None:
    checkpoint, model = make_checkpoint(tmp_path / "c.pt")
    loaded = load_caption_checkpoint(checkpoint)
    for name, weight in export_weights(model).items():
        matrix = loaded.matrix(name, *weight.codes.shape, weight.bits)
        np.testing.assert_array_equal(matrix.codes, weight.codes)
        np.testing.assert_array_equal(matrix.scale, weight.scale)


def test_the_tokenizer_in_the_file_is_the_trained_one(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    checkpoint, _ = make_checkpoint(tmp_path / "c.pt")
    both = build(tmp_path, checkpoint)
    tokenizer = Tokenizer.from_str(load_caption_checkpoint(checkpoint).tokenizer)
    for text in [*SENTENCES[:4], "a dog", "the café's sea", "2 cats and 10 men", "unseen wörds 東京"]:
        assert both.engine.encode(text) == tokenizer.encode(text).ids
    metadata = both.twin.metadata
    assert (metadata["mm.caption.bos"], metadata["mm.caption.eos"], metadata["mm.caption.pad"]) == (0, 1, 2)
    assert metadata["mm.caption.max_tokens"] == 12
    assert metadata["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1]


def test_broken_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no checkpoint"):
        load_caption_checkpoint(tmp_path / "none.pt")
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    with pytest.raises(ModelFormatError, match="is not a checkpoint"):
        load_caption_checkpoint(tmp_path / "bad.pt")
    checkpoint, _ = make_checkpoint(tmp_path / "c.pt")
    content = torch.load(checkpoint, weights_only=True)

    def saved(**changes: Any) -> Path:
        torch.save({**content, **changes}, tmp_path / "changed.pt")
        return tmp_path / "changed.pt"

    torch.save({"config": {}}, tmp_path / "part.pt")
    with pytest.raises(ModelFormatError, match="lacks"):
        load_caption_checkpoint(tmp_path / "part.pt")
    with pytest.raises(ModelFormatError, match=r"\['colour'\] are unknown"):
        load_caption_checkpoint(saved(config={**content["config"], "colour": 1}))
    state = dict(content["state_dict"])
    del state["layers.1.down.weight"]
    with pytest.raises(ModelFormatError, match=r"lacks the weight `layers\.1\.down\.weight`"):
        build(tmp_path, saved(state_dict=state))
    state["layers.1.down.weight"] = torch.zeros(3, 3)
    with pytest.raises(ModelFormatError, match=r"has shape \(3, 3\), expected \(64, 96\)"):
        build(tmp_path, saved(state_dict=state))
    state["layers.1.down.weight"] = torch.full((64, 96), float("nan"))
    with pytest.raises(InvalidInputError, match="NaN or infinity"):
        build(tmp_path, saved(state_dict=state))
    tokenizer = json.loads(content["tokenizer"])
    tokenizer["model"]["vocab"] = {piece: index for piece, index in tokenizer["model"]["vocab"].items() if index != 9}
    tokenizer["model"]["merges"] = []
    with pytest.raises(ModelFormatError, match="token ids are not 0 to"):
        build(tmp_path, saved(tokenizer=json.dumps(tokenizer)))


def test_more_tokens_than_the_caches_hold_are_refused(tmp_path: Path) -> None:
    checkpoint, _ = make_checkpoint(tmp_path / "c.pt")
    source = DecoderSource(checkpoint, max_tokens=17)
    with pytest.raises(InvalidInputError, match="17 tokens by default, expected 1 to 16"):
        build_model(tmp_path / "d.gguf", ModelCard("test"), None, source, lambda line: None)
    session = build(tmp_path, checkpoint).session
    with pytest.raises(InvalidInputError):
        session.run("decode", rows([0], [16], [0]))


def test_equal_checkpoints_give_equal_files(tmp_path: Path) -> None:
    checkpoint, _ = make_checkpoint(tmp_path / "c.pt")
    files = []
    for name in ("a", "b"):
        build_model(
            tmp_path / name, ModelCard("same"), None, DecoderSource(checkpoint, max_tokens=8), lambda line: None
        )
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    assert native.Engine(str(tmp_path / "a")).file_bytes == len(files[0])
