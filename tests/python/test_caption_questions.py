"""Checks the questions made from captions: answers are right and sure, and the question alone does not tell them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

pytest.importorskip("tokenizers", reason="the extra `train` is not installed")

from mobile_multimodal.evaluation.question_sets import UNANSWERABLE
from mobile_multimodal.training.answer_sentences import sentence_from
from mobile_multimodal.training.caption_facts import read_picture
from mobile_multimodal.training.caption_questions import balanced, questions_from_captions
from mobile_multimodal.training.question_rules import Draft, drafts_of, is_surely_not, subject_of

DOG_IN_SNOW = [
    "A brown dog runs through the snow .",
    "A brown dog with a red collar is running in the snow",
    "A dog is running in deep snow .",
    "The dog runs across the snow",
    "Brown dog running",
]
TWO_MEN = [
    "Two men are sitting on a bench .",
    "Two men sit on a bench in the park .",
    "two men on a bench",
    "A man and another man sit on a bench .",
    "Two old men are sitting on a wooden bench",
]
GIRL = [
    "A girl in a pink dress holds a ball .",
    "A little girl in a pink dress is holding a ball",
    "A girl holding a ball",
    "A young girl wearing a dress stands in the grass",
    "The girl stands in the grass",
]


def answers(captions: list[str], kind: str) -> set[str]:
    """Answers of all questions of a kind, over several draws of their wording."""
    facts = read_picture("x", captions)
    return {draft.answer for seed in range(8) for draft in drafts_of(facts, Random(seed)) if draft.kind == kind}


def test_what_the_captions_of_a_picture_answer() -> None:
    assert answers(DOG_IN_SNOW, "colour") == {"brown", "red"}
    assert answers(DOG_IN_SNOW, "count") == {"1"}
    assert answers(DOG_IN_SNOW, "doing") == {"running"}
    assert answers(DOG_IN_SNOW, "where") == {"in the snow"}
    assert answers(DOG_IN_SNOW, "what") == {"dog"}
    assert answers(TWO_MEN, "count") == {"2"}
    assert answers(TWO_MEN, "doing") == {"sitting"}
    assert answers(TWO_MEN, "where") == {"on a bench"}
    assert answers(TWO_MEN, "what") == {"two men"}
    assert answers(GIRL, "colour") == {"pink"}
    assert answers(GIRL, "what") == {"a girl", "ball"}


def test_captions_that_disagree_answer_nothing() -> None:
    assert answers(["a black dog", "a white dog", "a black and white dog"], "colour") == set()
    assert answers(["a black dog chases a white dog", "two dogs run", "two dogs"], "colour") == set()
    assert answers(["two dogs", "three dogs", "two dogs", "two dogs"], "count") == set()
    # "dogs" without a number, and "the dog": nobody counted.
    assert answers(["dogs run", "the dog", "dogs play", "a dog"], "count") == set()


def test_the_subject_is_the_only_one() -> None:
    assert subject_of(read_picture("x", DOG_IN_SNOW)) == "dog"
    assert subject_of(read_picture("x", GIRL)) == "girl"
    assert subject_of(read_picture("x", TWO_MEN)) == ""
    assert subject_of(read_picture("x", ["a man with a dog"] * 5)) == ""


def test_near_colours_make_no_wrong_answer() -> None:
    assert is_surely_not("blue", "brown")
    assert not is_surely_not("tan", "brown")
    assert not is_surely_not("white", "black and white")


def test_no_answer_has_more_than_half_of_a_stem() -> None:
    drafts = [
        Draft("x", "What animal?", answer, "what", "animal") for answer in ["dog"] * 90 + ["cat"] * 7 + ["cow"] * 3
    ]
    drafts += [Draft("x", "How many?", "1", "count", "count zebra")] * 5
    counts = Counter(draft.answer for draft in balanced(drafts, Random(0)))
    assert counts == {"dog": 10, "cat": 7, "cow": 3}


def some_captions() -> dict[str, list[str]]:
    """Pictures of several things in several colours."""
    random = Random(1)
    captions = {}
    for index in range(300):
        colour, animal = random.choice(("black", "brown", "white")), random.choice(("dog", "cat", "horse", "bird"))
        place, verb = random.choice((("in the snow", "runs"), ("on the beach", "jumps"), ("in the grass", "sits")))
        if random.random() < 0.4:
            person, colour = random.choice(("man", "woman", "boy", "girl")), random.choice(("red", "blue", "green"))
            captions[f"{index}.jpg"] = [f"A {person} in a {colour} shirt {verb} {place} ."] * 5
        else:
            captions[f"{index}.jpg"] = [f"A {colour} {animal} {verb} {place} ."] * 5
    return captions


def test_yes_is_as_frequent_as_no_for_everything_asked() -> None:
    captions = some_captions()
    questions = questions_from_captions(captions, "test")
    for thing in ("a dog", "a horse", "a man", "snow"):
        given = Counter(
            q.answer
            for q in questions
            if q.kind == "yesno"
            and q.question.endswith((thing + "?", "picture?", "photo?"))
            and f" {thing}" in q.question
        )
        assert given["yes"] == given["no"] > 0, thing
    for question in questions:
        text = captions[question.image][0]
        if question.kind == "yesno" and "a dog" in question.question:
            assert ("dog" in text) == (question.answer == "yes")


def test_unanswerable_questions_ask_for_what_is_not_there() -> None:
    captions = some_captions()
    questions = questions_from_captions(captions, "test")
    without = [question for question in questions if question.answer == UNANSWERABLE]
    assert len(without) == pytest.approx(len(questions) / 12, rel=0.1)
    for question in without:
        if "the dog" in question.question.lower():
            assert not {"dog", "cat", "horse", "bird"} & set(captions[question.image][0].split())


def test_options_hold_the_answer_and_nothing_else_that_is_right() -> None:
    captions = some_captions()
    offered = [question for question in questions_from_captions(captions, "test") if question.options]
    assert offered
    for question in offered:
        assert len(question.options) == 4
        assert question.answer in question.options
        if question.kind == "colour":
            words = captions[question.image][0].split()
            assert [option for option in question.options if option in words] == [question.answer]


def test_questions_do_not_depend_on_the_hash_seed() -> None:
    program = (
        "from test_caption_questions import some_captions, questions_from_captions as make\n"
        "import hashlib; print(hashlib.sha256(repr(make(some_captions(), 'x')).encode()).hexdigest())"
    )
    sums = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment["PYTHONPATH"] += os.pathsep + os.path.dirname(__file__)  # noqa: PTH120
        run = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        sums.add(run.stdout)
    assert len(sums) == 1


@pytest.mark.parametrize(
    ("question", "answer", "sentence"),
    [
        ("Where is the man working?", "In an office.", "the man is working in an office"),
        ("Where are the skis?", "On their feet.", "the skis are on their feet"),
        ("Where is the sign located?", "On a pole.", "the sign is on a pole"),
        ("Where is the building?", "In the city.", "the building is in the city"),
        ("Where was this picture taken?", "Ocean.", ""),
        ("Who is holding the bouquet?", "A woman.", "a woman is holding the bouquet"),
        ("Who is sitting?", "Two men.", "two men are sitting"),
        ("Who is there?", "Young man.", "a young man is in the picture"),
        ("Who is wearing a hat?", "No one.", ""),
        ("When was the photo taken?", "Day time.", "the photo was taken during the day"),
        ("When was this picture taken?", "Last week.", ""),
        ("Is this person skiing?", "yes", "this person is skiing"),
        ("Is this person skiing?", "no", ""),
        ("Is this a zoo scene?", "yes", "this is a zoo scene"),
        ("Are there any clouds in the sky?", "yes", "there are clouds in the sky"),
        ("Could this be a museum?", "yes", "this is a museum"),
        ("Would you eat this?", "yes", ""),
    ],
)
def test_sentences_from_answers(question: str, answer: str, sentence: str) -> None:
    assert sentence_from(question, answer) == sentence
