"""Asks what a picture cannot answer: about things that are not there, about shapes, and in no language at all."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from mobile_multimodal.evaluation.question_sets import UNANSWERABLE, Question

_SHAPES: Final = ("triangle", "circle", "rectangle")
_SHAPE_FORMS: Final = (
    "what color is the {}?", "what is the color of the {}?", "what is the {colour} shape?", "what shape is present?",
    "what shape is in the image?", "what shape does the image contain?", "what color is the shape?",
    "what is the color of the shape?",
)  # fmt: skip
_COLOURS: Final = ("red", "blue", "green", "yellow", "black", "brown", "gray", "teal")
_REMARKS: Final = (
    "hello", "hi there", "thanks a lot", "ok", "good morning", "i like turtles", "tell me a joke", "lorem ipsum dolor",
    "what is the capital of France?", "who won the world cup in 1998?", "how old are you?", "what time is it in Tokyo?",
    "what is 17 times 23?", "who wrote Hamlet?", "is this real life?", "what is your name?", "how much does it cost?",
    "please", "test", "the quick brown fox jumps over the lazy dog", "translate this into German", "yes", "no", "why?",
    "what did he say yesterday?", "what is the phone number of the owner?", "what is the man's name?", "nice picture",
    "how far is it to the next town?", "what happens tomorrow?", "what song is playing?", "what does it smell like?",
    "write a poem about the sea", "what is the population of Canada?", "open the window",
    "what is the meaning of life?",
    "who is the president?", "what is the dog's name?", "how many people are behind the camera?", "i am hungry",
    "what year was she born?", "the man is", "and then?", "what is the price of this?",
    "what is the boiling point of iron?",
)  # fmt: skip


def random_nonsense(random: Random) -> str:
    """Letters, digits or punctuation that make no word: "qwx ploo zzt?"."""
    alphabet = random.choice(
        ("abcdefghijklmnopqrstuvwxyz", "asdfghjkl", "qwertyuiop", "bcdfgzxkwq", "0123456789", "?!.,")
    )
    words = ["".join(random.choices(alphabet, k=random.randint(1, 9))) for _ in range(random.randint(1, 6))]
    return " ".join(words) + random.choice(("?", "", "", "?"))


def _jumbled(question: str, random: Random) -> str:
    words = question.rstrip("?").lower().split()
    random.shuffle(words)
    return " ".join(words[: random.randint(2, max(2, len(words)))]) + random.choice(("?", ""))


def shape_question(random: Random) -> str:
    """A question of easy-VQA, which no photograph answers."""
    return random.choice(_SHAPE_FORMS).format(random.choice(_SHAPES), colour=random.choice(_COLOURS))


def make_unanswerable(
    images: Sequence[str], absent: Sequence[Question], count: int, random: Random, shapes_are_foreign: bool = True
) -> list[Question]:
    """Draws `count` questions: half of them from `absent` (their thing is not in the picture), if it has enough."""
    chosen = list(absent)
    random.shuffle(chosen)
    made = chosen[: count // 2]
    texts = [question.question for question in absent] or list(_REMARKS)
    while len(made) < count:
        kind = random.random()
        if shapes_are_foreign and kind < 0.3:
            text = shape_question(random)
        elif kind < 0.55:
            text = random.choice(_REMARKS)
        elif kind < 0.85:
            text = random_nonsense(random)
        else:
            text = _jumbled(random.choice(texts), random)
            if text[:4] in ("is t", "are ", "what", "how "):
                continue  # still reads as a question
        made.append(Question(random.choice(images), text, UNANSWERABLE, UNANSWERABLE))
    return made
