"""Checks caption training from text to checkpoint on a model of a few thousand weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("tokenizers", reason="the extra `train` is not installed")
pytest.importorskip("pycocoevalcap", reason="the extra `train` is not installed")

from PIL import Image  # noqa: E402

from mobile_multimodal.errors import InvalidInputError, ModelFormatError  # noqa: E402
from mobile_multimodal.quantization.export import export_weights  # noqa: E402
from mobile_multimodal.quantization.linear import frozen_weights  # noqa: E402
from mobile_multimodal.training.caption_data import CaptionSet, make_batch  # noqa: E402
from mobile_multimodal.training.caption_model import CaptionConfig, CaptionModel, initialise  # noqa: E402
from mobile_multimodal.training.caption_text import (  # noqa: E402
    EOS,
    PAD,
    decode,
    mirrored,
    normal_form,
    train_tokenizer,
)
from mobile_multimodal.training.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from mobile_multimodal.training.decoding import BeamSettings, beam_search, sample  # noqa: E402
from mobile_multimodal.training.dev_evaluation import DevEvaluation  # noqa: E402
from mobile_multimodal.training.features import FeatureCache, build_cache, render_view  # noqa: E402
from mobile_multimodal.training.losses import distillation_loss, policy_gradient_loss  # noqa: E402
from mobile_multimodal.training.objectives import (  # noqa: E402
    ImitationObjective,
    SelfCriticalObjective,
    SupervisedObjective,
)
from mobile_multimodal.training.rewards import CiderReward  # noqa: E402
from mobile_multimodal.training.student import student_from_teacher, twin_config  # noqa: E402
from mobile_multimodal.training.trainer import Trainer, TrainSettings  # noqa: E402

TINY = CaptionConfig(vocab_size=320, width=32, layers=2, heads=2, kv_heads=1, ffn=48, memory_width=1280, max_length=40)
CAPTIONS = {f"{i}.png": [f"a {colour} dog on the {side} side"] * 5 for i, (colour, side) in enumerate(
    [("red", "left"), ("blue", "right"), ("black", "left"), ("white", "right"), ("red", "right"), ("blue", "left")]
)}  # fmt: skip


def _model(config: CaptionConfig = TINY, seed: int = 0) -> CaptionModel:
    torch.manual_seed(seed)
    model = CaptionModel(config)
    initialise(model)
    return model.eval()


def _features(pictures: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(pictures, 49, 1280, generator=torch.Generator().manual_seed(seed)) * 3


def _save(tokenizer_text: str, path: Path, model: CaptionModel, meta: dict[str, Any]) -> None:
    save_checkpoint(path, model, tokenizer_text, meta)


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("A man 's dog , running .", "a man's dog running"),
        ("Two  kids -- one in red-white -- don't care !", "two kids one in red-white don't care"),
        ('A sign "Stop" \' here', "a sign stop here"),
    ],
)
def test_normal_form(caption: str, text: str) -> None:
    assert normal_form(caption) == text


def test_mirroring_swaps_sides_and_nothing_else() -> None:
    assert mirrored("left of the right leftover") == "right of the left leftover"


def test_tokenizer_round_trip_and_special_tokens() -> None:
    tokenizer = train_tokenizer([text for texts in CAPTIONS.values() for text in texts], 320)
    assert [tokenizer.token_to_id(token) for token in ("<|bos|>", "<|eos|>", "<|pad|>")] == [0, 1, 2]
    ids = tokenizer.encode("a red dog, ünïcode").ids
    assert decode(tokenizer, [0, *ids, EOS, 5, 6]) == "a red dog, ünïcode"


@pytest.mark.parametrize("config", [TINY, twin_config(TINY)], ids=["2-bit", "fp32"])
def test_stepwise_decoding_gives_the_logits_of_the_whole_caption(config: CaptionConfig) -> None:
    model, features = _model(config), _features(2)
    captions = [[5, 6, 7], [9], [8, 7, 6, 5], [11, 12]]
    batch = make_batch(features, captions, torch.arange(2))
    whole = model(features, batch.batch).detach()[: sum(len(caption) + 1 for caption in captions)]
    real = batch.batch.index[: len(whole)]
    with torch.no_grad(), frozen_weights(model):
        cross, cache = model.start(features, 2)
        steps = [model.step(tokens, cross, cache) for tokens in batch.batch.tokens.t()]
    stepwise = torch.stack(steps, dim=1).flatten(0, 1)[real]
    # A float32 rounding may move an int8 activation by one code: 1/127 of the largest logit, through each layer.
    tolerance = 1e-5 if config.bits == 32 else 0.05
    assert float((stepwise - whole).norm() / whole.norm()) < tolerance


def test_a_caption_does_not_see_the_padding_or_its_neighbours() -> None:
    model, features = _model(twin_config(TINY)), _features(1)
    alone = make_batch(features, [[5, 6]], torch.arange(1))
    together = make_batch(features, [[5, 6], [7, 8, 9, 10, 11]], torch.arange(1))
    first = model(features, alone.batch)[:3]
    second = model(features, together.batch)[:3]
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)
    assert together.targets[:9].tolist() == [5, 6, EOS, 7, 8, 9, 10, 11, EOS]
    assert bool((together.targets[9:] == PAD).all())


def test_exported_codes_give_the_training_forward() -> None:
    student, features = _model(), _features(2)
    plain = CaptionModel(twin_config(TINY)).eval()
    weights = {name: value for name, value in student.state_dict().items() if not name.endswith(".scale")}
    for name, packed in export_weights(student).items():
        weights[f"{name}.weight"] = torch.from_numpy(packed.values())
    plain.load_state_dict(weights)
    batch = make_batch(features, [[5, 6, 7], [9, 10]], torch.arange(2)).batch
    # The only difference left is the rounding of activations to int8.
    logits, expected = student(features, batch).detach(), plain(features, batch).detach()
    assert float((logits - expected).norm() / expected.norm()) < 0.05


def test_losses_agree_with_torch() -> None:
    logits = torch.randn(6, 20, requires_grad=True)
    targets, teacher = torch.tensor([3, 4, 5, 6, 7, PAD]), torch.randn(6, 20).softmax(dim=-1)
    logits_again = logits.detach().clone().requires_grad_()
    distillation_loss(logits, targets, 0.1, teacher, 0.3).backward()
    cross_entropy = torch.nn.functional.cross_entropy(logits_again[:5], targets[:5], label_smoothing=0.1)
    soft = -(teacher[:5] * logits_again[:5].log_softmax(dim=-1)).sum(dim=-1).mean()
    (0.7 * cross_entropy + 0.3 * soft).backward()
    torch.testing.assert_close(logits.grad, logits_again.grad, rtol=1e-5, atol=1e-7)

    logits.grad = logits_again.grad = None
    advantage = torch.tensor([1.0, -1.0, 0.5, 0.0, 2.0, 9.0])
    policy_gradient_loss(logits, targets, advantage).backward()
    chosen = logits_again.log_softmax(dim=-1).gather(1, targets[:, None])[:5, 0]
    (-(advantage[:5] * chosen).mean()).backward()
    torch.testing.assert_close(logits.grad, logits_again.grad, rtol=1e-5, atol=1e-7)


def test_beam_search_with_one_beam_is_greedy() -> None:
    model, features = _model(twin_config(TINY)), _features(3)
    found = beam_search(model, features, BeamSettings(num_beams=1, max_tokens=8))
    for picture, tokens in enumerate(found):
        prefix: list[int] = []
        for token in tokens:
            batch = make_batch(features[picture : picture + 1], [prefix], torch.arange(1)).batch
            logits = model(features[picture : picture + 1], batch)[len(prefix)].detach()
            logits[[0, PAD]] = -torch.inf
            assert int(logits.argmax()) == token
            prefix.append(token)


def test_wider_beams_find_likelier_captions() -> None:
    model, features = _model(twin_config(TINY), seed=3), _features(4)

    def score(tokens: list[int], picture: int) -> float:
        batch = make_batch(features[picture : picture + 1], [tokens], torch.arange(1))
        log_p = model(features[picture : picture + 1], batch.batch).log_softmax(dim=-1)
        return float(log_p[range(len(tokens)), batch.targets[: len(tokens)]].sum().detach())

    narrow = beam_search(model, features, BeamSettings(num_beams=1, alpha=0.0, max_tokens=5))
    wide = beam_search(model, features, BeamSettings(num_beams=6, alpha=0.0, max_tokens=5))
    assert sum(score(wide[i], i) for i in range(4)) >= sum(score(narrow[i], i) for i in range(4))


def test_samples_end_with_the_end_token_or_at_the_limit() -> None:
    torch.manual_seed(0)
    tokens, lengths = sample(_model(), _features(2), samples=3, max_tokens=6)
    assert tokens.shape[0] == 6
    for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True):
        assert row[length - 1] == EOS or length == 6
        assert EOS not in row[: length - 1]
        assert set(row[length:]) <= {PAD}


def test_reward_uses_the_frequencies_of_all_references() -> None:
    texts = list(CAPTIONS.values())
    reward = CiderReward(texts)
    alone = reward([1], ["a blue dog on the right side"])
    among = reward([0, 1, 2], ["a cat", "a blue dog on the right side", "the dog"])
    assert alone[0] == among[1]
    assert among[1] > among[0]


def test_checkpoint_round_trip_and_refusals(tmp_path: Path) -> None:
    model, path = _model(), tmp_path / "model.pt"
    save_checkpoint(path, model, "{}", {"seed": 1})
    loaded = load_checkpoint(path)
    assert loaded.config == TINY
    assert loaded.meta == {"seed": 1}
    for name, value in loaded.build_model().state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    torch.save({"config": {}}, path)
    with pytest.raises(ModelFormatError, match="expected"):
        load_checkpoint(path)
    broken = replace(loaded, state_dict={})
    with pytest.raises(ModelFormatError, match="do not fit"):
        broken.build_model()


def test_configurations_that_no_kernel_takes_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="width is 30"):
        replace(TINY, width=30)
    with pytest.raises(InvalidInputError, match="does not split"):
        replace(TINY, heads=3)


def test_views_are_reproducible_and_odd_ones_mirrored() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8))
    np.testing.assert_array_equal(render_view(picture, 3, 1), render_view(picture, 3, 0)[:, ::-1])
    np.testing.assert_array_equal(render_view(picture, 3, 2), render_view(picture, 3, 2))
    assert not np.array_equal(render_view(picture, 3, 2), render_view(picture, 4, 2))


@pytest.fixture
def training_set(tmp_path: Path) -> tuple[CaptionSet, DevEvaluation, str]:
    """Six pictures of plain colours with features that tell them apart."""
    paths = []
    for i, name in enumerate(CAPTIONS):
        paths.append(tmp_path / name)
        Image.new("RGB", (224, 224), (i * 40, 255 - i * 40, 128)).save(paths[-1])

    def encode(images: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        colour = images[:, :49, 0, 0, None].astype(np.float32) / 40.0
        return np.abs(colour - np.arange(1280, dtype=np.float32) % 7)

    for split, views in (("train", 2), ("dev", 1)):
        build_cache(tmp_path / "features", split, paths, views, encode)
    tokenizer = train_tokenizer([text for texts in CAPTIONS.values() for text in texts], TINY.vocab_size)
    data = CaptionSet(FeatureCache(tmp_path / "features", "train", 2), CAPTIONS, tokenizer)
    evaluation = DevEvaluation(FeatureCache(tmp_path / "features", "dev", 1), CAPTIONS, tokenizer)
    return data, evaluation, tokenizer.to_str()


def test_teacher_student_and_self_critical_training_run(
    training_set: tuple[CaptionSet, DevEvaluation, str], tmp_path: Path
) -> None:
    data, evaluation, tokenizer_text = training_set
    save = partial(_save, tokenizer_text)
    assert data.cache.views == [0, 1]
    settings = TrainSettings(rounds=2, learning_rate=5e-3, batch_size=6, steps_per_round=20, warmup_steps=5)
    teacher = _model(twin_config(TINY))
    scores = Trainer(
        teacher, data, SupervisedObjective(0.1), settings, evaluation, tmp_path / "teacher", save, headline="cider_d"
    ).run()
    assert scores is not None
    lines = (tmp_path / "teacher" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert (tmp_path / "teacher" / "metrics.png").stat().st_size > 0

    checkpoint = load_checkpoint(tmp_path / "teacher" / "model.pt")
    student = student_from_teacher(checkpoint, TINY)
    short = replace(settings, rounds=1, steps_per_round=2)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_text)
    for name, objective in {
        "adapt": SupervisedObjective(0.1, [teacher]),
        "imitate": ImitationObjective(teacher, samples=2, max_tokens=8),
        "critical": SelfCriticalObjective(CiderReward(data.texts), tokenizer, samples=2, max_tokens=8),
    }.items():
        Trainer(student, data, objective, short, evaluation, tmp_path / name, save, headline="cider_d").run()
        assert load_checkpoint(tmp_path / name / "model.pt").meta["round"] == 1


@pytest.mark.parametrize("average", [False, True])
def test_a_resumed_run_ends_where_an_unbroken_one_does(
    training_set: tuple[CaptionSet, DevEvaluation, str], tmp_path: Path, average: bool
) -> None:
    data, evaluation, tokenizer_text = training_set
    save = partial(_save, tokenizer_text)
    settings = TrainSettings(rounds=2, learning_rate=1e-3, batch_size=3, warmup_steps=0, average_rounds=average)

    def trainer(folder: str, evaluate: object = evaluation) -> Trainer:
        model = CaptionModel(TINY, dropout=0.1)
        torch.manual_seed(1)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        return Trainer(model, data, SupervisedObjective(0.1), settings, evaluate, tmp_path / folder, save, "cider_d")  # type: ignore[arg-type]

    trainer("whole").run()

    rounds = 0

    def stop_after_the_first(model: CaptionModel) -> object:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            raise KeyboardInterrupt
        return evaluation(model)

    with pytest.raises(KeyboardInterrupt):
        trainer("broken", stop_after_the_first).run()
    trainer("broken").run()
    whole = load_checkpoint(tmp_path / "whole" / "model.pt").state_dict
    resumed = load_checkpoint(tmp_path / "broken" / "model.pt").state_dict
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_averaged_rounds_save_the_mean_of_their_weights(
    training_set: tuple[CaptionSet, DevEvaluation, str], tmp_path: Path
) -> None:
    data, evaluation, tokenizer_text = training_set
    save = partial(_save, tokenizer_text)
    settings = TrainSettings(rounds=2, learning_rate=1e-3, batch_size=3, warmup_steps=0)
    seen: list[dict[str, torch.Tensor]] = []

    def evaluate(model: CaptionModel) -> object:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return evaluation(model)

    means = {}
    for average in (False, True):
        model = _model(TINY)
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        folder = tmp_path / str(average)
        chosen = replace(settings, average_rounds=average)
        Trainer(model, data, SupervisedObjective(0.1), chosen, evaluate, folder, save, "cider_d").run()  # type: ignore[arg-type]
        means[average] = load_checkpoint(folder / "model.pt").state_dict
    start, first, second = seen[:3]
    for name, value in means[True].items():
        torch.testing.assert_close(value, (start[name] + first[name] + second[name]) / 3, rtol=1e-4, atol=1e-6)
        assert torch.equal(means[False][name], second[name])
