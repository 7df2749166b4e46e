"""Gives tests the repository's files, a stand-in for the core, and the shipped model where there is one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mobile_multimodal import MobileMultiModalLLM, available_models
from mobile_multimodal.cli.main import main
from mobile_multimodal.errors import error_from_status
from mobile_multimodal.settings import PROFILES

if TYPE_CHECKING:
    from serving_process import ServerProcess

ROOT = Path(__file__).resolve().parent.parent.parent
WORDS = ["A", " dog", " runs", " on", " grass", " ."]


class StandInEngine:
    """Answers as native.Engine does, for a model that does not exist."""

    path = "/models/stand-in.gguf"
    file_bytes = 4096
    image_size = 224
    can_caption = True

    def metadata(self) -> dict[str, Any]:
        return {"general.name": "stand-in", "mm.format_version": 1}

    def programs(self) -> list[str]:
        return ["encode_image", "prefill", "decode"]

    def verify(self) -> None:
        return None


class StandInSession:
    """Answers as native.Session.caption does, and remembers what it was asked."""

    threads = 2

    def __init__(self, token_seconds: float = 0.0) -> None:
        self.token_seconds = token_seconds
        self.calls: list[dict[str, Any]] = []
        self.failure: BaseException | None = None
        self._busy = threading.Lock()

    def caption_batch(
        self, pixels: list[np.ndarray[Any, Any]], *, cancellations: Any = (), **settings: Any
    ) -> list[dict[str, Any]]:
        return [self.caption(picture, **settings) for picture in pixels]

    def caption(
        self, pixels: np.ndarray[Any, Any], *, on_token: Any = None, cancellation: Any = None, **settings: Any
    ) -> dict[str, Any]:
        assert self._busy.acquire(blocking=False), "a session was used by two threads at once"
        try:
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
            assert pixels.flags.c_contiguous
            self.calls.append({"shape": pixels.shape, **settings})
            if self.failure is not None:
                raise self.failure
            return self._write(settings, on_token)
        finally:
            self._busy.release()

    def _write(self, settings: dict[str, Any], on_token: Any) -> dict[str, Any]:
        words = WORDS[: settings["max_new_tokens"] or 24]
        written: list[str] = []
        reason = "end" if len(words) == len(WORDS) else "length"
        start = time.monotonic()
        for index, word in enumerate(words):
            time.sleep(self.token_seconds)
            if settings["deadline_seconds"] > 0 and time.monotonic() - start > settings["deadline_seconds"]:
                raise error_from_status(6, "the deadline passed", "allow more time")
            written.append(word)
            if on_token is not None and not on_token(index, word, 0.5):
                reason = "cancelled"
                break
        timings = dict.fromkeys(["resize", "encode", "prefill", "first_token", "decode", "total"], 1.0)
        return {
            "text": "".join(written),
            "tokens": list(range(len(written))),
            "token_probabilities": [0.5] * (len(written) + (reason == "end")),
            "log_probability": -0.7 * len(written),
            "finish_reason": reason,
            "timings": timings,
        }


@pytest.fixture
def root() -> Path:
    """The repository's folder."""
    return ROOT


@pytest.fixture
def pictures() -> Path:
    """The folder of sample photographs."""
    return ROOT / "examples" / "pictures"


@pytest.fixture
def session() -> StandInSession:
    return StandInSession()


@pytest.fixture
def make_model(session: StandInSession) -> Callable[..., MobileMultiModalLLM]:
    """Makes models on the stand-in core, with any profile."""

    def make(profile: str = "balanced", own_session: StandInSession | None = None) -> MobileMultiModalLLM:
        chosen = session if own_session is None else own_session
        return MobileMultiModalLLM(StandInEngine(), chosen, profile=PROFILES[profile], isa="reference")  # type: ignore[arg-type]

    return make


@pytest.fixture
def model(make_model: Callable[..., MobileMultiModalLLM]) -> MobileMultiModalLLM:
    return make_model()


@pytest.fixture(scope="session")
def shipped_model() -> Iterator[MobileMultiModalLLM]:
    """The model of the package on the real core."""
    if "mobile-mm-llm-int2" not in available_models():
        pytest.skip("the package holds no model file mobile-mm-llm-int2.gguf")
    with MobileMultiModalLLM.from_pretrained("mobile-mm-llm-int2") as loaded:
        yield loaded


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real server with two workers and an index of the sample pictures, for all tests that do not end it."""
    serving_process = pytest.importorskip("serving_process", reason="needs the extra serve", exc_type=ImportError)
    pictures = tmp_path_factory.mktemp("gallery")
    for name in ("boats.jpg", "cat.jpg", "sheep.jpg"):
        (pictures / name).write_bytes((ROOT / "examples" / "pictures" / name).read_bytes())
    assert main(["index", str(pictures)]) == 0
    (pictures / "secret.jpg").write_bytes(b"not in the index")
    with serving_process.running_server("--workers", "2", "--index", str(pictures), "--docs") as running:
        yield running
