"""Does the jobs of a worker on its model, one batch at a time."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

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
Value = dict[str, Any]


class TaskRunner:
    """What a worker does with its model. A job that was called off ends at the model's next instruction."""

    def __init__(self, model: OpenModel, picture_cache_bytes: int) -> None:
        self._model = model
        self._session = model.session
        self._pictures = PictureCache(picture_cache_bytes)
        self._statistics = self._session.cache_statistics()

    def run_batch(self, items: Sequence[WorkItem], emit: Emit) -> None:
        """Does a job, or several captions with equal settings, and emits a result or an error for each; the last one
        says that it is the last."""
        start = time.perf_counter()
        outcomes = self._captions(items) if len(items) > 1 else [_outcome(self._run, items[0], emit)]
        seconds = time.perf_counter() - start
        for item, outcome in zip(items, outcomes, strict=True):
            header: Header = {"number": item.number, "inference_seconds": seconds, "done": None}
            if isinstance(outcome, Exception):
                header |= {"kind": "error", "error": record_of_error(outcome)}
            else:
                header |= {"kind": "result", "value": outcome}
            if item is items[-1]:
                header["done"] = self._feature_cache_changes()
            emit(header)

    def _feature_cache_changes(self) -> tuple[int, int]:
        """Hits and misses of the cache of features since this was asked last."""
        last, self._statistics = self._statistics, self._session.cache_statistics()
        return self._statistics["hits"] - last["hits"], self._statistics["misses"] - last["misses"]

    def _run(self, item: WorkItem, emit: Emit) -> Value:
        if item.task == "caption":
            return self._caption(item, emit)
        return _METHOD_OF_TASK[item.task](self, item)

    def _square(self, item: WorkItem) -> Pixels:
        """The picture as the encoder sees it, decoded once for all tasks on it."""
        _check_wanted(item)
        pixels = self._pictures.find(item.picture_key)
        if pixels is None:
            pixels = self._model.load_square(item.picture)
            self._pictures.add(item.picture_key, pixels)
            _check_wanted(item)
        return pixels

    def _caption(self, item: WorkItem, emit: Emit) -> Value:
        self._model.require_captions()

        def hand_on(token: int, text: str, probability: float) -> bool:
            piece = {"text": text, "token": token, "probability": probability}
            emit({"kind": "piece", "number": item.number, "piece": piece})
            return True

        arguments = {"num_beams": 1, **item.arguments} if item.is_stream else item.arguments
        pixels = self._square(item)
        record = self._session.caption(
            pixels,
            **_caption_keywords(arguments),
            **_limits(item),
            on_token=hand_on if item.is_stream else None,
        )
        return caption_from_record(record).to_dict()

    def _captions(self, items: Sequence[WorkItem]) -> list[Value | Exception]:
        """Captions that share each step of the model: it reads its weights once for all of them."""
        pictures = [_outcome(self._square, item) for item in items]
        sound = [(item, pixels) for item, pixels in zip(items, pictures, strict=True) if isinstance(pixels, np.ndarray)]
        made = iter(_shared_outcome(self._caption_together, sound))
        return [next(made) if isinstance(pixels, np.ndarray) else pixels for pixels in pictures]

    def _caption_together(self, work: Sequence[tuple[WorkItem, Pixels]]) -> list[Value | Exception]:
        self._model.require_captions()
        items = [item for item, _ in work]
        records = self._session.caption_batch(
            [pixels for _, pixels in work],
            **_caption_keywords(items[0].arguments),
            # Who has less time than the last one is called off by the front when it is over.
            deadline_seconds=max(_seconds_left(item) for item in items),
            cancellations=[item.cancellation for item in items],
        )
        return [
            record if isinstance(record, Exception) else caption_from_record(record).to_dict() for record in records
        ]

    def _read_text(self, item: WorkItem) -> Value:
        """Reads with a session that lives as long as the page: the 12 MB of scratch that a page needs would stay in
        every worker, and a new session costs nothing that can be measured."""
        self._model.require("read text", OCR_PROGRAMS)
        settings = settings_from(OcrSettings, item.arguments)
        _check_wanted(item)
        pixels = load_image(item.picture)  # small print needs all pixels
        session = self._model.make_session()
        record = session.read_text(pixels, **(asdict(settings) | _limits(item)))
        del session, pixels
        return_free_memory()
        result = ocr_result_from_record(record)
        confidences = [line.confidence for line in result.lines]
        mean = sum(confidences) / len(confidences) if confidences else None
        return result.to_dict() | {"confidence": mean}

    def _answer(self, item: WorkItem) -> Value:
        self._model.require("answer questions", ANSWER_PROGRAMS)
        pixels = self._square(item)
        record = self._session.answer_question(pixels, **item.arguments, **_limits(item))
        return answer_from_record(record).to_dict()

    def _choose(self, item: WorkItem) -> Value:
        self._model.require("answer questions", ANSWER_PROGRAMS)
        pixels = self._square(item)
        options = list(item.arguments["options"])
        record = self._session.choose(pixels, item.arguments["question"], options, **_limits(item))
        probabilities = dict(zip(options, record["probabilities"], strict=True))
        best = max(options, key=probabilities.__getitem__)
        return {"text": best, "confidence": probabilities[best], "probabilities": probabilities}

    def _embed_image(self, item: WorkItem) -> Value:
        self._model.require("embed pictures", EMBED_IMAGE_PROGRAMS)
        pixels = self._square(item)
        return {"embedding": self._session.embed_image(pixels, **_limits(item)).tolist()}

    def _embed_text(self, item: WorkItem) -> Value:
        self._model.require("embed texts", EMBED_TEXT_PROGRAMS)
        vector = self._session.embed_text(item.arguments["text"], **_limits(item))
        return {"embedding": vector.tolist()}


_METHOD_OF_TASK: Final[dict[Task, Callable[[TaskRunner, WorkItem], Value]]] = {
    "ocr": TaskRunner._read_text,
    "ask": TaskRunner._answer,
    "choose": TaskRunner._choose,
    "embed_image": TaskRunner._embed_image,
    "embed_text": TaskRunner._embed_text,
}


def _check_wanted(item: WorkItem) -> None:
    """Before work that the model does not do itself, such as decoding."""
    if item.cancellation.is_cancelled:
        raise OperationCancelledError("the job was called off", "")
    _seconds_left(item)


def _seconds_left(item: WorkItem) -> float:
    left = item.deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceededError(
            "the deadline passed before the model began", "allow more time, or send a smaller picture"
        )
    return left


def _limits(item: WorkItem) -> dict[str, Any]:
    """What ends a call of the model early."""
    return {"deadline_seconds": _seconds_left(item), "cancellation": item.cancellation}


def _caption_keywords(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a session for the fields of GenerationSettings."""
    settings = settings_from(GenerationSettings, arguments)
    keywords = asdict(settings) | {"stop": list(settings.stop)}
    del keywords["deadline_seconds"]
    if settings.needs_one_beam:
        keywords["num_beams"] = 1
    return keywords


def _outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns, or its error: a defect in one job must not end the worker with the others."""
    try:
        return call(*arguments)
    except Exception as error:
        if not isinstance(error, (MobileMultiModalError, MemoryError)):
            traceback.print_exc(file=sys.stderr)
        return error


def _shared_outcome(call: Callable[[Sequence[Any]], list[Any]], work: Sequence[Any]) -> list[Any]:
    """What a call returns for each of its members; an error of the whole is that of each."""
    outcome = _outcome(call, work) if work else []
    return [outcome] * len(work) if isinstance(outcome, Exception) else outcome
