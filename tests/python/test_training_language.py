"""Checks language training in its parts: texts, batches, losses, temperatures, resuming; all on small models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("tokenizers", reason="the extra `train` is not installed")

from small_language_model import LETTERS, VOCABULARY, parameter_shapes  # noqa: E402

from mobile_multimodal.errors import InvalidInputError  # noqa: E402
from mobile_multimodal.evaluation.question_sets import Question  # noqa: E402
from mobile_multimodal.training.answer_vocabulary import AnswerVocabulary, answer_form  # noqa: E402
from mobile_multimodal.training.choosing import ChoiceBatches, ChoiceObjective, ChooserDev, ChooserMean  # noqa: E402
from mobile_multimodal.training.features import build_cache  # noqa: E402
from mobile_multimodal.training.generated_sets import make_set  # noqa: E402
from mobile_multimodal.training.language_model import (  # noqa: E402
    LanguageConfig,
    QuestionModel,
    RetrievalModel,
    Rows,
    SharedText,
)
from mobile_multimodal.training.language_parts import (  # noqa: E402
    Part,
    freeze_tables,
    load_part,
    save_part,
    start_from_twin,
    twin_config,
)
from mobile_multimodal.training.language_sets import AskedQuestion, asked, names_a_side  # noqa: E402
from mobile_multimodal.training.language_text import (  # noqa: E402
    TextBatch,
    TextStates,
    WordPieces,
    has_words,
    question_form,
    statement_form,
)
from mobile_multimodal.training.language_tower import write_tower  # noqa: E402
from mobile_multimodal.training.picture_features import PictureFeatures, cache_name  # noqa: E402
from mobile_multimodal.training.pooled_chooser import PooledChooser  # noqa: E402
from mobile_multimodal.training.question_batches import QuestionBatches, QuestionMix  # noqa: E402
from mobile_multimodal.training.question_dev import DevFigures, QuestionDev, spread  # noqa: E402
from mobile_multimodal.training.question_objectives import (  # noqa: E402
    Noise,
    QuestionImitation,
    QuestionObjective,
    answer_losses,
    divergence,
    option_loss,
    option_table,
    with_foreign_pictures,
)
from mobile_multimodal.training.retrieval_objectives import (  # noqa: E402
    ContrastiveObjective,
    Ensemble,
    PairBatch,
    PairBatches,
    RetrievalImitation,
    contrastive_loss,
)
from mobile_multimodal.training.shared_layers import TextBatches, layer_errors  # noqa: E402
from mobile_multimodal.training.statements import Statements  # noqa: E402
from mobile_multimodal.training.temperature import calibrate, fit_temperature, fold_temperature  # noqa: E402
from mobile_multimodal.training.trainer import Trainer, TrainSettings, is_finished, parameter_groups  # noqa: E402

SMALL = LanguageConfig(
    vocab_size=len(VOCABULARY), width=64, heads=4, ffn=96, shared_layers=2, question_layers=1, question_ffn=80,
    text_hidden=96, picture_hidden=112, max_length=16, embedding_width=48,
)  # fmt: skip
PIECES = WordPieces(VOCABULARY, SMALL.max_length)
ANSWERS = AnswerVocabulary(["unanswerable", "yes", "no", "red", "two"])
WEIGHTS = {"open": 0.5, "yes_no": 1.0, "statements": 0.5}
COLOURS = ("red", "blue", "green", "white")
PICTURES = [f"visual7w/{number}.png" for number in range(6)]


def tokens_of(ids: list[int]) -> list[str]:
    return [VOCABULARY[index] for index in ids]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> PictureFeatures:
    """Two views of six pictures; every feature of a picture is its number, in its mirror image 100 more."""
    folder = tmp_path_factory.mktemp("features")
    from PIL import Image

    paths = []
    for number in range(len(PICTURES)):
        paths.append(folder / f"{number}.png")
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(paths[-1])
    views = iter(range(2 * len(PICTURES)))

    def encode(images: np.ndarray) -> np.ndarray:
        places = [next(views) for _ in images]
        numbers = [place % len(PICTURES) + 100 * (place // len(PICTURES)) for place in places]
        return np.stack([np.full((49, 1280), number, np.float32) for number in numbers])

    build_cache(folder, cache_name("visual7w", "train"), paths, 2, encode, batch=1)
    return PictureFeatures(folder, "train", {"visual7w": 2})


@pytest.fixture
def states() -> TextStates:
    torch.manual_seed(5)
    return TextStates(SharedText(twin_config(SMALL)), PIECES)


def choice(number: int, right: int) -> AskedQuestion:
    options = tuple(COLOURS[(place + number) % 4] for place in range(4))
    question = f"what is this {LETTERS[number % 26]}?"
    return AskedQuestion(PICTURES[number % 6], question, options[right], "what", options, right)


def make_batches(features: PictureFeatures, states: TextStates) -> QuestionBatches:
    choices = [choice(number, number % 4) for number in range(24)]
    yes_no = [
        AskedQuestion(PICTURES[n % 6], f"is the dog {LETTERS[n]}?", ("yes", "no")[n % 2], "yesno") for n in range(20)
    ]
    generated = [AskedQuestion(PICTURES[n % 6], f"how many left {LETTERS[n]}?", "two", "count") for n in range(18)]
    texts = [f"{LETTERS[n]} ball?" for n in range(12)]
    pictures = [PICTURES[n % 6] for n in range(12)]
    every = [t for q in (*choices, *yes_no, *generated) for t in (q.question, *q.pairs)]
    states.add([*every, *texts])
    mix = QuestionMix(options=4, open=2, yes_no=6, statements=3, generated={"stamps": 5})
    statements = Statements(pictures, texts, states.means(texts))
    return QuestionBatches(features, ANSWERS, mix, choices, yes_no, statements, {"stamps": generated})


# Texts


@pytest.mark.parametrize(
    ("text", "question", "statement"),
    [
        ("  What is it ?!. ", "What is it?", "What is it ?!"),
        ("a dog. . ", "a dog?", "a dog"),
        ("Really?", "Really?", "Really?"),
        ("\tU.S.A. \x0b", "U.S.A?", "U.S.A"),
        ("\u00a0x\u00a0", "\u00a0x\u00a0?", "\u00a0x\u00a0"),  # the core's spaces are ASCII's
    ],
)
def test_texts_take_one_form(text: str, question: str, statement: str) -> None:
    assert question_form(text) == question
    assert statement_form(text) == statement
    assert question_form(question) == question
    assert has_words(text)


def test_texts_without_a_word_are_refused() -> None:
    for text in ("", " ", " ?!. "):
        assert not has_words(text)
        with pytest.raises(InvalidInputError):
            question_form(text)
    with pytest.raises(InvalidInputError):
        statement_form(" . ")
    assert statement_form("?") == "?"


def test_pairs_hold_the_option_in_segment_1() -> None:
    tokens, segments = PIECES.encode(("what is this?", "a red ball"))
    expected = ["[CLS]", "what", "is", "this", "?", "[SEP]", "a", "red", "ball", "[SEP]"]
    assert tokens_of(tokens) == expected
    assert segments == [0] * 6 + [1] * 4
    tokens, segments = PIECES.encode("this dog")
    assert tokens_of(tokens) == ["[CLS]", "this", "dog", "[SEP]"]
    assert segments == [0] * 4


@pytest.mark.parametrize(
    ("question", "option", "kept"),
    [(40, 40, (7, 6)), (40, 2, (11, 2)), (3, 40, (3, 10)), (7, 6, (7, 6)), (40, 6, (7, 6))],
)
def test_long_pairs_are_cut_and_the_question_keeps_half(question: int, option: int, kept: tuple[int, int]) -> None:
    tokens, segments = PIECES.encode((" ".join(["dog"] * question), " ".join(["red"] * option)))
    counts = Counter(tokens_of(tokens))
    assert (counts["dog"], counts["red"]) == kept
    assert len(tokens) == len(segments) <= SMALL.max_length
    assert len(PIECES.encode(" ".join(["dog"] * 40))[0]) == SMALL.max_length


def test_rows_fold_what_they_unfold_and_average_real_rows_only() -> None:
    rows = Rows.of(torch.tensor([2, 5, 1]))
    assert (rows.count, rows.length, rows.real) == (3, 5, 8)
    flat = rows.fill_up(torch.arange(1.0, 17.0).reshape(8, 2))
    grid = rows.unfold(flat)
    assert grid.shape == (3, 5, 2)
    assert grid[0, 2:].abs().sum() == 0
    torch.testing.assert_close(rows.fold(grid), flat)
    torch.testing.assert_close(rows.mean(flat), torch.stack([flat[:2].mean(0), flat[2:7].mean(0), flat[7]]))
    mask = rows.mask()
    assert mask is not None
    assert (mask[:, 0, 0] == 0).sum(dim=1).tolist() == [2, 5, 1]
    assert Rows.full(2, 3).mask() is None


def test_a_text_does_not_see_its_neighbours(states: TextStates) -> None:
    alone, crowd = TextStates(states._model, PIECES), TextStates(states._model, PIECES)
    alone.add(["a red dog"])
    crowd.add(["a red dog", "what is this? what is this", ("is this", "red")])
    torch.testing.assert_close(alone.means(["a red dog"]), crowd.means(["a red dog"]), rtol=0, atol=0.02)
    flat, rows = crowd.read(["a red dog", ("is this", "red")])
    torch.testing.assert_close(rows.mean(flat)[0], crowd.means(["a red dog"])[0], rtol=1e-4, atol=1e-4)


# Questions and batches


def test_questions_are_read_in_their_form() -> None:
    question = Question("dev/7.png", "What is it", "The Dog.", "what", ("A cat.", "The Dog.", "a bird"))
    found = asked("stamps", question)
    expected = AskedQuestion("stamps/7.png", "What is it?", "dog", "what", ("A cat", "The Dog", "a bird"), 1)
    assert found == expected
    assert asked("foreign", Question("easy_vqa/train/7.png", "Why?", "unanswerable", "x")).picture == "easy_vqa/7.png"
    assert names_a_side(("what", "the Left one"))
    assert not names_a_side("leftover")


def test_answers_are_those_that_are_given_often() -> None:
    assert [answer_form(text) for text in ("A dog.", "the  Park", "an", "theatre")] == ["dog", "park", "an", "theatre"]
    chosen = AnswerVocabulary.of(
        [(["dog"] * 3 + ["cat"] * 2 + ["no"] * 9, 3), (["two"] * 5 + ["dog"] * 5 + [""] * 9, 5)]
    )
    assert chosen.answers == ["unanswerable", "yes", "no", "dog", "two"]
    assert chosen.class_of("cat") is None
    with pytest.raises(InvalidInputError):
        AnswerVocabulary(["yes", "no"])


def test_batches_hold_every_kind_and_tell_nothing_by_their_order(features: PictureFeatures, states: TextStates) -> None:
    batches = make_batches(features, states).batches(23, np.random.default_rng(0))
    right: Counter[int] = Counter()
    statements: Counter[int] = Counter()
    for _ in range(40):
        batch = next(batches)
        assert batch.option_counts.tolist() == [4] * 4
        right.update(batch.right.tolist())
        assert len(batch.texts) == len(batch.owner) == batch.options + len(batch.targets)
        assert Counter(batch.parts) == {"open": 2, "yes_no": 6, "statements": 6, "stamps": 5}
        assert int(batch.owner.max()) + 1 == len(batch.features)
        # Each choice asks one question of one picture, with its own options, the right one where `right` says.
        for number in range(4):
            pairs = batch.texts[4 * number : 4 * number + 4]
            assert len({pair[0] for pair in pairs}) == 1
            assert len(set(batch.owner[4 * number : 4 * number + 4].tolist())) == 1
        for text, target, part in zip(batch.texts[batch.options :], batch.targets.tolist(), batch.parts, strict=True):
            if part == "stamps":
                assert target == 4
            if part == "statements":
                statements[target] += 1
                assert isinstance(text, str)
        # A text that says left keeps its picture from being mirrored.
        for text, owner in zip(batch.texts, batch.owner.tolist(), strict=True):
            if names_a_side(text):
                assert float(batch.features[owner].max()) < 100
    assert statements == {1: 120, 2: 120}
    assert all(abs(right[place] - 40) <= 12 for place in range(4)), right


def test_a_picture_is_there_once_and_each_text_has_its_own(features: PictureFeatures, states: TextStates) -> None:
    source = make_batches(features, states)
    batch = next(source.batches(30, np.random.default_rng(1)))
    numbers = (batch.features[:, 0, 0] % 100).tolist()
    assert len(set(numbers)) == len(numbers)
    known = {q.question: q.picture for q in (*source._choices, *source._yes_no)}
    for text, owner in zip(batch.texts, batch.owner.tolist(), strict=True):
        question = text if isinstance(text, str) else text[0]
        if question.startswith("is the dog"):
            assert known[question] == f"visual7w/{int(numbers[owner])}.png"


def test_a_batch_without_a_part_is_about_fewer_pictures(features: PictureFeatures, states: TextStates) -> None:
    batch = next(make_batches(features, states).batches(22, np.random.default_rng(0)))
    left = batch.without({"stamps", "open"})
    kept = [place for place, part in enumerate(batch.parts) if part not in ("stamps", "open")]
    assert left.parts == [batch.parts[place] for place in kept]
    assert left.targets.tolist() == batch.targets[kept].tolist()
    texts = [*range(batch.options), *(batch.options + place for place in kept)]
    assert left.texts == [batch.texts[place] for place in texts]
    torch.testing.assert_close(left.features[left.owner], batch.features[batch.owner[texts]])
    assert len(left.features) == len(set(batch.owner[texts].tolist()))
    whole = batch.without(set())
    assert torch.equal(whole.owner, batch.owner)
    assert torch.equal(whole.features, batch.features)


def test_a_false_statement_is_of_another_picture_and_mostly_alike() -> None:
    random = np.random.default_rng(0)
    # Statements 0..19 point one way, 20..39 another; two of each picture.
    vectors = torch.cat([torch.tensor([[1.0, 0.0]]).repeat(20, 1), torch.tensor([[0.0, 1.0]]).repeat(20, 1)])
    pictures = [str(number // 2) for number in range(40)]
    known = Statements(pictures, [str(number) for number in range(40)], vectors)
    chosen = list(range(40)) * 5
    hard = known.other_than(chosen, 1.0, random)
    assert all(pictures[a] != pictures[b] for a, b in zip(chosen, hard, strict=True))
    assert all((a < 20) == (b < 20) for a, b in zip(chosen, hard, strict=True))
    easy = known.other_than(chosen, 0.0, random)
    assert 60 < sum((a < 20) == (b < 20) for a, b in zip(chosen, easy, strict=True)) < 140
    assert Statements(["x", "x"], ["a", "b"], torch.eye(2)).other_than([0, 1], 0.5, random) == []


def test_pairs_are_of_different_pictures_and_texts(features: PictureFeatures) -> None:
    captions = {picture: ["the same", f"left {number}"] for number, picture in enumerate(PICTURES[:4])}
    sentences = {picture: ["a red ball"] for picture in PICTURES[4:]}
    batches = PairBatches(features, captions, sentences, 0.5).batches(8, np.random.default_rng(0))
    for _ in range(20):
        batch = next(batches)
        assert len(set(batch.texts)) == len(batch.texts) == len(batch.pictures)
        assert batch.pictures.shape[1:] == (1280,)
        for text, mean in zip(batch.texts, batch.pictures[:, 0].tolist(), strict=True):
            if text.startswith("left"):
                assert mean == float(text.split()[1])


def test_mean_features_are_those_of_the_grid(features: PictureFeatures) -> None:
    keys, views = [PICTURES[3], PICTURES[1], PICTURES[3]], [0, 1, 1]
    torch.testing.assert_close(features.read_means(keys, views), features.read(keys, views).mean(dim=1))


def test_word_batches_pass_over_every_text_once() -> None:
    texts = [" ".join(["dog"] * (1 + number % 6)) + f" {LETTERS[number]}" for number in range(20)]
    found: Counter[int] = Counter()
    count = 0
    for batch in TextBatches(texts, PIECES).batches(2, np.random.default_rng(0)):
        count += 1
        ends = [VOCABULARY[token] for token in batch.tokens.tolist()]
        found.update(VOCABULARY.index(end) for end in ends if end in LETTERS)
    assert count == 11  # ten of texts, one of random words
    assert all(found[VOCABULARY.index(letter)] >= 1 for letter in LETTERS[:20])


# Losses


def test_the_order_of_options_changes_no_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, counts = torch.randn(9, generator=generator), torch.tensor([4, 3, 2])
    loss = option_loss(scores, counts, torch.tensor([2, 0, 1]))
    parts = scores.split([4, 3, 2])
    by_hand = torch.stack([-parts[0].log_softmax(0)[2], -parts[1].log_softmax(0)[0], -parts[2].log_softmax(0)[1]])
    torch.testing.assert_close(loss, by_hand.mean())
    turned = torch.cat([part.flip(0) for part in parts])
    torch.testing.assert_close(option_loss(turned, counts, torch.tensor([1, 2, 0])), loss)


def test_smoothing_spreads_over_the_options_that_are_there() -> None:
    scores, counts, right = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0, -1.0]), torch.tensor([4, 2]), torch.tensor([1, 0])
    first, second = scores[:4].log_softmax(0), scores[4:].log_softmax(0)
    expected = -(0.8 * first[1] + 0.2 * first.mean() + 0.8 * second[0] + 0.2 * second.mean()) / 2
    torch.testing.assert_close(option_loss(scores, counts, right, 0.2), expected)


def test_options_that_are_not_there_have_no_probability_and_no_gradient() -> None:
    scores = torch.randn(5, requires_grad=True)
    table = option_table(scores, torch.tensor([4, 1]))
    assert table.softmax(dim=1)[1].tolist() == [1, 0, 0, 0]
    loss = divergence(table, torch.randn(2, 4).masked_fill(table.detach() < -100, -1e4))
    loss.backward()
    assert scores.grad is not None
    assert bool(torch.isfinite(scores.grad).all())
    assert float(scores.grad[4]) == pytest.approx(0, abs=1e-6)


def test_answers_are_weighed_by_part(features: PictureFeatures, states: TextStates) -> None:
    batch = next(make_batches(features, states).batches(22, np.random.default_rng(0)))
    logits = torch.randn(len(batch.targets), len(ANSWERS))
    each = torch.nn.functional.cross_entropy(logits, batch.targets, reduction="none")
    means = {part: each[[p == part for p in batch.parts]].mean() for part in set(batch.parts)}
    expected = 0.5 * means["open"] + means["yes_no"] + 0.5 * means["statements"] + means["stamps"]
    torch.testing.assert_close(answer_losses(logits, batch, WEIGHTS), expected)


def test_imitation_of_oneself_costs_nothing_but_its_plain_share(features: PictureFeatures, states: TextStates) -> None:
    torch.manual_seed(0)
    model = QuestionModel(twin_config(SMALL), len(ANSWERS)).eval()
    batch = next(make_batches(features, states).batches(22, np.random.default_rng(0)))
    plain = QuestionObjective(states, WEIGHTS)
    assert QuestionImitation(plain, model, states, 0.0).loss(model, batch)[1] == pytest.approx(0, abs=1e-5)
    whole = plain.loss(model, batch)[1]
    assert QuestionImitation(plain, model, states, 0.3).loss(model, batch)[1] == pytest.approx(0.3 * whole, rel=1e-3)
    # A set that the twin does not teach is learned from its answers.
    untaught = QuestionImitation(plain, model, states, 0.0, ["stamps"]).loss(model, batch)[1]
    _, logits = plain.ask(model, batch)
    rows = torch.tensor([part == "stamps" for part in batch.parts])
    expected = torch.nn.functional.cross_entropy(logits[rows], batch.targets[rows]).item()
    assert untaught == pytest.approx(expected, rel=1e-3)


def test_foreign_choices_keep_their_texts_and_count_for_the_teacher_alone(
    features: PictureFeatures, states: TextStates
) -> None:
    torch.manual_seed(0)
    model = QuestionModel(twin_config(SMALL), len(ANSWERS)).eval()
    batch = next(make_batches(features, states).batches(22, np.random.default_rng(0)))
    crossed = with_foreign_pictures(batch, torch.tensor([False, True, True, False]))
    assert crossed.texts == batch.texts
    for choice_number, is_foreign in enumerate((False, True, True, False)):
        owners = crossed.owner[4 * choice_number : 4 * choice_number + 4]
        assert len(set(owners.tolist())) == 1
        assert is_foreign or torch.equal(owners, batch.owner[4 * choice_number : 4 * choice_number + 4])
    assert torch.equal(crossed.owner[batch.options :], batch.owner[batch.options :])
    plain = QuestionObjective(states, WEIGHTS)
    scores, logits = plain.ask(model, batch)
    answers = answer_losses(logits, batch, WEIGHTS)
    torch.testing.assert_close(plain.of(scores, logits, batch, torch.zeros(4, dtype=torch.bool)), answers)
    first = option_loss(scores[:4], batch.option_counts[:1], batch.right[:1])
    known = torch.tensor([True, False, False, False])
    torch.testing.assert_close(plain.of(scores, logits, batch, known), answers + first)
    # Where all choices are foreign, a student that agrees with its teacher has nothing left to learn from them.
    taught = QuestionImitation(plain, model, states, 1.0, foreign_share=1.0).loss(model, batch)[1]
    assert taught == pytest.approx(answers.item(), rel=1e-3)


def test_choosers_learn_what_the_picture_tells_and_teach_it(features: PictureFeatures, states: TextStates) -> None:
    # The right colour is that of the picture's number, whatever the question and the order of the options.
    questions = [replace(choice(n, 0), right=(n % 6 - n) % 4) for n in range(24)]
    states.add([pair for question in questions for pair in question.pairs])
    choices = ChoiceBatches(features, states, questions)
    assert [len(batch.right) for batch in choices.batches(9, np.random.default_rng(0))] == [9, 9, 6]
    whole = choices.whole()
    assert whole.texts.shape == (96, SMALL.width)
    assert whole.right.tolist() == [question.right for question in questions]
    torch.manual_seed(0)
    model = PooledChooser(twin_config(SMALL), 32)
    model.fit_texts(whole.texts)
    dev, objective = ChooserDev(choices), ChoiceObjective()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(60):
        loss, figure = objective.loss(model.train(), whole)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(figure)
    assert losses[-1] < 0.7 * losses[0]
    assert dev(model).as_dict()["accuracy"] > 0.5
    batch = next(make_batches(features, states).batches(22, np.random.default_rng(0)))
    shares = ChooserMean([model, model], states).log_shares(batch, 3)
    assert shares.shape == (3, 4)
    torch.testing.assert_close(shares.exp().sum(dim=1), torch.ones(3))


def test_a_model_without_pictures_hears_nothing_of_them(features: PictureFeatures, states: TextStates) -> None:
    torch.manual_seed(0)
    model = QuestionModel(twin_config(SMALL), len(ANSWERS)).eval()
    batch = next(make_batches(features, states).batches(22, np.random.default_rng(0)))
    other = type(batch)(**{**vars(batch), "features": batch.features + 5})
    blind, seeing = (QuestionObjective(states, WEIGHTS, sees_pictures=sees) for sees in (False, True))
    assert blind.loss(model, batch)[1] == blind.loss(model, other)[1]
    assert seeing.loss(model, batch)[1] != seeing.loss(model, other)[1]


def test_noise_hides_whole_cells() -> None:
    torch.manual_seed(0)
    hidden = Noise(cells=0.5).on_features(torch.ones(20, 49, 32))
    assert set(hidden.sum(dim=2).unique().tolist()) == {0.0, 32.0}
    assert 0.4 < float((hidden[:, :, 0] == 0).float().mean()) < 0.6
    plain = torch.ones(2, 49, 32)
    assert torch.equal(Noise().on_features(plain), plain)


def test_retrieval_losses() -> None:
    pictures = torch.eye(4)
    assert float(contrastive_loss(pictures, pictures)) < 1e-6
    assert float(contrastive_loss(pictures.roll(1, 0), pictures)) > 10


def test_an_ensemble_of_one_teaches_what_it_knows(states: TextStates) -> None:
    torch.manual_seed(0)
    model = RetrievalModel(twin_config(SMALL)).eval()
    states.add(["a red ball", "the dog", "two"])
    batch = PairBatch(torch.randn(3, 1280), ["a red ball", "the dog", "two"])
    ensemble = Ensemble([model, model])
    texts = states.means(batch.texts)
    torch.testing.assert_close(
        ensemble.embed_texts(texts) @ ensemble.embed_pictures(batch.pictures).T,
        model.embed_texts(texts) @ model.embed_pictures(batch.pictures).T,
    )
    plain = ContrastiveObjective(states)
    loss = RetrievalImitation(plain, ensemble, states).loss(model, batch)[1]
    assert loss == pytest.approx(0.1 * plain.loss(model, batch)[1], rel=1e-3, abs=1e-4)


def test_shared_layers_that_are_equal_have_no_error() -> None:
    torch.manual_seed(0)
    teacher = SharedText(twin_config(SMALL)).eval()
    batch = TextBatch.of([[2, 5, 6, 3], [2, 7, 3]], [[0] * 4, [0] * 3])
    assert [error.item() for error in layer_errors(teacher, teacher, batch)] == [0.0, 0.0]
    student = start_from_twin(SharedText(SMALL), teacher.state_dict())
    errors = [error.item() for error in layer_errors(student, teacher, batch)]
    assert all(0 < error < 2 for error in errors)


# Dev, temperatures and the tower


def test_dev_counts_right_answers(features: PictureFeatures, states: TextStates) -> None:
    sets = {
        "visual7w": [choice(number, number % 4) for number in range(7)],
        "vqa_yesno": [AskedQuestion(PICTURES[0], f"is the dog {letter}?", "yes", "yesno") for letter in LETTERS[:4]],
        "stamps": [AskedQuestion(PICTURES[1], f"how many {letter}?", "two", "count") for letter in LETTERS[:4]],
    }
    states.add([text for questions in sets.values() for q in questions for text in (q.question, *q.pairs)])
    model = QuestionModel(twin_config(SMALL), len(ANSWERS))
    with torch.no_grad():
        for head in (model.answer_head, model.score_head):
            torch.nn.init.zeros_(head.weight)
        # "two" first, and yes above no.
        model.answer_head.bias.copy_(torch.tensor([0.0, 2.0, 1.0, 0.0, 3.0]))
    dev = QuestionDev(sets, features, states, ANSWERS)
    figures = dev(model).as_dict()
    # Equal scores: the first option is taken, right in 2 of 7 questions.
    assert figures == {"accuracy": round((2 / 7 + 1) / 2, 4), "visual7w": round(2 / 7, 4), "vqa_yesno": 1, "stamps": 1}
    assert len(spread(sets["visual7w"], 3)) == 3
    assert spread(sets["visual7w"], 0) == spread(sets["visual7w"], 100) == sets["visual7w"]


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_the_temperature_that_made_the_answers_is_found(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20000, 5, generator=generator) * 2
    targets = torch.multinomial((logits / temperature).softmax(dim=1), 1, generator=generator)[:, 0]
    found = calibrate(logits, targets, torch.ones(len(targets)))
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert found.nll[1] <= found.nll[0] + 1e-6
    assert found.calibration_error[1] < 0.02


def test_a_temperature_weighs_its_rows() -> None:
    logits = torch.tensor([[2.0, 0.0]] * 4)
    targets = torch.tensor([0, 0, 0, 1])
    # With all of the weight on three right answers and one wrong one at odds of 3: T = 2 / ln 3.
    assert fit_temperature(logits, targets, torch.ones(4)) == pytest.approx(2 / np.log(3), rel=1e-6)
    assert fit_temperature(logits, targets, torch.tensor([1.0, 0, 0, 0.5])) == pytest.approx(2 / np.log(2), rel=1e-6)


@pytest.mark.parametrize("bits", [2, 8, 32])
def test_a_folded_temperature_divides_what_a_head_gives(bits: int) -> None:
    from dataclasses import replace

    torch.manual_seed(0)
    model = RetrievalModel(replace(twin_config(SMALL), head_bits=bits)).eval()
    x = torch.randn(3, SMALL.text_hidden)
    before = model.text_head(x)
    model.load_state_dict(fold_temperature(model.state_dict(), "text_head", 2.5))
    torch.testing.assert_close(model.text_head(x), before / 2.5, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("config", [SMALL, twin_config(SMALL)], ids=["low bits", "float"])
def test_the_tower_has_the_names_and_shapes_that_the_compiler_reads(config: LanguageConfig, tmp_path: Path) -> None:
    models = {
        "shared": SharedText(config),
        "retrieval": RetrievalModel(config),
        "answers": QuestionModel(config, len(ANSWERS)),
    }
    parts = {name: Part(config, model.state_dict(), {"round": 1}) for name, model in models.items()}
    path = tmp_path / "tower.pt"
    write_tower(path, parts, {"answer_head": 2.0}, VOCABULARY, ANSWERS.answers, {"seed": 0})
    content = torch.load(path, weights_only=True)
    weights = content["state_dict"]
    shapes = {name: tuple(value.shape) for name, value in weights.items() if not name.endswith(".scale")}
    assert shapes == parameter_shapes(content["config"], len(ANSWERS))
    scaled = {name.removesuffix(".scale") for name in weights if name.endswith(".scale")}
    assert ("shared.0.qkv" in scaled, "answer_head" in scaled) == (config.bits == 2, False)
    torch.testing.assert_close(weights["answer_head.bias"] * 2, models["answers"].state_dict()["answer_head.bias"])
    with pytest.raises(InvalidInputError, match="a second time"):
        write_tower(path, {**parts, "again": parts["shared"]}, {}, VOCABULARY, ANSWERS.answers, {})
    other = Part(SMALL if config.bits == 32 else twin_config(SMALL), {}, {})
    with pytest.raises(InvalidInputError, match="differ in their shapes"):
        write_tower(path, {**parts, "other": other}, {}, VOCABULARY, ANSWERS.answers, {})


# Training


def test_frozen_parameters_are_left_alone() -> None:
    model = freeze_tables(SharedText(SMALL))
    groups = parameter_groups(model, TrainSettings(rounds=1, learning_rate=1e-3))
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    frozen = {name for name, parameter in model.named_parameters() if id(parameter) not in trained}
    assert frozen == {"embedding.weight", "position.weight", "segment.weight"}


class StopAfter:
    """Evaluates by the number of calls, and interrupts at one of them."""

    def __init__(self, figures: list[float], stop_at: int = 0) -> None:
        self.figures, self.stop_at, self.calls = figures, stop_at, 0

    def __call__(self, model: torch.nn.Module) -> DevFigures:
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        return DevFigures({"accuracy": self.figures[self.calls - 1]})


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Several threads add the gradients of pictures with several questions in any order: the last bits differ."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_trainer(
    features: PictureFeatures, states: TextStates, tmp_path: Path, one_thread: None
) -> Callable[[str, StopAfter, bool], Trainer]:  # type: ignore[type-arg]
    """Trainers of equal models that differ in their folder and their figures on dev."""
    data = make_batches(features, states)

    def make(folder: str, evaluate: StopAfter, keep_best: bool) -> Trainer:  # type: ignore[type-arg]
        torch.manual_seed(0)
        settings = TrainSettings(
            rounds=3, learning_rate=1e-3, batch_size=22, steps_per_round=2, warmup_steps=1, keep_best=keep_best
        )
        model = QuestionModel(SMALL, len(ANSWERS), dropout=0.2)
        objective = QuestionObjective(states, WEIGHTS, Noise(0.1, 0.1, 0.1))
        return Trainer(model, data, objective, settings, evaluate, tmp_path / folder, save_part, headline="accuracy")

    return make


def test_a_resumed_training_ends_where_an_unbroken_one_does(
    make_trainer: Callable[[str, StopAfter, bool], Trainer],  # type: ignore[type-arg]
    tmp_path: Path,
) -> None:
    make_trainer("whole", StopAfter([0.1, 0.2, 0.3]), False).run()
    with pytest.raises(KeyboardInterrupt):
        make_trainer("broken", StopAfter([0.1, 0.2, 0.3], stop_at=2), False).run()
    settings = TrainSettings(rounds=3, learning_rate=1e-3, batch_size=22, steps_per_round=2, warmup_steps=1)
    assert not is_finished(tmp_path / "broken", settings)
    make_trainer("broken", StopAfter([0.2, 0.3]), False).run()
    assert is_finished(tmp_path / "broken", settings)
    whole, broken = (load_part(tmp_path / name / "model.pt", "x") for name in ("whole", "broken"))
    assert whole.digest == broken.digest
    with pytest.raises(InvalidInputError, match="belongs to other settings"):
        is_finished(tmp_path / "broken", TrainSettings(rounds=4, learning_rate=1e-3))


def test_the_best_round_is_kept_even_across_a_break(
    make_trainer: Callable[[str, StopAfter, bool], Trainer],  # type: ignore[type-arg]
    tmp_path: Path,
) -> None:
    make_trainer("best", StopAfter([0.1, 0.3, 0.2]), True).run()
    best = load_part(tmp_path / "best" / "model.pt", "x")
    assert best.meta["round"] == 2
    with pytest.raises(KeyboardInterrupt):
        make_trainer("broken", StopAfter([0.1, 0.3, 0.2], stop_at=3), True).run()
    make_trainer("broken", StopAfter([0.2]), True).run()
    assert load_part(tmp_path / "broken" / "model.pt", "x").digest == best.digest
    make_trainer("last", StopAfter([0.1, 0.3, 0.2]), False).run()
    assert load_part(tmp_path / "last" / "model.pt", "x").meta["round"] == 3


def test_a_part_fits_only_its_own_shape(tmp_path: Path) -> None:
    model = RetrievalModel(SMALL)
    save_part(tmp_path / "model.pt", model, {"round": 1})
    part = load_part(tmp_path / "model.pt", "retrieval")
    assert part.fill(RetrievalModel(SMALL)).text_up.weight.equal(model.text_up.weight)
    with pytest.raises(InvalidInputError, match="the part was trained as"):
        part.fill(RetrievalModel(twin_config(SMALL)))


def test_a_set_appears_when_it_is_complete(tmp_path: Path) -> None:
    def stop(folder: Path) -> dict[str, list[Question]]:
        folder.mkdir()
        (folder / "half").touch()
        raise KeyboardInterrupt

    def write(folder: Path) -> dict[str, list[Question]]:
        folder.mkdir()
        return {"train": [], "dev": []}

    with pytest.raises(KeyboardInterrupt):
        make_set(tmp_path / "set", stop)
    assert not (tmp_path / "set").exists()
    make_set(tmp_path / "set", write)
    make_set(tmp_path / "set", stop)  # there already: nothing is written again
    assert [path.name for path in tmp_path.rglob("*")] == ["set"]
