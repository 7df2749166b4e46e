"""Offers a model file as one object: captions and text, from any number of threads."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, overload

import numpy as np
from PIL import Image

from mobile_multimodal.errors import (
    DeadlineExceededError,
    InvalidInputError,
    MobileMultiModalError,
    UnsupportedError,
    did_you_mean,
)
from mobile_multimodal.images import ImageSource, Pixels, load_image
from mobile_multimodal.model.hub import DEFAULT_MODEL, find_model
from mobile_multimodal.model.identity import EmbeddingIdentity, embedding_identity
from mobile_multimodal.settings import (
    MAX_THREADS,
    GenerationOptions,
    GenerationSettings,
    OcrOptions,
    OcrSettings,
    Profile,
    check_integer,
    profile_named,
    settings_from,
)
from mobile_multimodal.tasks.caption import Caption, CaptionStream, TokenCallback, caption_from_record
from mobile_multimodal.tasks.ocr import OCR_PROGRAMS, OcrResult, ocr_result_from_record
from mobile_multimodal.tasks.performance import PerformanceCounter, PerformanceMetrics

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from mobile_multimodal.native import Engine, Session

ResultCallback = Callable[[int, "Caption | MobileMultiModalError"], None]
ProgressCallback = Callable[[int, int], "bool | None"]

_MODEL_OPTIONS: Final = ("threads", "profile", "verify")
_PICTURES_AHEAD: Final = 2  # decoded while the core works on the one before; each may hold 256 MiB


@dataclass(frozen=True, kw_only=True)
class HealthStatus:
    """Whether a model can answer, and what answers.

    status      "ok" or "closed"
    isa         the instruction set whose kernels run, e.g. "avx512_vnni"
    verified    the weights' SHA-256 were compared with the file's: when it was loaded, or by this call
    """

    status: str
    model: str
    path: str
    file_bytes: int
    format_version: int
    programs: tuple[str, ...]
    isa: str
    threads: int
    profile: str
    verified: bool
    uptime_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for JSON."""
        return asdict(self) | {"programs": list(self.programs)}


