"""Holds calls to a time: picks the operating point that fits what is left of a budget, and says how it went."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from mobile_multimodal.images import Pixels
from mobile_multimodal.settings import MAX_DEADLINE_SECONDS, check_number
from mobile_multimodal.tasks.cost_model import TaskCost, TaskPrediction, Work
from mobile_multimodal.tasks.operating_points import ONLY_POINT, OperatingPoint, choose_point

if TYPE_CHECKING:
    from mobile_multimodal.native import Session
    from mobile_multimodal.tasks.calibration_store import CalibrationStore

LEAST_BUDGET_MS: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class BudgetOutcome:
    """How a call with a latency budget was run, and how long it took.

    operating_point  what was used, e.g. "num_beams=2"; "only" where the task has one way
    chosen_by        "budget", "caller" (an option of the call said so) or "only"
    predicted_ms     of the whole call, waiting and decoding the picture included; None for a point without a cost
    fits             whether the prediction was within the budget; when nothing was, the cheapest point ran
    elapsed_ms       what the call took
    held             whether that was within the budget
    """

    latency_budget_ms: float
    operating_point: str
    chosen_by: str
    predicted_ms: float | None
    fits: bool
    elapsed_ms: float
    held: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for JSON."""
        return asdict(self)


def check_latency_budget(milliseconds: object) -> None:
    """Refuses what is no time; a budget that nothing fits into is none of these."""
    check_number("latency_budget_ms", milliseconds, LEAST_BUDGET_MS, MAX_DEADLINE_SECONDS * 1000)


