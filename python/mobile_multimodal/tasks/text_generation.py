"""Writes text: the part of a loaded model that answers prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mobile_multimodal.errors import UnsupportedError
from mobile_multimodal.model.inference_config import InferenceConfig
from mobile_multimodal.settings import settings_from
from mobile_multimodal.tasks.cancellation import Cancellation, flag_of
from mobile_multimodal.tasks.deadline import Deadline
from mobile_multimodal.tasks.performance import PerformanceCounter
from mobile_multimodal.tasks.piece_stream import TokenCallback
from mobile_multimodal.tasks.shared_session import SharedSession
from mobile_multimodal.tasks.text import (
    TEXT_PROGRAMS,
    GeneratedText,
    Prompt,
    TextStream,
    check_prompt,
    text_from_record,
)
from mobile_multimodal.tasks.text_settings import TextOptions, TextSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

_CheckedPrompt = str | list[tuple[str, str]]


class TextGeneration:
    """The methods of MobileMultiModalLLM that write text; it makes the attributes below."""

    _config: InferenceConfig
    _shared: SharedSession
    _counter: PerformanceCounter
    _most_tokens: int | None

    def generate_text(
        self,
        prompt: Prompt,
        *,
        template: bool | None = None,
        cancellation: Cancellation | None = None,
        **options: Unpack[TextOptions],
    ) -> GeneratedText:
        """The answer to a text or to the messages of a conversation.

        prompt    a string, or messages: {"role": "system" | "user" | "assistant", "content": ...} or (role, content)
        template  whether the model file's chat template is put around it; None: if the file has one. False continues a
                  string as it is
        cancellation  lets another thread end the call
        options   max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop, deadline_seconds:
                  see TextSettings
        What the prompt has in common with the one before and its answer is not computed again. Text that spells a
        control token, such as <|im_end|>, is never read as one.
        Raises UnsupportedError (the model file cannot write text, or has no chat template), InvalidInputError (the
        prompt is longer than the model's context), DeadlineExceededError, OperationCancelledError.
        """
        settings = self._text_settings(options)
        checked = check_prompt(prompt)
        with self._counter.call("generate_text") as tokens:
            made = self._write_text(checked, template, settings, None, cancellation)
            tokens.append(len(made.tokens))
            return made

    def stream_text(
        self,
        prompt: Prompt,
        *,
        template: bool | None = None,
        cancellation: Cancellation | None = None,
        **options: Unpack[TextOptions],
    ) -> TextStream:
        """The pieces of the text that `generate_text` gives, as they are written.

        Iterate over it, or use it in a `with` block; leaving early cancels the rest. After the last piece its
        `generated` is the whole.
        """
        settings = self._text_settings(options)
        checked = check_prompt(prompt)
        self._shared.require("write text", TEXT_PROGRAMS)

        def write(on_token: TokenCallback) -> GeneratedText:
            with self._counter.call("generate_text") as tokens:
                made = self._write_text(checked, template, settings, on_token, cancellation)
                tokens.append(len(made.tokens))
                return made

        return TextStream(write)

    def _text_settings(self, options: Mapping[str, Any]) -> TextSettings:
        defaults: dict[str, Any] = {"deadline_seconds": self._config.timeout_seconds}
        if self._most_tokens is not None:
            defaults["max_new_tokens"] = self._most_tokens
        return settings_from(TextSettings, {**defaults, **options})

    def _write_text(
        self,
        prompt: _CheckedPrompt,
        template: bool | None,
        settings: TextSettings,
        on_token: TokenCallback | None,
        cancellation: Cancellation | None,
    ) -> GeneratedText:
        deadline = Deadline(settings.deadline_seconds)
        self._shared.require("write text", TEXT_PROGRAMS)
        with self._shared.turn(deadline) as (session, left):
            engine = self._shared.engine
            record = session.generate_text(
                **self._put(prompt, template, has_chat=engine is not None and engine.has_chat),
                **(asdict(settings) | {"stop": list(settings.stop), "deadline_seconds": left}),
                on_token=on_token,
                cancellation=flag_of(cancellation),
            )
        return text_from_record(record)

    def _put(self, prompt: _CheckedPrompt, template: bool | None, *, has_chat: bool) -> dict[str, Any]:
        """What the core takes: messages for the template, or a text that it continues."""
        is_chat = not isinstance(prompt, str)
        if is_chat and template is False:
            raise UnsupportedError(
                "messages without a chat template have no form that the model knows", "pass one string to continue"
            )
        if not has_chat and (is_chat or template):
            raise UnsupportedError(
                "the model file has no chat template, so it cannot put messages", "pass a string, with template=False"
            )
        if isinstance(prompt, str):
            return {"messages": [("user", prompt)]} if has_chat and template is not False else {"text": prompt}
        return {"messages": prompt}
