"""Captions and embeds frames as they come: the streams of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mobile_multimodal.images import ImageSource, Pixels
from mobile_multimodal.settings import GenerationOptions, GenerationSettings, settings_from
from mobile_multimodal.tasks.cancellation import Cancellation
from mobile_multimodal.tasks.caption import Caption
from mobile_multimodal.tasks.frames import CHANGE_THRESHOLD, Frames, FrameStream
from mobile_multimodal.tasks.language import Vector

if TYPE_CHECKING:
    from typing_extensions import Unpack


class FrameTasks:
    """What MobileMultiModalLLM does with frames, by its methods for one picture."""

    def caption_stream(
        self,
        frames: Frames,
        *,
        live: bool = False,
        change_threshold: float = CHANGE_THRESHOLD,
        on_error: Literal["raise", "return"] = "raise",
        cancellation: Cancellation | None = None,
        **options: Unpack[GenerationOptions],
    ) -> FrameStream[Caption]:
        """A caption of each frame that changed, as the frames come; the caption before where they did not.

        frames  an iterable of frames (each a picture as generate_caption takes it), or a function that gives the next
                frame and None at the end; read on a thread of the stream
        live    of the frames that come while one is worked on, the last is kept and the others are dropped; without,
                the source waits and no frame is dropped
        change_threshold  a frame has changed when its mean difference from the last one that was worked on, in grey
                levels of its 32 x 32 miniature, is above; below 0 every frame has (docs/adaptive.md)
        on_error  "raise" ends the stream at a frame that fails; "return" puts the error into its result and goes on
        options   those of generate_caption; deadline_seconds is that of each frame
        Close the stream, or use it in a `with` block. Its iteration raises FrameSourceError where the source fails, and
        what generate_caption raises, with the index of the frame.
        """
        settings_from(GenerationSettings, options)  # a wrong one is refused before a frame is read

        def write(square: Pixels) -> Caption:
            return self.generate_caption(square, cancellation=cancellation, **options)

        return FrameStream(
            frames,
            self._square,
            write,
            live=live,
            change_threshold=change_threshold,
            on_error=on_error,
            cancellation=cancellation,
        )

    def embed_stream(
        self,
        frames: Frames,
        *,
        live: bool = False,
        change_threshold: float = CHANGE_THRESHOLD,
        on_error: Literal["raise", "return"] = "raise",
        cancellation: Cancellation | None = None,
    ) -> FrameStream[Vector]:
        """The vector of each frame that changed, as the frames come: caption_stream with embed_image."""

        def embed(square: Pixels) -> Vector:
            return self.embed_image(square, cancellation=cancellation)

        return FrameStream(
            frames,
            self._square,
            embed,
            live=live,
            change_threshold=change_threshold,
            on_error=on_error,
            cancellation=cancellation,
        )

    if TYPE_CHECKING:  # what the model has

        def generate_caption(
            self,
            image: ImageSource,
            *,
            latency_budget_ms: float | None = None,
            cancellation: Cancellation | None = None,
            **options: Unpack[GenerationOptions],
        ) -> Caption: ...

        def embed_image(
            self,
            image: ImageSource,
            *,
            latency_budget_ms: float | None = None,
            deadline_seconds: float | None = None,
            cancellation: Cancellation | None = None,
        ) -> Vector: ...

        def _square(self, image: ImageSource) -> Pixels: ...
