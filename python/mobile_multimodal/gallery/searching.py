"""Holds what a search may be asked, and what it gives."""

from __future__ import annotations

import calendar
import datetime
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict

from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.settings import check_integer

if TYPE_CHECKING:
    import os

MAX_RESULTS: Final = 10_000

_DATE: Final = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")


class SearchOptions(TypedDict, total=False):
    """The keywords of `search_text` and `search_picture`; see SearchSettings."""

    k: int
    folder: str | os.PathLike[str] | None
    since: str | datetime.date | None
    until: str | datetime.date | None


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What a search looks at.

    k       at most this many pictures
    folder  only pictures below this folder: relative to the gallery's, or absolute
    since   only pictures taken on or after this day: a date, "2026", "2026-07" or "2026-07-14"
    until   only pictures taken on or before the last day of this year, month, or this day
    """

    k: int = 10
    folder: str | os.PathLike[str] | None = None
    since: str | datetime.date | None = None
    until: str | datetime.date | None = None

    def __post_init__(self) -> None:
        check_integer("k", self.k, 1, MAX_RESULTS)
        first, last = self.days()
        if first is not None and last is not None and first > last:
            raise InvalidInputError(
                f"setting since is {self.since!r} and until {self.until!r}, expected since before until", "swap them"
            )

    def days(self) -> tuple[datetime.date | None, datetime.date | None]:
        """(first, last) day of what is looked for."""
        return _day("since", self.since, is_last=False), _day("until", self.until, is_last=True)


@dataclass(frozen=True, kw_only=True)
class GalleryHit:
    """A picture that was found.

    path    of the file
    score   cosine of the angle between its vector and that of the query, -1 to 1
    taken   local time: from the camera, or when the file was last changed
    copies  further files with the same bytes
    """

    path: Path
    score: float
    taken: datetime.datetime
    copies: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return str(self.path)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for JSON."""
        return {
            "path": str(self.path),
            "score": self.score,
            "taken": self.taken.isoformat(),
            "copies": [str(copy) for copy in self.copies],
        }


def _day(name: str, value: object, *, is_last: bool) -> datetime.date | None:
    if value is None:
        return None
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    match = _DATE.fullmatch(value) if isinstance(value, str) else None
    try:
        if match is None:
            raise ValueError
        year, month, day = (None if part is None else int(part) for part in match.groups())
        if year is None:
            raise ValueError
        if month is None:
            month = 12 if is_last else 1
        if day is None:
            day = calendar.monthrange(year, month)[1] if is_last else 1
        return datetime.date(year, month, day)
    except ValueError as error:  # calendar.IllegalMonthError is one
        raise InvalidInputError(
            f"setting {name} is {value!r}, expected a date, YYYY, YYYY-MM or YYYY-MM-DD", "for example 2026-07-14"
        ) from error
