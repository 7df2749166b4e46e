"""Measures operating points: accuracy, time, CPU time and peak memory of captions, pages and questions."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from mobile_multimodal.evaluation.bootstrap import mean_interval, ratio_interval
from mobile_multimodal.evaluation.caption_metrics import CaptionScores, score_captions
from mobile_multimodal.evaluation.caption_references import read_captions
from mobile_multimodal.evaluation.ocr import score_readings
from mobile_multimodal.evaluation.ocr_metrics import OcrScores, compare_scores
from mobile_multimodal.evaluation.ocr_pages import OcrPage, PageFolder, PlacedText, box_from
from mobile_multimodal.evaluation.question_sets import read_question_set
from mobile_multimodal.settings import PROFILES, Profile

HERE: Final = Path(__file__).resolve().parent
BEAMS: Final = (1, 2, 3, 5)
SIDES: Final = (480, 640, 736, 960, 1280)
BATCH_LINES: Final = (1, 4, 16)  # beside the default, 8
TIMED_PICTURES: Final = 200
QUESTIONS: Final = 200


def run_point(task: str, threads: int, options: dict[str, Any], inputs: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """All inputs in a process of their own."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(list(inputs), file)
        file.flush()
        asked = json.dumps({"task": task, "threads": threads, "options": options, "inputs": file.name})
        command = [sys.executable, str(HERE / "point_runs.py"), asked]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def summary(run: dict[str, Any]) -> dict[str, float]:
    """What a row says about time, energy and memory."""
    return {
        "median_ms": round(float(np.median(run["wall_ms"])), 2),
        "p95_ms": round(float(np.percentile(run["wall_ms"], 95)), 2),
        "cpu_ms_mean": round(float(np.mean(run["cpu_ms"])), 2),
        "peak_mb": round(run["peak_mb"], 1),
        "calls": len(run["wall_ms"]),
    }


def measure_captions(data: Path, thread_counts: Sequence[int], limit: int) -> list[dict[str, Any]]:
    """A row for each number of beams and threads. Captions do not depend on threads: one captions all."""
    references = read_captions(data, ["dev"])
    names = list(references)[: limit or None]
    rows, scores = [], dict[int, CaptionScores]()
    for threads in thread_counts:
        for beams in BEAMS:
            chosen = names if threads == thread_counts[0] else names[:TIMED_PICTURES]
            inputs = [[str(data / "images" / name)] for name in chosen]
            run = run_point("caption", threads, {"num_beams": beams}, inputs)
            if threads == thread_counts[0]:
                scores[beams] = score_captions(run["results"], [references[name] for name in names])
            rows.append({"num_beams": beams, "threads": threads, **summary(run)})
            print(rows[-1], file=sys.stderr)
    for row in rows:
        own, other = scores[row["num_beams"]], scores[3]
        row["cider_d"] = asdict(own.cider_d)
        row["cider_d_ratio_to_3_beams"] = asdict(ratio_interval(own.cider_d_per_picture, other.cider_d_per_picture))
    return rows


def measure_pages(
    folders: dict[str, Path], every: dict[str, int], thread_counts: Sequence[int]
) -> list[dict[str, Any]]:
    """A row for each set of pages, size of finding text, batch of lines and number of threads."""
    rows = []
    for name, folder in folders.items():
        pages = PageFolder(folder).pages()[:: every[name]]
        scores: dict[int, OcrScores] = {}
        for threads in thread_counts:
            is_whole = threads == min(thread_counts)  # of other numbers of threads, what the profiles use
            sides = SIDES if is_whole else sorted({profile.max_side for profile in PROFILES.values()})
            points: list[dict[str, int]] = [{"max_side": side} for side in sides]
            if name == "documents" and is_whole:
                points += [{"max_side": 960, "batch_lines": lines} for lines in BATCH_LINES]
            for point in points:
                run = run_point("read_text", threads, point, [[str(page.picture)] for page in pages])
                row = {"pages": name, "batch_lines": 8, **point, "threads": threads, **summary(run)}
                scores.setdefault(point["max_side"], score_pages_of(run, pages))
                rows.append(row)
                print(row, file=sys.stderr)
        for row in rows:
            if row["pages"] == name:
                own = scores[row["max_side"]]
                row["cer"], row["f1"] = asdict(own.cer), asdict(own.f1)
                differences = compare_scores(own, scores[960])
                row["difference_to_960"] = {key: asdict(differences[key]) for key in ("cer", "f1")}
    return rows


def score_pages_of(run: dict[str, Any], pages: Sequence[OcrPage]) -> OcrScores:
    """The scores of what a run read."""
    readings = [[PlacedText(text, box_from(box)) for text, box in lines] for lines in run["results"]]
    return score_readings(pages, readings).scores


def measure_questions(data: Path, thread_counts: Sequence[int]) -> list[dict[str, Any]]:
    """Questions with four options: one operating point, so that only threads differ."""
    found = read_question_set(data, "dev")
    questions = found.questions[:QUESTIONS]
    inputs = [[str(found.images / each.image), each.question, list(each.options)] for each in questions]
    rows = []
    for threads in thread_counts:
        run = run_point("choose", threads, {}, inputs)
        right = np.array([got == each.answer for got, each in zip(run["results"], questions, strict=True)], np.float64)
        rows.append({"threads": threads, "accuracy": asdict(mean_interval(right)), **summary(run)})
        print(rows[-1], file=sys.stderr)
    return rows


def measure_embeddings(data: Path, thread_counts: Sequence[int]) -> list[dict[str, Any]]:
    """Embedding has one operating point as well; its vectors are the same on any number of threads."""
    names = list(read_captions(data, ["dev"]))[:TIMED_PICTURES]
    inputs = [[str(data / "images" / name)] for name in names]
    return [{"threads": n, **summary(run_point("embed_image", n, {}, inputs))} for n in thread_counts]


def profile_rows(record: dict[str, Any], cpus: int) -> list[dict[str, Any]]:
    """The rows of the tables above that the profiles stand for."""

    def at(rows: Sequence[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
        return next(row for row in rows if all(row[name] == value for name, value in wanted.items()))

    def row_of(profile: Profile) -> dict[str, Any]:
        threads = profile.threads or cpus
        return {
            "profile": profile.name,
            "threads": threads,
            "caption": at(record["captions"], threads=threads, num_beams=profile.num_beams),
            "documents": at(
                record["pages"], pages="documents", threads=threads, max_side=profile.max_side, batch_lines=8
            ),
            "choose": at(record["questions"], threads=threads),
            "embed_image": at(record["embeddings"], threads=threads),
        }

    return [row_of(profile) for profile in PROFILES.values()]
