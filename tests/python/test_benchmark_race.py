"""Tests of the race's rules: turns in processes, medians and ratios, records that are whole, the page."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import results_page
from race.contestant import Contestant, Entry, RaceError
from race.figures import Times, ratio, summary
from race.heat_record import Work, heat_record
from race.records import check_record, write_record
from race.rounds import run_heat
from race.tables import heat_tables

ENGINES = "benchmark_engines:open_adding"
WORKS = {"add": Work("adding", 64, "tokens")}


@pytest.fixture
def engines_on_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(root / "tests/python"), str(root / "python"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


def times(turns: list[list[float]]) -> Times:
    found = Times()
    for turn in turns:
        found.add(turn, [2 * seconds for seconds in turn])
    return found


def test_a_ratio_is_the_median_over_rounds() -> None:
    ours, theirs = times([[1.0, 1.0], [2.0, 2.0], [1.0, 1.0]]), times([[2.0, 2.0], [8.0, 8.0], [3.0, 3.0]])
    found = ratio(ours, theirs)
    assert found["times_as_fast"] == 3.0  # of 2, 4 and 3
    assert found["quartiles"] == [2.5, 3.5]
    assert found["of_fastest"] == 2.0
    assert found["of_cpu_time"] == 3.0


def test_a_summary_is_in_milliseconds() -> None:
    found = summary(times([[0.001, 0.003], [0.002, 0.010]]))
    assert found["median_ms"] == 2.5
    assert found["fastest_ms"] == 1.0
    assert found["median_cpu_ms"] == 5.0
    assert found["runs"] == 4
    assert found["first_quartile_ms"] < found["median_ms"] < found["third_quartile_ms"]


@pytest.mark.usefixtures("engines_on_path")
def test_contestants_take_turns_in_processes_of_their_own() -> None:
    entries = [Entry(name, ENGINES, {"number": number}) for name, number in (("ours", 5), ("theirs", 7))]
    heat = run_heat(entries, {"add": 2}, threads=1, seconds=0, rounds=(3, 3), label="test")
    assert heat.rounds == 3
    assert {name: int(answer["sum"][0]) for name, answer in heat.answers.items()} == {"ours": 6, "theirs": 8}
    for name in ("ours", "theirs"):
        own = heat.times[name]["add"]
        assert (len(own.turns), len(own.wall), len(own.cpu)) == (3, 6, 6)
    assert set(heat.idle_share) == {"ours", "theirs"}


@pytest.mark.usefixtures("engines_on_path")
def test_every_run_is_prepared_and_every_turn_warmed_up() -> None:
    with Contestant(Entry("one", ENGINES, {"number": 1}), threads=1) as contestant:
        contestant.turn({"add": 2})
        assert contestant.answer()["told"].tolist() == [0, 1, 2, 1, 2]


@pytest.mark.usefixtures("engines_on_path")
def test_an_engine_that_breaks_is_named_with_what_it_said() -> None:
    with (
        Contestant(Entry("the broken one", ENGINES, {"number": 3}), threads=1) as contestant,
        pytest.raises(RaceError, match=r"(?s)the broken one: .*engine 3 breaks here"),
    ):
        contestant.turn({"break": 1})


@pytest.fixture
def record() -> dict[str, Any]:
    """A record of a heat that a test makes up: how it is checked and shown, not what it says, is tested."""
    from race.rounds import Heat

    heat = Heat(threads=2, rounds=2, idle_share={"ours": 0.0, "peer": 0.01})
    heat.times = {"ours": {"add": times([[0.1], [0.1]])}, "peer": {"add": times([[0.2], [0.4]])}}
    return {
        "benchmark": "race-language",
        "date": "2026-01-02T03:04:05+00:00",
        "commit": "abc1234",
        "command": "scripts/bench",
        "cpu": "a CPU",
        "cpus_usable": 2,
        "isa": "avx2",
        "versions": {"python": "3.11"},
        "missing_peers": {},
        "part": {"heats": [heat_record("adding", heat, WORKS, {"peer": "ours"})]},
    }


def test_a_record_is_written_whole(record: dict[str, Any], tmp_path: Path) -> None:
    path = write_record(record, tmp_path)
    assert path.name == "race-language-2026-01-02-abc1234.json"
    assert json.loads(path.read_text(encoding="utf-8")) == record
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("spoil", ["commit", "ratio", "time", "nan", "rounds", "empty"])
def test_a_record_that_lacks_something_is_not_written(record: dict[str, Any], tmp_path: Path, spoil: str) -> None:
    spoiled = copy.deepcopy(record)
    heat = spoiled["part"]["heats"][0]
    if spoil == "commit":
        del spoiled["commit"]
    elif spoil == "ratio":
        heat["times_as_fast"]["add"] = {}
    elif spoil == "time":
        del heat["times"]["add"]["peer"]
    elif spoil == "nan":
        heat["times"]["add"]["peer"]["third_quartile_ms"] = float("nan")
    elif spoil == "rounds":
        heat["rounds"] = 0
    else:
        spoiled["part"]["heats"] = []
    check_record(record)
    with pytest.raises(ValueError, match=r"."):
        write_record(spoiled, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_tables_begin_with_ratios(record: dict[str, Any]) -> None:
    text = "\n".join(heat_tables(record["part"]["heats"]))
    assert "**3.00** (2.50-3.50)" in text  # 2 and 4 times as fast
    assert text.index("3.00") < text.index("640")  # 64 tokens in 0.1 s


def test_the_page_renders_from_the_committed_records(root: Path) -> None:
    page = results_page.page()
    committed = (root / "benchmarks/results/README.md").read_text(encoding="utf-8")
    for benchmark in results_page.BENCHMARKS:
        for record in results_page.shown_records(benchmark):
            heading = results_page.section(benchmark, record).splitlines()[0]
            assert heading.startswith("# ")
            assert heading in page
            assert heading in committed, "run benchmarks/results_page.py"
            assert record["commit"] in page
            if benchmark in results_page.RACE:
                check_record(record)


def test_the_page_shows_the_latest_race_of_each_instruction_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results").mkdir()
    records = [("avx2", "2026-01-01"), ("amx", "2026-01-03"), ("avx2", "2026-01-02")]
    for isa, date in records:
        record = {"benchmark": "race-vision", "isa": isa, "date": date}
        (tmp_path / f"results/race-vision-{date}.json").write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.setattr(results_page, "HERE", tmp_path)
    shown = [(record["isa"], record["date"]) for record in results_page.shown_records("race-vision")]
    assert shown == [("amx", "2026-01-03"), ("avx2", "2026-01-02")]


def test_plots_are_drawn(record: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is in the extra train")
    from PIL import Image
    from race.plots import draw

    with Image.open(draw(record, tmp_path)) as picture:
        assert picture.mode == "RGBA"
        alpha = np.asarray(picture)[..., 3]
    assert alpha[0, 0] == 0  # no background: for light and dark pages
    assert alpha.max() == 255
