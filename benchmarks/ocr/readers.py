"""Readers of text to compare: this core, rapidocr on onnxruntime with the same networks, Tesseract 5 as a library.

Each has `read(path, language)`, which gives [(text, four corners)] in its own reading order, from a picture file.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from pathlib import Path
from typing import Any, Protocol

Corners = list[list[float]]
Lines = list[tuple[str, Corners]]


class Reader(Protocol):
    """One reader with its settings and threads fixed."""

    def prepare(self, language: str) -> None:
        """Loads what the language needs; not part of the time of a page."""

    def read(self, path: Path, language: str) -> Lines:
        """The lines of a picture file."""

    def version(self) -> str:
        """What it is, for the record."""

    def close(self) -> None:
        """Gives everything back."""


class CoreReader:
    """A model file in this project's core."""

    def __init__(self, model: str, threads: int) -> None:
        from mobile_multimodal import MobileMultiModalLLM, __version__

        self._model = MobileMultiModalLLM.from_pretrained(model, threads=threads, profile="balanced")
        self._version = f"mobile-multimodal {__version__}"

    def prepare(self, language: str) -> None:
        pass

    def read(self, path: Path, language: str) -> Lines:
        lines = self._model.extract_text(path).lines
        return [(line.text, [list(corner) for corner in line.box]) for line in lines]

    def version(self) -> str:
        return self._version

    def close(self) -> None:
        self._model.close()


class RapidReader:
    """rapidocr with PP-OCRv6 tiny, set as tinyocr 0.1.0 sets it: the values that this core has as defaults too."""

    def __init__(self, networks: str, threads: int, batch_lines: int = 1, spinning: bool = False) -> None:
        import cv2
        import onnxruntime
        from rapidocr import RapidOCR
        from rapidocr.utils.typings import LangDet, LangRec, ModelType, OCRVersion

        from mobile_multimodal.compile.ocr import find_ocr_files

        files = find_ocr_files(networks, Path(os.devnull))
        cv2.setNumThreads(threads)
        self._engine = RapidOCR(
            params={
                "Global.use_cls": False,
                "Global.log_level": "warning",
                "Global.model_root_dir": str(files.detector.parent),
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "Det.ocr_version": OCRVersion.PPOCRV6,
                "Det.model_type": ModelType.TINY,
                "Det.lang_type": LangDet.CH,
                "Det.model_path": str(files.detector),
                "Det.mean": [0.485, 0.456, 0.406],
                "Det.std": [0.229, 0.224, 0.225],
                "Det.limit_side_len": 960,
                "Det.limit_type": "max",
                "Det.thresh": 0.2,
                "Det.box_thresh": 0.4,
                "Det.unclip_ratio": 1.4,
                "Det.max_candidates": 3000,
                "Det.use_dilation": False,
                "Rec.ocr_version": OCRVersion.PPOCRV6,
                "Rec.model_type": ModelType.TINY,
                "Rec.lang_type": LangRec.EN,
                "Rec.model_path": str(files.recognizer),
                "Rec.rec_batch_num": batch_lines,
                "Rec.rec_img_shape": [3, 48, 320],
            }
        )
        # Sessions with onnxruntime's own defaults (rapidocr turns its memory arena off, which costs time), and threads
        # that sleep while they wait: spinning ones take the second core from whatever else runs.
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
        for part, file in (
            (self._engine._load_det_model(), files.detector),
            (self._engine._load_rec_model(), files.recognizer),
        ):
            part.session.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def prepare(self, language: str) -> None:
        pass

    def read(self, path: Path, language: str) -> Lines:
        result = self._engine(str(path), use_det=True, use_cls=False, use_rec=True)
        if result.boxes is None or result.txts is None:
            return []
        return [
            (text, [[float(x), float(y)] for x, y in box]) for text, box in zip(result.txts, result.boxes, strict=True)
        ]

    def version(self) -> str:
        from importlib.metadata import version

        return f"rapidocr {version('rapidocr')}, onnxruntime {version('onnxruntime')}"

    def close(self) -> None:
        pass


