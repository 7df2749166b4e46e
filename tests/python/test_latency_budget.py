"""Checks calls with a latency budget: by a clock that the tests turn, and on the real core."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobile_multimodal import BudgetOutcome, Caption, InvalidInputError, MobileMultiModalLLM, UnsupportedError
from mobile_multimodal.tasks.calibration_store import CalibrationKey, CalibrationStore
from mobile_multimodal.tasks.cost_model import TaskCost, Work
from mobile_multimodal.tasks.latency_budget import BudgetPlanner
from mobile_multimodal.tasks.operating_points import CAPTION_POINTS, ONLY_POINT, caption_point

COST = TaskCost(
    fixed=0.0, encode=0.010, item={point.name: point.options["num_beams"] / 1000 for point in CAPTION_POINTS}, items=10
)
BEST = max(point.options["num_beams"] for point in CAPTION_POINTS)
PICTURE = np.zeros((20, 30, 3), np.uint8)
KEY = CalibrationKey(
    model_path="a",
    model_bytes=1,
    model_modified_ns=1,
    model_sha256="",
    cpu="",
    usable_cpus=1,
    isa="",
    threads=1,
    version="",
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """A planner with a clock and a record of what was calibrated."""

    def __init__(self, folder: Path | None) -> None:
        self.clock = Clock()
        self.calibrated: list[str] = []
        self.planner = BudgetPlanner(self.measure, lambda: CalibrationStore(KEY, folder), clock=self.clock)

    def measure(self, task: str) -> TaskCost:
        self.calibrated.append(task)
        self.clock.now += 2.0  # as long as calibrating takes
        return COST

    def call(self, budget_ms: float, *, spent: float = 0.0, takes: float = 0.02, items: int = 10) -> BudgetOutcome:
        call = self.planner.begin("caption", budget_ms)
        self.clock.now += spent
        call.choose(CAPTION_POINTS, lambda point: Work(items=call.expected_items()))
        self.clock.now += takes
        outcome = call.finish(items)
        assert outcome is not None
        return outcome


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_the_best_point_that_fits_is_used_and_reported(desk: Desk) -> None:
    outcome = desk.call(1000.0)
    assert outcome.operating_point == f"num_beams={BEST}"
    assert outcome.chosen_by == "budget"
    assert outcome.fits
    assert outcome.held
    assert outcome.predicted_ms == pytest.approx(10 + 10 * BEST)
    assert outcome.elapsed_ms == pytest.approx(20.0)  # calibrating is no part of it
    assert outcome.to_dict()["latency_budget_ms"] == 1000.0


def test_where_nothing_fits_the_cheapest_runs_and_says_so(desk: Desk) -> None:
    outcome = desk.call(15.0)
    assert (outcome.operating_point, outcome.fits, outcome.held) == ("num_beams=1", False, False)
    lucky = desk.call(15.0, takes=0.014)
    assert (lucky.fits, lucky.held) == (False, True)


def test_what_was_spent_before_the_choice_counts(desk: Desk) -> None:
    budget = 10 + 10 * BEST + 5.0
    assert desk.call(budget, takes=0.01).operating_point == f"num_beams={BEST}"
    desk.planner.prepare("caption", again=True)
    late = desk.call(budget, spent=0.02, takes=0.01)
    assert late.operating_point != f"num_beams={BEST}"
    assert late.elapsed_ms == pytest.approx(30.0)


def test_a_busy_machine_makes_the_choice_cheaper(desk: Desk) -> None:
    budget = 10 + 10 * BEST + 5.0
    assert desk.call(budget).operating_point == f"num_beams={BEST}"
    for _ in range(10):
        desk.call(budget, takes=0.2)
    assert desk.call(budget).operating_point == "num_beams=1"


def test_a_cost_is_measured_once_and_kept(desk: Desk, tmp_path: Path) -> None:
    desk.call(50.0)
    desk.call(50.0)
    assert desk.calibrated == ["caption"]
    later = Desk(tmp_path)
    later.call(50.0)
    assert later.calibrated == []
    later.planner.prepare("embed_text")
    later.planner.prepare("caption", again=True)
    assert later.calibrated == ["embed_text", "caption"]
    assert set(CalibrationStore(KEY, tmp_path).read()) == {"caption", "embed_text"}


def test_without_a_folder_costs_stay_in_memory() -> None:
    desk = Desk(None)
    desk.call(50.0)
    desk.call(50.0)
    assert desk.calibrated == ["caption"]


def test_a_damaged_store_is_measured_again(desk: Desk, tmp_path: Path) -> None:
    desk.call(50.0)
    (tmp_path / KEY.file_name).write_text("{")
    later = Desk(tmp_path)
    later.call(50.0)
    assert later.calibrated == ["caption"]


def test_without_a_budget_nothing_is_measured_and_nothing_reported(desk: Desk) -> None:
    call = desk.planner.begin("caption", None)
    assert not call.is_limited
    assert call.finish(3) is None
    assert desk.calibrated == []
    assert desk.planner.statistics() == {}


def test_a_point_without_a_cost_is_run_and_not_learnt_from(desk: Desk) -> None:
    call = desk.planner.begin("caption", 50.0)
    call.choose((caption_point(16),), lambda point: Work(items=10), is_free=False)
    desk.clock.now += 9.0
    outcome = call.finish(10)
    assert outcome is not None
    assert (outcome.predicted_ms, outcome.fits, outcome.held) == (None, False, False)
    assert outcome.chosen_by == "caller"
    assert desk.planner.statistics()["caption"].load == pytest.approx(1.0)


def test_statistics_count_what_was_held_and_what_fitted(desk: Desk) -> None:
    desk.call(1000.0)
    desk.call(1.0)
    desk.call(1.0, takes=0.0005)
    found = desk.planner.statistics()["caption"]
    assert (found.calls, found.held, found.fitted) == (3, 2, 1)
    assert found.load > 0


@pytest.mark.parametrize("budget", [0, -1.0, float("nan"), float("inf"), "20", True, 1e12])
def test_a_budget_is_a_time(budget: Any, model: MobileMultiModalLLM) -> None:
    with pytest.raises(InvalidInputError, match="setting latency_budget_ms is"):
        model.generate_caption(PICTURE, latency_budget_ms=budget)


def test_a_budget_excludes_batches(model: MobileMultiModalLLM) -> None:
    with pytest.raises(InvalidInputError, match=r"latency_budget_ms=20 and batch_size=4 exclude each other"):
        model.generate_captions([PICTURE], latency_budget_ms=20, batch_size=4)


def test_a_file_that_cannot_is_refused_before_it_is_measured(model: MobileMultiModalLLM) -> None:
    for call in (
        lambda: model.extract_text(PICTURE, latency_budget_ms=20),
        lambda: model.embed_image(PICTURE, latency_budget_ms=20),
        lambda: model.embed_text("a cat", latency_budget_ms=20),
        lambda: model.answer_question(PICTURE, "Why?", latency_budget_ms=20),
    ):
        with pytest.raises(UnsupportedError, match="cannot"):
            call()


@pytest.fixture(scope="module")
def measured(shipped_model: MobileMultiModalLLM, tmp_path_factory: pytest.TempPathFactory) -> MobileMultiModalLLM:
    """The shipped model with costs of its own folder, so that no user's are read or written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        points = shipped_model.calibrate(again=True)
    assert {point.task for point in points} == {
        "caption",
        "read_text",
        "answer_question",
        "choose",
        "embed_image",
        "embed_text",
    }
    assert all(point.predicted_ms >= point.rest_ms > 0 for point in points)
    assert shipped_model.calibration_file is not None
    assert shipped_model.calibration_file.is_file()
    return shipped_model


