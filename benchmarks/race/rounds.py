"""Lets contestants take turns, round by round, until the time is used up; keeps every time."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from race.contestant import Contestant, Entry
from race.engine import Array
from race.figures import Times, summary


@dataclass
class Heat:
    """One race on one number of threads: times by contestant and workload, and what each contestant computed."""

    threads: int
    times: dict[str, dict[str, Times]] = field(default_factory=dict)
    answers: dict[str, dict[str, Array]] = field(default_factory=dict)
    idle_share: dict[str, float] = field(default_factory=dict)
    rounds: int = 0

    def summaries(self) -> dict[str, dict[str, dict[str, float]]]:
        """Milliseconds by workload and contestant."""
        workloads = list(dict.fromkeys(workload for own in self.times.values() for workload in own))
        return {
            workload: {name: summary(own[workload]) for name, own in self.times.items() if workload in own}
            for workload in workloads
        }


def run_heat(
    entries: Sequence[Entry],
    runs: dict[str, int],
    *,
    threads: int,
    seconds: float,
    rounds: tuple[int, int],
    label: str,
    with_answers: bool = True,
) -> Heat:
    """At least rounds[0] and at most rounds[1] rounds, as many as fit into the seconds; each begins with another one.

    runs: how often a turn runs each workload, after a warm-up that does not count. Raises RaceError.
    """
    heat = Heat(threads)
    with contextlib.ExitStack() as stack:
        contestants = []
        for entry in entries:
            progress(f"{label}, {threads} threads: opening {entry.name}")
            contestants.append(stack.enter_context(Contestant(entry, threads)))
        if with_answers:
            heat.answers = {contestant.name: contestant.answer() for contestant in contestants}
        start = time.perf_counter()
        waited = {contestant.name: 0.0 for contestant in contestants}
        for number in range(rounds[1]):
            spent = time.perf_counter() - start
            if number >= rounds[0] and spent * (number + 1) / number > seconds:
                break  # another round would not fit
            progress(f"{label}, {threads} threads: round {number + 1}, {spent:.0f} s of {seconds:.0f}")
            shift = number % len(contestants)
            for contestant in (*contestants[shift:], *contestants[:shift]):
                begin = time.perf_counter()
                turn = contestant.turn(runs)
                took = time.perf_counter() - begin
                for other in contestants:
                    waited[other.name] += 0.0 if other is contestant else took
                own = heat.times.setdefault(contestant.name, {})
                for workload, wall in turn.wall.items():
                    own.setdefault(workload, Times()).add(wall, turn.cpu[workload])
            heat.rounds = number + 1
        # Time on CPUs while others had their turns: an engine whose threads spin would slow the others down.
        heat.idle_share = {
            contestant.name: round(contestant.idle_cpu_seconds / max(waited[contestant.name], 1e-9), 4)
            for contestant in contestants
        }
    return heat


def progress(line: str) -> None:
    """One line on stderr: the tables go to stdout."""
    print(line, file=sys.stderr, flush=True)


def finite(answer: dict[str, Array]) -> bool:
    """Whether everything computed is a number."""
    return all(bool(np.isfinite(array).all()) for array in answer.values())
