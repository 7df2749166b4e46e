"""Measures once, in a few seconds, what the tasks cost on this machine: on pictures and pages that it makes itself.

A cost is the fastest of several runs: what the machine can do is a property of it, how busy it is changes by the second
and is the load that each call corrects.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mobile_multimodal.images import Pixels
from mobile_multimodal.tasks.cost_model import TaskCost, Work, fit_line, spread_of
from mobile_multimodal.tasks.language import ANSWER_PROGRAMS, EMBED_IMAGE_PROGRAMS, EMBED_TEXT_PROGRAMS
from mobile_multimodal.tasks.ocr import OCR_PROGRAMS
from mobile_multimodal.tasks.operating_points import CAPTION_POINTS, ONLY_POINT, OperatingPoint

if TYPE_CHECKING:
    from mobile_multimodal.native import Session

CAPTION_PROGRAMS: Final = ("encode_image", "prefill", "decode")

_ROUNDS: Final = 6
_PAGE_ROUNDS: Final = 3
_MOST_SECONDS: Final = 3.0  # of a task: on a slow or busy machine there are fewer rounds, of which one is always whole
_QUESTION: Final = "What is the man in the picture doing?"
_OPTIONS: Final = ("a man on a horse", "two dogs in the snow", "a child with a ball", "people at a table")
_CAPTION_STEPS: Final = 12.0  # of the median sentence about a Flickr8k dev picture, its end included
_PAGE_LINES: Final = 40.0  # a megapixel, before pages were seen; the estimate follows those that come
# Width, height and lines of the pages: sizes and lines vary apart from each other, so that their costs can be told
# apart. The biggest is what a photograph of a page has at max_side 960.
_PAGES: Final = ((480, 352, 2), (480, 352, 12), (736, 544, 3), (736, 544, 20), (960, 704, 3), (960, 704, 26))
_WORDS: Final = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "0123456789", "times", "today")


def calibrate_task(task: str, session: Session, side: int) -> TaskCost:
    """Runs one of TASK_PROGRAMS; `side` is that of the model's square, in pixels. Takes 0.1 to 2 seconds."""
    if task == "caption":
        return _calibrate_captions(session, side)
    if task == "read_text":
        return _calibrate_pages(session)
    if task == "embed_text":
        return _calibrate_calls(lambda picture: session.embed_text(_QUESTION), session, side, items=1, sees=False)
    if task == "embed_image":
        return _calibrate_calls(session.embed_image, session, side)
    if task == "answer_question":
        return _calibrate_calls(lambda picture: session.answer_question(picture, _QUESTION), session, side)
    return _calibrate_calls(
        lambda picture: session.choose(picture, _QUESTION, _OPTIONS), session, side, items=len(_OPTIONS)
    )


# The tasks with a budget, and the programs that each needs.
TASK_PROGRAMS: Final[dict[str, tuple[str, ...]]] = {
    "caption": CAPTION_PROGRAMS,
    "read_text": OCR_PROGRAMS,
    "answer_question": ANSWER_PROGRAMS,
    "choose": ANSWER_PROGRAMS,
    "embed_image": EMBED_IMAGE_PROGRAMS,
    "embed_text": EMBED_TEXT_PROGRAMS,
}


