"""Opens the model file in a worker: checked, named by its bytes, and warm before the first job."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mobile_multimodal.errors import ModelFormatError, UnsupportedError
from mobile_multimodal.images import Pixels, load_image
from mobile_multimodal.model.hub import find_model
from mobile_multimodal.model.native_core import load_native
from mobile_multimodal.serving.workers.file_digest import sha256_of_file
from mobile_multimodal.serving.workers.pool_settings import PoolSettings
from mobile_multimodal.serving.workers.resident_memory import return_free_memory
from mobile_multimodal.tasks.language import ANSWER_PROGRAMS, EMBED_IMAGE_PROGRAMS, EMBED_TEXT_PROGRAMS
from mobile_multimodal.tasks.ocr import OCR_PROGRAMS

if TYPE_CHECKING:
    from mobile_multimodal.native import Engine, Session

_WARM_UP_SECONDS: Final = 60.0


class OpenModel:
    """An engine and the session that a worker keeps. Raises what a bad file deserves.

    The session is used as it is, not through MobileMultiModalLLM: a worker has one caller, so there are no turns to
    take, and the copy of the file's word lists that the class makes would be 2 MB in every worker.
    """

    def __init__(self, settings: PoolSettings) -> None:
        self._native = load_native()
        path = find_model(settings.model)
        before = path.stat()
        self.engine: Engine = self._native.Engine(str(path))
        self.engine.verify()
        sha256 = sha256_of_file(path)
        after = path.stat()
        if (before.st_ino, before.st_size, before.st_mtime_ns) != (after.st_ino, after.st_size, after.st_mtime_ns):
            raise ModelFormatError(f"model file {str(path)!r} changed while it was opened", "start the server again")
        self._threads = settings.threads_per_worker
        self._programs = frozenset(self.engine.programs())
        self.session: Session = self._native.Session(
            self.engine, threads=self._threads, feature_cache_bytes=settings.feature_cache_bytes
        )
        metadata = self.engine.metadata()
        self.identity: dict[str, Any] = {  # as JSON, for the front
            "name": str(metadata.get("general.name", "")),
            "version": str(metadata.get("general.version", "")),
            "sha256": sha256,
            "path": self.engine.path,
            "file_bytes": self.engine.file_bytes,
            "programs": list(self.engine.programs()),
            "isa": self._native.isa(),
        }

    def make_session(self) -> Session:
        """A session beside the one that is kept, for a task whose memory is not to stay."""
        return self._native.Session(self.engine, threads=self._threads, feature_cache_bytes=0)  # type: ignore[no-any-return]

    def load_square(self, picture: memoryview) -> Pixels:
        """A picture in the size that the encoder sees. The core's own resize leaves such a one as it is, so all tasks
        answer as they do on the file itself."""
        side = self.engine.image_size
        pixels = load_image(picture, model_side=side)
        return self._native.resize(pixels, side, side) if side > 0 else pixels

    def require(self, ability: str, programs: Sequence[str]) -> None:
        """Raises UnsupportedError when the file lacks one of the programs."""
        missing = [name for name in programs if name not in self._programs]
        if missing:
            raise UnsupportedError(
                f"model file {self.engine.path!r} cannot {ability}: it has no program {' and no '.join(missing)}",
                f"load a model file with the programs {' and '.join(programs)}",
            )

    def require_captions(self) -> None:
        """Raises UnsupportedError when the file cannot caption."""
        if not self.engine.can_caption:
            raise UnsupportedError(
                f"model file {self.engine.path!r} cannot caption: its programs are {', '.join(sorted(self._programs))}",
                "load another model file",
            )

    def warm_up(self) -> None:
        """Does every task that the file can once, so that the first request finds memory mapped and plans made."""
        side = max(self.engine.image_size, 32)
        grey = np.full((side, side, 3), 127, dtype=np.uint8)
        seconds = _WARM_UP_SECONDS
        if self.engine.can_caption:
            self.session.caption(grey, deadline_seconds=seconds)
        if self._programs.issuperset(OCR_PROGRAMS):
            self.make_session().read_text(grey, deadline_seconds=seconds)
        if self._programs.issuperset(ANSWER_PROGRAMS):
            self.session.choose(grey, "What is it?", ["grey", "green"], deadline_seconds=seconds)
        if self._programs.issuperset(EMBED_IMAGE_PROGRAMS):
            self.session.embed_image(grey, deadline_seconds=seconds)
        if self._programs.issuperset(EMBED_TEXT_PROGRAMS):
            self.session.embed_text("grey", deadline_seconds=seconds)
        gc.collect()
        return_free_memory()
