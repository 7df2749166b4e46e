"""Counts how often calls with a latency budget held it while another process keeps a CPU busy."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from mobile_multimodal import MobileMultiModalLLM, find_model, native
from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.tasks.latency_budget import BudgetedCall, BudgetOutcome

# Milliseconds: from one that nothing fits into to one that everything fits into.
CAPTION_BUDGETS: Final = (10.0, 15.0, 20.0, 30.0, 50.0, 100.0)
PAGE_BUDGETS: Final = (100.0, 200.0, 400.0)
ANSWER_BUDGETS: Final = (10.0, 20.0, 40.0)
IMAGE_BUDGETS: Final = (10.0, 20.0, 40.0)
TEXT_BUDGETS: Final = (2.0, 5.0, 10.0)

_BUSY: Final = "while True: sum(range(10_000))"


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Other work on this machine: Python loops that never wait."""
    running = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure_budgets(
    pictures: Sequence[Path], pages: Sequence[Path], calls: int, page_calls: int, busy: int
) -> list[dict[str, Any]]:
    """A row for each task and budget: how many calls held it, with which points; and at the best point."""
    rows: list[dict[str, Any]] = []
    outcomes: list[BudgetOutcome] = []
    with MobileMultiModalLLM.from_pretrained(DEFAULT_MODEL, enable_caching=False) as model:
        model.calibrate(again=True)  # at rest, as a user does it once
        _watch(outcomes)
        picture = lambda number: pictures[number % len(pictures)]  # noqa: E731
        page = lambda number: pages[number % len(pages)]  # noqa: E731
        tasks: list[
            tuple[str, Sequence[float], int, Callable[[int, float, dict[str, Any]], object], dict[str, Any]]
        ] = [
            (
                "caption",
                CAPTION_BUDGETS,
                calls,
                lambda number, ms, fixed: model.generate_caption(picture(number), latency_budget_ms=ms, **fixed),
                {"num_beams": 2},
            ),
            (
                "read_text",
                PAGE_BUDGETS,
                page_calls,
                lambda number, ms, fixed: model.extract_text(page(number), latency_budget_ms=ms, **fixed),
                {"max_side": 960},
            ),
            (
                "answer_question",
                ANSWER_BUDGETS,
                calls,
                lambda number, ms, fixed: model.answer_question(
                    picture(number), "What is in the picture?", latency_budget_ms=ms
                ),
                {},
            ),
            (
                "embed_image",
                IMAGE_BUDGETS,
                calls,
                lambda number, ms, fixed: model.embed_image(picture(number), latency_budget_ms=ms),
                {},
            ),
            (
                "embed_text",
                TEXT_BUDGETS,
                calls,
                lambda number, ms, fixed: model.embed_text("two dogs run over the snow", latency_budget_ms=ms),
                {},
            ),
        ]
        with busy_processes(busy):
            for task, budgets, count, call, best in tasks:
                always: list[float] = []  # what the best point takes does not depend on the budget
                if best:
                    outcomes.clear()
                    for number in range(count):
                        call(number, budgets[-1], best)
                    always = [outcome.elapsed_ms for outcome in outcomes]
                for budget in budgets:
                    outcomes.clear()
                    for number in range(count):
                        call(number, budget, {})
                    rows.append(_row(task, budget, busy, outcomes))
                    if always:
                        rows[-1]["held_at_the_best_point"] = sum(elapsed <= budget for elapsed in always)
                    print(rows[-1], file=sys.stderr)
    return rows


def _row(task: str, budget: float, busy: int, outcomes: Sequence[BudgetOutcome]) -> dict[str, Any]:
    elapsed = [outcome.elapsed_ms for outcome in outcomes]
    fitting = [outcome for outcome in outcomes if outcome.fits]
    return {
        "task": task,
        "budget_ms": budget,
        "busy_processes": busy,
        "calls": len(outcomes),
        "held": sum(outcome.held for outcome in outcomes),
        "said_to_fit": len(fitting),
        "held_of_those": sum(outcome.held for outcome in fitting),
        "points": dict(Counter(outcome.operating_point for outcome in outcomes)),
        "median_ms": round(float(np.median(elapsed)), 2),
        "p95_ms": round(float(np.percentile(elapsed, 95)), 2),
    }


def _watch(outcomes: list[BudgetOutcome]) -> None:
    """Embeddings are plain arrays: what became of their budget is taken where every task gets it."""
    finish = BudgetedCall.finish

    def watched(self: BudgetedCall, items: float | None = None) -> BudgetOutcome | None:
        outcome = finish(self, items)
        if outcome is not None:
            outcomes.append(outcome)
        return outcome

    BudgetedCall.finish = watched  # type: ignore[method-assign]


def model_facts() -> dict[str, Any]:
    """Which file was measured."""
    file = find_model(DEFAULT_MODEL)
    metadata = native.Engine(str(file)).metadata()
    return {"file": file.name, "bytes": file.stat().st_size, "sha256_metadata": metadata.get("mm.sha256.metadata", "")}
