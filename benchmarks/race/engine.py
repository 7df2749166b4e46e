"""Says what a contestant of the race has to offer: one model in one engine, with its threads fixed."""

from __future__ import annotations

import importlib
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Engine(Protocol):
    """Runs workloads by name. Only `run` is timed."""

    def warm_up(self, workload: str) -> None:
        """Begins a turn, not timed: others have been in the caches. At most one run."""

    def prepare(self, workload: str) -> None:
        """What a run needs and is no part of its time, such as the prompt before the decoded tokens."""

    def run(self, workload: str) -> None:
        """The measured work, from inputs in memory to outputs in memory."""

    def answer(self) -> dict[str, Array]:
        """What the engine computes, so that nobody races a broken model."""


def open_engine(factory: str, options: dict[str, Any]) -> Engine:
    """Calls `module:function` with the options."""
    module, _, function = factory.partition(":")
    return cast(Engine, getattr(importlib.import_module(module), function)(**options))


def agreement(first: Array, second: Array) -> float:
    """The share of equal entries of two vectors of choices."""
    return float(np.mean(np.asarray(first) == np.asarray(second)))


def correlation(first: Array, second: Array) -> float:
    """Pearson's correlation of two outputs."""
    return float(np.corrcoef(np.ravel(first).astype(np.float64), np.ravel(second).astype(np.float64))[0, 1])
