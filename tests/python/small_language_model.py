"""Writes checkpoints of small language towers with random weights, computes them plainly, and packs whole model files.

`PlainTower` follows docs/model-format.md ("Programs of a language tower") in float64 and shares no code with the
compiler but the codes of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from reference_interpreter import quantize_rows

from mobile_multimodal.compile.caption_checkpoint import load_caption_checkpoint
from mobile_multimodal.compile.caption_decoder import build_caption_decoder
from mobile_multimodal.compile.container import ALIGNMENT, ARCHITECTURE, Metadata, add_programs, write_container
from mobile_multimodal.compile.language import build_language_tower
from mobile_multimodal.compile.language_checkpoint import LanguageCheckpoint, load_language_checkpoint
from mobile_multimodal.compile.program import ProgramBuilder, TensorStore
from mobile_multimodal.compile.tokenizer import BOS, EOS, PAD, read_tokenizer
from mobile_multimodal.compile.weight_codes import QuantizedMatrix

Array = NDArray[Any]
SIDE, CELL = 32, 8  # the small encoder looks at 4 x 4 squares of 8 pixels
FEATURES = 80
ANSWERS = ("unanswerable", "yes", "no", "a red ball", "two", "café")
LETTERS = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
WORDS = ["what", "is", "this", "color", "how", "many", "red", "ball", "the", "dog", "##ed", "##ing", "?", ",", "!"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
SHAPE = {
    "vocab_size": 96,
    "width": 64,
    "heads": 4,
    "ffn": 96,
    "shared_layers": 2,
    "question_layers": 2,
    "question_ffn": 80,
    "text_hidden": 96,
    "picture_hidden": 112,
    "max_length": 16,
    "norm_eps": 1e-12,
    "feature_width": FEATURES,
    "feature_length": (SIDE // CELL) ** 2,
    "embedding_width": 48,
    "bits": 2,
    "shared_bits": 4,
    "head_bits": 8,
    "project_bits": 8,
    "embedding_bits": 8,
    "popularity_rows": 0,
}


def parameter_shapes(config: dict[str, Any], answers: int = len(ANSWERS)) -> dict[str, tuple[int, ...]]:
    """Every parameter but the scales, as docs/model-format.md and the checkpoint name them."""
    width = config["width"]
    shapes: dict[str, tuple[int, ...]] = {
        "embedding.weight": (config["vocab_size"], width),
        "position.weight": (config["max_length"], width),
        "segment.weight": (2, width),
    }

    def norm(name: str) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    def linear(name: str, n: int, k: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (n, k), (n,)

    def layer(name: str, ffn: int, sees: bool = False) -> None:
        linear(f"{name}.qkv", 3 * width, width)
        linear(f"{name}.out", width, width)
        linear(f"{name}.up", ffn, width)
        linear(f"{name}.down", width, ffn)
        norm(f"{name}.attention_norm")
        norm(f"{name}.ffn_norm")
        if sees:
            linear(f"{name}.cross_q", width, width)
            linear(f"{name}.cross_kv", 2 * width, width)
            linear(f"{name}.cross_out", width, width)

    norm("embedding_norm")
    for index in range(config["shared_layers"]):
        layer(f"shared.{index}", config["ffn"])
    for side, inputs in (("text", width), ("picture", config["feature_width"])):
        shapes[f"{side}_norm.weight"] = shapes[f"{side}_norm.bias"] = (inputs,)
        linear(f"{side}_up", config[f"{side}_hidden"], inputs)
        linear(f"{side}_head", config["embedding_width"], config[f"{side}_hidden"])
    linear("grid_project", width, config["feature_width"])
    shapes["grid_position"] = (config["feature_length"], width)
    norm("grid_norm")
    for index in range(config["question_layers"]):
        layer(f"question.{index}", config["question_ffn"], sees=True)
    linear("question_pool", 2 * width, width)
    linear("glimpse_q", width, width)
    linear("glimpse_kv", 2 * width, width)
    linear("glimpse_out", 2 * width, width)
    linear("answer_head", answers, 2 * width)
    linear("score_head", 1, 2 * width)
    return shapes


def bits_of(name: str, config: dict[str, Any]) -> int:
    """The bits of the matrix `name`; 32 for what is no matrix."""
    part = name.removesuffix(".weight")
    if part == "embedding":
        return int(config["embedding_bits"])
    if part == "grid_project":
        return int(config["project_bits"])
    if part.endswith("_head") or part == "question_pool":
        return int(config["head_bits"])
    if part.endswith("norm") or part in ("position", "segment"):
        return 32
    return int(config["shared_bits"] if part.startswith("shared.") else config["bits"])


def checkpoint_content(seed: int = 0, **changes: Any) -> dict[str, Any]:
    """What `torch.save` writes: weights of a trained tower's spread, scales where the grid has them."""
    config = {**SHAPE, **changes}
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    for name, shape in parameter_shapes(config).items():
        values = torch.randn(shape, generator=generator)
        if "norm" in name:
            state[name] = values * 0.1 + (1.0 if name.endswith(".weight") else 0.0)
        elif name.endswith(".bias") or len(shape) == 1:
            state[name] = values * 0.1
        elif name.endswith("position") or name.startswith(("position", "segment", "embedding")):
            state[name] = values * 0.3
        else:
            state[name] = values * shape[1] ** -0.5
        if name.endswith(".weight") and len(shape) == 2 and bits_of(name, config) in (2, 4):
            outer = (2 ** bits_of(name, config) - 1) / 2
            state[name.replace(".weight", ".scale")] = state[name].abs().amax(dim=1, keepdim=True) / outer * 0.6
    return {
        "config": config,
        "state_dict": state,
        "vocabulary": "\n".join(VOCABULARY) + "\n",
        "answers": list(ANSWERS),
        "meta": {"note": "test"},
    }


