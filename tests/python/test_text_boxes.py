"""Holds the boxes that the binding gives to rectangles drawn into a map."""

from __future__ import annotations

import numpy as np
import pytest

from mobile_multimodal import InvalidInputError

native = pytest.importorskip("mobile_multimodal.native")


def test_boxes_of_rectangles() -> None:
    values = np.zeros((96, 160), np.float32)
    values[20:32, 10:100] = 0.75
    values[60:70, 40:150] = 0.5
    values[80:90, 40:150] = 0.3  # below the mean that a box needs
    (first, first_score), (second, second_score) = native.find_text_boxes(values, unclip_ratio=0)
    assert np.allclose(first, [(10.5, 20.5), (99.5, 20.5), (99.5, 31.5), (10.5, 31.5)])
    assert np.allclose(second, [(40.5, 60.5), (149.5, 60.5), (149.5, 69.5), (40.5, 69.5)])
    assert (first_score, second_score) == pytest.approx((0.75, 0.5), abs=1e-4)
    assert len(native.find_text_boxes(values, unclip_ratio=0, max_boxes=1)) == 1
    assert len(native.find_text_boxes(values, box_threshold=0.25)) == 3
    (wide, _), _ = native.find_text_boxes(values, unclip_ratio=1.5)
    margin = 89 * 11 * 1.5 / (2 * (89 + 11))  # area * ratio / perimeter
    assert np.allclose(wide[0], (10.5 - margin, 20.5 - margin))


def test_what_is_no_map_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="the probability map is 0x4"):
        native.find_text_boxes(np.zeros((0, 4), np.float32))
    with pytest.raises(InvalidInputError, match="`unclip_ratio` is -1"):
        native.find_text_boxes(np.zeros((4, 4), np.float32), unclip_ratio=-1)
    with pytest.raises(InvalidInputError, match="side above 65536"):
        native.find_text_boxes(np.zeros((1, 70000), np.float32))
