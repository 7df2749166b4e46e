"""Checks predictions of times: the arithmetic of costs, fits, estimates of load, and the choice of a point."""

from __future__ import annotations

import math
import random

import pytest

from mobile_multimodal.tasks.cost_model import (
    FALL,
    MOST_RATIO,
    RISE,
    TaskCost,
    TaskPrediction,
    UpperEstimate,
    Work,
    fit_line,
    spread_of,
)
from mobile_multimodal.tasks.model_budgets import detection_megapixels
from mobile_multimodal.tasks.operating_points import CAPTION_POINTS, TEXT_POINTS, OperatingPoint, choose_point

COST = TaskCost(fixed=0.001, encode=0.008, megapixel=0.1, item={"a": 0.002, "b": 0.0005}, items=10, spread=1.5)


def test_a_cost_is_the_sum_of_its_parts() -> None:
    work = Work(megapixels=0.5, items=4)
    assert COST.seconds("a", work) == pytest.approx(0.001 + 0.008 + 0.05 + 0.008)
    assert COST.seconds("b", work) == pytest.approx(0.001 + 0.008 + 0.05 + 0.002)
    assert COST.seconds("a", Work(is_encoded=True, items=0)) == pytest.approx(0.001)
    assert COST.seconds("c", work) is None


def test_the_item_of_the_only_point_holds_for_every_point() -> None:
    cost = TaskCost(fixed=0.0, item={"only": 0.01})
    assert cost.seconds("max_side=1000", Work(items=3)) == pytest.approx(0.03)


def test_a_cost_survives_json_and_refuses_what_is_none() -> None:
    assert TaskCost.from_dict(COST.to_dict()) == COST
    for damaged in ({"fixed": -1.0}, {"spread": math.nan}, {"item": {}}, {"item": {"a": math.inf}}):
        with pytest.raises(ValueError, match=r"no finite number|no point"):
            TaskCost.from_dict(COST.to_dict() | damaged)
    with pytest.raises(KeyError):
        TaskCost.from_dict({"item": {"a": 1.0}})


def test_the_fit_finds_the_costs_that_made_the_times() -> None:
    works = [Work(megapixels=m, items=n) for m, n in ((0.2, 2), (0.2, 12), (0.5, 3), (0.5, 20), (0.7, 3), (0.7, 26))]
    seconds = [0.004 + 0.06 * work.megapixels + 0.003 * work.items for work in works]
    assert fit_line(works, seconds) == pytest.approx((0.004, 0.06, 0.003))


def test_the_fit_gives_no_cost_below_zero() -> None:
    works = [Work(megapixels=m, items=n) for m, n in ((0.2, 2), (0.5, 3), (0.7, 26), (0.9, 5))]
    seconds = [0.05 - 0.02 * work.megapixels + 0.001 * work.items for work in works]
    fixed, megapixel, item = fit_line(works, seconds)
    assert megapixel == 0.0
    assert fixed > 0
    assert item >= 0


def test_the_spread_is_an_upper_quantile_and_no_less_than_one() -> None:
    assert spread_of([1.0 + n / 10 for n in range(11)]) == pytest.approx(1.9)
    assert spread_of([0.5, 0.9]) == 1.0
    assert spread_of([]) == 1.0


def test_an_estimate_rises_fast_and_falls_slowly() -> None:
    estimate = UpperEstimate(1.0)
    for _ in range(200):
        estimate.observe(1.0)
    estimate.observe(2.0)
    assert estimate.value == pytest.approx(2.0**RISE)
    high = estimate.value
    estimate.observe(1.0)
    assert estimate.value == pytest.approx(high ** (1 - FALL))


def test_the_first_values_count_more_than_the_start() -> None:
    estimate = UpperEstimate(5.0)
    estimate.observe(1.0)
    estimate.observe(1.0)
    estimate.observe(1.0)
    assert estimate.value == pytest.approx(5 ** (1 / 2 * 2 / 3 * 3 / 4))


