"""The second branch of the image encoder: its last blocks, tuned for questions on a shared trunk.

The trunk and the first branch, which captions and retrieval read, stay as they are. Started from EfficientNet-Lite (Tan
and Le, arXiv 1905.11946) with its batch norms folded in: fixed statistics, no batch in training that they could depend
on.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobile_multimodal.compile.efficientnet_lite import Block, ConvNorm, EfficientNetLite
from mobile_multimodal.errors import InvalidInputError


class DetailBlock(nn.Module):
    """Inverted bottleneck of stride 1 over rows of cells: expand, depthwise, project, the input added if it fits."""

    def __init__(self, inputs: int, wide: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.expand = nn.Linear(inputs, wide)
        self.depthwise = nn.Conv2d(wide, wide, kernel, padding=kernel // 2, groups=wide)
        self.project = nn.Linear(wide, outputs)
        self.is_residual = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[pictures, side, side, inputs] -> [pictures, side, side, outputs]."""
        y = F.relu6(self.expand(x)).permute(0, 3, 1, 2)  # channels last in memory, as the rows are
        y = self.project(F.relu6(self.depthwise(y)).permute(0, 2, 3, 1))
        return x + y if self.is_residual else y


class DetailEncoder(nn.Module):
    """What the trunk gives [pictures, cells, width] -> features [pictures, cells, feature_width]."""

    def __init__(self, blocks: list[DetailBlock], head: nn.Linear) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.head = head

    def forward(self, trunk: Tensor) -> Tensor:
        side = round(trunk.shape[1] ** 0.5)
        x = trunk.reshape(len(trunk), side, side, -1)
        for block in self.blocks:
            x = block(x)
        return F.relu6(self.head(x)).flatten(1, 2)

    @classmethod
    def of_encoder(cls, encoder: EfficientNetLite, first_block: int) -> DetailEncoder:
        """The blocks of an encoder from `first_block` on, and its head."""
        chosen = [block for block in list(encoder.blocks)[first_block:] if isinstance(block, Block)]
        return cls([_detail_block(block) for block in chosen], _linear(encoder.head))

    @classmethod
    def of_shapes(cls, weights: dict[str, Tensor]) -> DetailEncoder:
        """An encoder of the shape that saved weights have, filled with them."""
        count = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
        blocks = []
        for index in range(count):
            wide, inputs = weights[f"blocks.{index}.expand.weight"].shape
            outputs, kernel = (
                weights[f"blocks.{index}.project.weight"].shape[0],
                weights[f"blocks.{index}.depthwise.weight"].shape[-1],
            )
            blocks.append(DetailBlock(inputs, wide, outputs, kernel))
        outputs, inputs = weights["head.weight"].shape
        model = cls(blocks, nn.Linear(inputs, outputs))
        model.load_state_dict(weights)
        return model


@torch.no_grad()
def _folded(layer: ConvNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution with its batch norm in them."""
    norm = layer.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return layer.conv.weight * gain[:, None, None, None], norm.bias - norm.running_mean * gain


@torch.no_grad()
def _linear(layer: ConvNorm) -> nn.Linear:
    weight, bias = _folded(layer)
    made = nn.Linear(weight.shape[1], weight.shape[0])
    made.weight.copy_(weight[:, :, 0, 0])
    made.bias.copy_(bias)
    return made


@torch.no_grad()
def _detail_block(block: Block) -> DetailBlock:
    stride, kernel = block.depthwise.conv.stride[0], block.depthwise.conv.kernel_size[0]
    if block.expand is None or stride != 1:
        raise InvalidInputError(
            f"a block of stride {stride} cannot start the second branch", hint="choose a later one: its input is 7 x 7"
        )
    expand, project = _linear(block.expand), _linear(block.project)
    made = DetailBlock(expand.in_features, expand.out_features, project.out_features, kernel)
    made.expand, made.project = expand, project
    weight, bias = _folded(block.depthwise)
    made.depthwise.weight.copy_(weight)
    assert made.depthwise.bias is not None
    made.depthwise.bias.copy_(bias)
    return made