def write_checkpoint(path: Path, seed: int = 0, **changes: Any) -> Path:
    torch.save(checkpoint_content(seed, **changes), path)
    return path


@dataclass
class PlainTower:
    """The programs in float64; with `rounds_rows` the inputs of each low-bit matrix are int8 rows, as in the core."""

    checkpoint: LanguageCheckpoint
    rounds_rows: bool

    def embed_text(self, tokens: list[int]) -> Array:
        x = self._shared(tokens, [0] * len(tokens))
        return self._embed("text", x)

    def embed_image(self, features: Array) -> Array:
        return self._embed("picture", features.reshape(-1, features.shape[-1]))

    def _embed(self, side: str, x: Array) -> Array:
        mean = self._norm(f"{side}_norm", x.mean(axis=0, keepdims=True))
        return self._linear(f"{side}_head", gelu(self._linear(f"{side}_up", mean)))[0]

    def answer_question(self, features: Array, tokens: list[int], segments: list[int]) -> tuple[Array, Array]:
        """(answers, score)"""
        grid = self._grid(features)
        x = self._shared(tokens, segments)
        for index in range(self._config["question_layers"]):
            x = self._layer(f"question.{index}", x, self._linear(f"question.{index}.cross_kv", grid))
        pooled = x.mean(axis=0, keepdims=True)
        keys, values = np.split(self._linear("glimpse_kv", grid), 2, axis=1)
        seen = self._attend(self._linear("glimpse_q", pooled), keys, values)
        h = gelu(self._linear("question_pool", pooled) + self._linear("glimpse_out", seen))
        return self._linear("answer_head", h)[0], self._linear("score_head", h)[0]

    @property
    def _config(self) -> dict[str, Any]:
        return vars(self.checkpoint.shape)

    def _weight(self, name: str) -> Array:
        return self.checkpoint.weights[name].astype(np.float64)

    def _matrix(self, name: str) -> tuple[Array, bool]:
        """Values [n, k] as the codes give them, and whether there are codes."""
        bits = bits_of(f"{name}.weight", self._config)
        found = self.checkpoint.matrix(name, *self.checkpoint.weights[f"{name}.weight"].shape, bits)
        if isinstance(found, QuantizedMatrix):
            return found.dequantized().astype(np.float64), True
        return found.astype(np.float64), False

    def _linear(self, name: str, x: Array) -> Array:
        weight, has_codes = self._matrix(name)
        if has_codes and self.rounds_rows:
            codes, scale, _ = quantize_rows(x.astype(np.float32))
            x = codes * scale[:, None].astype(np.float64)
        return x @ weight.T + self._weight(f"{name}.bias")

    def _norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(axis=1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + self._config["norm_eps"])
        return centred / deviation * self._weight(f"{name}.weight") + self._weight(f"{name}.bias")

    def _attend(self, q: Array, k: Array, v: Array) -> Array:
        heads = self._config["heads"]
        q, k, v = (part.reshape(len(part), heads, -1).transpose(1, 0, 2) for part in (q, k, v))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = weights / weights.sum(axis=-1, keepdims=True) @ v
        return np.asarray(mixed.transpose(1, 0, 2).reshape(q.shape[1], -1))

    def _layer(self, name: str, x: Array, memory: Array | None) -> Array:
        mixed = self._attend(*np.split(self._linear(f"{name}.qkv", x), 3, axis=1))
        x = self._norm(f"{name}.attention_norm", x + self._linear(f"{name}.out", mixed))
        if memory is not None:
            mixed = self._attend(self._linear(f"{name}.cross_q", x), *np.split(memory, 2, axis=1))
            x = x + self._linear(f"{name}.cross_out", mixed)
        down = self._linear(f"{name}.down", gelu(self._linear(f"{name}.up", x)))
        return self._norm(f"{name}.ffn_norm", x + down)

    def _shared(self, tokens: list[int], segments: list[int]) -> Array:
        words, _ = self._matrix("embedding")
        x = words[tokens] + self._weight("position.weight")[: len(tokens)] + self._weight("segment.weight")[segments]
        x = self._norm("embedding_norm", x)
        for index in range(self._config["shared_layers"]):
            x = self._layer(f"shared.{index}", x, None)
        return x

    def _grid(self, features: Array) -> Array:
        rows = features.reshape(-1, features.shape[-1])
        return self._norm("grid_norm", self._linear("grid_project", rows) + self._weight("grid_position"))


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.vectorize(erf, otypes=[np.float64])(x / np.sqrt(2)))


