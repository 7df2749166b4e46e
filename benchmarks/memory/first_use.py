"""What a process costs until its model is ready and used once, as a JSON line: `python -m memory.first_use WHAT ...`.

Times are of CLOCK_MONOTONIC, which the starting process reads too. Memory is VmHWM: getrusage would still count the
peak of the process that started this one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path


def _core_caption(model: str, picture: str, threads: int) -> Callable[[], object]:
    from mobile_multimodal import MobileMultiModalLLM

    llm = MobileMultiModalLLM.from_pretrained(model, threads=threads)
    return lambda: llm.generate_caption(picture)


def _core_page(model: str, picture: str, threads: int) -> Callable[[], object]:
    from mobile_multimodal import MobileMultiModalLLM

    llm = MobileMultiModalLLM.from_pretrained(model, threads=threads)
    return lambda: llm.extract_text(picture)


def _core_text(model: str, picture: str, threads: int) -> Callable[[], object]:
    from language.core_engine import CoreEngine

    engine = CoreEngine(model, threads)
    return lambda: engine.prepare("decode_64")


def _llama_cpp_text(model: str, picture: str, threads: int) -> Callable[[], object]:
    from language.llama_cpp_engine import LlamaCppEngine

    engine = LlamaCppEngine(model, threads)
    return lambda: engine.prepare("decode_64")


def _rapidocr_page(networks: str, picture: str, threads: int) -> Callable[[], object]:
    from ocr.readers import RapidReader

    reader = RapidReader(networks, threads, spinning=True)
    return lambda: reader.read(Path(picture), "en")


def _onnxruntime_encoder(model: str, picture: str, threads: int) -> Callable[[], object]:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.zeros((1, 3, 224, 224), np.float32)}
    return lambda: session.run(None, feed)


USES = {
    "core_caption": _core_caption,
    "core_page": _core_page,
    "core_text": _core_text,
    "llama_cpp_text": _llama_cpp_text,
    "rapidocr_page": _rapidocr_page,
    "onnxruntime_encoder": _onnxruntime_encoder,
}


def peak_bytes(process: str = "self") -> int:
    """The most memory that a process has held so far: VmHWM of /proc."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024


def main() -> None:
    """Opens, says when it was ready, uses once."""
    use = USES[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]))
    ready, ready_bytes = time.perf_counter(), peak_bytes()
    use()
    done = time.perf_counter()
    print(json.dumps({"ready": ready, "done": done, "ready_bytes": ready_bytes, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