def test_any_time_and_no_time_on_the_real_core(measured: MobileMultiModalLLM, pictures: Path) -> None:
    ample = measured.generate_caption(pictures / "boats.jpg", latency_budget_ms=600_000)
    assert ample.budget is not None
    assert (ample.budget.operating_point, ample.budget.fits, ample.budget.held) == (f"num_beams={BEST}", True, True)
    assert ample == measured.generate_caption(pictures / "boats.jpg", num_beams=BEST)
    none = measured.generate_caption(pictures / "cat.jpg", latency_budget_ms=0.01)
    assert none.budget is not None
    assert (none.budget.operating_point, none.budget.fits, none.budget.held) == ("num_beams=1", False, False)
    assert none == measured.generate_caption(pictures / "cat.jpg", num_beams=1)
    assert ample.to_dict()["budget"]["held"] is True
    assert "budget" not in measured.generate_caption(pictures / "cat.jpg").to_dict()


def test_explicit_options_win(measured: MobileMultiModalLLM, pictures: Path, root: Path) -> None:
    caption = measured.generate_caption(pictures / "boats.jpg", latency_budget_ms=0.01, num_beams=BEST)
    assert caption.budget is not None
    assert (caption.budget.operating_point, caption.budget.chosen_by) == (f"num_beams={BEST}", "caller")
    drawn = measured.generate_caption(pictures / "boats.jpg", latency_budget_ms=600_000, temperature=0.5)
    assert drawn.budget is not None
    assert (drawn.budget.operating_point, drawn.budget.chosen_by) == ("num_beams=1", "caller")
    page = root / "examples/pages/invoice.png"
    read = measured.extract_text(page, latency_budget_ms=0.01, max_side=1000)
    assert read.budget is not None
    assert (read.budget.operating_point, read.budget.chosen_by) == ("max_side=1000", "caller")
    assert read == measured.extract_text(page, max_side=1000)
    assert read.budget.predicted_ms is not None  # by its size: every max_side has a cost


