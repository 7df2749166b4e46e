"""Knows the stamps of Tux Paint (GPL-2 pictures): what each shows, by its English description."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from random import Random
from typing import Final

from PIL import Image

from mobile_multimodal.errors import NotFoundError
from mobile_multimodal.training.stamp_names import LEFT_OUT, LEFT_OUT_FILES, NAME_OF_FILE, NAME_OF_WORDS

DEFAULT_FOLDER: Final = Path("/usr/share/tuxpaint/stamps")
_COLLECTIVE: Final = {
    "pair", "bunch", "cluster", "head", "string", "couple", "quarter", "glass", "plant", "baby", "set",
}  # fmt: skip
# Words whose meaning needs the word in front: a tennis ball is a "tennis ball".
_NEEDS_QUALIFIER: Final = {
    "ball", "bear", "truck", "bus", "car", "cap", "balloon", "hat", "duck", "horn", "tree", "can", "bin", "light",
    "cane", "goat", "lion", "star", "box", "racket", "cup", "egg", "tower",
}  # fmt: skip
_SUPERCLASS: Final = {
    "animals": "animal", "food": "food", "vehicles": "vehicle", "clothes": "clothing",
    "hobbies/music": "musical instrument", "household/tools": "tool", "animals/birds": "bird", "food/fruit": "fruit",
    "food/vegetables": "vegetable", "plants/flowers": "flower",
}  # fmt: skip


@dataclass(frozen=True)
class Stamp:
    """A cut-out picture, what it shows, and what that is an example of: apple, fruit, food."""

    path: Path
    name: str
    classes: tuple[str, ...]
    is_drawn: bool

    def picture(self, longer_side: int) -> Image.Image:
        """RGBA without empty borders, its longer side `longer_side` pixels."""
        image = Image.open(self.path).convert("RGBA")
        image = image.crop(image.getchannel("A").point(lambda alpha: 255 if alpha > 32 else 0).getbbox())
        scale = longer_side / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return image.resize(size, Image.Resampling.LANCZOS)


def name_of(description: str) -> str:
    """The thing a description names ("A pair of pants." -> pants), empty where the sentence says more than that."""
    text = re.sub(r"\(.*?\)|[“”\"'].*?[“”\"']\s*", "", description.strip()).lower()
    match = re.fullmatch(r"(?:an?|the|some|two|our)?\s*([a-z’ -]+?)\s*[.!]?", text.split(",")[0].rstrip("!. "))
    if match is None or not description:
        return ""
    words = match.group(1).split()
    if "of" in words:
        before, after = words[: words.index("of")], words[words.index("of") + 1 :]
        words = [word for word in after if word not in ("a", "the")] if before and before[-1] in _COLLECTIVE else before
    if not words or len(words) > 4:
        return ""
    pair = " ".join(words[-2:])
    if pair in NAME_OF_WORDS:
        return NAME_OF_WORDS[pair]
    if words[-1] in _NEEDS_QUALIFIER and len(words) > 1:
        return pair if words[-2] not in ("colorful", "small", "big", "green", "red", "happy") else words[-1]
    return NAME_OF_WORDS.get(words[-1], words[-1])


def read_stamps(folder: Path = DEFAULT_FOLDER) -> list[Stamp]:
    """All stamps with a plain name, in the order of their paths."""
    if not folder.is_dir():
        raise NotFoundError(
            f"{folder} is not there", hint="install the Debian package tuxpaint-stamps-default, or leave out --stamps"
        )
    stamps = []
    for path in sorted(folder.rglob("*.png")):
        inside = path.relative_to(folder)
        if path.stem in LEFT_OUT_FILES or any(fnmatch(str(inside), pattern) for pattern in LEFT_OUT):
            continue
        text = path.with_suffix(".txt")
        first_line = text.read_text(encoding="utf-8").splitlines()[0] if text.is_file() else ""
        name = NAME_OF_FILE.get(path.stem) or name_of(first_line)
        if not name:
            continue
        parts = [str(parent) for parent in inside.parents]
        classes = tuple(_SUPERCLASS[part] for part in parts if part in _SUPERCLASS and _SUPERCLASS[part] != name)
        stamps.append(Stamp(path, name, classes, "cartoon" in inside.parts))
    return stamps


def held_out_stamps(stamps: list[Stamp], random: Random) -> set[Path]:
    """Stamps that training never sees: one of every third name that has several."""
    by_name: dict[str, list[Stamp]] = {}
    for stamp in stamps:
        by_name.setdefault(stamp.name, []).append(stamp)
    return {random.choice(group).path for group in by_name.values() if len(group) > 1 and random.random() < 0.35}