def encode_picture(tensors: TensorStore) -> Any:
    """A small `encode_image`: one random linear map of each square of 8 x 8 pixels, then a relu."""
    builder = ProgramBuilder("encode_image", tensors)
    pixels = builder.input("pixels", "u8")
    x = builder.apply("image_normalize", [pixels], [128.0] * 3 + [1 / 64] * 3)
    weight = np.random.default_rng(7).normal(size=(CELL, CELL, 3, FEATURES)) / np.sqrt(CELL * CELL * 3)
    w = builder.tensor("encoder.w", weight.astype(np.float32))
    builder.output("features", builder.apply("conv2d", [x, w, None], [CELL, CELL, 0, 0, 0, 0, 1]))
    return builder.finish()


def write_language_model(
    path: Path,
    checkpoint: Path,
    *,
    caption: Path | None = None,
    without: str = "",
    answers: Sequence[str] | None = None,
) -> Path:
    """A whole model file: small encoder, the tower, and a caption decoder where its checkpoint is named.

    without: a metadata key or program that the file shall lack. answers: instead of the checkpoint's.
    """
    tensors = TensorStore()
    metadata = Metadata()
    metadata.string("general.architecture", ARCHITECTURE)
    metadata.string("general.name", "small-language")
    metadata.u32("general.alignment", ALIGNMENT)
    metadata.u32("mm.format_version", 1)
    metadata.u32("mm.image.size", SIDE)
    programs, states = [encode_picture(tensors)], ()
    if caption is not None:
        decoder = load_caption_checkpoint(caption)
        pieces = read_tokenizer(decoder.tokenizer)
        built = build_caption_decoder(decoder, tensors, len(pieces.tokens))
        programs += [built.prefill, built.decode]
        states = built.states
        for key, token in (("bos", BOS), ("eos", EOS), ("pad", PAD)):
            metadata.u32(f"mm.caption.{key}", pieces.id_of(token))
        metadata.u32("mm.caption.max_tokens", 8)
        metadata.u32("mm.caption.num_beams", 3)
        metadata.f32("mm.caption.length_penalty", 0.0)
        pieces.add_to(metadata)
    tower = build_language_tower(load_language_checkpoint(checkpoint), tensors, first_state=len(states))
    programs += tower.programs
    add_programs(metadata, [program for program in programs if program.name != without], tensors, states + tower.states)
    if without != "mm.wordpiece.tokens":
        metadata.strings("mm.wordpiece.tokens", tower.vocabulary)
        metadata.u32("mm.text.max_length", tower.max_length)
    if without != "mm.answers":
        metadata.strings("mm.answers", answers or tower.answers)
    write_container(path, metadata, tensors)
    return path
