"""Takes a picture's popularity out of retrieval: some pictures are near to any sentence and stand before the right one.

A picture's popularity is what training's sentences see in it, log sum exp(beta * similarity). Who ranks pictures by
similarity - popularity / beta asks how much nearer the picture is to this sentence than to others (the inverted softmax
of Smith et al., arXiv 1702.03859; for pictures: Bogolin et al., arXiv 2112.12777). It becomes a few more numbers of
each vector, constant for texts, so that one product of two vectors still ranks.

The core has no logarithm: with `level` the popularity of an ordinary picture, log x = 4 (1/2 - 1 / (1 + x)) near x = 1,
and 1 / (1 + x) is a softmax over the sentences and a zero. It compresses the extremes; measured on Flickr8k's dev
pictures (text finds picture, R@10): 0.634 without, 0.651 with this form, 0.650 with the logarithm.
"""

from __future__ import annotations

import numpy as np

from mobile_multimodal.compile.language_layers import SECTION
from mobile_multimodal.compile.pack import linear
from mobile_multimodal.compile.program import ProgramBuilder, Value
from mobile_multimodal.compile.trained_weights import TrainedWeights
from mobile_multimodal.compile.weight_codes import FLOAT_BITS, quantize

BETA = 20.0  # the sharpness of training's softmax
# Numbers that carry it, and what each of them is in a text's vector. Several of ordinary size (one of 256 is 1/16 on
# average) lose less than one large number when a gallery rounds vectors to int8; in pictures they stay so small that
# the vector's length changes by 2 % at most.
NUMBERS, IN_TEXTS = 16, 0.125


def unit(builder: ProgramBuilder, side: str, vector: Value, width: int) -> Value:
    """A vector [1, width] scaled to length 1."""
    weight = builder.tensor(f"{SECTION}.{side}_unit.weight", np.full(width, width**-0.5, np.float32))
    return builder.apply("rms_norm", [vector, weight], [1e-12])


def append_to_text(builder: ProgramBuilder, vector: Value) -> Value:
    """A text's unit vector [1, width] -> [1, width + NUMBERS]."""
    constant = np.full((1, NUMBERS), IN_TEXTS, np.float32)
    return builder.apply("concat", [vector, builder.tensor(f"{SECTION}.popularity.text", constant)])


def append_to_picture(
    builder: ProgramBuilder, checkpoint: TrainedWeights, vector: Value, rows: int, width: int, bits: int
) -> Value:
    """A picture's unit vector [1, width] -> [1, width + NUMBERS]: how unpopular it is behind it.

    The checkpoint's `popularity.weight` [rows, width] holds the sentences, `popularity.level` what is ordinary.
    """
    sentences = checkpoint.array("popularity.weight", rows, width) * np.float32(BETA)
    level = checkpoint.vector("popularity.level", 1)
    table = np.concatenate([np.zeros((1, width), np.float32), sentences])
    offset = np.concatenate([np.zeros(1, np.float32), np.repeat(-level, rows)])
    matrix = quantize(table, FLOAT_BITS if bits == FLOAT_BITS else 8)
    x = linear(builder, f"{SECTION}.popularity", vector, matrix, bias=offset)
    shares = builder.apply("softmax", [x])
    # The zero's share is 1/2 for an ordinary picture.
    first = np.zeros((1, rows + 1), np.float32)
    first[0, 0] = 1
    share = linear(builder, f"{SECTION}.popularity.share", shares, first)
    gain = 4 / (BETA * NUMBERS * IN_TEXTS)
    spread = np.full((NUMBERS, 1), gain, np.float32)
    numbers = linear(
        builder, f"{SECTION}.popularity.numbers", share, spread, bias=np.full(NUMBERS, -gain / 2, np.float32)
    )
    return builder.apply("concat", [vector, numbers])
