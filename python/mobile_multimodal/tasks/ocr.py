"""Holds the text that was read in a picture: lines with their place and confidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mobile_multimodal.tasks.latency_budget import BudgetOutcome, with_budget

if TYPE_CHECKING:
    from mobile_multimodal.native import TextRecord

OCR_PROGRAMS: Final = ("detect_text", "recognize_text")

Corner = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class OcrLine:
    """One line of text; `str()` of it is the text.

    text                   the characters
    box                    four corners (x, y) in pixels of the upright picture, clockwise from the upper left of the
                           line as it is read; the rectangle may stand at an angle
    confidence             mean of character_confidences, 0 to 1: how sure the model was of its characters. It is not
                           the probability that the line is right.
    character_confidences  the probability of each character of the model's table, in the order of the text
    """

    text: str
    box: tuple[Corner, Corner, Corner, Corner]
    confidence: float
    character_confidences: tuple[float, ...] = field(repr=False)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class OcrResult:
    """The text of a picture; `str()` of it is the lines in reading order, with a newline between them.

    lines          in reading order
    dropped_boxes  places that looked like text beyond max_boxes, which were not read
    timings        milliseconds: detect, recognize, total
    budget         how a latency budget went; None for a call without one
    """

    lines: tuple[OcrLine, ...]
    dropped_boxes: int = 0
    timings: dict[str, float] = field(compare=False)
    budget: BudgetOutcome | None = field(default=None, compare=False)

    @property
    def text(self) -> str:
        """The lines in reading order, with a newline between them."""
        return "\n".join(line.text for line in self.lines)

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for JSON; `budget` where the call had one."""
        lines = [
            asdict(line)
            | {
                "box": [list(corner) for corner in line.box],
                "character_confidences": list(line.character_confidences),
            }
            for line in self.lines
        ]
        return with_budget(
            {
                "text": self.text,
                "lines": lines,
                "dropped_boxes": self.dropped_boxes,
                "timings": dict(self.timings),
                "budget": None if self.budget is None else self.budget.to_dict(),
            }
        )


def ocr_result_from_record(record: TextRecord, budget: BudgetOutcome | None = None) -> OcrResult:
    """The public form of what the core returns."""
    return OcrResult(
        lines=tuple(
            OcrLine(
                text=line["text"],
                box=line["box"],
                confidence=line["confidence"],
                character_confidences=tuple(line["character_confidences"]),
            )
            for line in record["lines"]
        ),
        dropped_boxes=record["dropped_boxes"],
        timings=dict(record["timings"]),
        budget=budget,
    )
