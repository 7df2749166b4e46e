"""Measures frames a second of streams, what a frame costs part by part, and what counts as a change."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from mobile_multimodal import MobileMultiModalLLM, load_image, native
from mobile_multimodal.images import Pixels
from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.tasks.frames import FrameStream, miniature

FRAME: Final = (480, 640)
PAN: Final = 12  # pixels from frame to frame: each differs from the one before
SIDE: Final = 224


def panned_frames(picture: Pixels, count: int, repeats: int = 1) -> list[Pixels]:
    """640 x 480 windows that move over a bigger picture, each shown `repeats` times with the noise of a camera."""
    height, width = FRAME
    wide = np.asarray(Image.fromarray(picture).resize((width + PAN * 60, height), Image.Resampling.BICUBIC))
    noise = np.random.default_rng(0)
    frames = []
    for number in range(count):
        place = number // repeats % 120
        left = PAN * (place if place <= 60 else 120 - place)
        window = wide[:, left : left + width].astype(np.int16)
        if repeats > 1:
            window = window + noise.integers(-6, 7, window.shape, dtype=np.int16)
        frames.append(np.clip(window, 0, 255).astype(np.uint8))
    return frames


def measure_streams(picture: Path, count: int) -> list[dict[str, Any]]:
    """A row for each stream and number of threads."""
    moving = panned_frames(load_image(picture), count)
    still = panned_frames(load_image(picture), count, repeats=5)
    rows = []
    for threads in (1, 2):
        with MobileMultiModalLLM.from_pretrained(DEFAULT_MODEL, threads=threads, enable_caching=False) as model:
            model.embed_image(moving[0])
            rows.append(_row("embed_image, one by one, 640 x 480", threads, _one_by_one(model, moving)))
            rows.append(_row("embed_stream, all frames differ", threads, _drain(model.embed_stream(moving))))
            rows.append(_row("embed_stream, 80 % unchanged", threads, _drain(model.embed_stream(still))))
            rows.append(
                _row("caption_stream, greedy, all differ", threads, _drain(model.caption_stream(moving, num_beams=1)))
            )
            live = model.embed_stream(_camera(moving, 200.0), live=True)
            rows.append(_row("embed_stream of a camera with 200 frames a second", threads, _drain(live)))
    return rows


def frame_costs(picture: Path, rounds: int = 60) -> dict[str, float]:
    """Milliseconds of each part of a 640 x 480 frame on one thread: medians."""
    frame = panned_frames(load_image(picture), 1)[0]
    square = native.resize(frame, SIDE, SIDE)
    with MobileMultiModalLLM.from_pretrained(DEFAULT_MODEL, threads=1, enable_caching=False) as model:
        return {
            "check_pixels": _median_ms(lambda: load_image(frame), rounds),
            "resize_to_224": _median_ms(lambda: native.resize(frame, SIDE, SIDE), rounds),
            "miniature": _median_ms(lambda: miniature(square), rounds),
            "embed_square": _median_ms(lambda: model.embed_image(square), rounds),
        }


def measure_changes(pictures: Sequence[Path]) -> list[dict[str, Any]]:
    """Differences of miniatures, and cosines of embeddings, of pairs made from real pictures."""
    noise = np.random.default_rng(0)
    loaded = [native.resize(load_image(path), SIDE, SIDE) for path in pictures]
    pairs: dict[str, Callable[[int], tuple[Pixels, Pixels]]] = {
        "noise of 4 levels": lambda i: (_noisy(loaded[i], 4, noise), _noisy(loaded[i], 4, noise)),
        "noise of 8 levels": lambda i: (_noisy(loaded[i], 8, noise), _noisy(loaded[i], 8, noise)),
        "JPEG, quality 60 and 90": lambda i: (_recoded(loaded[i], 60), _recoded(loaded[i], 90)),
        "1 % brighter": lambda i: (loaded[i], _brighter(loaded[i], 1.01)),
        "5 % brighter": lambda i: (loaded[i], _brighter(loaded[i], 1.05)),
        "pan by 0.5 % of the width": lambda i: _panned(loaded[i], 1),
        "pan by 1 %": lambda i: _panned(loaded[i], 2),
        "pan by 2 %": lambda i: _panned(loaded[i], 4),
        "pan by 5 %": lambda i: _panned(loaded[i], 11),
        "a thing of 1/8 of the side comes in": lambda i: (loaded[i], _patched(loaded[i], loaded[i - 1], 28)),
        "a thing of 1/4 of the side comes in": lambda i: (loaded[i], _patched(loaded[i], loaded[i - 1], 56)),
        "another picture": lambda i: (loaded[i], loaded[i - 1]),
    }
    rows = []
    with MobileMultiModalLLM.from_pretrained(DEFAULT_MODEL, threads=1) as model:
        for name, pair in pairs.items():
            differences, cosines = [], []
            for index in range(len(loaded)):
                first, second = pair(index)
                differences.append(float(np.abs(miniature(first) - miniature(second)).mean()))
                cosines.append(float(model.embed_image(first) @ model.embed_image(second)))
            quantiles = np.quantile(differences, [0.05, 0.5, 0.95]).round(2).tolist()
            rows.append(
                {
                    "pair": name,
                    "pairs": len(loaded),
                    "difference_p5_p50_p95": quantiles,
                    "cosine_p5_p50": np.quantile(cosines, [0.05, 0.5]).round(3).tolist(),
                }
            )
    return rows


def _drain(stream: FrameStream[Any]) -> dict[str, Any]:
    with stream:
        for _ in stream:
            pass
    done = stream.statistics
    return {
        "frames": done.delivered + done.dropped,
        "delivered": done.delivered,
        "worked_on": done.worked_on,
        "repeated": done.repeated,
        "dropped": done.dropped,
        "frames_per_second": round(done.frames_per_second, 1),
        "worked_on_per_second": round(done.worked_on_per_second, 1),
    }


def _one_by_one(model: MobileMultiModalLLM, frames: Sequence[Pixels]) -> dict[str, Any]:
    start = time.perf_counter()
    for frame in frames:
        model.embed_image(frame)
    rate = round(len(frames) / (time.perf_counter() - start), 1)
    return {"frames": len(frames), "worked_on": len(frames), "frames_per_second": rate, "worked_on_per_second": rate}


def _row(name: str, threads: int, figures: dict[str, Any]) -> dict[str, Any]:
    print(name, threads, figures)
    return {"stream": name, "threads": threads, **figures}


def _camera(frames: Sequence[Pixels], rate: float) -> Iterator[Pixels]:
    start = time.perf_counter()
    for number, frame in enumerate(frames):
        time.sleep(max(0.0, start + number / rate - time.perf_counter()))
        yield frame


def _median_ms(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1000)
    return round(float(np.median(times)), 3)


def _noisy(picture: Pixels, sigma: float, noise: np.random.Generator) -> Pixels:
    return np.clip(picture + noise.normal(0, sigma, picture.shape), 0, 255).astype(np.uint8)


def _recoded(picture: Pixels, quality: int) -> Pixels:
    held = io.BytesIO()
    Image.fromarray(picture).save(held, "JPEG", quality=quality)
    return load_image(held.getvalue())


def _brighter(picture: Pixels, factor: float) -> Pixels:
    return np.clip(picture * factor, 0, 255).astype(np.uint8)


def _panned(picture: Pixels, pixels: int) -> tuple[Pixels, Pixels]:
    width = SIDE - 11
    first, second = picture[:, :width], picture[:, pixels : pixels + width]
    scaled = [native.resize(np.ascontiguousarray(part), SIDE, SIDE) for part in (first, second)]
    return scaled[0], scaled[1]


def _patched(picture: Pixels, other: Pixels, side: int) -> Pixels:
    changed = picture.copy()
    changed[84 : 84 + side, 84 : 84 + side] = native.resize(other, side, side)
    return changed
