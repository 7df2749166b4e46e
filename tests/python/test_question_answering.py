"""Questions and embeddings through the public API, on a whole small model file with random weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from small_language_model import ANSWERS, SIDE, VOCABULARY, write_checkpoint, write_language_model

from mobile_multimodal import (
    Answer,
    DeadlineExceededError,
    InvalidImageError,
    InvalidInputError,
    MobileMultiModalLLM,
    ModelFormatError,
    UnsupportedError,
    native,
)

Array = np.ndarray[Any, Any]
QUESTION = "What color is the ball?"


def picture(seed: int = 0, side: int = SIDE) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def pieces(text: str) -> list[int]:
    """Ids of words that are in the vocabulary."""
    return [VOCABULARY.index(word) for word in text.split()]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language")
    return write_language_model(folder / "model.gguf", write_checkpoint(folder / "language.pt"))


@pytest.fixture(scope="module")
def whole_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a caption decoder beside the tower."""
    pytest.importorskip("tokenizers")
    from mobile_multimodal.training.caption_model import CaptionConfig, CaptionModel
    from mobile_multimodal.training.caption_text import train_tokenizer
    from mobile_multimodal.training.checkpoint import save_checkpoint

    folder = tmp_path_factory.mktemp("whole")
    tokenizer = train_tokenizer(["a dog runs on the grass", "two men stand by the sea"] * 4, 300)
    sizes = {"width": 64, "layers": 2, "heads": 4, "kv_heads": 4, "ffn": 96, "max_length": 16}
    config = CaptionConfig(vocab_size=304, memory_width=80, memory_length=16, **sizes)
    save_checkpoint(folder / "caption.pt", CaptionModel(config), tokenizer.to_str(), {"note": "test"})
    checkpoint = write_checkpoint(folder / "language.pt")
    return write_language_model(folder / "model.gguf", checkpoint, caption=folder / "caption.pt")


@pytest.fixture(scope="module")
def model(path: Path) -> Any:
    with MobileMultiModalLLM.from_pretrained(path, threads=1) as loaded:
        yield loaded


def softmax(logits: Array) -> Array:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(weights / weights.sum())


def run_question(path: Path, pixels: Array, tokens: list[int], segments: list[int]) -> dict[str, Array]:
    """Answers and score by the programs alone, with the tokens written out."""
    session = native.Session(native.Engine(str(path)), threads=1)
    session.run("prepare_question", session.run("encode_image", {"pixels": pixels}))
    inputs = {"tokens": tokens, "positions": list(range(len(tokens))), "segments": segments}
    return session.run("answer_question", {name: np.array(values, np.int32) for name, values in inputs.items()})


def test_an_answer_is_the_softmax_without_unanswerable(model: MobileMultiModalLLM, path: Path) -> None:
    tokens = [2, *pieces("what color is the ball ?"), 3]
    expected = softmax(run_question(path, picture(), tokens, [0] * len(tokens))["answers"])
    answer = model.answer_question(picture(), QUESTION, top_k=3)
    order = sorted(range(1, len(ANSWERS)), key=lambda index: -expected[index])
    assert isinstance(answer, Answer)
    assert str(answer) == answer.text == ANSWERS[order[0]]
    assert [text for text, _ in answer.alternatives] == [ANSWERS[index] for index in order[:3]]
    np.testing.assert_allclose([p for _, p in answer.alternatives], expected[order[:3]], rtol=1e-5)
    assert answer.confidence == answer.alternatives[0][1]
    assert answer.unanswerable == pytest.approx(expected[0], rel=1e-5)
    every = model.answer_question(picture(), QUESTION, top_k=100)
    assert len(every.alternatives) == len(ANSWERS) - 1
    assert sum(p for _, p in every.alternatives) + every.unanswerable == pytest.approx(1, abs=1e-6)
    record = answer.to_dict()
    assert record["alternatives"][0] == {"text": answer.text, "probability": answer.confidence}
    assert set(record["timings"]) == {"resize", "encode", "prepare", "answer", "total"}


