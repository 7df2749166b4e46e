"""Does the jobs of a worker on its model, one batch at a time."""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mobile_multimodal.errors import (
    DeadlineExceededError,
    MobileMultiModalError,
    ModelFormatError,
    OperationCancelledError,
    UnsupportedError,
)
from mobile_multimodal.images import Pixels, load_image
from mobile_multimodal.model.hub import find_model
from mobile_multimodal.serving.workers.channel import Header
from mobile_multimodal.serving.workers.error_record import record_of_error
from mobile_multimodal.serving.workers.file_digest import sha256_of_file
from mobile_multimodal.serving.workers.job import Task
from mobile_multimodal.serving.workers.picture_cache import PictureCache
from mobile_multimodal.serving.workers.pool_settings import PoolSettings
from mobile_multimodal.serving.workers.resident_memory import return_free_memory
from mobile_multimodal.serving.workers.work_item import WorkItem
from mobile_multimodal.settings import MAX_DEADLINE_SECONDS, PROFILES, OcrSettings, settings_from
from mobile_multimodal.tasks.language import ANSWER_PROGRAMS, EMBED_IMAGE_PROGRAMS, EMBED_TEXT_PROGRAMS
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM
from mobile_multimodal.tasks.ocr import OCR_PROGRAMS, ocr_result_from_record

if TYPE_CHECKING:
    from mobile_multimodal.native import Engine, Session

Emit = Callable[[Header], None]

_WARM_UP_SECONDS: Final = 60.0


