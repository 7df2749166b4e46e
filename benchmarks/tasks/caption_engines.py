"""Whole captions, from decoded pixels to text, in each engine: this core, PyTorch in eager mode, onnxruntime.

All hold the weights of the same model file: the peers in float32 (the decoder dequantized, the encoder as published).
All resize with the core's own function, so that they see the same pixels, and cut off a search by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from race.cache import cache_folder, made
from race.engine import Array
from vision.networks import NETWORKS, ROOT, float_file

PICTURES = ("astronaut.jpg", "boats.jpg", "cat.jpg", "coffee.jpg", "photographer.jpg", "rocket.jpg", "sheep.jpg")
BEAMS = {"caption_beam_3": 3, "caption_greedy": 1}

Search = Callable[[Array, int], list[int]]  # pixels and beams to tokens


class CaptionEngine:
    """Captions the next picture at each run."""

    def __init__(self, search: Search) -> None:
        from mobile_multimodal import load_image

        self._search = search
        self._pictures = [load_image(ROOT / "examples/pictures" / name) for name in PICTURES]
        self._next = -1

    def warm_up(self, workload: str) -> None:
        self._search(self._pictures[self._next], BEAMS[workload])

    def prepare(self, workload: str) -> None:
        self._next = (self._next + 1) % len(self._pictures)

    def run(self, workload: str) -> None:
        self._search(self._pictures[self._next], BEAMS[workload])

    def answer(self) -> dict[str, Array]:
        """The tokens of each caption, filled up with -1, [pictures, 64] for each workload."""
        answers = {}
        for workload, beams in BEAMS.items():
            rows = np.full((len(self._pictures), 64), -1)
            for row, picture in zip(rows, self._pictures, strict=True):
                tokens = self._search(picture, beams)
                row[: len(tokens)] = tokens
            answers[workload] = rows
        return answers


def open_core(model: str, threads: int) -> CaptionEngine:
    """The core's own search; no features are kept from picture to picture."""
    from mobile_multimodal import native

    session = native.Session(native.Engine(model), threads, feature_cache_bytes=0)
    return CaptionEngine(lambda pixels, beams: session.caption(pixels, num_beams=beams)["tokens"])


def open_pytorch(model: str, threads: int) -> CaptionEngine:
    """Eager mode: the training kit's modules as they are, in inference mode."""
    import torch
    from tasks.decoder_twin import decoder_twin

    from mobile_multimodal.compile.efficientnet_lite import load_efficientnet_lite

    torch.set_num_threads(threads)
    encoder = load_efficientnet_lite("efficientnet-lite0")
    decoder = decoder_twin(Path(model))

    def features(image: Any) -> Any:
        return encoder(torch.from_numpy(image)).flatten(2).transpose(1, 2)

    return CaptionEngine(_search(model, features, decoder))


def open_onnxruntime(model: str, threads: int) -> CaptionEngine:
    """The same modules exported: encoder, keys and values of the picture, and one step with caches."""
    import onnxruntime
    import torch
    from tasks.decoder_onnx import PREFILL_FILE, STEP_FILE, OnnxDecoder, export_decoder
    from tasks.decoder_twin import decoder_twin

    from mobile_multimodal import native

    torch.set_num_threads(threads)
    twin = decoder_twin(Path(model))
    digest = str(native.Engine(model).metadata()["mm.sha256.decoder"])[:12]
    folder = made(cache_folder() / f"caption-decoder-{digest}", lambda half: export_decoder(twin, half))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    encoder, first, next_one = (
        onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        for file in (float_file("encoder_224"), folder / PREFILL_FILE, folder / STEP_FILE)
    )
    entry = encoder.get_inputs()[0].name

    def features(image: Array) -> Any:
        (output,) = encoder.run(None, {entry: image})
        return torch.from_numpy(np.ascontiguousarray(output.reshape(1, output.shape[1], -1).transpose(0, 2, 1)))

    return CaptionEngine(_search(model, features, OnnxDecoder(twin.config, first, next_one)))


def _search(model: str, features: Callable[[Array], Any], decoder: Any) -> Search:
    """The training kit's beam search, which keeps the core's rules, over a peer's encoder and decoder."""
    import torch

    from mobile_multimodal import native
    from mobile_multimodal.training.decoding import BeamSettings, beam_search

    content = native.Engine(model).metadata()
    network = NETWORKS["encoder_224"]
    settings = {
        beams: BeamSettings(beams, float(content["mm.caption.length_penalty"]), int(content["mm.caption.max_tokens"]))
        for beams in BEAMS.values()
    }

    def search(pixels: Array, beams: int) -> list[int]:
        with torch.inference_mode():
            image = network.floats(native.resize(pixels, network.height, network.width))
            return beam_search(decoder, features(image), settings[beams])[0]

    return search
