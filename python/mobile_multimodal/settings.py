"""Holds what a caller may choose: frozen, checked when made, refusing what it does not know."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypedDict, TypeVar

from mobile_multimodal.errors import InvalidInputError, did_you_mean

MAX_BEAMS: Final = 16  # the search keeps one key-value cache a beam; 16 is five times what the default model gains from
MAX_NEW_TOKENS: Final = 1024
MAX_STOP_STRINGS: Final = 16
MAX_THREADS: Final = 256
MAX_DEADLINE_SECONDS: Final = 3600.0
MAX_BATCH: Final = 16  # pictures captioned side by side: each holds 0.6 MB of memories and 0.6 MB of caches a beam
DEFAULT_FEATURE_CACHE_BYTES: Final = 1 << 20  # 4 pictures of the default model, 251 KB each
MAX_FEATURE_CACHE_BYTES: Final = 1 << 36

_Settings = TypeVar("_Settings")


def check_integer(name: str, value: object, smallest: int, largest: int) -> None:
    """Refuses anything but an integer between the two bounds; True and False are no integers here."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or not smallest <= value <= largest:  # type: ignore[operator]
        raise InvalidInputError(
            f"setting {name} is {value!r}, expected an integer from {smallest} to {largest}",
            f"choose {name} within these bounds",
        )


def check_number(name: str, value: object, smallest: float, largest: float) -> None:
    """Refuses anything but a finite number between the two bounds."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not smallest <= value <= largest:  # type: ignore[operator]
        raise InvalidInputError(
            f"setting {name} is {value!r}, expected a number from {smallest:g} to {largest:g}",
            f"choose {name} within these bounds",
        )


def check_drawing(temperature: float, top_p: float, seed: int) -> None:
    """Refuses what words cannot be drawn with."""
    check_number("temperature", temperature, 0.0, 10.0)
    check_number("top_p", top_p, 0.0, 1.0)
    if top_p == 0:
        raise InvalidInputError(
            "setting top_p is 0, expected a number above 0 and at most 1",
            "leave temperature at 0 for the likeliest token",
        )
    check_integer("seed", seed, 0, 2**63 - 1)


def checked_stop(given: object) -> tuple[str, ...]:
    """One stop string or several, none of them empty."""
    stop = (given,) if isinstance(given, str) else given
    if not isinstance(stop, (tuple, list)) or not all(isinstance(entry, str) and entry for entry in stop):
        raise InvalidInputError(f"setting stop is {given!r}, expected non-empty strings", "for example stop=['.']")
    if len(stop) > MAX_STOP_STRINGS:
        raise InvalidInputError(
            f"setting stop has {len(stop)} strings, expected at most {MAX_STOP_STRINGS}", "pass fewer of them"
        )
    return tuple(stop)


class GenerationOptions(TypedDict, total=False):
    """The keywords of `generate_caption`, `stream_caption` and `generate_captions`; see GenerationSettings."""

    num_beams: int | None
    max_new_tokens: int | None
    length_penalty: float | None
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...] | list[str] | str
    deadline_seconds: float


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How a caption is searched for.

    num_beams         1 is greedy (or sampling, with a temperature); None takes the model file's own value, or 1 with a
                      temperature or stop strings
    max_new_tokens    at most this many tokens; None takes the model file's own value
    length_penalty    beams compete by log-probability / length ** length_penalty; None takes the model file's value
    temperature       0 takes the likeliest token; above, tokens are drawn from probabilities ** (1 / temperature)
    top_p             drawing is limited to the likeliest tokens that sum to this; read only with a temperature
    seed              the same seed, picture and model file draw the same tokens
    stop              the caption ends before the first of these strings; excludes more than one beam
    deadline_seconds  DeadlineExceededError after this long; 0 is no deadline
    """

    num_beams: int | None = None
    max_new_tokens: int | None = None
    length_penalty: float | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    deadline_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.num_beams is not None:
            check_integer("num_beams", self.num_beams, 1, MAX_BEAMS)
        if self.max_new_tokens is not None:
            check_integer("max_new_tokens", self.max_new_tokens, 1, MAX_NEW_TOKENS)
        if self.length_penalty is not None:
            check_number("length_penalty", self.length_penalty, -4.0, 4.0)
        check_drawing(self.temperature, self.top_p, self.seed)
        object.__setattr__(self, "stop", checked_stop(self.stop))
        check_number("deadline_seconds", self.deadline_seconds, 0.0, MAX_DEADLINE_SECONDS)
        if self.needs_one_beam and self.num_beams is not None and self.num_beams > 1:
            name = "temperature" if self.temperature > 0 else "stop"
            raise InvalidInputError(
                f"settings {name}={getattr(self, name)!r} and num_beams={self.num_beams} exclude each other",
                f"drop {name} for beam search, or num_beams for one sentence at a time",
            )

    @property
    def needs_one_beam(self) -> bool:
        """Whether tokens are final when they are written: beams change their mind until the end."""
        return self.temperature > 0 or bool(self.stop)


