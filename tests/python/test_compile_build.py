"""`mobile-mm build` writes a file that captions a picture, and `mobile-mm info` tells what is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from small_models import BothModels  # noqa: E402
from test_compile_caption_decoder import make_checkpoint  # noqa: E402

from mobile_multimodal import native  # noqa: E402
from mobile_multimodal.cli.main import main  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small encoder, [1, 3, 32, 32] to [1, 80, 3, 3], and a checkpoint that fits it."""
    folder = tmp_path_factory.mktemp("parts")
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> Any:
        return numpy_helper.from_array((0.2 * random.normal(size=shape)).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "stem.weight"], ["a"], strides=[4, 4], pads=[0, 0, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "depthwise.weight"], ["c"], group=16, strides=[3, 3]),
        helper.make_node("Conv", ["c", "head.weight"], ["d"]),
        helper.make_node("Relu", ["d"], ["features"]),
    ]
    weights = [
        weight("stem.weight", 16, 3, 3, 3),
        weight("depthwise.weight", 16, 1, 3, 3),
        weight("head.weight", 80, 16, 1, 1),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 40, 40])]
    outputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 80, 3, 3])]
    graph = helper.make_graph(nodes, "encoder", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"mm.image_mean": "127", "mm.image_std": "128"})
    onnx.save(model, str(folder / "encoder.onnx"))
    return folder / "encoder.onnx", make_checkpoint(folder / "decoder.pt")[0]


@pytest.fixture(scope="module")
def built(parts: tuple[Path, Path]) -> Path:
    encoder, decoder = parts
    path = encoder.parent / "small.gguf"
    arguments = ["--encoder", str(encoder), "--decoder", str(decoder), "--max-tokens", "10", "--description", "A test."]
    assert main(["build", "--out", str(path), *arguments]) == 0
    return path


def test_the_file_captions_a_picture(built: Path) -> None:
    engine = native.Engine(str(built))
    engine.verify()
    assert engine.can_caption
    assert engine.image_size == 40
    pixels = np.random.default_rng(1).integers(0, 256, size=(60, 80, 3), dtype=np.uint8)
    record = native.Session(engine, threads=1).caption(pixels, num_beams=2, max_new_tokens=5)
    assert isinstance(record["text"], str)
    assert len(record["tokens"]) <= 5


def test_twin_and_core_encode_alike(built: Path) -> None:
    both = BothModels(built)
    pixels = np.random.default_rng(2).integers(0, 256, size=(40, 40, 3), dtype=np.uint8)
    twin, core = both.run("encode_image", {"pixels": pixels})
    assert core["features"].shape == (3, 3, 80)
    # One flipped int8 code in a row of 16 moves an output by at most a step of its scale.
    assert np.abs(twin["features"] - core["features"]).max() <= 0.02 * np.abs(twin["features"]).max()


def test_build_reports_stages_on_stderr_and_parts_on_stdout(
    parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, decoder = parts
    path = tmp_path / "float.gguf"
    arguments = ["--encoder", str(encoder), "--encoder-bits", "32", "--decoder", str(decoder), "--decoder-bits", "32"]
    assert main(["build", "--out", str(path), *arguments, "--max-tokens", "16"]) == 0
    out, err = capsys.readouterr()
    assert "compiling the encoder" in err
    assert "compiling the decoder" in err
    assert f"{path}: {path.stat().st_size:,} bytes" in out
    assert "x 32 bits" in out
    assert "x 8 bits" not in out
    assert "encode_image (4 instructions)" in out


def test_an_encoder_alone_is_a_file(parts: tuple[Path, Path], tmp_path: Path) -> None:
    assert main(["build", "--out", str(tmp_path / "e.gguf"), "--encoder", str(parts[0])]) == 0
    engine = native.Engine(str(tmp_path / "e.gguf"))
    assert engine.programs() == ["encode_image"]
    assert not engine.can_caption


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "the model would be empty"),
        (["--encoder", "none.onnx"], 5, "no ONNX file none.onnx"),
        (["--decoder", "none.pt"], 5, "no checkpoint none.pt"),
        (["--encoder-package", "efficientnet-lite7"], 2, "did you mean 'efficientnet-lite"),
        (["--decoder", "none.pt", "--num-beams", "0"], 2, "num_beams 0"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, text: str
) -> None:
    assert main(["build", "--out", str(tmp_path / "x.gguf"), *arguments]) == code
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_info_tells_what_is_inside(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(built), "--verify"]) == 0
    text = capsys.readouterr().out
    for part in ("small 1.0 (Apache-2.0)", "A test.", "every part agrees", "encode_image(pixels: u8) -> features"):
        assert part in text
    for part in ("prefill(features: f32) -> states alone", "x 2 bits", "layers.0.key", native.isa(), "40 x 40"):
        assert part in text


def test_info_as_json(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(built), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["bytes"] == built.stat().st_size
    assert info["caption"]["max_tokens"] == 10
    assert info["is_verified"] is None
    assert [program["name"] for program in info["programs"]] == ["encode_image", "prefill", "decode"]
    sections = {section["name"]: section for section in info["sections"]}
    assert set(sections) == {"encoder", "decoder"}
    assert set(sections["decoder"]["weights"]) == {"2", "8", "32"}
    assert len(sections["encoder"]["sha256"]) == 64
    assert sum(section["bytes"] for section in sections.values()) < info["bytes"]


def test_info_lists_a_program(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(built), "--program", "encode_image"]) == 0
    text = capsys.readouterr().out
    assert "conv2d(" in text
    assert "activation=relu" in text
    assert main(["info", str(built), "--program", "encode_imag"]) == 2
    assert "did you mean 'encode_image'?" in capsys.readouterr().err


def test_info_of_a_file_that_is_damaged(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = bytearray(built.read_bytes())
    raw[-200] ^= 0x40
    (tmp_path / "damaged.gguf").write_bytes(raw)
    assert main(["info", str(tmp_path / "damaged.gguf")]) == 0
    assert main(["info", str(tmp_path / "damaged.gguf"), "--verify"]) == 4
    assert "decoder" in capsys.readouterr().err
