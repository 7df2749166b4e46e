"""Draws the page that the guide to reading text shows: `python examples/draw_page.py OUT.png`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

LINES = [
    "Invoice 4711-A",
    "One small file that sees: 2-bit weights, no network",
    "Total due: 1,284.50 EUR by 2026-12-01",
    "Contact: hello@example.org",
]
TURNED = "even at an angle of 15 degrees"


def draw_page() -> Image.Image:
    """A page of 900 x 420 pixels: four level lines and one that is not."""
    page = Image.new("RGB", (900, 420), "#f4f1e8")
    draw = ImageDraw.Draw(page)
    for row, text in enumerate(LINES):
        draw.text((40, 30 + 70 * row), text, font=ImageFont.load_default(36 if row == 0 else 24), fill="black")
    label = Image.new("RGBA", (420, 60))
    ImageDraw.Draw(label).text((5, 5), TURNED, font=ImageFont.load_default(24), fill="#113")
    label = label.rotate(15, expand=True)
    page.paste(label, (430, 250), label)
    return page


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    draw_page().save(Path(sys.argv[1]))
