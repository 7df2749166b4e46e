"""Composes pictures of stamps on backgrounds and writes them with their questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
from PIL import Image, ImageFilter

from mobile_multimodal.evaluation.question_sets import Question, write_questions
from mobile_multimodal.training.scene_questions import BACKGROUNDS, Placed, Scene, SceneQuestions
from mobile_multimodal.training.stamps import Stamp, held_out_stamps, read_stamps
from mobile_multimodal.training.unanswerable_questions import make_unanswerable

SIDE: Final = 224
_WEBP_QUALITY: Final = 80


def compose(stamps: Sequence[Stamp], photos: Sequence[Path], random: Random) -> Scene:
    """Draws a background and one to four stamps that hardly overlap."""
    picture, background = _background(photos, random)
    count = random.choices((1, 2, 3, 4), (28, 36, 20, 16))[0]
    chosen = [random.choice(stamps) for _ in range(count)]
    if count > 1 and random.random() < 0.45:
        chosen[1:] = [chosen[0] if random.random() < 0.75 else stamp for stamp in chosen[1:]]
    # One stamp may fill the picture; four have a quarter each. A second one may be half or twice as large.
    largest = {1: 190, 2: 125, 3: 105, 4: 95}[count]
    placed: list[Placed] = []
    for stamp in chosen:
        cut = stamp.picture(int(largest * random.uniform(0.5, 1.0)))
        if random.random() < 0.5 and stamp.name not in ("stop sign",):
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for _ in range(30):
            left, top = random.randint(0, SIDE - cut.width), random.randint(0, SIDE - cut.height)
            box = (left, top, left + cut.width, top + cut.height)
            if all(not _overlap(box, other.box) for other in placed):
                picture.paste(cut, (left, top), cut)
                placed.append(Placed(stamp, box))
                break
    return Scene(picture, tuple(placed), background)


def _overlap(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _background(photos: Sequence[Path], random: Random) -> tuple[Image.Image, str]:
    kind = random.random()
    if kind < 0.4:
        colour = random.choice(list(BACKGROUNDS))
        shade = tuple(min(255, max(0, value + random.randint(-10, 10))) for value in BACKGROUNDS[colour])
        return Image.new("RGB", (SIDE, SIDE), shade), colour
    if kind < 0.6 or not photos:
        ends = np.array([[random.randint(30, 250) for _ in range(3)] for _ in range(2)], np.float32)
        ramp = np.linspace(0, 1, SIDE, dtype=np.float32)[:, None]
        line = ends[0] * (1 - ramp) + ends[1] * ramp
        square = np.broadcast_to(line[:, None, :], (SIDE, SIDE, 3))
        if random.random() < 0.5:
            square = square.transpose(1, 0, 2)
        return Image.fromarray(np.ascontiguousarray(square).astype(np.uint8)), ""
    photo = Image.open(random.choice(photos)).convert("RGB").resize((SIDE, SIDE))
    return photo.filter(ImageFilter.GaussianBlur(random.uniform(6, 12))), ""


def write_scenes(
    folder: Path, photos: Sequence[Path], stamp_folder: Path, pictures: int = 6000
) -> dict[str, list[Question]]:
    """Writes pictures and questions: nine of ten pictures for training, the tenth and some stamps for dev alone."""
    stamps = read_stamps(stamp_folder)
    held_out = held_out_stamps(stamps, Random("stamps held out"))
    # A photographed stamp comes up three times as often as a drawn one; a name with many stamps less than that often.
    share = Counter(stamp.name for stamp in stamps)
    weighted = [
        stamp for stamp in stamps for _ in range(round((2 if stamp.is_drawn else 6) / share[stamp.name] ** 0.5) or 1)
    ]
    known = [stamp for stamp in weighted if stamp.path not in held_out]
    # In dev a held-out stamp is drawn about every third time.
    new = [stamp for stamp in stamps if stamp.path in held_out]
    dev = known + new * max(1, len(known) // (2 * max(1, len(new))))
    written = {}
    for split, count, drawn in (("train", pictures - pictures // 10, known), ("dev", pictures // 10, dev)):
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
        asker, questions = SceneQuestions(drawn), []
        images = []
        for index in range(count):
            random = Random(f"{split} {index}")
            scene = compose(drawn, photos, random)
            image = f"{split}/{index:05}.webp"
            scene.picture.save(folder / "images" / image, quality=_WEBP_QUALITY)
            questions += asker.about(scene, image, random)
            images.append(image)
        random = Random(f"{split} unanswerable")
        questions += make_unanswerable(images, [], len(questions) // 15, random)
        random.shuffle(questions)
        written[split] = questions
        write_questions(folder / f"questions_{split}.jsonl", questions)
    return written