class TesseractReader:
    """Tesseract's C library with the data of the page's language: no process is started for a page."""

    LANGUAGES = {  # noqa: RUF012
        "en": "eng",
        "de": "deu",
        "fr": "fra",
        "es": "spa",
        "it": "ita",
        "pl": "pol",
        "tr": "tur",
        "zh": "chi_sim",
    }

    def __init__(self, threads: int) -> None:
        if os.environ.get("OMP_THREAD_LIMIT") != str(threads):
            raise SystemExit(f"start this process with OMP_THREAD_LIMIT={threads}: OpenMP reads it once")
        name = ctypes.util.find_library("tesseract") or "libtesseract.so.5"
        self._library = library = ctypes.CDLL(name)
        library.TessVersion.restype = ctypes.c_char_p
        library.TessBaseAPICreate.restype = ctypes.c_void_p
        library.TessBaseAPIInit3.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
        library.TessBaseAPISetPageSegMode.argtypes = [ctypes.c_void_p, ctypes.c_int]
        library.TessBaseAPISetImage.argtypes = [ctypes.c_void_p, ctypes.c_char_p, *[ctypes.c_int] * 4]
        library.TessBaseAPISetSourceResolution.argtypes = [ctypes.c_void_p, ctypes.c_int]
        library.TessBaseAPIGetTsvText.argtypes = [ctypes.c_void_p, ctypes.c_int]
        library.TessBaseAPIGetTsvText.restype = ctypes.c_void_p
        library.TessBaseAPIDelete.argtypes = [ctypes.c_void_p]
        library.TessDeleteText.argtypes = [ctypes.c_void_p]
        self._engines: dict[str, Any] = {}

    def prepare(self, language: str) -> None:
        if language in self._engines:
            return
        engine = ctypes.c_void_p(self._library.TessBaseAPICreate())
        name = self.LANGUAGES[language]
        if self._library.TessBaseAPIInit3(engine, None, name.encode()) != 0:
            raise SystemExit(f"Tesseract has no data for {name}: install tesseract-ocr-{name.replace('_', '-')}")
        self._library.TessBaseAPISetPageSegMode(engine, 3)  # automatic, as the program's default
        self._engines[language] = engine

    def read(self, path: Path, language: str) -> Lines:
        from PIL import Image

        engine = self._engines[language]
        with Image.open(path) as picture:
            pixels = picture.convert("RGB")
        width, height = pixels.size
        self._library.TessBaseAPISetImage(engine, pixels.tobytes(), width, height, 3, 3 * width)
        self._library.TessBaseAPISetSourceResolution(engine, 150)
        text = self._library.TessBaseAPIGetTsvText(engine, 0)
        rows = ctypes.string_at(text).decode("utf-8")
        self._library.TessDeleteText(text)
        return _lines_of_tsv(rows)

    def close(self) -> None:
        """Tesseract complains of leaks when the process ends with engines alive."""
        for engine in self._engines.values():
            self._library.TessBaseAPIDelete(engine)
        self._engines = {}

    def version(self) -> str:
        return f"Tesseract {self._library.TessVersion().decode()}"


def _lines_of_tsv(rows: str) -> Lines:
    """Columns: level, page, block, paragraph, line, word, left, top, width, height, confidence, text."""
    words: dict[tuple[str, ...], list[str]] = {}
    boxes: dict[tuple[str, ...], Corners] = {}
    for row in rows.split("\n"):
        cells = row.split("\t")
        if len(cells) < 11:
            continue
        key = tuple(cells[1:5])
        if cells[0] == "4":
            left, top, width, height = (float(cell) for cell in cells[6:10])
            right, bottom = left + width, top + height
            boxes[key] = [[left, top], [right, top], [right, bottom], [left, bottom]]
        elif cells[0] == "5" and len(cells) > 11 and cells[11].strip():
            words.setdefault(key, []).append(cells[11])
    return [(" ".join(words[key]), box) for key, box in boxes.items() if key in words]
