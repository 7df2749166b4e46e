"""Draws lines of text on a ground and remembers where each stands, also when the page is turned."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Corner = tuple[float, float]
Color = tuple[int, int, int]


@dataclass
class Canvas:
    """A picture with its lines in reading order: (text, corners).

    A box is as wide as the ink, and as high as the font's letters with ascenders and descenders: two lines of one font
    are equally high, whatever their letters.
    """

    picture: Image.Image
    lines: list[tuple[str, list[Corner]]] = field(default_factory=list)

    def write(
        self, x: float, y: float, text: str, font: ImageFont.FreeTypeFont, color: Color, outline: Color | None = None
    ) -> None:
        """A line with the upper left of its em box at (x, y)."""
        pen = ImageDraw.Draw(self.picture)
        stroke = 0 if outline is None else max(1, round(font.size / 14))
        pen.text((x, y), text, font=font, fill=color, stroke_width=stroke, stroke_fill=outline)
        left, top, right, bottom = pen.textbbox((x, y), text, font=font)
        _, highest, _, lowest = pen.textbbox((x, y), "dp", font=font)
        top, bottom = min(top, highest), max(bottom, lowest)
        self.lines.append((text, [(left, top), (right, top), (right, bottom), (left, bottom)]))

    def turned(self, degrees: float, ground: Color) -> Canvas:
        """The page turned counterclockwise around its middle, on a ground that holds all of it."""
        width, height = self.picture.size
        picture = self.picture.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=ground)
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

        def moved(corner: Corner) -> Corner:
            x, y = corner[0] - width / 2, corner[1] - height / 2
            return (x * cosine + y * sine + picture.width / 2, -x * sine + y * cosine + picture.height / 2)

        return Canvas(picture, [(text, [moved(corner) for corner in box]) for text, box in self.lines])


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Lines no wider than `width`: broken at spaces, Chinese text between characters."""
    units = text.split(" ") if " " in text else list(text)
    space = " " if " " in text else ""
    lines = [units[0]]
    for unit in units[1:]:
        longer = lines[-1] + space + unit
        # A line must not begin with a closing mark.
        if font.getlength(longer) <= width or unit in "，。；：？）,.;:?)":
            lines[-1] = longer
        else:
            lines.append(unit)
    return lines


def gradient(width: int, height: int, first: Color, second: Color, angle: float) -> Image.Image:
    """From one color to the other along a direction."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    along = math.cos(angle) * x / max(width, 1) + math.sin(angle) * y / max(height, 1)
    along = ((along - along.min()) / max(float(np.ptp(along)), 1e-6))[..., None]
    levels = np.asarray(first, np.float32) * (1 - along) + np.asarray(second, np.float32) * along
    return Image.fromarray(np.round(levels).astype(np.uint8))
