"""Writes data sets of plain pictures in a few colours: captions, questions with options, yes or no, and shapes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 40, 200), "white": (240, 240, 240)}
PLACES = ("on the left", "on the grass", "in the park", "in the snow")
SPLITS = {"train": 3, "dev": 2}


def picture(path: Path, colour: tuple[int, int, int], seed: int, side: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.clip(np.random.default_rng(seed).normal(colour, 12, size=(side, side, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def write_language_data(folder: Path) -> Path:
    """The folders flickr8k, visual7w and vqa_yesno in the form of docs/training-language.md."""
    _write_captions(folder / "flickr8k")
    for split, count in SPLITS.items():
        options, yes_no = ["image,question,answer,options"], ["image,question,answer"]
        for number, (name, colour) in enumerate(COLOURS.items()):
            others = [other for other in COLOURS if other != name]
            for i in range(count):
                image = f"v7w_{split}-{name}-{i}.png"
                picture(folder / "visual7w" / "images" / image, colour, number * 10 + i)
                shown = " | ".join(f"{entry.capitalize()}." for entry in (name, *others))
                options.append(f"{image},What color is the wall?,{name.capitalize()}.,{shown}")
                image = f"yesno_{split}-{name}-{i}.png"
                picture(folder / "vqa_yesno" / "images" / image, colour, number * 10 + i + 5)
                yes_no.append(f"{image},Is this a {name} room?,yes")
                yes_no.append(f"{image},Is there a {others[i % 3]} car on the left?,no")
        (folder / "visual7w" / f"questions_{split}.csv").write_text("\n".join(options), encoding="utf-8")
        (folder / "vqa_yesno" / f"questions_{split}.csv").write_text("\n".join(yes_no), encoding="utf-8")
    return folder


def _write_captions(folder: Path) -> None:
    for split, count in SPLITS.items():
        lines = ["image,caption"]
        for number, (name, colour) in enumerate(COLOURS.items()):
            for i in range(count):
                path = folder / "images" / f"{split}-{name}-{i}.png"
                picture(path, colour, number * 10 + i)
                place = PLACES[(number + i) % len(PLACES)]
                lines += [
                    f"{path.name},A {name} dog runs {place} .",
                    f"{path.name},The dog is running {place} with a man in a {name} shirt .",
                    f"{path.name},A man and a {name} dog play {place} .",
                    f"{path.name},One {name} dog jumps {place} .",
                    f"{path.name},A dog with a {name} collar runs {place} .",
                ]
        (folder / f"captions_{split}.csv").write_text("\n".join(lines), encoding="utf-8")


def write_shapes(folder: Path) -> Path:
    """A folder in the form of the package easy-vqa's data."""
    for split in ("train", "test"):
        questions: list[tuple[str, str, int]] = []
        for number, (name, colour) in enumerate(COLOURS.items()):
            picture(folder / split / "images" / f"{number}.png", colour, number + 40, side=32)
            questions += [("what color is the shape?", name, number), (f"is there a {name} shape?", "yes", number)]
            questions.append((f"what is the {name} shape?", "circle", number))
        (folder / split / "questions.json").write_text(json.dumps(questions), encoding="utf-8")
    return folder