class MobileMultiModalLLM:
    """A loaded model file. All methods may be called from any thread; calls take turns on the model's threads."""

    def __init__(self, engine: Engine, session: Session, *, profile: Profile, isa: str, verified: bool = False) -> None:
        self._engine: Engine | None = engine
        self._session: Session | None = session
        self._profile = profile
        self._verified = verified
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._counter = PerformanceCounter()
        metadata = engine.metadata()
        self._programs = tuple(engine.programs())
        self._model_side = engine.image_size
        self._can_caption = engine.can_caption
        self._embedding_identity = embedding_identity(metadata)
        self._identity: dict[str, Any] = {
            "model": str(metadata.get("general.name", "")),
            "path": engine.path,
            "file_bytes": engine.file_bytes,
            "format_version": int(metadata.get("mm.format_version", 0)),
            "isa": isa,
            "threads": session.threads,
        }

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        threads: int | None = None,
        profile: str = "balanced",
        verify: bool = False,
        **unknown: NoReturn,
    ) -> Self:
        """Maps a model file and makes it ready; nothing is downloaded.

        model    a name (of the package, or of a file in the folders of MOBILE_MM_MODELS) or a path to a .gguf file
        threads  at least 1; 0 is every CPU this process may use; None is what the profile says
        profile  "fast", "balanced" or "efficient": defaults for threads and beams
        verify   compare the weights with the file's SHA-256 first
        Raises ModelNotFoundError, ModelFormatError, InvalidInputError.
        """
        for name in unknown:
            raise InvalidInputError(f"unknown setting {name!r}", did_you_mean(name, _MODEL_OPTIONS))
        chosen = profile_named(profile)
        if threads is not None:
            check_integer("threads", threads, 0, MAX_THREADS)
        path = find_model(model)
        try:
            from mobile_multimodal import native
        except ImportError as error:
            raise UnsupportedError(
                f"the compiled core of the package cannot be loaded: {error}", "install the package: scripts/setup"
            ) from error
        if (isa_error := native.isa_error()) is not None:
            raise UnsupportedError(isa_error, "unset MM_FORCE_ISA: the best instruction set is chosen by itself")
        engine = native.Engine(str(path))
        if verify:
            engine.verify()
        session = native.Session(engine, threads=chosen.threads if threads is None else threads)
        return cls(engine, session, profile=chosen, isa=native.isa(), verified=verify)

    def generate_caption(self, image: ImageSource, **options: Unpack[GenerationOptions]) -> Caption:
        """One sentence about a picture.

        image    a path, the bytes of a picture file, a PIL picture, or a uint8 array [h, w], [h, w, 1 | 3 | 4]
        options  num_beams, max_new_tokens, length_penalty, temperature, top_p, seed, stop, deadline_seconds:
                 see GenerationSettings
        Raises InvalidImageError, NotFoundError, InvalidInputError, DeadlineExceededError.
        """
        settings = settings_from(GenerationSettings, options)
        with self._counter.call() as tokens:
            caption = self._generate(self._load(image), settings, None)
            tokens.append(len(caption.tokens))
            return caption

    def stream_caption(self, image: ImageSource, **options: Unpack[GenerationOptions]) -> CaptionStream:
        """The pieces of a caption as they are written: greedy, or drawn with a temperature.

        Iterate over it, or use it in a `with` block; leaving early cancels the rest. After the last piece its `caption`
        is the whole. Beam search cannot stream: its best sentence is known at the end only.
        """
        settings = settings_from(GenerationSettings, {"num_beams": 1, **options})
        if settings.num_beams not in (None, 1):
            raise InvalidInputError(
                f"setting num_beams is {settings.num_beams}, expected 1 for a stream",
                "use generate_caption for beam search",
            )
        pixels = self._load(image)
        self._open_session()

        def write(on_token: TokenCallback) -> Caption:
            with self._counter.call() as tokens:
                caption = self._generate(pixels, settings, on_token)
                tokens.append(len(caption.tokens))
                return caption

        return CaptionStream(write)

    @overload
    def generate_captions(
        self,
        images: Iterable[ImageSource],
        *,
        on_error: Literal["raise"] = "raise",
        on_result: ResultCallback | None = None,
        **options: Unpack[GenerationOptions],
    ) -> list[Caption]: ...

    @overload
    def generate_captions(
        self,
        images: Iterable[ImageSource],
        *,
        on_error: Literal["return"],
        on_result: ResultCallback | None = None,
        **options: Unpack[GenerationOptions],
    ) -> list[Caption | MobileMultiModalError]: ...

    def generate_captions(
        self,
        images: Iterable[ImageSource],
        *,
        on_error: Literal["raise", "return"] = "raise",
        on_result: ResultCallback | None = None,
        **options: Unpack[GenerationOptions],
    ) -> list[Caption] | list[Caption | MobileMultiModalError]:
        """Captions for many pictures, in their order; the next pictures are decoded while the core works.

        on_error   "raise" ends at the first picture that fails; "return" puts its error in its place and goes on
        on_result  called with the index and the caption or error of each picture when it is done
        The other options are those of generate_caption and hold for every picture.
        """
        settings = settings_from(GenerationSettings, options)
        if on_error not in ("raise", "return"):
            raise InvalidInputError(
                f"setting on_error is {on_error!r}, expected 'raise' or 'return'", "pass one of them"
            )
        is_one_picture = isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image))
        if is_one_picture or (isinstance(images, np.ndarray) and images.ndim != 4) or not isinstance(images, Iterable):
            raise InvalidInputError(
                f"images is one value of type {type(images).__name__}, expected several pictures",
                "pass a list, or use generate_caption",
            )
        self._open_session()
        results: list[Caption | MobileMultiModalError] = []
        for result in self._captions_of(images, settings):
            if on_result is not None:
                on_result(len(results), result)
            if on_error == "raise" and isinstance(result, MobileMultiModalError):
                raise result
            results.append(result)
        return results

    def extract_text(
        self,
        image: ImageSource,
        *,
        on_progress: ProgressCallback | None = None,
        **options: Unpack[OcrOptions],
    ) -> OcrResult:
        """The text in a picture: lines in reading order, each with its box and confidence.

        image        a path, the bytes of a picture file, a PIL picture, or a uint8 array [h, w], [h, w, 1 | 3 | 4]
        on_progress  called with how many of all pieces of lines are read; returning False cancels
        options      max_side, threshold, box_threshold, unclip_ratio, max_boxes, min_confidence, batch_lines,
                     deadline_seconds: see OcrSettings
        Raises UnsupportedError (the model file cannot read text), InvalidImageError, NotFoundError, InvalidInputError,
        DeadlineExceededError, OperationCancelledError.
        """
        settings = settings_from(OcrSettings, options)
        with self._counter.call():
            self._open_ocr_session()  # a file that cannot read is refused before a picture is decoded
            return self._read_text(load_image(image), settings, on_progress)

    @property
    def image_size(self) -> int:
        """Side of the square, in pixels, that pictures are brought to before they are encoded."""
        return self._model_side

    def get_embedding_identity(self) -> EmbeddingIdentity:
        """What tells whether embeddings of two models may be compared: those of one digest may."""
        return self._embedding_identity

    def get_health_status(self, *, verify: bool = False) -> HealthStatus:
        """What is loaded and whether it can answer; with `verify`, the weights are compared with their SHA-256."""
        engine = self._engine
        if verify and engine is not None:
            engine.verify()
            self._verified = True
        return HealthStatus(
            status="closed" if engine is None else "ok",
            programs=self._programs,
            profile=self._profile.name,
            verified=self._verified,
            uptime_seconds=self._counter.metrics().uptime_seconds,
            **self._identity,
        )

    def get_performance_metrics(self) -> PerformanceMetrics:
        """Counts and latencies since the model was loaded."""
        return self._counter.metrics()

    def close(self) -> None:
        """Frees the threads and unmaps the file after the call under way; further calls raise InvalidInputError."""
        with self._lock:
            self._session = None
            self._engine = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        name = self._identity["model"] or self._identity["path"]
        return f"<MobileMultiModalLLM {name!r}, {self._identity['threads']} threads, {self._identity['isa']}>"

    def _captions_of(
        self, images: Iterable[ImageSource], settings: GenerationSettings
    ) -> Iterator[Caption | MobileMultiModalError]:
        sources = iter(images)
        pending: deque[Future[Pixels]] = deque()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="mobile-mm-load") as loader:
            try:
                while True:
                    while len(pending) < _PICTURES_AHEAD and (source := next(sources, _END)) is not _END:
                        pending.append(loader.submit(self._load, source))  # type: ignore[arg-type]
                    if not pending:
                        return
                    yield self._caption_or_error(pending.popleft(), settings)
            finally:
                for future in pending:
                    future.cancel()

    def _caption_or_error(
        self, pixels: Future[Pixels], settings: GenerationSettings
    ) -> Caption | MobileMultiModalError:
        try:
            with self._counter.call() as tokens:
                caption = self._generate(pixels.result(), settings, None)
                tokens.append(len(caption.tokens))
                return caption
        except MobileMultiModalError as error:
            return error

    def _load(self, image: ImageSource) -> Pixels:
        return load_image(image, model_side=self._model_side)

    def _live_session(self) -> Session:
        if self._process != os.getpid():
            raise UnsupportedError(
                f"the model was loaded in process {self._process} and is used in its fork {os.getpid()}, "
                "where its threads do not exist",
                "load the model in the process that uses it",
            )
        if self._session is None:
            raise InvalidInputError("the model is closed", "load it again with from_pretrained")
        return self._session

    def _open_session(self) -> Session:
        session = self._live_session()
        if not self._can_caption:
            raise UnsupportedError(
                f"model file {self._identity['path']!r} cannot caption: its programs are {', '.join(self._programs)}",
                f"load another, for example {DEFAULT_MODEL!r}",
            )
        return session

    def _open_ocr_session(self) -> Session:
        session = self._live_session()
        missing = [name for name in OCR_PROGRAMS if name not in self._programs]
        if missing:
            raise UnsupportedError(
                f"model file {self._identity['path']!r} cannot read text: it has no program {' and no '.join(missing)}",
                f"load a model file with the programs {' and '.join(OCR_PROGRAMS)}",
            )
        return session

    @contextmanager
    def _turn(self, deadline: float) -> Iterator[float]:
        """Waits for the model's threads; yields what is left of the deadline, in seconds (0: there is none)."""
        start = time.monotonic()
        if not self._lock.acquire(timeout=deadline if deadline > 0 else -1):
            raise DeadlineExceededError(
                f"other calls held the model for all of the deadline of {deadline:g} seconds",
                "allow more time, or load the model more than once",
            )
        try:
            yield max(deadline - (time.monotonic() - start), 1e-9) if deadline > 0 else 0.0
        finally:
            self._lock.release()

    def _read_text(self, pixels: Pixels, settings: OcrSettings, on_progress: ProgressCallback | None) -> OcrResult:
        with self._turn(settings.deadline_seconds) as deadline_seconds:
            record = self._open_ocr_session().read_text(
                pixels,
                **(asdict(settings) | {"deadline_seconds": deadline_seconds}),
                on_progress=None if on_progress is None else lambda done, total: on_progress(done, total) is not False,
            )
        return ocr_result_from_record(record)

    def _generate(self, pixels: Pixels, settings: GenerationSettings, on_token: TokenCallback | None) -> Caption:
        num_beams = settings.num_beams
        if num_beams is None:
            num_beams = 1 if settings.needs_one_beam else self._profile.num_beams
        with self._turn(settings.deadline_seconds) as deadline_seconds:
            record = self._open_session().caption(
                pixels,
                num_beams=num_beams,
                max_new_tokens=settings.max_new_tokens,
                length_penalty=settings.length_penalty,
                temperature=settings.temperature,
                top_p=settings.top_p,
                seed=settings.seed,
                stop=list(settings.stop),
                deadline_seconds=deadline_seconds,
                on_token=on_token,
            )
        return caption_from_record(record)


_END: Final = object()
