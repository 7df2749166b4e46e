"""Does the jobs of a worker on its model, one batch at a time."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, Final

from mobile_multimodal.errors import DeadlineExceededError, MobileMultiModalError, OperationCancelledError
from mobile_multimodal.images import Pixels, load_image
from mobile_multimodal.serving.workers.channel import Header
from mobile_multimodal.serving.workers.error_record import record_of_error
from mobile_multimodal.serving.workers.job import Task
from mobile_multimodal.serving.workers.open_model import OpenModel
from mobile_multimodal.serving.workers.picture_cache import PictureCache
from mobile_multimodal.serving.workers.resident_memory import return_free_memory
from mobile_multimodal.serving.workers.work_item import WorkItem
from mobile_multimodal.settings import GenerationSettings, OcrSettings, settings_from
from mobile_multimodal.tasks.caption import caption_from_record
from mobile_multimodal.tasks.language import (
    ANSWER_PROGRAMS,
    EMBED_IMAGE_PROGRAMS,
    EMBED_TEXT_PROGRAMS,
    answer_from_record,
)
from mobile_multimodal.tasks.ocr import OCR_PROGRAMS, ocr_result_from_record

Emit = Callable[[Header], None]


class TaskRunner:
    """What a worker does with its model, and what of the batch under way was called off.

    `cancel` may be called from another thread; everything else belongs to one.
    """

    def __init__(self, model: OpenModel, picture_cache_bytes: int) -> None:
        self._model = model
        self._session = model.session
        self._pictures = PictureCache(picture_cache_bytes)
        self._cancelled: set[int] = set()
        self._statistics = self._session.cache_statistics()

    def cancel(self, numbers: Iterable[int]) -> None:
        """Calls jobs off: those that have not begun will not, the one under way ends as soon as it can."""
        self._cancelled.update(numbers)

    def run_batch(self, items: Sequence[WorkItem], emit: Emit) -> None:
        """Does all jobs of a batch and emits a result or an error for each; the last one says that it is the last."""
        start = time.perf_counter()
        for item in items:
            header: Header
            try:
                header = {"kind": "result", "number": item.number, "value": self._run(item, emit)}
            except Exception as error:  # a defect in one job must not end the worker with the others
                if not isinstance(error, (MobileMultiModalError, MemoryError)):
                    traceback.print_exc(file=sys.stderr)
                header = {"kind": "error", "number": item.number, "error": record_of_error(error)}
            header["inference_seconds"] = time.perf_counter() - start
            header["done"] = None
            if item is items[-1]:
                self._cancelled.clear()
                header["done"] = self._feature_cache_changes()
            emit(header)

    def _feature_cache_changes(self) -> tuple[int, int]:
        """Hits and misses of the cache of features since this was asked last."""
        last, self._statistics = self._statistics, self._session.cache_statistics()
        return self._statistics["hits"] - last["hits"], self._statistics["misses"] - last["misses"]

    def _run(self, item: WorkItem, emit: Emit) -> dict[str, Any]:
        self._check_wanted(item)
        if item.task == "caption":
            return self._caption(item, emit)
        return _METHOD_OF_TASK[item.task](self, item)

    def _check_wanted(self, item: WorkItem) -> None:
        if item.number in self._cancelled:
            raise OperationCancelledError("the job was called off", "")

    def _left(self, item: WorkItem) -> float:
        left = item.deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceededError(
                "the deadline passed before the model began", "allow more time, or send a smaller picture"
            )
        return left

    def _square(self, item: WorkItem) -> Pixels:
        """The picture as the encoder sees it, decoded once for all tasks on it."""
        pixels = self._pictures.find(item.picture_key)
        if pixels is None:
            self._left(item)
            pixels = self._model.load_square(item.picture)
            self._pictures.add(item.picture_key, pixels)
        self._check_wanted(item)
        return pixels

    def _caption(self, item: WorkItem, emit: Emit) -> dict[str, Any]:
        self._model.require_captions()

        def hand_on(token: int, text: str, probability: float) -> bool:
            piece = {"text": text, "token": token, "probability": probability}
            emit({"kind": "piece", "number": item.number, "piece": piece})
            return item.number not in self._cancelled

        settings = settings_from(GenerationSettings, item.arguments)
        pixels = self._square(item)
        record = self._session.caption(
            pixels,
            **(
                asdict(settings)
                | {
                    "num_beams": 1 if item.is_stream or settings.needs_one_beam else settings.num_beams,
                    "stop": list(settings.stop),
                    "deadline_seconds": self._left(item),
                }
            ),
            on_token=hand_on if item.is_stream else None,
        )
        self._check_wanted(item)
        return caption_from_record(record).to_dict()

    def _read_text(self, item: WorkItem) -> dict[str, Any]:
        """Reads with a session that lives as long as the page: the 12 MB of scratch that a page needs would stay in
        every worker, and a new session costs nothing that can be measured."""
        self._model.require("read text", OCR_PROGRAMS)
        settings = settings_from(OcrSettings, item.arguments)
        self._left(item)
        pixels = load_image(item.picture)  # small print needs all pixels
        self._check_wanted(item)
        session = self._model.make_session()
        record = session.read_text(
            pixels,
            **(asdict(settings) | {"deadline_seconds": self._left(item)}),
            on_progress=lambda done, total: item.number not in self._cancelled,
        )
        del session, pixels
        return_free_memory()
        result = ocr_result_from_record(record)
        confidences = [line.confidence for line in result.lines]
        mean = sum(confidences) / len(confidences) if confidences else None
        return result.to_dict() | {"confidence": mean}

    def _answer(self, item: WorkItem) -> dict[str, Any]:
        self._model.require("answer questions", ANSWER_PROGRAMS)
        pixels = self._square(item)
        record = self._session.answer_question(pixels, **item.arguments, deadline_seconds=self._left(item))
        return answer_from_record(record).to_dict()

    def _choose(self, item: WorkItem) -> dict[str, Any]:
        self._model.require("answer questions", ANSWER_PROGRAMS)
        pixels = self._square(item)
        options = list(item.arguments["options"])
        record = self._session.choose(pixels, item.arguments["question"], options, deadline_seconds=self._left(item))
        probabilities = dict(zip(options, record["probabilities"], strict=True))
        best = max(options, key=probabilities.__getitem__)
        return {"text": best, "confidence": probabilities[best], "probabilities": probabilities}

    def _embed_image(self, item: WorkItem) -> dict[str, Any]:
        self._model.require("embed pictures", EMBED_IMAGE_PROGRAMS)
        pixels = self._square(item)
        return {"embedding": self._session.embed_image(pixels, deadline_seconds=self._left(item)).tolist()}

    def _embed_text(self, item: WorkItem) -> dict[str, Any]:
        self._model.require("embed texts", EMBED_TEXT_PROGRAMS)
        vector = self._session.embed_text(item.arguments["text"], deadline_seconds=self._left(item))
        return {"embedding": vector.tolist()}


_METHOD_OF_TASK: Final[dict[Task, Callable[[TaskRunner, WorkItem], dict[str, Any]]]] = {
    "ocr": TaskRunner._read_text,
    "ask": TaskRunner._answer,
    "choose": TaskRunner._choose,
    "embed_image": TaskRunner._embed_image,
    "embed_text": TaskRunner._embed_text,
}
