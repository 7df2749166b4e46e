"""Says how often models with the same weights agree on the next token: our W8, W4 and W2, llama.cpp, a float reference.

    python benchmarks/language/agreement.py --gguf SmolLM2.gguf --ours w8=smollm2-w8.gguf [--ours w4=...] [--out JSON]

The reference computes the file's weights in float32 with PyTorch. llama.cpp runs the file as it is (it rounds
activations to 8 bits in blocks of 32) and as a float32 copy of the same weights. English text is read in windows of 256
tokens, so that each position has up to 255 tokens before it.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from itertools import combinations
from pathlib import Path

import llama_cpp
import numpy as np
from llama_reference import LlamaReference
from numpy.typing import NDArray

from mobile_multimodal import native

ROOT = Path(__file__).resolve().parents[2]
WINDOW = 256
TEXTS = ("LICENSE", "README.md", "CONTRIBUTING.md")  # English prose that every checkout has

Logits = NDArray[np.float32]


def windows_of(engine: native.Engine, texts: list[str], positions: int) -> list[list[int]]:
    """Windows of tokens, taken in turn from each text, until they hold that many positions."""
    token_lists = [engine.encode(text) for text in texts]
    windows: list[list[int]] = []
    for start in range(0, max(map(len, token_lists)), WINDOW):
        for tokens in token_lists:
            window = tokens[start : start + WINDOW]
            if len(window) == WINDOW and sum(map(len, windows)) < positions:
                windows.append(window)
    return windows


def our_logits(path: str, windows: list[list[int]]) -> list[Logits]:
    session = native.Session(native.Engine(path), threads=2)
    found = []
    for tokens in windows:
        session.reset()
        inputs = {
            "tokens": np.array(tokens, dtype=np.int32),
            "positions": np.arange(len(tokens), dtype=np.int32),
            "sequences": np.zeros(len(tokens), dtype=np.int32),
        }
        found.append(session.run("score_text", inputs)["logits"])
    return found


def llama_logits(path: str, windows: list[list[int]]) -> list[Logits]:
    model = llama_cpp.Llama(path, n_ctx=WINDOW, n_batch=WINDOW, n_threads=2, logits_all=True, verbose=False)
    found = []
    for tokens in windows:
        model.reset()
        model.eval(tokens)
        found.append(np.array(model.scores[: len(tokens)], dtype=np.float32))
    return found


def float_copy(gguf: str, folder: Path) -> str:
    """The same weights as float32, written by llama.cpp's own quantizer."""
    out = folder / "f32.gguf"
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = llama_cpp.LLAMA_FTYPE_ALL_F32
    parameters.allow_requantize = True
    if llama_cpp.llama_model_quantize(gguf.encode(), str(out).encode(), parameters):
        raise SystemExit("llama.cpp could not write a float copy")
    return str(out)


def perplexity(logits: list[Logits], windows: list[list[int]]) -> float:
    """exp of the mean negative log-probability of each token but the first of a window."""
    losses = []
    for rows, tokens in zip(logits, windows, strict=True):
        wide = rows[:-1].astype(np.float64)
        largest = wide.max(axis=1, keepdims=True)
        total = np.log(np.exp(wide - largest).sum(axis=1)) + largest[:, 0]
        losses.append(total - wide[np.arange(len(wide)), tokens[1:]])
    return float(np.exp(np.concatenate(losses).mean()))


def relative_error(found: list[Logits], expected: list[Logits]) -> float:
    """|found - expected| / |expected - mean of its row|, Euclidean norms over all logits."""
    difference = sum(float(np.square(a - b).sum(dtype=np.float64)) for a, b in zip(found, expected, strict=True))
    spread = sum(float(np.square(b - b.mean(axis=1, keepdims=True)).sum(dtype=np.float64)) for b in expected)
    return float(np.sqrt(difference / spread))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", required=True, help="the file that our models were built from")
    parser.add_argument("--ours", action="append", required=True, metavar="NAME=FILE", help="a model file of ours")
    parser.add_argument("--positions", type=int, default=1024, help="at least so many positions (1024)")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    arguments = parser.parse_args()
    ours = dict(entry.split("=", 1) for entry in arguments.ours)

    engine = native.Engine(next(iter(ours.values())))
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in TEXTS]
    tokenizer = llama_cpp.Llama(arguments.gguf, vocab_only=True, verbose=False)
    for name, text in zip(TEXTS, texts, strict=True):
        if tokenizer.tokenize(text.encode(), add_bos=False, special=False) != engine.encode(text):
            raise SystemExit(f"{name}: the two tokenizers disagree")
    windows = windows_of(engine, texts, arguments.positions)

    reference = LlamaReference(arguments.gguf)
    logits = {"reference f32": [reference.logits(tokens) for tokens in windows]}
    logits["llama.cpp as is"] = llama_logits(arguments.gguf, windows)
    with tempfile.TemporaryDirectory() as folder:
        logits["llama.cpp f32"] = llama_logits(float_copy(arguments.gguf, Path(folder)), windows)
    for name, path in ours.items():
        logits[f"ours {name}"] = our_logits(path, windows)

    best = {name: np.concatenate([rows.argmax(axis=1) for rows in found]) for name, found in logits.items()}
    result = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip(),
        "command": "python benchmarks/language/agreement.py " + " ".join(_named(sys.argv[1:])),
        "cpu": platform.processor() or platform.machine(),
        "isa": native.isa(),
        "versions": {"llama-cpp-python": llama_cpp.__version__, "numpy": np.__version__},
        "texts": TEXTS,
        "positions": len(best["reference f32"]),
        "top1_agreement": {
            f"{a} | {b}": round(float((best[a] == best[b]).mean()), 4) for a, b in combinations(best, 2)
        },
        "logit_error_to_reference": {
            name: round(relative_error(found, logits["reference f32"]), 4) for name, found in logits.items()
        },
        "perplexity": {name: round(perplexity(found, windows), 3) for name, found in logits.items()},
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def _named(words: list[str]) -> list[str]:
    """The command without folders, which are this machine's own."""
    return [_without_folder(word) for word in words]


def _without_folder(word: str) -> str:
    name, found, path = word.partition("=")
    return f"{name}={Path(path).name}" if found else Path(word).name if "/" in word else word


if __name__ == "__main__":
    main()
