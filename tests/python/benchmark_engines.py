"""Engines for tests of the race: one that adds numbers, one that breaks."""

from __future__ import annotations

import numpy as np
from race.engine import Array


class AddingEngine:
    """Remembers what it was told, so that a test sees the order."""

    def __init__(self, number: int, threads: int) -> None:
        self._told: list[int] = []
        self._number, self._threads = number, threads

    def warm_up(self, workload: str) -> None:
        self._told.append(0)

    def prepare(self, workload: str) -> None:
        self._told.append(1)

    def run(self, workload: str) -> None:
        if workload == "break":
            raise RuntimeError(f"engine {self._number} breaks here")
        print("a library that prints to stdout")
        self._told.append(2)

    def answer(self) -> dict[str, Array]:
        return {"told": np.array(self._told), "sum": np.array([self._number + self._threads])}


def open_adding(number: int, threads: int) -> AddingEngine:
    return AddingEngine(number, threads)
