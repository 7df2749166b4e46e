"""Puts options beside generated questions, so that choosing is learned for colours, counts and yes or no as well."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mobile_multimodal.evaluation.question_sets import UNANSWERABLE
from mobile_multimodal.training.language_sets import AskedQuestion

# Options beside the right one, at most: four colours, as people would offer them.
_OTHERS_MOST = 3


def offer_options(questions: Sequence[AskedQuestion], limit: int, seed: int = 0) -> list[AskedQuestion]:
    """At most `limit` of the questions, evenly spaced over those that have options or can have some.

    Options are other answers of the same kind, rare ones as often as common ones: how common an answer is should not
    tell whether it is right. The same seed gives the same options.
    """
    known: dict[str, set[str]] = defaultdict(set)
    for question in questions:
        if question.answer != UNANSWERABLE:
            known[question.kind].add(question.answer)
    pools = {kind: sorted(answers) for kind, answers in known.items()}
    able = [q for q in questions if q.options or (q.answer in known[q.kind] and len(pools[q.kind]) > 1)]
    step = max(1.0, len(able) / limit)
    random = np.random.default_rng(seed)
    return [_with_options(able[int(place * step)], pools, random) for place in range(min(limit, len(able)))]


def _with_options(question: AskedQuestion, pools: dict[str, list[str]], random: np.random.Generator) -> AskedQuestion:
    if question.options:
        return question
    others = [answer for answer in pools[question.kind] if answer != question.answer]
    drawn = random.permutation(len(others))[:_OTHERS_MOST]
    right = int(random.integers(len(drawn) + 1))
    options = [others[place] for place in drawn]
    options.insert(right, question.answer)
    return replace(question, options=tuple(options), right=right)