def test_pages_are_looked_at_smaller_where_time_is_short(measured: MobileMultiModalLLM, root: Path) -> None:
    page = root / "examples/pages/invoice.png"
    ample = measured.extract_text(page, latency_budget_ms=600_000)
    short = measured.extract_text(page, latency_budget_ms=0.01)
    assert ample.budget is not None
    assert short.budget is not None
    assert ample.budget.operating_point == "max_side=960"
    assert not short.budget.fits
    assert short.to_dict()["budget"]["operating_point"] == short.budget.operating_point


def test_tasks_with_one_point_say_so(measured: MobileMultiModalLLM, pictures: Path) -> None:
    before = measured.get_budget_statistics()
    answer = measured.answer_question(pictures / "cat.jpg", "What animal is it?", latency_budget_ms=600_000)
    assert answer.budget is not None
    assert (answer.budget.operating_point, answer.budget.chosen_by, answer.budget.held) == ("only", "only", True)
    picture = measured.embed_image(pictures / "cat.jpg", latency_budget_ms=600_000)
    assert np.array_equal(picture, measured.embed_image(pictures / "cat.jpg"))
    texts = measured.embed_text(["a cat", "a dog"], latency_budget_ms=0.01)
    assert np.array_equal(texts, measured.embed_text(["a cat", "a dog"]))
    chosen = measured.choose(pictures / "cat.jpg", "What is it?", ["a cat", "a boat"], latency_budget_ms=600_000)
    assert chosen == measured.choose(pictures / "cat.jpg", "What is it?", ["a cat", "a boat"])
    after = measured.get_budget_statistics()
    for task, held in (("answer_question", 1), ("embed_image", 1), ("embed_text", 0), ("choose", 1)):
        was = before[task].calls if task in before else 0
        assert after[task].calls == was + 1
        assert after[task].held - (before[task].held if task in before else 0) == held
    assert ONLY_POINT.options == {}


def test_a_picture_at_hand_is_expected_to_cost_less(measured: MobileMultiModalLLM, pictures: Path) -> None:
    calls = [
        measured.answer_question(pictures / "sheep.jpg", "Is there a dog?", latency_budget_ms=50) for _ in range(2)
    ]
    assert calls[0].budget is not None
    assert calls[1].budget is not None
    session_square, is_encoded = _seen(measured, pictures / "sheep.jpg")
    assert is_encoded
    assert session_square.shape == (224, 224, 3)
    measured.embed_image(
        np.random.default_rng(3).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    )  # another picture is encoded: no promise any more
    assert not _seen(measured, pictures / "sheep.jpg")[1]


def _seen(model: MobileMultiModalLLM, path: Path) -> tuple[Any, bool]:
    from mobile_multimodal import load_image
    from mobile_multimodal.tasks.deadline import Deadline

    with model._shared.turn(Deadline(0)) as (session, _):
        return model._budgets.see(session, load_image(path, model_side=224), 224)


def test_captions_of_several_pictures_each_have_their_budget(measured: MobileMultiModalLLM, pictures: Path) -> None:
    results = measured.generate_captions(
        [pictures / "boats.jpg", b"no picture", pictures / "cat.jpg"], on_error="return", latency_budget_ms=600_000
    )
    assert [type(result).__name__ for result in results] == ["Caption", "InvalidImageError", "Caption"]
    budgets = [result.budget for result in results if isinstance(result, Caption)]
    assert all(budget is not None and budget.held for budget in budgets)


def test_a_profile_gives_way_to_a_budget(make_model: Callable[..., MobileMultiModalLLM]) -> None:
    """A profile is what holds where the caller said nothing; a budget is something said."""
    model = make_model("fast")
    planner = model._budgets
    planner._predictions["caption"] = Desk(None).planner.prepare("caption")
    planner.see = lambda session, pixels, side: (pixels, False)  # type: ignore[assignment, method-assign]
    caption = model.generate_caption(PICTURE, latency_budget_ms=600_000)
    assert caption.budget is not None
    assert caption.budget.operating_point == f"num_beams={BEST}"