def test_a_choice_is_the_softmax_of_the_scores(model: MobileMultiModalLLM, path: Path) -> None:
    scores = []
    for option in ("red", "the dog"):
        first, second = [2, *pieces("is this the ball ?"), 3], [*pieces(option), 3]
        scores.append(run_question(path, picture(), first + second, [0] * len(first) + [1] * len(second))["score"][0])
    chosen = model.choose(picture(), "Is this the ball?", ["red", "THE DOG"])
    assert list(chosen) == ["red", "THE DOG"]
    np.testing.assert_allclose(list(chosen.values()), softmax(np.array(scores)), rtol=1e-5)
    assert sum(chosen.values()) == pytest.approx(1, abs=1e-6)


def test_long_texts_are_cut_and_the_question_keeps_half(model: MobileMultiModalLLM, path: Path) -> None:
    """16 tokens: 14 for a question alone; 13 for a question and an option, of which the question keeps 7."""
    words = ["what", "is", "this", "color", "how", "many", "red", "ball", "the", "dog", "?", ",", "!", "what", "is"]
    tokens = [2, *pieces(" ".join(words[:14])), 3]
    expected = softmax(run_question(path, picture(), tokens, [0] * 16)["answers"])
    answer = model.answer_question(picture(), " ".join(words), top_k=100)
    np.testing.assert_allclose(dict(answer.alternatives)["yes"], expected[1], rtol=1e-5)
    cases = [(words, words, 7, 6), (words[:3], words, 4, 9), (words, words[:2], 11, 2), (words[:3], words[:4], 4, 4)]
    for first, second, keeps_first, keeps_second in cases:
        marked = [*first, "?"]  # every question gets one
        scores = []
        for option in (second, ["yes"]):
            kept = keeps_second if option is second else 0
            if not kept:
                continue
            head, tail = pieces(" ".join(marked[:keeps_first])), pieces(" ".join(option[:kept]))
            tokens = [2, *head, 3, *tail, 3]
            segments = [0] * (len(head) + 2) + [1] * (len(tail) + 1)
            scores.append(run_question(path, picture(), tokens, segments)["score"][0])
        short = [2, *pieces(" ".join(marked[:12])), 3, VOCABULARY.index("dog"), 3]
        segments = [0] * (len(short) - 2) + [1, 1]
        scores.append(run_question(path, picture(), short, segments)["score"][0])
        chosen = model.choose(picture(), " ".join(first), [" ".join(second), "dog"])
        np.testing.assert_allclose(list(chosen.values()), softmax(np.array(scores)), rtol=1e-5)


def test_embeddings_are_unit_vectors(model: MobileMultiModalLLM, path: Path) -> None:
    session = native.Session(native.Engine(str(path)), threads=1)
    raw = session.run("embed_image", session.run("encode_image", {"pixels": picture()}))["embedding"]
    vector = model.embed_image(picture())
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector, raw / np.linalg.norm(raw.astype(np.float64)), rtol=1e-6)
    tokens = [2, *pieces("the red dog"), 3]
    inputs = {"tokens": np.array(tokens, np.int32), "positions": np.arange(5, dtype=np.int32)}
    raw = session.run("embed_text", inputs)["embedding"]
    text = model.embed_text("The red  dog")
    np.testing.assert_allclose(text, raw / np.linalg.norm(raw.astype(np.float64)), rtol=1e-6)
    several = model.embed_text(["The red dog", "many balls"])
    assert several.shape == (2, 48)
    np.testing.assert_array_equal(several[0], text)
    np.testing.assert_allclose(np.linalg.norm(several, axis=1), 1, rtol=1e-6)


