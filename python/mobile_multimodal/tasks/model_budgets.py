"""Gives the calls of one model their budgets: what a caption, a page or a picture costs on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mobile_multimodal.images import Pixels
from mobile_multimodal.settings import GenerationSettings, OcrSettings
from mobile_multimodal.tasks.cost_model import TaskCost, Work
from mobile_multimodal.tasks.deadline import Deadline
from mobile_multimodal.tasks.latency_budget import BudgetedCall, BudgetPlanner
from mobile_multimodal.tasks.operating_points import (
    CAPTION_POINTS,
    ONLY_POINT,
    TEXT_POINTS,
    OperatingPoint,
    caption_point,
    text_point,
)
from mobile_multimodal.tasks.shared_session import SharedSession

if TYPE_CHECKING:
    from mobile_multimodal.native import Session
    from mobile_multimodal.tasks.calibration_store import CalibrationStore

_NEVER: Final = Deadline(0.0)
_TILE_ASPECT: Final = 2.0  # a picture longer than this is looked at in pieces, scaled as if it had this aspect
EXTENT_SIDE: Final = 960  # a page has as many lines as its size at this max_side lets expect
_SIDE_STEP: Final = 32  # sides of what the text network sees are multiples of this


@dataclass(frozen=True, kw_only=True)
class CalibratedPoint:
    """What a call at an operating point is expected to take on this machine, by `MobileMultiModalLLM.calibrate`.

    work           what the call does, in words
    rest_ms        what it takes on this machine at rest
    predicted_ms   the same under the load that was seen last: most calls stay below
    """

    task: str
    operating_point: str
    work: str
    rest_ms: float
    predicted_ms: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for JSON."""
        return asdict(self)


class ModelBudgets(BudgetPlanner):
    """The budgets of the calls of one model."""

    def __init__(self, shared: SharedSession, *, side: int, isa: str, threads: int, keeps_encodings: bool) -> None:
        super().__init__(self._measure, self._open_store, keeps_encodings=keeps_encodings)
        self._shared, self._side = shared, side
        self._isa, self._threads = isa, threads
        self.path: Path | None = None  # of the costs, once they were looked for

    def caption(
        self, call: BudgetedCall, session: Session, pixels: Pixels, settings: GenerationSettings
    ) -> tuple[Pixels, GenerationSettings]:
        """The pixels and settings of a caption: with a budget, beams that fit it; the caller's own beams win."""
        if not call.is_limited:
            return pixels, settings
        square, is_encoded = self.see(session, pixels, self._side)
        work = Work(is_encoded=is_encoded, items=call.expected_items())
        if settings.needs_one_beam:
            points: Sequence[OperatingPoint] = (caption_point(1),)
        elif settings.num_beams is not None:
            points = (caption_point(settings.num_beams),)
        else:
            points = CAPTION_POINTS
        point = call.choose(points, lambda point: work, is_free=len(points) > 1)
        return square, replace(settings, num_beams=point.options["num_beams"])

    def page(self, call: BudgetedCall, pixels: Pixels, settings: OcrSettings, *, is_free: bool) -> OcrSettings:
        """The settings of a page: with a budget, a size for finding text that fits it, unless the caller chose one."""
        if not call.is_limited:
            return settings
        points = TEXT_POINTS if is_free else (text_point(settings.max_side),)
        height, width = pixels.shape[:2]
        extent = detection_megapixels(height, width, EXTENT_SIDE)
        items = call.expected_items(extent)

        def work_at(point: OperatingPoint) -> Work:
            megapixels = detection_megapixels(height, width, point.options["max_side"])
            return Work(megapixels=megapixels, items=items, extent=extent)

        return replace(settings, max_side=call.choose(points, work_at, is_free=is_free).options["max_side"])

    def picture(self, call: BudgetedCall, session: Session, pixels: Pixels, items: int = 1) -> Pixels:
        """The pixels for a task on a picture that has one point."""
        if not call.is_limited:
            return pixels
        square, is_encoded = self.see(session, pixels, self._side)
        call.choose((ONLY_POINT,), lambda point: Work(is_encoded=is_encoded, items=items))
        return square

    def texts(self, call: BudgetedCall, count: int) -> None:
        """Announces so many texts."""
        call.choose((ONLY_POINT,), lambda point: Work(items=count))

    def calibrate(self, *, again: bool = False) -> list[CalibratedPoint]:
        """Prepares every task that the file has the programs for; the points of each, with usual work."""
        from mobile_multimodal.tasks.calibration import TASK_PROGRAMS

        found: list[CalibratedPoint] = []
        for task, programs in TASK_PROGRAMS.items():
            if not set(programs) <= set(self._shared.programs):
                continue
            prediction = self.prepare(task, again=again)
            points: Sequence[OperatingPoint] = {"caption": CAPTION_POINTS, "read_text": TEXT_POINTS}.get(
                task, (ONLY_POINT,)
            )
            items = prediction.items.value
            for point in points:
                work, words = Work(items=items), _WORDS_OF_TASK[task]
                if task == "read_text":
                    sides = (EXTENT_SIDE, point.options["max_side"])
                    extent, megapixels = (detection_megapixels(_PAGE_HEIGHT, _PAGE_WIDTH, side) for side in sides)
                    work = Work(megapixels=megapixels, items=items * extent, extent=extent)
                rest, seconds = prediction.cost.seconds(point.name, work), prediction.seconds(point.name, work)
                if rest is not None and seconds is not None:
                    found.append(
                        CalibratedPoint(
                            task=task,
                            operating_point=point.name,
                            work=words.format(items=round(work.items)),
                            rest_ms=rest * 1000,
                            predicted_ms=seconds * 1000,
                        )
                    )
        return found

    def _measure(self, task: str) -> TaskCost:
        from mobile_multimodal.tasks.calibration import calibrate_task

        with self._shared.turn(_NEVER) as (session, _):
            return calibrate_task(task, session, self._side)

    def _open_store(self) -> CalibrationStore:
        from mobile_multimodal import __version__
        from mobile_multimodal.tasks.calibration_store import CalibrationKey, CalibrationStore, cache_folder

        engine = self._shared.engine
        metadata, path = ({}, "") if engine is None else (engine.metadata(), engine.path)
        key = CalibrationKey.of(metadata, path, isa=self._isa, threads=self._threads, version=__version__)
        store = CalibrationStore(key, cache_folder())
        self.path = store.path
        return store


_PAGE_WIDTH, _PAGE_HEIGHT = 1240, 1754  # A4 at 150 dots an inch
_WORDS_OF_TASK: Final = {
    "caption": "a new picture, {items} steps",
    "read_text": f"a page of {_PAGE_WIDTH} x {_PAGE_HEIGHT} pixels, {{items}} lines",
    "answer_question": "a new picture, a question",
    "choose": "a new picture, a question, {items} options",
    "embed_image": "a new picture",
    "embed_text": "a text",
}


def detection_megapixels(height: int, width: int, max_side: int) -> float:
    """Of a picture as text is looked for in it; the core plans its tiles the same way, but for their overlaps."""
    longer, shorter = max(height, width), min(height, width)
    scale = min(1.0, max_side / min(longer, _TILE_ASPECT * shorter))
    sides = [max(_SIDE_STEP, round(side * scale / _SIDE_STEP) * _SIDE_STEP) for side in (height, width)]
    return sides[0] * sides[1] / 1e6
