"""Tiles hold codes where core/src/quant/layout.h looks for them."""

from __future__ import annotations

import numpy as np
import pytest
from reference_interpreter import code_at, unpack

from mobile_multimodal.compile.pack import pack_codes, round_up, tile_columns, unpack_codes
from mobile_multimodal.errors import InvalidInputError

SHAPES = [(1, 1), (16, 16), (17, 15), (5, 33), (48, 576), (31, 1281)]


def random_codes(bits: int, n: int, k: int) -> np.ndarray:
    return np.random.default_rng(bits * 1000 + n + k).integers(0, 1 << bits, size=(n, k), dtype=np.uint8)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_round_trip(bits: int, n: int, k: int) -> None:
    codes = random_codes(bits, n, k)
    packed = pack_codes(codes, bits)
    assert packed.dtype == np.int8
    assert packed.shape == (round_up(n, 16) // 16, round_up(k, 16) // tile_columns(bits), 64)
    assert packed.nbytes == round_up(n, 16) * round_up(k, 16) * bits // 8
    np.testing.assert_array_equal(unpack_codes(packed, bits, n, k), codes)
    np.testing.assert_array_equal(unpack(packed, bits, n, k), codes)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_every_code_is_where_the_core_reads_it(bits: int) -> None:
    n, k = 21, 37
    codes = random_codes(bits, n, k)
    packed = pack_codes(codes, bits)
    read = [[code_at(packed, bits, round_up(k, 16), row, column) for column in range(48)] for row in range(32)]
    np.testing.assert_array_equal(np.array(read)[:n, :k], codes)
    assert not np.array(read)[n:].any()
    assert not np.array(read)[:, k:].any()


def test_one_code_lands_in_one_byte() -> None:
    codes = np.zeros((16, 16), dtype=np.uint8)
    codes[3, 9] = 2  # tile of 16 columns at 2 bits: column 9 is plane 2, byte 3 * 4 + 1
    packed = pack_codes(codes, 2).view(np.uint8).reshape(-1)
    assert packed[13] == 2 << 4
    assert np.count_nonzero(packed) == 1


@pytest.mark.parametrize("bits", [1, 3, 16])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(InvalidInputError, match=f"weights of {bits} bits"):
        pack_codes(np.zeros((16, 16), dtype=np.uint8), bits)


def test_codes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="code 4 does not fit 2 bits"):
        pack_codes(np.full((1, 1), 4, dtype=np.uint8), 2)
    with pytest.raises(InvalidInputError, match="expected \\[n, k\\]"):
        pack_codes(np.zeros((1, 40000), dtype=np.uint8), 2)
    with pytest.raises(InvalidInputError, match="tiles have shape"):
        unpack_codes(np.zeros((1, 1, 64), dtype=np.int8), 2, 17, 16)