class TaskRunner:
    """A worker's model, its caches, and what of the batch under way was called off.

    `cancel` may be called from another thread; everything else belongs to one.
    """

    def __init__(self, settings: PoolSettings) -> None:
        self._native = _import_native()
        path = find_model(settings.model)
        before = path.stat()
        self._engine: Engine = self._native.Engine(str(path))
        self._engine.verify()
        self._sha256 = sha256_of_file(path)
        after = path.stat()
        if (before.st_ino, before.st_size, before.st_mtime_ns) != (after.st_ino, after.st_size, after.st_mtime_ns):
            raise ModelFormatError(f"model file {str(path)!r} changed while it was opened", "start the server again")
        self._programs = frozenset(self._engine.programs())
        self._threads = settings.threads_per_worker
        self._session: Session = self._native.Session(self._engine, threads=self._threads)
        self._model = MobileMultiModalLLM(
            self._engine, self._session, profile=PROFILES["balanced"], isa=self._native.isa(), verified=True
        )
        self._pictures = PictureCache(settings.picture_cache_bytes)
        self._cancelled: set[int] = set()
        self._statistics = {"hits": 0, "misses": 0}

    def identity(self) -> dict[str, Any]:
        """What the front tells about the model file."""
        metadata = self._engine.metadata()
        return {
            "name": str(metadata.get("general.name", "")),
            "version": str(metadata.get("general.version", "")),
            "sha256": self._sha256,
            "path": self._engine.path,
            "file_bytes": self._engine.file_bytes,
            "programs": list(self._engine.programs()),
            "isa": self._native.isa(),
        }

    def warm_up(self) -> None:
        """Does every task that the file can once, so that the first request finds memory mapped and plans made."""
        side = max(self._engine.image_size, 32)
        grey = np.full((side, side, 3), 127, dtype=np.uint8)
        seconds = _WARM_UP_SECONDS
        if self._engine.can_caption:
            self._model.generate_caption(grey, deadline_seconds=seconds)
        if self._programs.issuperset(OCR_PROGRAMS):
            self._native.Session(self._engine, threads=self._threads).read_text(grey, deadline_seconds=seconds)
        if self._programs.issuperset(ANSWER_PROGRAMS):
            self._model.choose(grey, "What is it?", ["grey", "green"], deadline_seconds=seconds)
        if self._programs.issuperset(EMBED_IMAGE_PROGRAMS):
            self._model.embed_image(grey, deadline_seconds=seconds)
        if self._programs.issuperset(EMBED_TEXT_PROGRAMS):
            self._model.embed_text("grey", deadline_seconds=seconds)
        gc.collect()
        return_free_memory()
        self._statistics = self._session.cache_statistics()

    def cancel(self, numbers: Iterable[int]) -> None:
        """Calls jobs off: those that have not begun will not, the one under way ends as soon as it can."""
        self._cancelled.update(numbers)

    def run_batch(self, items: Sequence[WorkItem], emit: Emit) -> None:
        """Does all jobs of a batch and emits a result or an error for each."""
        start = time.perf_counter()
        for item in items:
            try:
                value = self._run(item, emit)
            except Exception as error:  # a defect in one job must not end the worker with the others
                if not isinstance(error, (MobileMultiModalError, MemoryError)):
                    traceback.print_exc(file=sys.stderr)
                emit({"kind": "error", "number": item.number, "error": record_of_error(error)})
            else:
                seconds = time.perf_counter() - start
                emit({"kind": "result", "number": item.number, "value": value, "inference_seconds": seconds})
        self._cancelled.clear()

    def feature_cache_changes(self) -> tuple[int, int]:
        """Hits and misses of the cache of features since this was asked last."""
        last, self._statistics = self._statistics, self._session.cache_statistics()
        return self._statistics["hits"] - last["hits"], self._statistics["misses"] - last["misses"]

    def close(self) -> None:
        """Ends the model's threads and unmaps the file."""
        self._model.close()

    def _run(self, item: WorkItem, emit: Emit) -> dict[str, Any]:
        self._check_wanted(item)
        if item.is_stream:
            return self._stream_caption(item, emit)
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
        return min(left, MAX_DEADLINE_SECONDS)

    def _picture(self, item: WorkItem) -> Pixels:
        """The picture in the model's size: what the core would make of it, made once for all tasks on it."""
        pixels = self._pictures.find(item.picture_key)
        if pixels is None:
            self._left(item)
            side = self._engine.image_size
            pixels = load_image(item.picture, model_side=side)
            if side > 0:
                pixels = self._native.resize(pixels, side, side)
            self._pictures.add(item.picture_key, pixels)
        self._check_wanted(item)
        return pixels

    def _caption(self, item: WorkItem) -> dict[str, Any]:
        pixels = self._picture(item)
        return self._model.generate_caption(pixels, **item.arguments, deadline_seconds=self._left(item)).to_dict()

    def _stream_caption(self, item: WorkItem, emit: Emit) -> dict[str, Any]:
        pixels = self._picture(item)
        with self._model.stream_caption(pixels, **item.arguments, deadline_seconds=self._left(item)) as stream:
            for piece in stream:
                self._check_wanted(item)
                record = {"text": piece.text, "token": piece.token, "probability": piece.probability}
                emit({"kind": "piece", "number": item.number, "piece": record})
            if stream.caption is None:
                raise OperationCancelledError("the caption was called off", "")
            return stream.caption.to_dict()

    def _read_text(self, item: WorkItem) -> dict[str, Any]:
        """Reads with a session that lives as long as the page: the 12 MB of scratch that a page needs would stay in
        every worker, and a new session costs nothing that can be measured."""
        self._require(OCR_PROGRAMS, "read text")
        settings = settings_from(OcrSettings, item.arguments)
        self._left(item)
        pixels = load_image(item.picture)  # small print needs all pixels
        self._check_wanted(item)
        session = self._native.Session(self._engine, threads=self._threads, enable_caching=False)
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

    def _require(self, programs: Sequence[str], ability: str) -> None:
        missing = [name for name in programs if name not in self._programs]
        if missing:
            raise UnsupportedError(
                f"model file {self._engine.path!r} cannot {ability}: it has no program {' and no '.join(missing)}",
                f"load a model file with the programs {' and '.join(programs)}",
            )

    def _answer(self, item: WorkItem) -> dict[str, Any]:
        pixels = self._picture(item)
        return self._model.answer_question(pixels, **item.arguments, deadline_seconds=self._left(item)).to_dict()

    def _choose(self, item: WorkItem) -> dict[str, Any]:
        pixels = self._picture(item)
        probabilities = self._model.choose(pixels, **item.arguments, deadline_seconds=self._left(item))
        best = max(probabilities, key=probabilities.__getitem__)
        return {"text": best, "confidence": probabilities[best], "probabilities": probabilities}

    def _embed_image(self, item: WorkItem) -> dict[str, Any]:
        pixels = self._picture(item)
        return {"embedding": self._model.embed_image(pixels, deadline_seconds=self._left(item)).tolist()}

    def _embed_text(self, item: WorkItem) -> dict[str, Any]:
        vector = self._model.embed_text(item.arguments["text"], deadline_seconds=self._left(item))
        return {"embedding": vector.tolist()}


_METHOD_OF_TASK: Final[dict[Task, Callable[[TaskRunner, WorkItem], dict[str, Any]]]] = {
    "caption": TaskRunner._caption,
    "ocr": TaskRunner._read_text,
    "ask": TaskRunner._answer,
    "choose": TaskRunner._choose,
    "embed_image": TaskRunner._embed_image,
    "embed_text": TaskRunner._embed_text,
}


def _import_native() -> Any:
    try:
        from mobile_multimodal import native
    except ImportError as error:
        raise UnsupportedError(
            f"the compiled core of the package cannot be loaded: {error}", "install the package: scripts/setup"
        ) from error
    if (isa_error := native.isa_error()) is not None:
        raise UnsupportedError(isa_error, "unset MM_FORCE_ISA: the best instruction set is chosen by itself")
    return native
