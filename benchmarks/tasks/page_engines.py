"""Whole pages, from picture file to lines, by each reader of benchmarks/ocr. One run reads all pages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ocr.readers import CoreReader, RapidReader, Reader, TesseractReader
from race.cache import cache_folder, made
from race.engine import Array

PAGES = "read_pages"
HERE = Path(__file__).resolve().parent


class PageEngine:
    """A reader and its pages, [(file, language)]."""

    def __init__(self, reader: Reader, pages: list[tuple[Path, str]]) -> None:
        self._reader, self._pages = reader, pages
        for language in {language for _, language in pages}:
            reader.prepare(language)

    def warm_up(self, workload: str) -> None:
        self._reader.read(*self._pages[0])

    def prepare(self, workload: str) -> None:
        pass

    def run(self, workload: str) -> None:
        for page in self._pages:
            self._reader.read(*page)

    def answer(self) -> dict[str, Array]:
        """The readings as JSON: for each page [(text, corners)]."""
        readings = [self._reader.read(*page) for page in self._pages]
        return {"readings": np.frombuffer(json.dumps(readings).encode(), np.uint8)}


def open_core(model: str, pages: str, threads: int) -> PageEngine:
    """This core with its 8-bit networks."""
    return PageEngine(CoreReader(model, threads), _listed(pages))


def open_rapidocr(networks: str, pages: str, threads: int, batch_lines: int) -> PageEngine:
    """The published networks of the same names in onnxruntime, which spins between operations as it does by default."""
    return PageEngine(RapidReader(networks, threads, batch_lines, spinning=True), _listed(pages))


def open_tesseract(pages: str, threads: int) -> PageEngine:
    """Tesseract's library, told the language."""
    return PageEngine(TesseractReader(threads), _listed(pages))


def drawn_pages(each: int) -> Path:
    """The folder of English pages of seven kinds, `each` of every kind, drawn once."""
    folder = cache_folder() / f"pages-{each}"

    def draw(half: Path) -> None:
        command = [sys.executable, str(HERE.parent / "ocr/draw_pages.py"), str(half), "--languages", "en"]
        subprocess.run([*command, "--each", str(each)], check=True, stdout=sys.stderr)

    return made(folder, draw)


def _listed(folder: str) -> list[tuple[Path, str]]:
    rows: list[dict[str, Any]] = [
        json.loads(row) for row in (Path(folder) / "pages.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return [(Path(folder) / row["picture"], row["language"]) for row in rows]
