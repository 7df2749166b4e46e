"""What language models do in the race: read prompts of 64 and 256 tokens, write 64 tokens."""

from __future__ import annotations

import enum

import numpy as np
from race.engine import Array

PROMPT = 64
DECODE_TOKENS = 64
CONTEXT = 512


class Workload(enum.Enum):
    """Names in records. Batch 1; reading ends with the last token's logits, writing takes the likeliest each time."""

    PREFILL_64 = "prefill_64"
    PREFILL_256 = "prefill_256"
    DECODE_64 = "decode_64"

    @property
    def rows(self) -> int:
        """Tokens that a run handles."""
        return {"prefill_64": 64, "prefill_256": 256, "decode_64": DECODE_TOKENS}[self.value]


def prompt_tokens(count: int, vocabulary: int) -> Array:
    """The first tokens of one fixed text, over again when it ends.

    A real text matters for the comparison of what engines compute; speed does not depend on the words.
    """
    text = np.array(_TEXT, dtype=np.int32)
    return np.resize(text, count) % vocabulary


# The first paragraph of "Moby-Dick" (Melville, 1851) in SmolLM2's tokens.
# fmt: off
_TEXT: tuple[int, ...] = (
    12800, 549, 46588, 30, 2015, 929, 3156, 731, 2093, 1945, 638, 986, 10031, 731, 1953, 1838, 355, 787, 2478,
    281, 957, 42882, 28, 284, 3878, 1542, 288, 1384, 549, 335, 10393, 28, 339, 2275, 339, 736, 11930, 563, 253,
    1838, 284, 963, 260, 32415, 599, 282, 260, 905, 30, 657, 314, 253, 970, 339, 457, 282, 5828, 767, 260, 30808,
    284, 16095, 260, 10041, 30, 24092, 339, 1042, 7576, 2969, 32002, 563, 260, 4388, 43, 7562, 357, 314, 253,
    14456, 28, 4831, 3718, 318, 4745, 281, 957, 8664, 43, 7562, 339, 1042, 7576, 1342, 2189, 2799, 15125, 6176,
    1092, 36487, 37080, 28, 284, 7611, 614, 260, 13401, 282, 897, 21011, 339, 2220, 43, 284, 2117, 7562, 957,
    1544, 1389, 820, 715, 354, 5060, 1369, 282, 549, 28, 338, 357, 3073, 253, 1837, 5842, 6113, 288, 1746, 549,
    429, 18519, 18668, 618, 260, 7280, 28, 284, 1341, 947, 42187, 701, 506, 22104, 767, 731, 965, 28, 339, 2051,
    357, 904, 655, 288, 820, 288, 3426, 347, 3318, 347, 339, 416, 30, 669, 314, 957, 13649, 327, 48322, 284, 4405,
    30, 1929, 253, 11150, 20620, 340, 6401, 24475, 3930, 1980, 650, 15513, 43, 339, 20151, 1188, 288, 260, 5575,
    30, 1385, 314, 3878, 8101, 281, 451, 30, 1094, 502, 564, 5341, 357, 28, 2743, 511, 1800, 281, 480, 3815, 28,
    634, 655, 355, 550, 28, 32877, 1035, 3920, 260, 1142, 4401, 2258, 260, 5065, 351, 549, 30,
)
# fmt: on
