"""Compares convex quadrilaterals: intersection over union, and one-to-one matches."""

from __future__ import annotations

from collections.abc import Sequence

from mobile_multimodal.tasks.ocr import Corner

IOU_LEAST = 0.5


def area(polygon: Sequence[Corner]) -> float:
    """Positive when the corners run clockwise on a picture (y points down)."""
    pairs = zip(polygon, [*polygon[1:], *polygon[:1]], strict=True)
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs) / 2


def intersection_over_union(first: Sequence[Corner], second: Sequence[Corner]) -> float:
    """Of two convex polygons with corners in either direction; 0 where one has no area."""
    first, second = _clockwise(first), _clockwise(second)
    areas = area(first), area(second)
    if min(areas) <= 0 or _are_apart(first, second):
        return 0.0
    common = area(_clipped(first, second))
    return common / (areas[0] + areas[1] - common)


def match_boxes(
    found: Sequence[Sequence[Corner]], expected: Sequence[Sequence[Corner]], least: float = IOU_LEAST
) -> list[tuple[int, int]]:
    """Pairs (found, expected) that overlap by `least`, best first, each box in one pair at most."""
    overlaps = []
    for i, box in enumerate(found):
        for j, other in enumerate(expected):
            overlap = intersection_over_union(box, other)
            if overlap >= least:
                overlaps.append((-overlap, i, j))
    taken_found: set[int] = set()
    taken_expected: set[int] = set()
    pairs = []
    for _, i, j in sorted(overlaps):
        if i not in taken_found and j not in taken_expected:
            pairs.append((i, j))
            taken_found.add(i)
            taken_expected.add(j)
    return pairs


def _clockwise(polygon: Sequence[Corner]) -> Sequence[Corner]:
    return polygon if area(polygon) >= 0 else polygon[::-1]


def _are_apart(first: Sequence[Corner], second: Sequence[Corner]) -> bool:
    return any(
        max(corner[axis] for corner in a) <= min(corner[axis] for corner in b)
        for axis in (0, 1)
        for a, b in ((first, second), (second, first))
    )


def _clipped(subject: Sequence[Corner], clip: Sequence[Corner]) -> list[Corner]:
    """The part of `subject` inside `clip`, both clockwise (Sutherland and Hodgman 1974)."""
    polygon = list(subject)
    for (x0, y0), (x1, y1) in zip(clip, [*clip[1:], *clip[:1]], strict=True):
        sides = [(x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) for x, y in polygon]
        kept: list[Corner] = []
        for k, (corner, side) in enumerate(zip(polygon, sides, strict=True)):
            before, side_before = polygon[k - 1], sides[k - 1]
            if (side >= 0) != (side_before >= 0):
                share = side_before / (side_before - side)
                kept.append((before[0] + share * (corner[0] - before[0]), before[1] + share * (corner[1] - before[1])))
            if side >= 0:
                kept.append(corner)
        polygon = kept
        if not polygon:
            return []
    return polygon
