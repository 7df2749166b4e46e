"""Lists the operating points that a task can run at, and picks the best one that fits a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """One way to run a task.

    name     what differs, e.g. "num_beams=2"; "only" where a task has one way
    options  the keywords of the task that make it so
    """

    name: str
    options: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class PointChoice:
    """A point, the seconds it is expected to take, and whether they fit the time that was left."""

    point: OperatingPoint
    predicted_seconds: float
    fits: bool


def caption_point(num_beams: int) -> OperatingPoint:
    """The point of a caption that is searched for with so many beams."""
    return OperatingPoint(name=f"num_beams={num_beams}", options=MappingProxyType({"num_beams": num_beams}))


def text_point(max_side: int) -> OperatingPoint:
    """The point of a page whose text is looked for at this size."""
    return OperatingPoint(name=f"max_side={max_side}", options=MappingProxyType({"max_side": max_side}))


ONLY_POINT: Final = OperatingPoint(name="only", options=MappingProxyType({}))

# Best first, as docs/adaptive.md measured them; what costs more and gives no more is left out (3 and 5 beams, 1280
# pixels).
CAPTION_POINTS: Final = tuple(caption_point(beams) for beams in (2, 1))
TEXT_POINTS: Final = tuple(text_point(side) for side in (960, 736, 640, 480))


def choose_point(
    points: Sequence[OperatingPoint], predict: Callable[[OperatingPoint], float], seconds: float
) -> PointChoice:
    """The first of `points` (best first) whose predicted time is within `seconds`; the cheapest when none is."""
    predicted = [predict(point) for point in points]
    for point, expected in zip(points, predicted, strict=True):
        if expected <= seconds:
            return PointChoice(point=point, predicted_seconds=expected, fits=True)
    cheapest = min(range(len(points)), key=predicted.__getitem__)
    return PointChoice(point=points[cheapest], predicted_seconds=predicted[cheapest], fits=False)
