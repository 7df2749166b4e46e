"""Asks what the encoder at 192 and 160 pixels would be worth: features brought to the 7 x 7 places that decoding knows.

The programs `prefill` and `prepare_question` add one learned row to each of 49 places, so that 6 x 6 or 5 x 5 features
are refused. Interpolated to 7 x 7 each lies where its row means it to be; nothing was trained for it.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal import find_model, load_image, native
from mobile_multimodal.evaluation.bootstrap import ratio_interval
from mobile_multimodal.evaluation.caption_metrics import CaptionScores, score_captions
from mobile_multimodal.evaluation.caption_references import read_captions
from mobile_multimodal.model.hub import DEFAULT_MODEL

SIDES: Final = (224, 192, 160)
PLACES: Final = 7


def measure_resolutions(data: Path, limit: int) -> list[dict[str, Any]]:
    """A row a size: greedy captions and text-to-image recall on the first pictures of Flickr8k dev, encoder time."""
    engine = native.Engine(str(find_model(DEFAULT_MODEL)))
    session = native.Session(engine, 1, feature_cache_bytes=0)
    metadata = engine.metadata()
    begin, end = int(metadata["mm.caption.bos"]), int(metadata["mm.caption.eos"])
    references = read_captions(data, ["dev"])
    names = list(references)[:limit]
    texts = np.stack([session.embed_text(text) for name in names for text in references[name]])
    owners = np.array([row for row, name in enumerate(names) for _ in references[name]])
    rows: list[dict[str, Any]] = []
    scores: dict[int, CaptionScores] = {}
    for side in SIDES:
        captions, vectors, cpu = [], [], []
        for name in names:
            pixels = native.resize(load_image(data / "images" / name), side, side)
            start = _cpu_ms()
            features = session.run("encode_image", {"pixels": pixels})["features"]
            cpu.append(_cpu_ms() - start)
            vectors.append(session.run("embed_image", {"features": features})["embedding"])
            captions.append(engine.decode(_greedy(session, interpolated(features, PLACES), begin, end)))
        scores[side] = score_captions(captions, [references[name] for name in names])
        unit = np.stack(vectors)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        similarity = texts @ unit.T
        ranks = (similarity > similarity[np.arange(len(owners)), owners][:, None]).sum(axis=1)
        ratio = ratio_interval(scores[side].cider_d_per_picture, scores[SIDES[0]].cider_d_per_picture)
        rows.append(
            {
                "side": side,
                "pictures": len(names),
                "encode_cpu_ms": round(float(np.median(cpu)), 2),
                "cider_d": asdict(scores[side].cider_d),
                "cider_d_ratio_to_224": asdict(ratio),
                "text_finds_picture_in_first_10": round(float((ranks < 10).mean()), 3),
            }
        )
        print(rows[-1])
    return rows


def interpolated(features: NDArray[np.float32], places: int) -> NDArray[np.float32]:
    """Bilinear, between the middles of the places: [n, n, c] to [places, places, c]."""
    count = features.shape[0]
    if count == places:
        return features
    at = (np.arange(places) + 0.5) * count / places - 0.5
    below = np.clip(np.floor(at).astype(int), 0, count - 1)
    above = np.clip(below + 1, 0, count - 1)
    share = np.clip(at - below, 0, 1)[:, None, None]
    tall = features[below] * (1 - share) + features[above] * share
    share = share.reshape(1, -1, 1)
    return np.ascontiguousarray(tall[:, below] * (1 - share) + tall[:, above] * share, dtype=np.float32)


def _greedy(session: native.Session, features: NDArray[np.float32], begin: int, end: int, most: int = 24) -> list[int]:
    session.reset()
    session.run("prefill", {"features": features})
    tokens: list[int] = []
    last = begin
    for position in range(most):
        inputs = {"tokens": last, "positions": position, "sequences": 0}
        run = session.run("decode", {name: np.array([value], np.int32) for name, value in inputs.items()})
        last = int(run["logits"][0].argmax())
        if last == end:
            break
        tokens.append(last)
    return tokens


def _cpu_ms() -> float:
    return time.process_time() * 1000