class OcrOptions(TypedDict, total=False):
    """The keywords of `extract_text`; see OcrSettings."""

    max_side: int
    threshold: float
    box_threshold: float
    unclip_ratio: float
    max_boxes: int
    min_confidence: float
    batch_lines: int
    deadline_seconds: float


@dataclass(frozen=True, kw_only=True)
class OcrSettings:
    """How text is looked for and read. The defaults are the values that tinyocr 0.1.0 runs PP-OCRv6 tiny with.

    max_side          the picture's longer side is scaled down to this for finding text; up to 4096 for small print.
                      A picture more than twice as long as wide is looked at in pieces instead.
    threshold         a pixel is text when its probability is above; lower finds fainter text
    box_threshold     a box is read when the mean probability inside is at least this
    unclip_ratio      boxes grow by area * ratio / perimeter on every side
    max_boxes         of more boxes, the likeliest are read
    min_confidence    lines below are left out
    batch_lines       lines recognized together; more needs more memory
    deadline_seconds  DeadlineExceededError after this long; 0 is no deadline
    """

    max_side: int = 960
    threshold: float = 0.2
    box_threshold: float = 0.4
    unclip_ratio: float = 1.4
    max_boxes: int = 3000
    min_confidence: float = 0.5
    batch_lines: int = 8
    deadline_seconds: float = 0.0

    def __post_init__(self) -> None:
        check_integer("max_side", self.max_side, 32, 4096)
        check_number("threshold", self.threshold, 0.01, 0.99)
        check_number("box_threshold", self.box_threshold, 0.01, 0.99)
        check_number("unclip_ratio", self.unclip_ratio, 0.0, 10.0)
        check_integer("max_boxes", self.max_boxes, 1, 100_000)
        check_number("min_confidence", self.min_confidence, 0.0, 1.0)
        check_integer("batch_lines", self.batch_lines, 1, 64)
        check_number("deadline_seconds", self.deadline_seconds, 0.0, MAX_DEADLINE_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A named operating point: what a model uses where the caller did not choose.

    threads     0 is every CPU that this process may use
    num_beams   None takes the model file's own value
    max_side    at which text is looked for, as in OcrSettings
    """

    name: str
    summary: str
    threads: int
    num_beams: int | None
    max_side: int = OcrSettings.max_side

    def __post_init__(self) -> None:
        check_integer("threads", self.threads, 0, MAX_THREADS)
        if self.num_beams is not None:
            check_integer("num_beams", self.num_beams, 1, MAX_BEAMS)
        check_integer("max_side", self.max_side, 32, 4096)


# Points of the fronts that docs/adaptive.md measured on the shipped model: 3 and 5 beams write no better sentences than
# 2, and 736 pixels lose boxes of small print but no characters.
PROFILES: Final[dict[str, Profile]] = {
    profile.name: profile
    for profile in (
        Profile(
            name="fast",
            summary="greedy search, text looked for at 736 pixels, on every CPU",
            threads=0,
            num_beams=1,
            max_side=736,
        ),
        Profile(
            name="balanced", summary="2 beams, text looked for at 960 pixels, on every CPU", threads=0, num_beams=2
        ),
        Profile(
            name="efficient",
            summary="greedy search, text looked for at 736 pixels, on one CPU",
            threads=1,
            num_beams=1,
            max_side=736,
        ),
    )
}


def profile_named(name: str) -> Profile:
    """The profile of that name, or InvalidInputError with the closest one."""
    profile = PROFILES.get(name) if isinstance(name, str) else None
    if profile is None:
        raise InvalidInputError(f"unknown profile {name!r}", did_you_mean(str(name), PROFILES))
    return profile


def settings_from(settings_type: type[_Settings], values: Mapping[str, Any]) -> _Settings:
    """Makes `settings_type` from names and values, refusing names that it does not have."""
    known = [field.name for field in fields(settings_type)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise InvalidInputError(f"unknown setting {name!r}", did_you_mean(name, known))
    return settings_type(**values)
