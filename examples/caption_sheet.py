"""Draws pictures with the captions that the model gives them: `python examples/caption_sheet.py OUT PICTURE...`."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mobile_multimodal import MobileMultiModalLLM, load_image

TILE = 300  # pixels; three tiles fill the width of a README
TEXT_HEIGHT = 84
GAP = 14
COLUMNS = 3


def draw_sheet(model: MobileMultiModalLLM, paths: list[Path]) -> Image.Image:
    """A grid of square crops, each with its sentence and the model's confidence below it."""
    font, small = ImageFont.load_default(16), ImageFont.load_default(12)
    rows = -(-len(paths) // COLUMNS)
    columns = min(COLUMNS, len(paths))
    size = (columns * (TILE + GAP) + GAP, rows * (TILE + TEXT_HEIGHT + GAP) + GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for index, (path, caption) in enumerate(zip(paths, model.generate_captions(paths), strict=True)):
        left = GAP + index % COLUMNS * (TILE + GAP)
        top = GAP + index // COLUMNS * (TILE + TEXT_HEIGHT + GAP)
        picture = Image.fromarray(load_image(path))
        side = min(picture.size)
        x, y = (picture.width - side) // 2, (picture.height - side) // 2
        sheet.paste(picture.crop((x, y, x + side, y + side)).resize((TILE, TILE)), (left, top))
        lines = textwrap.wrap(caption.text, 38)[:3]
        draw.multiline_text((left, top + TILE + 4), "\n".join(lines), fill="black", font=font, spacing=3)
        note = f"confidence {caption.confidence:.2f}, {path.name}"
        draw.text((left, top + TILE + 65), note, fill="#666666", font=small)
    return sheet


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    with MobileMultiModalLLM.from_pretrained() as loaded:
        draw_sheet(loaded, [Path(name) for name in sys.argv[2:]]).save(sys.argv[1], quality=85)
