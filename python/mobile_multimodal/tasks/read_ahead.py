"""Loads the next pictures on a thread of its own while the model works on those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final

from mobile_multimodal.errors import MobileMultiModalError
from mobile_multimodal.images import ImageSource, Pixels

_PICTURES_AHEAD: Final = 2  # of batches of one; a bigger batch is read ahead whole


def read_in_batches(
    images: Iterable[ImageSource], load: Callable[[ImageSource], Pixels], size: int
) -> Iterator[list[Future[Pixels]]]:
    """`size` pictures at a time, the last time what is left; their results may still be under way."""
    sources = iter(images)
    pending: deque[Future[Pixels]] = deque()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="mobile-mm-load") as loader:
        try:
            while True:
                wanted = size + max(size, _PICTURES_AHEAD) - len(pending)
                pending.extend(loader.submit(load, source) for source in islice(sources, wanted))
                if not pending:
                    return
                yield [pending.popleft() for _ in range(min(size, len(pending)))]
        finally:
            for future in pending:
                future.cancel()


def loaded(future: Future[Pixels]) -> Pixels | MobileMultiModalError:
    """The picture, or why it could not be loaded."""
    try:
        return future.result()
    except MobileMultiModalError as error:
        return error