def with_budget(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a result, without "budget" where the call had none."""
    return {name: value for name, value in values.items() if name != "budget" or value is not None}


@dataclass(frozen=True, kw_only=True)
class BudgetStatistics:
    """The calls of a task that had a latency budget.

    calls   that gave a result
    held    of these, within their budget
    fitted  of these, with a prediction within the budget
    load    the factor on predictions now: 1 is the machine as it was calibrated; 0 before the first call
    """

    calls: int
    held: int
    fitted: int
    load: float


class BudgetedCall:
    """One call, from its first line to its result. Without a budget it changes nothing and finishes with None."""

    def __init__(self, planner: BudgetPlanner, task: str, budget_ms: float | None) -> None:
        self._planner = planner
        self._task = task
        self._budget_ms = budget_ms
        self._start = planner.clock()
        self._point, self._chosen_by = ONLY_POINT, "only"
        self._work = Work()
        self._predicted: float | None = None
        self._chosen_at = self._start
        self._fits = False

    @property
    def is_limited(self) -> bool:
        """Whether the call has a budget."""
        return self._budget_ms is not None

    def choose(
        self, points: Sequence[OperatingPoint], work_at: Callable[[OperatingPoint], Work], *, is_free: bool = True
    ) -> OperatingPoint:
        """The best of `points` for what is left of the budget; is_free False: the caller chose, `points` has one."""
        if self._budget_ms is None:
            return points[0]
        prediction = self._planner.prediction(self._task)
        self._chosen_at = self._planner.clock()
        spent = self._chosen_at - self._start
        left = self._budget_ms / 1000 - spent

        def seconds(point: OperatingPoint) -> float:
            expected = prediction.seconds(point.name, work_at(point))
            return float("inf") if expected is None else expected

        choice = choose_point(points, seconds, left)
        self._point, self._fits = choice.point, choice.fits
        self._chosen_by = "only" if choice.point is ONLY_POINT else "budget" if is_free else "caller"
        self._work = work_at(choice.point)
        if choice.predicted_seconds != float("inf"):
            self._predicted = spent + choice.predicted_seconds
        return choice.point

    def expected_items(self, extent: float = 1.0) -> float:
        """As many items as most calls had lately, for what they grow with."""
        return 1.0 if self._budget_ms is None else self._planner.prediction(self._task).items.value * extent

    def finish(self, items: float | None = None) -> BudgetOutcome | None:
        """Ends the call, which turned out to have so many items, and teaches the next predictions."""
        if self._budget_ms is None:
            return None
        end = self._planner.clock()
        work = self._work if items is None else Work(**(asdict(self._work) | {"items": items}))
        elapsed_ms = (end - self._start) * 1000
        outcome = BudgetOutcome(
            latency_budget_ms=self._budget_ms,
            operating_point=self._point.name,
            chosen_by=self._chosen_by,
            predicted_ms=None if self._predicted is None else self._predicted * 1000,
            fits=self._fits,
            elapsed_ms=elapsed_ms,
            held=elapsed_ms <= self._budget_ms,
        )
        self._planner.learn(self._task, self._point.name, work, end - self._chosen_at, outcome)
        return outcome


class BudgetPlanner:
    """What all budgeted calls of a model share: costs, measured when a task is first asked for, and their load."""

    def __init__(
        self,
        calibrate: Callable[[str], TaskCost],
        store: Callable[[], CalibrationStore],
        *,
        keeps_encodings: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.clock = clock
        self._calibrate = calibrate
        self._make_store = store
        self._keeps_encodings = keeps_encodings
        self._calibrating = threading.Lock()  # two first calls measure once
        self._lock = threading.Lock()  # of the numbers; never held while waiting for the session, whose holder takes it
        self._store: CalibrationStore | None = None
        self._predictions: dict[str, TaskPrediction] = {}
        self._counts: dict[str, tuple[int, int, int]] = {}
        self._last_picture: tuple[bytes, int] | None = None

    def begin(self, task: str, latency_budget_ms: float | None) -> BudgetedCall:
        """A call of a task; with a budget (milliseconds, None: none) and without a cost yet, it is measured first.

        That takes up to 2 seconds once a machine, and is not counted as part of the call.
        """
        if latency_budget_ms is not None:
            check_latency_budget(latency_budget_ms)
            self.prepare(task)
        return BudgetedCall(self, task, latency_budget_ms)

    def prepare(self, task: str, *, again: bool = False) -> TaskPrediction:
        """The cost of a task and its corrections: from memory, else from the store, else measured and stored.

        again  measure even so. Not to be called in a turn of the session: measuring takes one.
        """
        with self._calibrating:
            if again or task not in self._predictions:
                if self._store is None:
                    self._store = self._make_store()
                stored = self._store.read()
                if again or task not in stored:
                    stored[task] = self._calibrate(task)
                    self._store.write(stored)
                self._predictions[task] = TaskPrediction(stored[task])
            return self._predictions[task]

    def prediction(self, task: str) -> TaskPrediction:
        """What `prepare` made."""
        return self._predictions[task]

    def see(self, session: Session, pixels: Pixels, side: int) -> tuple[Pixels, bool]:
        """The model's square of a picture (the core scales the same way), and whether its encoding is at hand.

        It is known to be when it was the last budgeted picture and nothing was encoded since: the core does not tell
        what else it keeps, and a guess that is too high keeps a budget.
        """
        from mobile_multimodal import native

        square = native.resize(pixels, side, side)
        digest = hashlib.sha256(square.data).digest()
        misses = session.cache_statistics()["misses"]
        is_encoded = self._keeps_encodings and self._last_picture == (digest, misses)
        # The call that follows encodes it, which is one miss more, unless it is at hand.
        self._last_picture = (digest, misses if is_encoded else misses + 1)
        return square, is_encoded

    def learn(self, task: str, point: str, work: Work, seconds: float, outcome: BudgetOutcome) -> None:
        """Corrects the next predictions of the task by a call that is done, and counts it."""
        with self._lock:
            self.prediction(task).observe(point, work, seconds)
            calls, held, fitted = self._counts.get(task, (0, 0, 0))
            self._counts[task] = (calls + 1, held + outcome.held, fitted + outcome.fits)

    def statistics(self) -> dict[str, BudgetStatistics]:
        """By task, those that were called with a budget."""
        with self._lock:
            return {
                task: BudgetStatistics(calls=calls, held=held, fitted=fitted, load=self._predictions[task].load.value)
                for task, (calls, held, fitted) in self._counts.items()
            }
