"""Holds one piece of work for the pool and its result; a job is checked when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from mobile_multimodal.errors import InvalidInputError, did_you_mean
from mobile_multimodal.settings import GenerationSettings, OcrSettings, check_integer, settings_from
from mobile_multimodal.tasks.language import MAX_ANSWERS, check_options, check_text

Task = Literal["caption", "ocr", "ask", "choose", "embed_image", "embed_text"]
TASKS: Final[tuple[Task, ...]] = get_args(Task)
TASKS_WITHOUT_PICTURE: Final = frozenset({"embed_text"})


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker is to do.

    image      the picture file's bytes as they were received: the worker decodes them; None for embed_text alone
    arguments  caption: fields of GenerationSettings; ocr: fields of OcrSettings; ask: question, top_k;
               choose: question, options; embed_text: text. The deadline belongs to the call, not to the job
    Raises InvalidInputError for anything else.
    """

    task: Task
    image: bytes | None = field(default=None, repr=False)
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InvalidInputError(f"unknown task {self.task!r}", did_you_mean(str(self.task), TASKS))
        if self.task in TASKS_WITHOUT_PICTURE:
            if self.image is not None:
                raise InvalidInputError(f"a job of task {self.task!r} has a picture", "leave it out")
        elif not isinstance(self.image, bytes):
            raise InvalidInputError(
                f"a job of task {self.task!r} has a picture of type {type(self.image).__name__}, expected bytes",
                "pass the bytes of a picture file",
            )
        if "deadline_seconds" in self.arguments and self.task in ("caption", "ocr"):
            raise InvalidInputError(
                "setting deadline_seconds stands among the arguments of a job",
                "a job's deadline is given beside it, and counts waiting too",
            )
        object.__setattr__(self, "arguments", dict(self.arguments))
        _CHECK_OF_TASK[self.task](self.arguments)

    @property
    def batch_key(self) -> GenerationSettings | None:
        """Jobs of one key may be worked on together; None is alone."""
        return settings_from(GenerationSettings, self.arguments) if self.task == "caption" else None


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What came of a job.

    value              ready for JSON: the to_dict() of Caption, OcrResult or Answer; choose: text, confidence,
                       probabilities by option; embed_*: embedding. An OcrResult's has a confidence: the mean of its
                       lines', None without any
    queue_seconds      from the call until a worker got it (the last one, where one died)
    inference_seconds  in the worker: decoding, and the model for the whole batch
    batch_size         so many jobs shared the worker's turn
    worker             the index of the worker in the pool
    """

    value: dict[str, Any]
    queue_seconds: float
    inference_seconds: float
    batch_size: int
    worker: int


def _check_names(arguments: Mapping[str, Any], required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    for name in arguments:
        if name not in required + optional:
            hint = did_you_mean(name, required + optional) or "this task takes none"
            raise InvalidInputError(f"unknown argument {name!r}", hint)
    for name in required:
        if name not in arguments:
            raise InvalidInputError(f"argument {name!r} is missing", f"expected: {', '.join(required)}")


def _check_ask(arguments: Mapping[str, Any]) -> None:
    _check_names(arguments, ("question",), ("top_k",))
    check_text("question", arguments["question"])
    check_integer("top_k", arguments.get("top_k", 1), 1, MAX_ANSWERS)


def _check_choose(arguments: Mapping[str, Any]) -> None:
    _check_names(arguments, ("question", "options"))
    check_text("question", arguments["question"])
    check_options(arguments["options"])


def _check_embed_text(arguments: Mapping[str, Any]) -> None:
    _check_names(arguments, ("text",))
    check_text("text", arguments["text"])


_CHECK_OF_TASK: Final[dict[Task, Callable[[Mapping[str, Any]], Any]]] = {
    "caption": lambda arguments: settings_from(GenerationSettings, arguments),
    "ocr": lambda arguments: settings_from(OcrSettings, arguments),
    "ask": _check_ask,
    "choose": _check_choose,
    "embed_image": lambda arguments: _check_names(arguments, ()),
    "embed_text": _check_embed_text,
}
