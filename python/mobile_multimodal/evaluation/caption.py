"""Scores a captioner on the pictures of a data folder, as its users get it: picture file in, sentence out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.evaluation.caption_metrics import CaptionScores, score_captions
from mobile_multimodal.evaluation.caption_references import read_captions


class Captioner(Protocol):
    """What is evaluated: `MobileMultiModalLLM`, or anything with its method."""

    def generate_caption(self, image: Path, /) -> object:
        """A sentence about the picture; str() of it is the text."""


@dataclass(frozen=True)
class CaptionEvaluation:
    """Captions by picture in the order of the data set, and their scores."""

    captions: dict[str, str]
    scores: CaptionScores


def evaluate_captioner(
    captioner: Captioner,
    data: Path,
    split: str = "dev",
    limit: int = 0,
    seed: int = 0,
    on_caption: Callable[[int, int], None] | None = None,
) -> CaptionEvaluation:
    """Captions every picture of the split (or the first `limit`) and scores them; `on_caption` gets (done, all)."""
    references = read_captions(data, [split])
    names = list(references)[: limit or None]
    if not names:
        raise InvalidInputError(f"split '{split}' of {data} is empty", hint="pass a data set with captions")
    captions = {}
    for done, name in enumerate(names, start=1):
        captions[name] = str(captioner.generate_caption(data / "images" / name))
        if on_caption is not None:
            on_caption(done, len(names))
    scores = score_captions(list(captions.values()), [references[name] for name in names], seed)
    return CaptionEvaluation(captions, scores)