def test_similarity_takes_pictures_texts_and_vectors(model: MobileMultiModalLLM, tmp_path: Path) -> None:
    from PIL import Image

    image, text = model.embed_image(picture()), model.embed_text("the dog")
    expected = float(image.astype(np.float64) @ text)
    assert model.similarity(picture(), "the dog") == pytest.approx(expected, abs=1e-6)
    assert model.similarity(image, text) == pytest.approx(expected, abs=1e-6)
    assert model.similarity(image, "the dog") == pytest.approx(expected, abs=1e-6)
    assert model.similarity(image, image) == pytest.approx(1, abs=1e-6)
    Image.fromarray(picture()).save(tmp_path / "dog.png")
    assert model.similarity(str(tmp_path / "dog.png"), "the dog") == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InvalidInputError, match="vectors of 48 and 3 numbers"):
        model.similarity(image, np.ones(3, np.float32))
    with pytest.raises(InvalidInputError, match="has no direction"):
        model.similarity(image, np.zeros(48, np.float32))


def test_one_encoding_serves_every_task(whole_path: Path) -> None:
    session = native.Session(native.Engine(str(whole_path)), threads=1)
    apart = native.Session(native.Engine(str(whole_path)), threads=1, feature_cache_bytes=0)

    def tasks(chosen: Any, pixels: Array) -> list[Any]:
        return [
            chosen.caption(pixels)["text"],
            chosen.answer_question(pixels, QUESTION)["candidates"],
            chosen.embed_image(pixels).tolist(),
            chosen.choose(pixels, QUESTION, ["red", "two"])["probabilities"],
            chosen.caption(pixels, num_beams=1)["text"],
            chosen.answer_question(pixels, "How many?")["candidates"],
        ]

    for seed in (0, 1, 0):  # back and forth: memories of the one must not answer for the other
        assert tasks(session, picture(seed)) == tasks(apart, picture(seed))
    assert hits_and_misses(session) == (16, 2)
    assert hits_and_misses(apart) == (0, 18)
    mixed = [session.answer_question(picture(seed), QUESTION)["candidates"] for seed in (0, 1, 0, 1)]
    assert mixed[:2] == mixed[2:]
    assert mixed[0] != mixed[1]


def hits_and_misses(session: native.Session) -> tuple[int, int]:
    statistics = session.cache_statistics()
    return statistics["hits"], statistics["misses"]


def bytes_of_a_picture(path: Path) -> int:
    session = native.Session(native.Engine(str(path)), threads=1)
    session.embed_image(picture())
    return session.cache_statistics()["bytes"]


def test_the_cache_holds_as_many_pictures_as_its_bytes_do(path: Path) -> None:
    one = bytes_of_a_picture(path)
    session = native.Session(native.Engine(str(path)), threads=1, feature_cache_bytes=5 * one - 1)
    for seed in (0, 1, 2, 3, 0, 4):
        session.embed_image(picture(seed))
    assert hits_and_misses(session) == (1, 5)
    assert session.cache_statistics()["bytes"] == 4 * one
    session.embed_image(picture(0))  # was used after 1: still there
    session.embed_image(picture(1))
    assert hits_and_misses(session) == (2, 6)
    other = picture(0)
    other[0, 0, 0] ^= 1  # one level of one pixel
    session.embed_image(other)
    assert hits_and_misses(session) == (2, 7)


def test_a_cache_too_small_for_a_picture_holds_the_last_one(path: Path) -> None:
    session = native.Session(native.Engine(str(path)), threads=1, feature_cache_bytes=1)
    for seed in (0, 0, 1, 0):
        session.embed_image(picture(seed))
    assert hits_and_misses(session) == (1, 3)


def test_the_size_of_the_cache_is_a_setting(path: Path) -> None:
    one = bytes_of_a_picture(path)
    with MobileMultiModalLLM.from_pretrained(path, threads=1, feature_cache_bytes=2 * one) as loaded:
        for seed in (0, 1, 0, 2, 0, 1):
            loaded.embed_image(picture(seed))
        statistics = loaded.get_feature_cache_statistics()
        assert (statistics.hits, statistics.misses, statistics.bytes) == (2, 4, 2 * one)
    with pytest.raises(InvalidInputError, match="enable_caching=False and feature_cache_bytes=5 exclude each other"):
        MobileMultiModalLLM.from_pretrained(path, enable_caching=False, feature_cache_bytes=5)
    with pytest.raises(InvalidInputError, match="feature_cache_bytes is -1, expected an integer from 0"):
        MobileMultiModalLLM.from_pretrained(path, feature_cache_bytes=-1)


