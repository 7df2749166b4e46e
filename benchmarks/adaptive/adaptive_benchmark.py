"""Measures operating points, latency budgets and streams, and writes them into docs/adaptive.md.

Parts: `captions`, `pages`, `questions` (accuracy, time, memory of every point), `budgets` (how often a budget held
beside a busy process), `streams` (frames a second, what counts as a change), `resolution` (an experiment), `page`
(tables and plot from the record). Without a part all but `resolution` run: about 6 minutes on 2 CPUs at rest. Parts
add to one record.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from budget_calls import measure_budgets, model_facts
from frame_rates import frame_costs, measure_changes, measure_streams
from operating_points import (
    measure_captions,
    measure_embeddings,
    measure_pages,
    measure_questions,
    profile_rows,
)
from page_sections import write_page

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from record import ROOT, circumstances  # noqa: E402

PARTS = ("captions", "pages", "questions", "budgets", "streams", "resolution", "page")
PACKAGES = ("mobile-multimodal", "numpy", "Pillow")


def main() -> None:
    """Runs the parts and merges them into the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="with flickr8k/ and visual7w/")
    parser.add_argument("--drawn", type=Path, required=True, metavar="FOLDER", help="made by ocr/draw_pages.py")
    parser.add_argument("--documents", type=Path, required=True, metavar="FOLDER", help="by ocr/document_pages.py")
    parser.add_argument("--pictures", type=int, default=0, metavar="N", help="for CIDEr-D: the first N (default: all)")
    parser.add_argument("--every-document", type=int, default=1, metavar="N", help="reads every Nth page of these")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1], metavar="N")
    parser.add_argument("--calls", type=int, default=200, metavar="N", help="of a budget")
    parser.add_argument("--page-calls", type=int, default=200, metavar="N", help="of a budget of reading text")
    parser.add_argument("--busy", type=int, default=1, metavar="N", help="processes beside the budgets")
    parser.add_argument("--frames", type=int, default=300, metavar="N", help="of a stream")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/adaptive-<date>-<commit>.json")
    arguments = parser.parse_args()
    parts = arguments.parts or [part for part in PARTS if part != "resolution"]
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"unknown part {unknown[0]!r}, expected one of {', '.join(PARTS)}")
    for name in ("flickr8k", "visual7w"):
        if parts != ["page"] and not (arguments.data / name / "images").is_dir():
            parser.error(
                f"--data {arguments.data} has no {name}/images/: name the folder that holds flickr8k/ and visual7w/"
            )

    record = circumstances("adaptive", "python benchmarks/adaptive/adaptive_benchmark.py", PACKAGES)
    folders = {"DATA": arguments.data, "PAGES": arguments.drawn, "DOCUMENTS": arguments.documents}
    for name, path in folders.items():  # whoever repeats it has other paths
        record["command"] = record["command"].replace(str(path), name)
    if arguments.output is not None:
        record["command"] = record["command"].replace(f" --output {arguments.output}", "")
    output = arguments.output or ROOT / f"benchmarks/results/adaptive-{record['date'][:10]}-{record['commit']}.json"
    if output.exists():
        record = json.loads(output.read_text(encoding="utf-8"))
    record["model"] = model_facts()
    for part in parts:
        if part == "page":
            if {"captions", "pages", "questions"} <= record.keys():
                record["profiles"] = profile_rows(record, max(row["threads"] for row in record["captions"]))
            write_page(record, ROOT, output)
        else:
            record.setdefault("load_average", {})[part] = round(os.getloadavg()[0], 2)
            _measure(part, arguments, record)
            output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            print(f"{part} written to {output}", file=sys.stderr)


def _measure(part: str, arguments: argparse.Namespace, record: dict[str, Any]) -> None:
    flickr = arguments.data / "flickr8k"
    if part == "captions":
        record["captions"] = measure_captions(flickr, arguments.threads, arguments.pictures)
    elif part == "pages":
        folders = {"documents": arguments.documents, "drawn": arguments.drawn}
        record["pages"] = measure_pages(folders, {"documents": arguments.every_document, "drawn": 8}, arguments.threads)
    elif part == "questions":
        record["questions"] = measure_questions(arguments.data / "visual7w", arguments.threads)
        record["embeddings"] = measure_embeddings(flickr, arguments.threads)
    elif part == "budgets":
        pictures = sorted((ROOT / "examples/pictures").glob("*.jpg"))
        pages = sorted((arguments.drawn / "images").glob("*"))[::8]
        record["budgets"] = measure_budgets(pictures, pages, arguments.calls, arguments.page_calls, arguments.busy)
    elif part == "streams":
        record["streams"] = measure_streams(ROOT / "examples/pictures/boats.jpg", arguments.frames)
        record["frame_costs_ms"] = frame_costs(ROOT / "examples/pictures/boats.jpg")
        record["changes"] = measure_changes(sorted((flickr / "images").glob("*"))[:100])
    else:
        from resolution import measure_resolutions

        record["resolutions"] = measure_resolutions(flickr, 400)


if __name__ == "__main__":
    main()