def test_one_value_moves_an_estimate_by_a_bound() -> None:
    estimate = UpperEstimate(1.0)
    for _ in range(100):
        estimate.observe(1.0)
    estimate.observe(1e9)
    assert estimate.value == pytest.approx(MOST_RATIO**RISE)
    estimate.observe(0.0)
    estimate.observe(-1.0)
    assert estimate.value == pytest.approx(MOST_RATIO**RISE)


def test_an_estimate_settles_above_most_of_the_values() -> None:
    drawn = random.Random(5)
    estimate = UpperEstimate(1.0)
    covered = 0
    for _ in range(4000):
        value = math.exp(drawn.gauss(0.0, 0.3))
        covered += value <= estimate.value
        estimate.observe(value)
    assert 0.75 < covered / 4000 < 0.95  # the 0.86 expectile of a normal distribution is its 0.77 quantile or above


def test_a_busy_machine_is_noticed_and_forgotten() -> None:
    prediction = TaskPrediction(COST)
    work = Work(items=10)
    rest = COST.seconds("a", work)
    assert rest is not None
    assert prediction.seconds("a", work) == pytest.approx(rest * 1.5)
    for _ in range(20):
        prediction.observe("a", work, 3 * rest)
    busy = prediction.seconds("b", work)
    assert busy == pytest.approx(3 * COST.seconds("b", work), rel=0.05)  # type: ignore[operator]
    for _ in range(120):
        prediction.observe("a", work, rest)
    assert prediction.seconds("a", work) == pytest.approx(rest, rel=0.05)


def test_more_work_than_usual_is_no_load() -> None:
    prediction = TaskPrediction(TaskCost(fixed=0.0, item={"only": 0.01}, items=4))
    for _ in range(30):
        prediction.observe("only", Work(items=40), 0.4)
    assert prediction.load.value == pytest.approx(1.0)
    assert prediction.items.value == pytest.approx(40, rel=0.01)


def test_items_are_expected_for_what_they_grow_with() -> None:
    prediction = TaskPrediction(TaskCost(fixed=0.0, item={"only": 0.01}, items=40))
    for extent in (0.02, 0.5, 0.1) * 20:
        prediction.observe("only", Work(items=20 * extent, extent=extent), 0.2 * extent)
    assert prediction.items.value == pytest.approx(20, rel=0.1)
    assert prediction.load.value == pytest.approx(1.0)


def test_the_choice_is_the_best_point_that_fits() -> None:
    """For any costs: no better point fits; and where none fits, none is cheaper."""
    drawn = random.Random(7)
    for _ in range(2000):
        points = [OperatingPoint(name=str(number), options={}) for number in range(drawn.randint(1, 6))]
        seconds = {point.name: drawn.choice([0.01, 0.02, 0.03, drawn.random()]) for point in points}
        left = drawn.choice([-1.0, 0.0, 0.01, drawn.random()])
        choice = choose_point(points, lambda point, seconds=seconds: seconds[point.name], left)  # type: ignore[misc]
        assert choice.predicted_seconds == seconds[choice.point.name]
        better = points[: points.index(choice.point)]
        if choice.fits:
            assert choice.predicted_seconds <= left
            assert all(seconds[point.name] > left for point in better)
        else:
            assert all(seconds[point.name] > left for point in points)
            assert choice.predicted_seconds == min(seconds.values())


def test_points_come_best_first() -> None:
    beams = [point.options["num_beams"] for point in CAPTION_POINTS]
    sides = [point.options["max_side"] for point in TEXT_POINTS]
    assert beams == sorted(beams, reverse=True)
    assert sides == sorted(sides, reverse=True)


@pytest.mark.parametrize(
    ("height", "width", "max_side", "expected"),
    [
        (352, 480, 960, 352 * 480),  # never scaled up
        (704, 960, 480, 352 * 480),
        (1754, 1240, 960, 960 * 672),
        (4000, 500, 960, 3840 * 480),  # a strip: scaled as if it was 1000 high
        (1, 1, 960, 32 * 32),
    ],
)
def test_the_size_at_which_text_is_looked_for(height: int, width: int, max_side: int, expected: int) -> None:
    assert detection_megapixels(height, width, max_side) == pytest.approx(expected / 1e6)
