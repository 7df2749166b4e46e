"""Draws pictures with what the model answers: `python examples/question_sheet.py OUT PICTURE...`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mobile_multimodal import MobileMultiModalLLM, load_image

TILE = 300  # pixels; three tiles fill the width of a README
TEXT_HEIGHT = 104
GAP = 14
COLUMNS = 3
QUESTIONS = ("Is there an animal?", "Where is this?", "What is the man doing?")
WORDS = ("a cat", "boats on the water", "sheep", "a man with a camera", "a cup of coffee", "grass")


def lines_about(model: MobileMultiModalLLM, path: Path) -> list[str]:
    """Three answers with their confidence, and the words that lie nearest."""
    lines = []
    for question in QUESTIONS:
        answer = model.answer_question(path, question)
        lines.append(f"{question} {answer.text} ({answer.confidence:.2f})")
    nearest = max(WORDS, key=lambda words: model.similarity(path, words))
    return [*lines, f"nearest of {len(WORDS)}: {nearest} ({model.similarity(path, nearest):.2f})"]


def draw_sheet(model: MobileMultiModalLLM, paths: list[Path]) -> Image.Image:
    """A grid of square crops, each with its lines below it."""
    font = ImageFont.load_default(15)
    rows = -(-len(paths) // COLUMNS)
    size = (min(COLUMNS, len(paths)) * (TILE + GAP) + GAP, rows * (TILE + TEXT_HEIGHT + GAP) + GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for index, path in enumerate(paths):
        left = GAP + index % COLUMNS * (TILE + GAP)
        top = GAP + index // COLUMNS * (TILE + TEXT_HEIGHT + GAP)
        picture = Image.fromarray(load_image(path))
        side = min(picture.size)
        x, y = (picture.width - side) // 2, (picture.height - side) // 2
        sheet.paste(picture.crop((x, y, x + side, y + side)).resize((TILE, TILE)), (left, top))
        draw.multiline_text((left, top + TILE + 4), "\n".join(lines_about(model, path)), fill="black", font=font)
    return sheet


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    with MobileMultiModalLLM.from_pretrained() as loaded:
        draw_sheet(loaded, [Path(name) for name in sys.argv[2:]]).save(sys.argv[1], quality=85)
