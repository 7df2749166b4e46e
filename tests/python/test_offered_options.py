"""Checks which options generated questions are offered with."""

from __future__ import annotations

from mobile_multimodal.training.language_sets import AskedQuestion
from mobile_multimodal.training.offered_options import offer_options


def _asked(answer: str, kind: str, options: tuple[str, ...] = ()) -> AskedQuestion:
    return AskedQuestion("set/1.png", "what?", answer, kind, options, options.index(answer) if options else 0)


def test_options_are_answers_of_the_same_kind() -> None:
    colours, counts = ("red", "green", "blue", "white", "black"), ("one", "two")
    questions = [
        *(_asked(colour, "colour") for colour in colours),
        *(_asked(count, "count") for count in counts),
        _asked("unanswerable", "colour"),
        _asked("alone", "place"),
        _asked("dog", "what", ("cat", "dog")),
    ]
    offered = offer_options(questions, 100)
    assert [q.answer for q in offered] == [*colours, *counts, "dog"]
    for question in offered:
        assert question.options[question.right] == question.answer
        assert len(set(question.options)) == len(question.options)
    assert all(len(q.options) == 4 and set(q.options) <= set(colours) for q in offered[:5])
    assert all(set(q.options) == set(counts) for q in offered[5:7])
    assert offered[-1].options == ("cat", "dog")
    assert len({q.right for q in offered[:5]}) > 1  # the right one stands anywhere
    assert offer_options(questions, 100) == offered
    assert len(offer_options(questions, 3)) == 3
