"""Types of the compiled module: the C++ core as bindings/python shows it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from mobile_multimodal.errors import MobileMultiModalError

class CaptionRecord(TypedDict):
    text: str
    tokens: list[int]
    token_probabilities: list[float]
    log_probability: float
    finish_reason: str
    timings: dict[str, float]

class GeneratedTextRecord(TypedDict):
    text: str
    tokens: list[int]
    token_probabilities: list[float]
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    timings: dict[str, float]

class TextLineRecord(TypedDict):
    text: str
    box: tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
    confidence: float
    character_confidences: list[float]

class TextRecord(TypedDict):
    lines: list[TextLineRecord]
    dropped_boxes: int
    timings: dict[str, float]

class AnswerRecord(TypedDict):
    candidates: list[tuple[str, float]]
    unanswerable: float
    timings: dict[str, float]

class ChoiceRecord(TypedDict):
    probabilities: list[float]
    timings: dict[str, float]

class Cancellation:
    def __init__(self) -> None: ...
    @property
    def is_cancelled(self) -> bool: ...
    def cancel(self) -> None: ...

def isa() -> str: ...
def isa_error() -> str | None: ...
def instruction_sets() -> list[tuple[str, bool]]: ...
def operations() -> list[str]: ...
def resize(pixels: npt.NDArray[np.uint8], out_height: int, out_width: int) -> npt.NDArray[np.uint8]: ...
def find_text_boxes(
    probabilities: npt.NDArray[np.float32],
    *,
    threshold: float = 0.2,
    box_threshold: float = 0.4,
    unclip_ratio: float = 1.4,
    max_boxes: int = 3000,
) -> list[tuple[tuple[tuple[float, float], ...], float]]: ...
def crop_line(
    pixels: npt.NDArray[np.uint8], corners: Sequence[float], height: int, width: int
) -> npt.NDArray[np.uint8]: ...

class VectorTable:
    def __init__(self, width: int) -> None: ...
    def __len__(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    def append(self, codes: npt.NDArray[np.int8], scales: npt.NDArray[np.float32]) -> None: ...
    def search(
        self,
        query: npt.NDArray[np.float32],
        k: int,
        *,
        allowed: npt.NDArray[np.bool_] | None = None,
        row_begin: int = 0,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]: ...
    def score(self, query: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]: ...

class Engine:
    def __init__(self, path: str) -> None: ...
    @property
    def path(self) -> str: ...
    @property
    def file_bytes(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def can_caption(self) -> bool: ...
    @property
    def text_context(self) -> int: ...
    @property
    def has_chat(self) -> bool: ...
    def encode_prompt(self, text: str = "", *, messages: Sequence[tuple[str, str]] = ()) -> list[int]: ...
    def metadata(self) -> dict[str, Any]: ...
    def tensors(self) -> list[tuple[str, str, tuple[int, ...], int]]: ...
    def programs(self) -> list[str]: ...
    def verify(self) -> None: ...
    def encode(self, text: str) -> list[int]: ...
    def encode_word_pieces(self, text: str) -> list[int]: ...
    def decode(self, tokens: Sequence[int]) -> str: ...

class Session:
    def __init__(self, engine: Engine, threads: int = 0, feature_cache_bytes: int = 1048576) -> None: ...
    @property
    def threads(self) -> int: ...
    def run(
        self, program: str, inputs: Mapping[str, npt.NDArray[Any]], *, cancellation: Cancellation | None = None
    ) -> dict[str, npt.NDArray[Any]]: ...
    def reset(self) -> None: ...
    def reorder(self, parents: Sequence[int]) -> None: ...
    def cache_statistics(self) -> dict[str, int]: ...
    def cancel(self) -> bool: ...
    def caption(
        self,
        pixels: npt.NDArray[np.uint8],
        *,
        num_beams: int | None = None,
        max_new_tokens: int | None = None,
        length_penalty: float | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = ...,
        deadline_seconds: float = 0.0,
        on_token: Callable[[int, str, float], bool] | None = None,
        cancellation: Cancellation | None = None,
    ) -> CaptionRecord: ...
    def caption_batch(
        self,
        pixels: Sequence[npt.NDArray[np.uint8]],
        *,
        num_beams: int | None = None,
        max_new_tokens: int | None = None,
        length_penalty: float | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = ...,
        deadline_seconds: float = 0.0,
        cancellations: Sequence[Cancellation | None] = (),
        cancellation: Cancellation | None = None,
    ) -> list[CaptionRecord | MobileMultiModalError]: ...
    def read_text(
        self,
        pixels: npt.NDArray[np.uint8],
        *,
        max_side: int = 960,
        threshold: float = 0.2,
        box_threshold: float = 0.4,
        unclip_ratio: float = 1.4,
        max_boxes: int = 3000,
        min_confidence: float = 0.5,
        batch_lines: int = 8,
        deadline_seconds: float = 0.0,
        on_progress: Callable[[int, int], bool] | None = None,
        cancellation: Cancellation | None = None,
    ) -> TextRecord: ...
    def embed_image(
        self,
        pixels: npt.NDArray[np.uint8],
        *,
        deadline_seconds: float = 0.0,
        cancellation: Cancellation | None = None,
    ) -> npt.NDArray[np.float32]: ...
    def embed_text(
        self, text: str, *, deadline_seconds: float = 0.0, cancellation: Cancellation | None = None
    ) -> npt.NDArray[np.float32]: ...
    def answer_question(
        self,
        pixels: npt.NDArray[np.uint8],
        question: str,
        *,
        top_k: int = 5,
        deadline_seconds: float = 0.0,
        cancellation: Cancellation | None = None,
    ) -> AnswerRecord: ...
    def choose(
        self,
        pixels: npt.NDArray[np.uint8],
        question: str,
        options: Sequence[str],
        *,
        deadline_seconds: float = 0.0,
        cancellation: Cancellation | None = None,
    ) -> ChoiceRecord: ...
    def generate_text(
        self,
        text: str = "",
        *,
        messages: Sequence[tuple[str, str]] = (),
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = ...,
        deadline_seconds: float = 0.0,
        on_token: Callable[[int, str, float], bool] | None = None,
        cancellation: Cancellation | None = None,
    ) -> GeneratedTextRecord: ...
