"""Offers a model file as one object: captions, text, answers and embeddings, from any number of threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, TypeVar, overload

import numpy as np
from PIL import Image

from mobile_multimodal.errors import (
    InvalidInputError,
    MobileMultiModalError,
    did_you_mean,
)
from mobile_multimodal.images import ImageSource, Pixels, load_image
from mobile_multimodal.model.hub import DEFAULT_MODEL, find_model
from mobile_multimodal.model.identity import EmbeddingIdentity, embedding_identity
from mobile_multimodal.model.inference_config import InferenceConfig
from mobile_multimodal.model.native_core import load_native
from mobile_multimodal.settings import (
    MAX_BATCH,
    MAX_DEADLINE_SECONDS,
    MAX_THREADS,
    GenerationOptions,
    GenerationSettings,
    OcrOptions,
    OcrSettings,
    Profile,
    check_integer,
    check_number,
    profile_named,
    settings_from,
)
from mobile_multimodal.tasks.cancellation import Cancellation, flag_of
from mobile_multimodal.tasks.caption import Caption, CaptionStream, caption_from_record
from mobile_multimodal.tasks.deadline import Deadline
from mobile_multimodal.tasks.frame_tasks import FrameTasks
from mobile_multimodal.tasks.language import (
    ANSWER_PROGRAMS,
    EMBED_IMAGE_PROGRAMS,
    EMBED_TEXT_PROGRAMS,
    MAX_ANSWERS,
    Answer,
    Vector,
    answer_from_record,
    check_options,
    check_text,
    cosine,
    is_vector,
)
from mobile_multimodal.tasks.latency_budget import BudgetedCall, BudgetStatistics
from mobile_multimodal.tasks.model_budgets import CalibratedPoint, ModelBudgets
from mobile_multimodal.tasks.ocr import OCR_PROGRAMS, OcrResult, ocr_result_from_record
from mobile_multimodal.tasks.performance import FeatureCacheStatistics, PerformanceCounter, PerformanceMetrics
from mobile_multimodal.tasks.piece_stream import TokenCallback
from mobile_multimodal.tasks.read_ahead import loaded, read_in_batches
from mobile_multimodal.tasks.shared_session import HealthStatus, SharedSession
from mobile_multimodal.tasks.text_generation import TextGeneration

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from mobile_multimodal.native import CaptionRecord, Engine, Session

ResultCallback = Callable[[int, "Caption | MobileMultiModalError"], None]
ProgressCallback = Callable[[int, int], "bool | None"]

_Settings = TypeVar("_Settings")

_MODEL_OPTIONS: Final = ("threads", "profile", "verify", "enable_caching", "feature_cache_bytes")
_WAITING_PICTURE_BYTES: Final = 4 << 20  # a batch of 16 and the next hold 128 MiB, where they could hold 8 GiB
# Of 2, 4, 8 and 16 pictures, 4 gained most with one beam and 3, on one thread and two; benchmarks/batches measures it.
_BATCH: Final = 4


class MobileMultiModalLLM(FrameTasks, TextGeneration):
    """A loaded model file. All methods may be called from any thread; calls take turns on the model's threads."""

    def __init__(
        self,
        engine: Engine,
        session: Session,
        *,
        profile: Profile,
        isa: str,
        verified: bool = False,
        config: InferenceConfig | None = None,
    ) -> None:
        self._config = InferenceConfig() if config is None else config
        self._shared = SharedSession(engine, session)
        self._profile = profile
        self._verified = verified
        self._counter = PerformanceCounter()
        self._budgets = ModelBudgets(
            self._shared,
            side=engine.image_size,
            isa=isa,
            threads=session.threads,
            keeps_encodings=self._config.cache_bytes > 0,
        )
        metadata = engine.metadata()
        self._model_side = engine.image_size
        self._embedding_identity = embedding_identity(metadata)
        self._most_tokens = _most_tokens(self._config.max_sequence_length, metadata)
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
        enable_caching: bool = True,
        feature_cache_bytes: int | None = None,
        **unknown: NoReturn,
    ) -> Self:
        """Maps a model file and makes it ready; nothing is downloaded.

        model    a name (of the package, or of a file in the folders of MOBILE_MM_MODELS) or a path to a .gguf file
        threads  at least 1; 0 is every CPU this process may use; None is what the profile says
        profile  "fast", "balanced" or "efficient": defaults for threads, beams and the size at which text is looked for
        verify   compare the weights with the file's SHA-256 first
        enable_caching  keep the encodings of the last pictures: the next task on one of them starts from there
        feature_cache_bytes  what these encodings may take; None is 1 MiB, 4 pictures of the default model (251 KB each)
        Raises ModelNotFoundError, ModelFormatError, InvalidInputError.
        """
        for name in unknown:
            raise InvalidInputError(f"unknown setting {name!r}", did_you_mean(name, _MODEL_OPTIONS))
        config = InferenceConfig(enable_caching=bool(enable_caching), feature_cache_bytes=feature_cache_bytes)
        return cls._open(model, config, threads=threads, profile=profile, verify=verify)

    @classmethod
    def from_config(
        cls, config: InferenceConfig, *, threads: int | None = None, profile: str = "balanced", verify: bool = False
    ) -> Self:
        """Maps the model file that a config names, checks that it is what the config asks for, and makes it ready.

        The config's timeout and sequence length hold for every call that does not say otherwise.
        Raises UnsupportedError (the file has another picture size, or other bits), ModelNotFoundError,
        ModelFormatError, InvalidInputError.
        """
        if not isinstance(config, InferenceConfig):
            raise InvalidInputError(
                f"config has type {type(config).__name__}, expected an InferenceConfig", "use InferenceConfig.from_dict"
            )
        return cls._open(config.model_name, config, threads=threads, profile=profile, verify=verify)

    @classmethod
    def _open(
        cls,
        model: str | os.PathLike[str],
        config: InferenceConfig,
        *,
        threads: int | None,
        profile: str,
        verify: bool,
    ) -> Self:
        chosen = profile_named(profile)
        if threads is not None:
            check_integer("threads", threads, 0, MAX_THREADS)
        path = find_model(model)
        native = load_native()
        engine = native.Engine(str(path))
        config.check_file(engine)
        if verify:
            engine.verify()
        session = native.Session(
            engine,
            threads=chosen.threads if threads is None else threads,
            feature_cache_bytes=config.cache_bytes,
        )
        return cls(engine, session, profile=chosen, isa=native.isa(), verified=verify, config=config)

    @property
    def config(self) -> InferenceConfig:
        """What the model was loaded with, and the defaults of its calls."""
        return self._config

    def generate_caption(
        self,
        image: ImageSource,
        *,
        latency_budget_ms: float | None = None,
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Caption:
        """One sentence about a picture.

        image    a path, the bytes of a picture file, a PIL picture, or a uint8 array [h, w], [h, w, 1 | 3 | 4]
        latency_budget_ms  the number of beams is chosen to stay within; the caption's `budget` says how it went
        cancellation  lets another thread end the call
        options  num_beams, max_new_tokens, length_penalty, temperature, top_p, seed, stop, deadline_seconds:
                 see GenerationSettings
        Raises InvalidImageError, NotFoundError, InvalidInputError, DeadlineExceededError, OperationCancelledError.
        """
        settings = self._settings_from(GenerationSettings, options)
        budget = self._begin_caption(latency_budget_ms)
        with self._counter.call("caption") as tokens:
            deadline = Deadline(settings.deadline_seconds)
            caption = self._generate(self._load(image), settings, deadline, None, cancellation, budget)
            tokens.append(len(caption.tokens))
            return caption

    def stream_caption(self, image: ImageSource, **options: Unpack[GenerationOptions]) -> CaptionStream:
        """The pieces of a caption as they are written: greedy, or drawn with a temperature.

        Iterate over it, or use it in a `with` block; leaving early cancels the rest. After the last piece its `caption`
        is the whole. Beam search cannot stream: its best sentence is known at the end only.
        """
        settings = self._settings_from(GenerationSettings, {"num_beams": 1, **options})
        if settings.num_beams not in (None, 1):
            raise InvalidInputError(
                f"setting num_beams is {settings.num_beams}, expected 1 for a stream",
                "use generate_caption for beam search",
            )
        pixels = self._load(image)
        self._shared.require_captions()

        def write(on_token: TokenCallback) -> Caption:
            with self._counter.call("caption") as tokens:
                caption = self._generate(pixels, settings, Deadline(settings.deadline_seconds), on_token)
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
        batch_size: int | None = None,
        latency_budget_ms: float | None = None,
        **options: Unpack[GenerationOptions],
    ) -> list[Caption]: ...

    @overload
    def generate_captions(
        self,
        images: Iterable[ImageSource],
        *,
        on_error: Literal["return"],
        on_result: ResultCallback | None = None,
        batch_size: int | None = None,
        latency_budget_ms: float | None = None,
        **options: Unpack[GenerationOptions],
    ) -> list[Caption | MobileMultiModalError]: ...

    def generate_captions(
        self,
        images: Iterable[ImageSource],
        *,
        on_error: Literal["raise", "return"] = "raise",
        on_result: ResultCallback | None = None,
        batch_size: int | None = None,
        latency_budget_ms: float | None = None,
        **options: Unpack[GenerationOptions],
    ) -> list[Caption] | list[Caption | MobileMultiModalError]:
        """Captions for many pictures, in their order; the next pictures are decoded while the core works.

        on_error   "raise" ends at the first picture that fails; "return" puts its error in its place and goes on
        on_result  called with the index and the caption or error of each picture when its batch is done
        batch_size pictures that are written side by side, 1 to 16; the captions are the same whatever it is
        latency_budget_ms  of each picture, from when its turn comes: they are captioned one by one, so that it excludes
                   a batch_size above 1
        The other options are those of generate_caption and hold for every picture; with a deadline, a batch may take
        as long as its pictures may one by one.
        """
        settings = self._settings_from(GenerationSettings, options)
        if batch_size is None:
            batch_size = _BATCH if latency_budget_ms is None else 1
        check_integer("batch_size", batch_size, 1, MAX_BATCH)
        if latency_budget_ms is not None and batch_size > 1:
            raise InvalidInputError(
                f"settings latency_budget_ms={latency_budget_ms!r} and batch_size={batch_size} exclude each other",
                "drop batch_size: pictures with a budget are captioned one by one",
            )
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
        self._shared.require_captions()
        results: list[Caption | MobileMultiModalError] = []
        for futures in read_in_batches(images, self._load_to_wait, batch_size):
            # The pictures of a batch are done together, so it may take as long as they may together.
            deadline = Deadline(settings.deadline_seconds * len(futures))
            pixels: list[Pixels | MobileMultiModalError] = []
            for future in futures:
                pixels.append(loaded(future))
                if on_error == "raise" and isinstance(pixels[-1], MobileMultiModalError):
                    break  # those behind it are not wanted
            if latency_budget_ms is None:
                batch = self._caption_batch(pixels, settings, deadline)
            else:
                batch = [self._caption_within(pixels[0], settings, latency_budget_ms)]
            for result in batch:
                if on_result is not None:
                    on_result(len(results), result)
                if on_error == "raise" and isinstance(result, MobileMultiModalError):
                    raise result
                results.append(result)
        return results

    def caption_batch(
        self,
        pixels: Sequence[Pixels],
        settings: GenerationSettings | None = None,
        *,
        cancellations: Sequence[Cancellation | None] = (),
    ) -> list[Caption | MobileMultiModalError]:
        """Captions of 1 to 16 pictures that were loaded before (`load_image`), in one search: what a server batches.

        Each caption is what `generate_caption` gives. A picture that fails has its error in its place, and so has each
        one that is not done when the deadline of the settings, which is that of the batch, passes.

        cancellations  one a picture, or none: a picture is given up before the next step, the others go on
        """
        if isinstance(pixels, np.ndarray) or not 1 <= len(pixels) <= MAX_BATCH:
            held = f"one value of type {type(pixels).__name__}" if isinstance(pixels, np.ndarray) else len(pixels)
            raise InvalidInputError(f"a batch of {held} pictures, expected 1 to {MAX_BATCH}", "pass a list of arrays")
        if len(cancellations) not in (0, len(pixels)):
            raise InvalidInputError(
                f"{len(cancellations)} cancellations for {len(pixels)} pictures, expected one a picture or none",
                "put None in the place of a picture without one",
            )
        if settings is None:
            settings = self._settings_from(GenerationSettings, {})
        self._shared.require_captions()
        return self._caption_batch(pixels, settings, Deadline(settings.deadline_seconds), cancellations)

    def extract_text(
        self,
        image: ImageSource,
        *,
        on_progress: ProgressCallback | None = None,
        latency_budget_ms: float | None = None,
        cancellation: Cancellation | None = None,
        **options: Unpack[OcrOptions],
    ) -> OcrResult:
        """The text in a picture: lines in reading order, each with its box and confidence.

        image        a path, the bytes of a picture file, a PIL picture, or a uint8 array [h, w], [h, w, 1 | 3 | 4]
        on_progress  called with how many of all pieces of lines are read; returning False cancels
        latency_budget_ms  max_side is chosen to stay within, unless given; the result's `budget` says how it went
        cancellation lets another thread end the call
        options      max_side, threshold, box_threshold, unclip_ratio, max_boxes, min_confidence, batch_lines,
                     deadline_seconds: see OcrSettings
        Raises UnsupportedError (the model file cannot read text), InvalidImageError, NotFoundError, InvalidInputError,
        DeadlineExceededError, OperationCancelledError.
        """
        settings = self._settings_from(OcrSettings, options)
        # A file that cannot read is refused before a picture is decoded.
        with self._counter.call("read_text"):
            self._shared.require("read text", OCR_PROGRAMS)
            budget = self._budgets.begin("read_text", latency_budget_ms)
            deadline = Deadline(settings.deadline_seconds)
            is_free = "max_side" not in options
            return self._read_text(load_image(image), settings, deadline, on_progress, cancellation, budget, is_free)

    def answer_question(
        self,
        image: ImageSource,
        question: str,
        *,
        top_k: int = 5,
        latency_budget_ms: float | None = None,
        deadline_seconds: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> Answer:
        """The likeliest answer to a question about a picture, from the model's own list of answers.

        question  English; read up to the model's number of tokens
        top_k     so many answers in `alternatives`, 1 to 100
        Raises UnsupportedError (the model file cannot answer), InvalidImageError, NotFoundError, InvalidInputError,
        DeadlineExceededError.
        """
        check_text("question", question)
        check_integer("top_k", top_k, 1, MAX_ANSWERS)
        with self._counter.call("answer_question"):
            self._shared.require("answer questions", ANSWER_PROGRAMS)
            budget = self._budgets.begin("answer_question", latency_budget_ms)
            deadline = self._deadline(deadline_seconds)
            pixels = self._load(image)
            with self._shared.turn(deadline) as (session, left):
                pixels = self._budgets.picture(budget, session, pixels)
                record = session.answer_question(
                    pixels, question, top_k=top_k, deadline_seconds=left, cancellation=flag_of(cancellation)
                )
            return answer_from_record(record, budget.finish())

    def choose(
        self,
        image: ImageSource,
        question: str,
        options: Sequence[str],
        *,
        latency_budget_ms: float | None = None,
        deadline_seconds: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> dict[str, float]:
        """The probability of each of 2 to 64 options as the answer to a question; they sum to 1, in the given order.

        Raises what answer_question raises.
        """
        check_text("question", question)
        texts = check_options(options)
        with self._counter.call("choose"):
            self._shared.require("answer questions", ANSWER_PROGRAMS)
            budget = self._budgets.begin("choose", latency_budget_ms)
            deadline = self._deadline(deadline_seconds)
            pixels = self._load(image)
            with self._shared.turn(deadline) as (session, left):
                pixels = self._budgets.picture(budget, session, pixels, len(texts))
                record = session.choose(
                    pixels, question, texts, deadline_seconds=left, cancellation=flag_of(cancellation)
                )
            budget.finish()
            return dict(zip(texts, record["probabilities"], strict=True))

    def embed_image(
        self,
        image: ImageSource,
        *,
        latency_budget_ms: float | None = None,
        deadline_seconds: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> Vector:
        """A picture's place in the space of pictures and texts: a unit vector, float32 [d].

        Raises UnsupportedError (the model file cannot embed), InvalidImageError, NotFoundError, InvalidInputError,
        DeadlineExceededError.
        """
        with self._counter.call("embed_image"):
            self._shared.require("embed pictures", EMBED_IMAGE_PROGRAMS)
            budget = self._budgets.begin("embed_image", latency_budget_ms)
            deadline = self._deadline(deadline_seconds)
            pixels = self._load(image)
            with self._shared.turn(deadline) as (session, left):
                pixels = self._budgets.picture(budget, session, pixels)
                vector = session.embed_image(pixels, deadline_seconds=left, cancellation=flag_of(cancellation))
            budget.finish()
            return vector

    def embed_text(
        self,
        text: str | Sequence[str],
        *,
        latency_budget_ms: float | None = None,
        deadline_seconds: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> Vector:
        """A text's place in the space of pictures and texts: a unit vector, float32 [d]; of several texts [n, d].

        Raises UnsupportedError (the model file cannot embed), InvalidInputError, DeadlineExceededError.
        """
        if isinstance(text, str):
            texts = [check_text("text", text)]
        elif isinstance(text, Sequence) and not isinstance(text, (bytes, bytearray)) and len(text):
            texts = [check_text(f"text {index}", entry) for index, entry in enumerate(text)]
        else:
            raise InvalidInputError(f"text is {text!r:.100}, expected a string or a list of some", "pass a string")
        flag = flag_of(cancellation)
        with self._counter.call("embed_text"):
            self._shared.require("embed texts", EMBED_TEXT_PROGRAMS)
            budget = self._budgets.begin("embed_text", latency_budget_ms)
            deadline = self._deadline(deadline_seconds)
            with self._shared.turn(deadline) as (session, left):
                self._budgets.texts(budget, len(texts))
                vectors = [session.embed_text(texts[0], deadline_seconds=left, cancellation=flag)]
                for entry in texts[1:]:
                    vectors.append(session.embed_text(entry, deadline_seconds=deadline.left(), cancellation=flag))
            budget.finish()
        return vectors[0] if isinstance(text, str) else np.stack(vectors)

    def similarity(
        self, image: ImageSource | Vector, text: str | Vector, *, deadline_seconds: float | None = None
    ) -> float:
        """How well a text describes a picture: the cosine of their vectors, -1 to 1.

        Either may be a vector that embed_image or embed_text gave (a one-dimensional array of floats), so that two
        pictures or two texts can be compared too. A string in the first place is a path, in the second a text.
        """
        deadline = self._deadline(deadline_seconds)
        first = image if is_vector(image) else self.embed_image(image, deadline_seconds=deadline.left())
        second = text if is_vector(text) else self.embed_text(text, deadline_seconds=deadline.left())  # type: ignore[arg-type]
        return cosine(first, second)  # type: ignore[arg-type]

    @property
    def image_size(self) -> int:
        """Side of the square, in pixels, that pictures are brought to before they are encoded."""
        return self._model_side

    def get_embedding_identity(self) -> EmbeddingIdentity:
        """What tells whether embeddings of two models may be compared: those of one digest may."""
        return self._embedding_identity

    def get_health_status(self, *, verify: bool = False) -> HealthStatus:
        """What is loaded and whether it can answer; with `verify`, the weights are compared with their SHA-256."""
        engine = self._shared.engine
        if verify and engine is not None:
            engine.verify()
            self._verified = True
        return HealthStatus(
            status="closed" if engine is None else "ok",
            programs=self._shared.programs,
            profile=self._profile.name,
            verified=self._verified,
            uptime_seconds=self._counter.metrics().uptime_seconds,
            **self._identity,
        )

    def get_performance_metrics(self) -> PerformanceMetrics:
        """Counts and latencies since the model was loaded."""
        return self._counter.metrics()

    def get_feature_cache_statistics(self) -> FeatureCacheStatistics:
        """How often the encoding of a picture was at hand since the model was loaded, and what the kept ones take."""
        return FeatureCacheStatistics(**self._shared.cache_statistics())

    def get_budget_statistics(self) -> dict[str, BudgetStatistics]:
        """How the calls with a latency budget went since the model was loaded, by task."""
        return self._budgets.statistics()

    def calibrate(self, *, again: bool = False) -> list[CalibratedPoint]:
        """What each operating point is expected to take on this machine, measured where it is not known yet.

        Measuring takes a few seconds and other calls wait meanwhile; the first call of a task with a latency budget
        does it for that task. again: measure even what is known. Kept in $XDG_CACHE_HOME/mobile-multimodal, by model
        file, CPU, threads and version of the package.
        """
        return self._budgets.calibrate(again=again)

    @property
    def calibration_file(self) -> Path | None:
        """Where `calibrate` keeps what it measured; None before it was looked for, and where there is no such place."""
        return self._budgets.path

    def close(self) -> None:
        """Frees the threads and unmaps the file after the call under way; further calls raise InvalidInputError."""
        self._shared.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        name = self._identity["model"] or self._identity["path"]
        return f"<MobileMultiModalLLM {name!r}, {self._identity['threads']} threads, {self._identity['isa']}>"

    def _caption_batch(
        self,
        pixels: Sequence[Pixels | MobileMultiModalError],
        settings: GenerationSettings,
        deadline: Deadline,
        cancellations: Sequence[Cancellation | None] = (),
    ) -> list[Caption | MobileMultiModalError]:
        """A caption of each picture; an error in the place of one stays there, and counts as a call that failed."""
        arrays = [picture for picture in pixels if not isinstance(picture, MobileMultiModalError)]
        with self._counter.calls("caption", len(pixels)) as outcomes:
            records: Sequence[CaptionRecord | MobileMultiModalError] = ()
            if arrays:
                try:
                    with self._shared.turn(deadline) as (_, left):
                        records = self._shared.require_captions().caption_batch(
                            arrays,
                            **self._core_settings(settings, left),
                            cancellations=[flag_of(cancellation) for cancellation in cancellations],
                        )
                except MobileMultiModalError as error:
                    records = [error] * len(arrays)
            written = iter(records)
            results: list[Caption | MobileMultiModalError] = []
            for picture in pixels:
                record = picture if isinstance(picture, MobileMultiModalError) else next(written)
                result = record if isinstance(record, MobileMultiModalError) else caption_from_record(record)
                results.append(result)
                if isinstance(result, MobileMultiModalError):
                    outcomes.append(type(result).__name__)
                else:
                    outcomes.append(len(result.tokens))
            return results

    def _begin_caption(self, latency_budget_ms: float | None) -> BudgetedCall:
        if latency_budget_ms is not None:
            self._shared.require_captions()  # before anything is measured
        return self._budgets.begin("caption", latency_budget_ms)

    def _caption_within(
        self, pixels: Pixels | MobileMultiModalError, settings: GenerationSettings, latency_budget_ms: float
    ) -> Caption | MobileMultiModalError:
        """A caption with a budget of its own, or why there is none."""
        budget = self._begin_caption(latency_budget_ms)
        try:
            with self._counter.call("caption") as tokens:
                if isinstance(pixels, MobileMultiModalError):
                    raise pixels
                caption = self._generate(pixels, settings, Deadline(settings.deadline_seconds), None, budget=budget)
                tokens.append(len(caption.tokens))
                return caption
        except MobileMultiModalError as error:
            return error

    def _load_to_wait(self, image: ImageSource) -> Pixels:
        """A picture for a batch that may wait for others: a big one waits as the square that the model sees."""
        pixels = self._load(image)
        return pixels if pixels.nbytes <= _WAITING_PICTURE_BYTES else self._square(pixels)

    def _load(self, image: ImageSource) -> Pixels:
        return load_image(image, model_side=self._model_side)

    def _square(self, image: ImageSource) -> Pixels:
        """A picture as the square that the model sees, scaled by the core."""
        from mobile_multimodal import native

        return native.resize(self._load(image), self._model_side, self._model_side)

    def _settings_from(self, settings_type: type[_Settings], options: Mapping[str, Any]) -> _Settings:
        """The settings of a call; what it leaves out is what the config says."""
        defaults: dict[str, Any] = {"deadline_seconds": self._config.timeout_seconds}
        if settings_type is GenerationSettings:
            defaults["max_new_tokens"] = self._most_tokens
        elif settings_type is OcrSettings:
            defaults["max_side"] = self._profile.max_side
        return settings_from(settings_type, {**defaults, **options})

    def _deadline(self, seconds: float | None) -> Deadline:
        if seconds is None:
            return Deadline(self._config.timeout_seconds)
        check_number("deadline_seconds", seconds, 0.0, MAX_DEADLINE_SECONDS)
        return Deadline(seconds)

    def _read_text(
        self,
        pixels: Pixels,
        settings: OcrSettings,
        deadline: Deadline,
        on_progress: ProgressCallback | None,
        cancellation: Cancellation | None,
        budget: BudgetedCall,
        is_free: bool,
    ) -> OcrResult:
        with self._shared.turn(deadline) as (session, left):
            settings = self._budgets.page(budget, pixels, settings, is_free=is_free)
            record = session.read_text(
                pixels,
                **(asdict(settings) | {"deadline_seconds": left}),
                on_progress=None if on_progress is None else lambda done, total: on_progress(done, total) is not False,
                cancellation=flag_of(cancellation),
            )
        return ocr_result_from_record(record, budget.finish(len(record["lines"])))

    def _generate(
        self,
        pixels: Pixels,
        settings: GenerationSettings,
        deadline: Deadline,
        on_token: TokenCallback | None,
        cancellation: Cancellation | None = None,
        budget: BudgetedCall | None = None,
    ) -> Caption:
        if budget is None:
            budget = self._budgets.begin("caption", None)
        with self._shared.turn(deadline) as (session, left):
            pixels, settings = self._budgets.caption(budget, session, pixels, settings)
            record = self._shared.require_captions().caption(
                pixels,
                **self._core_settings(settings, left),
                on_token=on_token,
                cancellation=flag_of(cancellation),
            )
        return caption_from_record(record, budget.finish(len(record["tokens"]) + 1))

    def _core_settings(self, settings: GenerationSettings, seconds_left: float) -> dict[str, Any]:
        num_beams = settings.num_beams
        if num_beams is None:
            num_beams = 1 if settings.needs_one_beam else self._profile.num_beams
        return {
            "num_beams": num_beams,
            "max_new_tokens": settings.max_new_tokens,
            "length_penalty": settings.length_penalty,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "seed": settings.seed,
            "stop": list(settings.stop),
            "deadline_seconds": seconds_left,
        }


def _most_tokens(asked: int | None, metadata: Mapping[str, Any]) -> int | None:
    """What a config asks for, or the length of the file's key-value caches where that is less."""
    if asked is None:
        return None
    kinds, rows = metadata.get("mm.state.kinds", ()), metadata.get("mm.state.rows", ())
    return min([asked, *(int(count) for kind, count in zip(kinds, rows, strict=True) if kind == "cache")])