def _calibrate_captions(session: Session, side: int) -> TaskCost:
    """A new picture costs its encoding and prefill; each step costs what its beams cost."""
    rounds: list[list[tuple[OperatingPoint, float, float, float, int]]] = []
    begun = time.perf_counter()
    for seed in range(_ROUNDS + 1):
        if seed > 1 and time.perf_counter() - begun > _MOST_SECONDS:
            break
        runs = []
        for point in CAPTION_POINTS:
            start = time.perf_counter()
            record = session.caption(_picture(seed, side), num_beams=point.options["num_beams"])
            seconds = time.perf_counter() - start
            timings = record["timings"]
            encode = (timings["encode"] + timings["prefill"]) / 1000
            runs.append((point, seconds, encode, timings["decode"] / 1000, len(record["tokens"]) + 1))
        rounds.append(runs)
    rounds = rounds[1:]  # the first makes what is made at first use
    encode = min(runs[0][2] for runs in rounds)  # of the others, it may be at hand
    fixed = min(seconds - encoding - decode for runs in rounds for _, seconds, encoding, decode, _ in runs)
    item = {
        point.name: min(runs[place][3] / runs[place][4] for runs in rounds)
        for place, point in enumerate(CAPTION_POINTS)
    }
    cost = TaskCost(fixed=max(fixed, 0.0), encode=encode, item=item, items=_CAPTION_STEPS)
    firsts = [(runs[0][0], runs[0][1], runs[0][4]) for runs in rounds]
    return _with_spread(cost, [(point.name, Work(items=steps), seconds) for point, seconds, steps in firsts])


def _calibrate_pages(session: Session) -> TaskCost:
    pages = [(_page(width, height, lines), width * height / 1e6) for width, height, lines in _PAGES]
    session.read_text(pages[0][0])  # what is made at first use
    works: list[Work] = []
    times: list[list[float]] = [[] for _ in pages]
    begun = time.perf_counter()
    for turn in range(_PAGE_ROUNDS):
        if turn > 0 and time.perf_counter() - begun > _MOST_SECONDS:
            break
        for place, (page, megapixels) in enumerate(pages):
            start = time.perf_counter()
            record = session.read_text(page)
            times[place].append(time.perf_counter() - start)
            if turn == 0:
                works.append(Work(megapixels=megapixels, items=len(record["lines"])))
    fixed, megapixel, item = fit_line(works, [min(seconds) for seconds in times])
    cost = TaskCost(fixed=fixed, megapixel=megapixel, item={ONLY_POINT.name: item}, items=_PAGE_LINES)
    runs = zip(works, times, strict=True)
    return _with_spread(cost, [(ONLY_POINT.name, work, each) for work, seconds in runs for each in seconds])


def _calibrate_calls(
    run: Callable[[Pixels], object], session: Session, side: int, items: int = 1, sees: bool = True
) -> TaskCost:
    """A task with one point: of the time of a call, what `encode_image` takes is told apart from the rest."""
    encodes, times = [0.0], []
    for seed in range(_ROUNDS + 1):
        picture = _picture(100 + seed, side)
        if sees:
            start = time.perf_counter()
            session.run("encode_image", {"pixels": picture})
            encodes.append(time.perf_counter() - start)
        start = time.perf_counter()
        run(picture)
        times.append(time.perf_counter() - start)
    encode, whole = min(encodes[2:]) if sees else 0.0, min(times[1:])
    # Of several options, half is taken to be what all share: the picture and the question are prepared once.
    rest = max(whole - encode, 0.0)
    fixed = 0.0 if items == 1 else rest / 2
    cost = TaskCost(fixed=fixed, encode=min(encode, whole), item={ONLY_POINT.name: (rest - fixed) / items}, items=items)
    return _with_spread(cost, [(ONLY_POINT.name, Work(items=items), seconds) for seconds in times[1:]])


def _with_spread(cost: TaskCost, runs: Sequence[tuple[str, Work, float]]) -> TaskCost:
    ratios = [seconds / least for point, work, seconds in runs if (least := cost.seconds(point, work))]
    return TaskCost.from_dict(cost.to_dict() | {"spread": spread_of(ratios)})


def _picture(seed: int, side: int) -> Pixels:
    """Coloured clouds, another one for each seed: nothing that a cache may hold."""
    clouds = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(clouds).resize((side, side), Image.Resampling.BICUBIC))


def _page(width: int, height: int, lines: int) -> Pixels:
    """Black lines of words on white, each as wide as the page."""
    page = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(14)
    for line in range(lines):
        words = [_WORDS[(line * 5 + place) % len(_WORDS)] for place in range(width // 44)]
        pen.text((12, (line + 0.4) * height / lines), " ".join(words), fill="black", font=font, anchor="lm")
    return np.array(page)