def test_states_that_were_changed_beside_the_tasks_are_made_anew(path: Path) -> None:
    session = native.Session(native.Engine(str(path)), threads=1)
    expected = session.answer_question(picture(0), QUESTION)["candidates"]
    session.run("prepare_question", session.run("encode_image", {"pixels": picture(1)}))
    assert session.answer_question(picture(0), QUESTION)["candidates"] == expected
    session.reset()
    assert session.answer_question(picture(0), QUESTION)["candidates"] == expected


def test_a_failed_preparation_leaves_no_half_picture(path: Path) -> None:
    session = native.Session(native.Engine(str(path)), threads=1)
    expected = [session.answer_question(picture(seed), QUESTION)["candidates"] for seed in (0, 1)]
    for seed in (0, 1):
        with pytest.raises(DeadlineExceededError):
            session.answer_question(picture(seed), QUESTION, deadline_seconds=1e-9)
        assert session.answer_question(picture(seed), QUESTION)["candidates"] == expected[seed]


def test_caching_can_be_switched_off(path: Path) -> None:
    for enable_caching in (True, False):
        with MobileMultiModalLLM.from_pretrained(path, threads=1, enable_caching=enable_caching) as loaded:
            first = loaded.answer_question(picture(), QUESTION)
            second = loaded.answer_question(picture(), QUESTION)
            assert first == second  # timings do not count


def test_threads_do_not_change_results(path: Path) -> None:
    sessions = [native.Session(native.Engine(str(path)), threads=threads) for threads in (1, 2, 3)]
    answers = [session.answer_question(picture(), QUESTION)["candidates"] for session in sessions]
    vectors = [session.embed_text(QUESTION).tolist() for session in sessions]
    assert answers[0] == answers[1] == answers[2]
    assert vectors[0] == vectors[1] == vectors[2]


WRONG_QUESTIONS: list[tuple[Any, str]] = [
    ("", "question is empty"),
    (" \n\t", "question is empty"),
    ("\u200b\u00ad", "the question is empty"),
    (None, "type NoneType"),
    (b"what", "type bytes"),
    ("half \ud800", "half of a surrogate pair at place 5"),
    ("a" * 65537, "65537 bytes, expected at most 65536"),
    ("é" * 40000, "80000 bytes"),
]


