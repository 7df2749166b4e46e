"""Makes the bodies of requests: thousands of different pictures, drawn pages, questions; none equals another."""

from __future__ import annotations

import io
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pybase64
from PIL import Image, ImageDraw, ImageFont

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
QUESTIONS = (
    "Is there a dog?",
    "What is in the picture?",
    "How many people are there?",
    "What colour is the shirt?",
    "Where are they?",
    "Is someone playing?",
)
WORDS = (
    "invoice",
    "total",
    "amount",
    "due",
    "date",
    "customer",
    "order",
    "street",
    "balance",
    "item",
    "price",
    "tax",
    "quantity",
    "delivery",
    "account",
    "reference",
    "payment",
    "thirty",
    "days",
    "bank",
    "service",
    "unit",
)
PAGES = 256
LINES = 12


def pictures_in(folder: Path) -> list[bytes]:
    """Every picture of a folder, as it lies there."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise SystemExit(f"no picture ({', '.join(SUFFIXES)}) in {folder}")
    return [file.read_bytes() for file in files]


def drawn_pages(count: int = PAGES) -> list[bytes]:
    """Pages of 12 lines with words and numbers, each different, as PNG."""
    chance = random.Random(0)
    font = ImageFont.load_default(22)
    pages = []
    for number in range(count):
        page = Image.new("L", (800, 560), 250)
        draw = ImageDraw.Draw(page)
        draw.text((40, 24), f"Page {number:04d}", font=font, fill=10)
        for line in range(1, LINES):
            words = [chance.choice(WORDS) for _ in range(4)] + [f"{chance.uniform(1, 9999):,.2f}"]
            draw.text((40, 24 + 42 * line), " ".join(words), font=font, fill=chance.randint(0, 60))
        packed = io.BytesIO()
        page.save(packed, "PNG", compress_level=1)
        pages.append(packed.getvalue())
    return pages


class RequestBodies:
    """Endless bodies for a task. A picture comes again only after all others, and then with other bytes at its end,
    which no decoder looks at: the response cache, whose key is the bytes, never answers."""

    def __init__(self, pictures: list[bytes], pages: list[bytes]) -> None:
        self._pictures = pictures
        self._pages = pages
        self._turn = itertools.count()
        self._picture = itertools.cycle(pictures)
        self._page = itertools.cycle(pages)
        self._question = itertools.cycle(QUESTIONS)

    def next_body(self, task: str) -> bytes:
        """The JSON of one request to the task's route."""
        tail = f"#{next(self._turn)}".encode()
        if task == "ocr":
            return picture_body(next(self._page) + tail)
        if task == "ask":
            return picture_body(next(self._picture) + tail, question=next(self._question))
        return picture_body(next(self._picture) + tail)

    def bodies(self, task: str) -> Iterator[bytes]:
        while True:
            yield self.next_body(task)


def picture_body(picture: bytes, **fields: object) -> bytes:
    return json.dumps({"image": pybase64.b64encode(picture).decode("ascii"), **fields}).encode()


def zipf_bodies(pictures: list[bytes], exponent: float, seed: int) -> Iterator[bytes]:
    """Pictures drawn with a probability of 1 / rank ** exponent: a few are asked for often, most once."""
    chance = random.Random(seed)
    order = list(range(len(pictures)))
    chance.shuffle(order)
    weights = list(itertools.accumulate((rank + 1) ** -exponent for rank in range(len(pictures))))
    while True:
        yield picture_body(pictures[chance.choices(order, cum_weights=weights)[0]])
