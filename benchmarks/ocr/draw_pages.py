"""Draws the test pages: `python benchmarks/ocr/draw_pages.py OUT`. The same seed and fonts draw the same pages.

Eight languages, seven kinds: a single line, running text, two columns, a turned page, lines over a photograph, a form
with numbers, a worn copy (uneven light, blur, noise, strong JPEG).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fonts import Fonts
from page_canvas import Canvas, Color, gradient, wrapped
from PIL import Image, ImageFilter

HERE = Path(__file__).resolve().parent
PICTURES = HERE.parent.parent / "examples/pictures"
# All of whose letters are in the character table of PP-OCRv6 tiny (which has no kana, no „ and no ¡).
LANGUAGES = ("en", "de", "fr", "es", "it", "pl", "tr", "zh")


class Author:
    """Draws everything that varies on one page from its own random numbers."""

    def __init__(self, language: str, kind: str, number: int, seed: int, fonts: Fonts) -> None:
        self.random = random.Random(f"{seed}/{language}/{kind}/{number}")
        self.language = language
        self.fonts = fonts
        sentences = (HERE / f"sentences/{language}.txt").read_text(encoding="utf-8").split("\n")
        self.sentences = [sentence for sentence in sentences if sentence]
        self.random.shuffle(self.sentences)
        self.labels = json.loads((HERE / "forms.json").read_text(encoding="utf-8"))[language]
        everything = "".join(self.sentences + self.labels) + "0123456789"
        names = [name for name in fonts.for_language(language) if fonts.shows(name, everything)]
        if not names:
            sys.exit(f"draw_pages: no font for '{language}' found. hint: install the packages that fonts.py names")
        self.font_name = self.random.choice(names)

    def font(self, least: int, most: int) -> Any:
        return self.fonts.load(self.font_name, self.random.randint(least, most))

    def paper(self) -> Color:
        level = self.random.randint(225, 255)
        return (level, level - self.random.randint(0, 6), level - self.random.randint(0, 18))

    def ink(self) -> Color:
        return tuple(self.random.randint(0, 70) for _ in range(3))  # type: ignore[return-value]

    def paragraph(self, sentences: int) -> str:
        taken, self.sentences = self.sentences[:sentences], self.sentences[sentences:]
        return ("" if self.language == "zh" else " ").join(taken)


def single_line(author: Author) -> Canvas:
    font, text = author.font(16, 52), author.paragraph(1)
    margin = author.random.randint(6, 24)
    width, height = math.ceil(font.getlength(text)) + 2 * margin, math.ceil(font.size * 1.4) + 2 * margin
    if author.random.random() < 0.3:  # light on dark
        dark = tuple(author.random.randint(0, 60) for _ in range(3))
        canvas = Canvas(Image.new("RGB", (width, height), dark))
        canvas.write(margin, margin, text, font, author.paper())
        return canvas
    canvas = Canvas(gradient(width, height, author.paper(), author.paper(), author.random.uniform(0, math.pi)))
    canvas.write(margin, margin, text, font, author.ink())
    return canvas


def _running_text(author: Author, canvas: Canvas, box: tuple[int, int, int], font: Any, paragraphs: int) -> int:
    """Paragraphs from (x, y) on, `width` wide; the y below them."""
    x, y, width = box
    ink = author.ink()
    for _ in range(paragraphs):
        for line in wrapped(author.paragraph(2), font, width):
            canvas.write(x, y, line, font, ink)
            y += math.ceil(font.size * 1.45)
        y += font.size // 2
    return y


def page(author: Author) -> Canvas:
    width = author.random.randint(640, 1100)
    title, font = author.font(28, 40), author.font(15, 26)
    canvas = Canvas(Image.new("RGB", (width, 1600), author.paper()))
    margin, y = author.random.randint(30, 80), author.random.randint(24, 60)
    for line in wrapped(author.paragraph(1), title, width - 2 * margin):
        canvas.write(margin, y, line, title, author.ink())
        y += math.ceil(title.size * 1.4)
    bottom = _running_text(author, canvas, (margin, y + 16, width - 2 * margin), font, author.random.randint(2, 5))
    canvas.picture = canvas.picture.crop((0, 0, width, min(1600, bottom + 40)))
    return canvas


def columns(author: Author) -> Canvas:
    width, margin, gutter = author.random.randint(900, 1250), 48, author.random.randint(40, 70)
    title, font = author.font(28, 38), author.font(16, 21)
    canvas = Canvas(Image.new("RGB", (width, 1400), author.paper()))
    y = 32
    for line in wrapped(author.paragraph(1), title, width - 2 * margin):
        canvas.write(margin, y, line, title, author.ink())
        y += math.ceil(title.size * 1.4)
    column = (width - 2 * margin - gutter) // 2
    ends = [_running_text(author, canvas, (x, y + 24, column), font, 3) for x in (margin, margin + column + gutter)]
    canvas.picture = canvas.picture.crop((0, 0, width, max(ends) + 32))
    return canvas


def turned(author: Author) -> Canvas:
    angle = author.random.choice((-1, 1)) * author.random.uniform(1, 12)
    ground = tuple(author.random.randint(40, 200) for _ in range(3))
    return page(author).turned(angle, ground)  # type: ignore[arg-type]


def photo(author: Author) -> Canvas:
    paths = sorted(PICTURES.glob("*.jpg"))
    picture = Image.open(author.random.choice(paths)).convert("RGB")
    width = author.random.randint(640, 1000)
    picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    picture = picture.crop((0, 0, width, min(picture.height, 720)))
    canvas = Canvas(picture)
    y = author.random.randint(16, 60)
    while author.sentences:
        font = author.font(20, 44)
        x = author.random.randint(12, width // 4)
        lines = wrapped(author.paragraph(1), font, width - x - 16)
        for line in lines:
            if y + font.size * 1.4 > picture.height:
                return canvas
            # White with a dark rim or the reverse, as captions over pictures are set.
            dark, light = author.ink(), author.paper()
            pair = (light, dark) if author.random.random() < 0.7 else (dark, light)
            canvas.write(x, y, line, font, *pair)
            y += math.ceil(font.size * 1.4)
        y += author.random.randint(10, 80)
    return canvas


def _value(author: Author) -> str:
    def number(least: int, most: int) -> int:
        return author.random.randint(least, most)

    letter = author.random.choice("ABCDEFGHKLMNPRSTUVWXYZ")
    return author.random.choice(
        (
            f"{number(1, 28):02}.{number(1, 12):02}.{number(1990, 2035)}",
            f"{number(1, 9999)},{number(0, 99):02} EUR",
            f"{number(10**6, 10**9)}",
            f"{number(1, 40)} %",
            f"+{number(1, 99)} {number(100, 999)} {number(10**5, 10**7)}",
            f"{letter}-{number(100, 99999)}/{number(1, 99)}",
        )
    )


def form(author: Author) -> Canvas:
    font, width = author.font(17, 28), author.random.randint(560, 900)
    canvas = Canvas(Image.new("RGB", (width, 1200), author.paper()))
    ink, margin, y = author.ink(), 36, 32
    canvas.write(margin, y, author.labels[0], author.font(30, 42), ink)
    y += 72
    for label in author.labels[1:]:
        value = _value(author)
        canvas.write(margin, y, label, font, ink)
        canvas.write(width - margin - font.getlength(value), y, value, font, ink)
        y += math.ceil(font.size * 1.8)
    canvas.picture = canvas.picture.crop((0, 0, width, y + 24))
    return canvas


def worn(author: Author) -> Canvas:
    canvas = page(author)
    width, height = canvas.picture.size
    random_levels = np.random.default_rng(author.random.randint(0, 2**31))
    light = gradient(width, height, (255, 255, 255), (150, 145, 135), author.random.uniform(0, 2 * math.pi))
    levels = np.asarray(canvas.picture, np.float32) * np.asarray(light, np.float32) / 255
    blurred = Image.fromarray(levels.astype(np.uint8)).filter(ImageFilter.GaussianBlur(author.random.uniform(0.4, 1.1)))
    noise = random_levels.normal(0, author.random.uniform(4, 14), (height, width, 1))
    canvas.picture = Image.fromarray(np.clip(np.asarray(blurred, np.float32) + noise, 0, 255).astype(np.uint8))
    return canvas


KINDS: dict[str, Callable[[Author], Canvas]] = {
    "line": single_line,
    "page": page,
    "columns": columns,
    "turned": turned,
    "photo": photo,
    "form": form,
    "worn": worn,
}


def draw_all(out: Path, fonts: Fonts, languages: list[str], each: int, seed: int) -> int:
    """Writes pictures and pages.jsonl; returns how many."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for language in languages:
        for kind, draw in KINDS.items():
            for number in range(each):
                author = Author(language, kind, number, seed, fonts)
                canvas = draw(author)
                name = f"images/{language}-{kind}-{number}"
                quality = author.random.randint(25, 55) if kind == "worn" else author.random.randint(60, 95)
                if kind == "worn" or author.random.random() < 0.5:
                    name += ".jpg"
                    canvas.picture.save(out / name, quality=quality)
                else:
                    name += ".png"
                    canvas.picture.save(out / name)
                lines = [
                    {"text": text, "box": [[round(x, 2), round(y, 2)] for x, y in box]} for text, box in canvas.lines
                ]
                entry = {"picture": name, "language": language, "kind": kind, "font": author.font_name, "lines": lines}
                rows.append(json.dumps(entry, ensure_ascii=False))
    (out / "pages.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return len(rows)


def main() -> None:
    """Draws pages in OUT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--fonts", type=Path, nargs="+", default=[Path("/usr/share/fonts")], metavar="FOLDER")
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=list(LANGUAGES))
    parser.add_argument("--each", type=int, default=4, metavar="N", help="pages of each language and kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    fonts = Fonts(arguments.fonts)
    if fonts.missing():
        print(f"draw_pages: without {', '.join(fonts.missing())}: other pages than those measured", file=sys.stderr)
    pages = draw_all(arguments.out, fonts, arguments.languages, arguments.each, arguments.seed)
    print(f"{pages} pages in {arguments.out}")


if __name__ == "__main__":
    main()