@pytest.mark.parametrize(("question", "message"), WRONG_QUESTIONS)
def test_wrong_questions_are_refused(model: MobileMultiModalLLM, question: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        model.answer_question(picture(), question)
    assert caught.value.hint
    with pytest.raises(InvalidInputError):
        model.choose(picture(), question, ["yes", "no"])
    with pytest.raises(InvalidInputError):
        model.embed_text(question)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "options has 0 entries, expected 2 to 64"),
        (["yes"], "options has 1 entries"),
        ([str(number) for number in range(65)], "options has 65 entries"),
        (["yes", "no", "yes"], "'yes' is given twice"),
        (["yes", ""], "option 1 is empty"),
        (["yes", 3], "option 1 is of type int"),
        ("yes", "options is of type str"),
        (None, "options is of type NoneType"),
        (["yes", "\u200b"], "an option is empty"),
    ],
)
def test_wrong_options_are_refused(model: MobileMultiModalLLM, options: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        model.choose(picture(), QUESTION, options)


def test_the_core_checks_for_itself(path: Path) -> None:
    session = native.Session(native.Engine(str(path)), threads=1)
    for options in (["yes"], ["yes", "yes"], ["yes", ""], ["a"] * 65):
        with pytest.raises(InvalidInputError):
            session.choose(picture(), QUESTION, options)
    for top_k in (0, -1, 101):
        with pytest.raises(InvalidInputError, match="`top_k` is"):
            session.answer_question(picture(), QUESTION, top_k=top_k)
    for seconds in (-1.0, math.nan, math.inf):
        with pytest.raises(InvalidInputError, match="deadline_seconds"):
            session.embed_text("a dog", deadline_seconds=seconds)
        with pytest.raises(InvalidInputError, match="deadline_seconds"):
            session.embed_image(picture(), deadline_seconds=seconds)
    with pytest.raises(InvalidInputError):
        session.embed_image(np.zeros((0, 4, 3), np.uint8))


def test_settings_are_checked(model: MobileMultiModalLLM) -> None:
    for top_k in (0, 101, 2.5, True):
        with pytest.raises(InvalidInputError, match="setting top_k is"):
            model.answer_question(picture(), QUESTION, top_k=top_k)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="setting deadline_seconds is"):
        model.embed_image(picture(), deadline_seconds=-1)
    for text in ([], None, 3, b"dog", ["dog", ""]):
        with pytest.raises(InvalidInputError):
            model.embed_text(text)  # type: ignore[arg-type]
    with pytest.raises(InvalidImageError):
        model.answer_question(b"no picture", QUESTION)


def test_deadlines_end_the_work(model: MobileMultiModalLLM) -> None:
    calls = [
        lambda: model.answer_question(picture(9), QUESTION, deadline_seconds=1e-9),
        lambda: model.choose(picture(9), QUESTION, ["yes", "no"], deadline_seconds=1e-9),
        lambda: model.embed_image(picture(9), deadline_seconds=1e-9),
        lambda: model.embed_text(QUESTION, deadline_seconds=1e-9),
        lambda: model.similarity(picture(9), QUESTION, deadline_seconds=1e-9),
    ]
    for call in calls:
        with pytest.raises(DeadlineExceededError):
            call()
    assert model.answer_question(picture(9), QUESTION).text in ANSWERS


@pytest.mark.parametrize("lacking", ["prepare_question", "answer_question", "embed_image", "embed_text"])
def test_files_without_a_program_say_so(tmp_path: Path, lacking: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "language.pt")
    path = write_language_model(tmp_path / "model.gguf", checkpoint, without=lacking)
    with MobileMultiModalLLM.from_pretrained(path, threads=1) as loaded:
        calls = {
            "prepare_question": lambda: loaded.answer_question(picture(), QUESTION),
            "answer_question": lambda: loaded.choose(picture(), QUESTION, ["yes", "no"]),
            "embed_image": lambda: loaded.embed_image(picture()),
            "embed_text": lambda: loaded.embed_text("a dog"),
        }
        with pytest.raises(UnsupportedError, match=f"it has no program {lacking}") as caught:
            calls[lacking]()
        assert caught.value.hint


def test_files_without_words_or_answers_say_so(tmp_path: Path) -> None:
    from mobile_multimodal import NotFoundError

    checkpoint = write_checkpoint(tmp_path / "language.pt")
    for lacking in ("mm.wordpiece.tokens", "mm.answers"):
        path = write_language_model(tmp_path / "model.gguf", checkpoint, without=lacking)
        with (
            MobileMultiModalLLM.from_pretrained(path, threads=1) as loaded,
            pytest.raises(NotFoundError, match="it lacks word pieces, answers"),
        ):
            loaded.answer_question(picture(), QUESTION)


def test_more_answers_than_classes_are_refused(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "language.pt")
    path = write_language_model(tmp_path / "model.gguf", checkpoint, answers=(*ANSWERS, "three"))
    with (
        MobileMultiModalLLM.from_pretrained(path, threads=1) as loaded,
        pytest.raises(ModelFormatError, match="no float output `answers` of 7 values"),
    ):
        loaded.answer_question(picture(), QUESTION)
