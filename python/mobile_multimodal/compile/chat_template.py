"""Turns a chat template (Jinja) into plain strings around messages, if it is made of such strings.

The template is rendered on probe conversations in jinja2's sandbox; what stands around the probes becomes the strings,
and further conversations prove that the strings say what the template says. The model file then needs no Jinja.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mobile_multimodal.compile.container import Metadata

ROLES: Final = ("system", "user", "assistant")
_MOST_BYTES: Final = 1 << 16
Message = tuple[str, str]  # role, content
# Contents that a template would show if it trimmed, escaped or looked at them.
_PROBES: Final = ("alpha", "  two words ", "<b>&\"'\n", "{{ x }} {% y %}", "ünïcode 字")


@dataclass(frozen=True)
class ChatStrings:
    """A conversation is `opening` (unless it begins with a system message), prefix + content + suffix of each message,
    and, where an answer is asked for, `reply`."""

    opening: str
    around: Mapping[str, tuple[str, str]]  # prefix and suffix by role
    reply: str

    def render(self, messages: Sequence[Message], *, asks_reply: bool) -> str:
        text = "" if messages[0][0] == "system" else self.opening
        for role, content in messages:
            prefix, suffix = self.around[role]
            text += prefix + content + suffix
        return text + (self.reply if asks_reply else "")

    def add_to(self, metadata: Metadata) -> None:
        """Adds the keys `mm.chat.*`."""
        metadata.string("mm.chat.opening", self.opening)
        for role in ROLES:
            prefix, suffix = self.around[role]
            metadata.string(f"mm.chat.{role}.prefix", prefix)
            metadata.string(f"mm.chat.{role}.suffix", suffix)
        metadata.string("mm.chat.reply", self.reply)


def derive_chat_strings(template: str, names: Mapping[str, str]) -> ChatStrings | str:
    """The strings of a template, or why there are none.

    names: `bos_token` and `eos_token`, which templates may write.
    """
    if len(template.encode()) > _MOST_BYTES:
        return f"it has more than {_MOST_BYTES} bytes"
    from jinja2 import TemplateError
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    try:
        compiled = environment.from_string(template)

        def render(messages: Sequence[Message], asks_reply: bool) -> str:
            content = [{"role": role, "content": text} for role, text in messages]
            return compiled.render(messages=content, add_generation_prompt=asks_reply, **names)

        found = _from_probes(render)
        if isinstance(found, str):
            return found
        for messages in _conversations():
            for asks_reply in (False, True):
                if render(messages, asks_reply) != found.render(messages, asks_reply=asks_reply):
                    return "it does more than to put strings around messages"
    except (TemplateError, SecurityError, OverflowError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        return f"it fails: {type(error).__name__}: {error}"
    return found


def _from_probes(render: object) -> ChatStrings | str:
    assert callable(render)
    talk: list[Message] = [
        ("system", "zqSYSTEMqz"),
        ("user", "zqFIRSTqz"),
        ("assistant", "zqANSWERqz"),
        ("user", "zqSECONDqz"),
    ]
    between = _between(render(talk, False), [content for _, content in talk])
    alone = _between(render([("user", "zqFIRSTqz")], False), ["zqFIRSTqz"])
    answered = _between(render(talk[:3], False), [content for _, content in talk[:3]])
    asked, not_asked = render(talk, True), render(talk, False)
    if between is None or alone is None or answered is None or not asked.startswith(not_asked):
        return "it does not write every message once, in order"
    user_suffix, assistant_suffix = between[4], answered[3]
    if not (between[2].startswith(user_suffix) and between[3].startswith(assistant_suffix)):
        return "what stands after a message depends on the next one"
    assistant_prefix = between[2][len(user_suffix) :]
    user_prefix = between[3][len(assistant_suffix) :]
    if not (between[1].endswith(user_prefix) and alone[0].endswith(user_prefix)):
        return "what stands before a message depends on the one before"
    return ChatStrings(
        opening=alone[0][: len(alone[0]) - len(user_prefix)],
        around={
            "system": (between[0], between[1][: len(between[1]) - len(user_prefix)]),
            "user": (user_prefix, user_suffix),
            "assistant": (assistant_prefix, assistant_suffix),
        },
        reply=asked[len(not_asked) :],
    )


def _between(text: str, contents: Sequence[str]) -> list[str] | None:
    """What stands before, between and after the contents; None where one is missing or occurs twice."""
    parts = []
    for content in contents:
        before, found, text = text.partition(content)
        if not found or content in text:
            return None
        parts.append(before)
    return [*parts, text]


def _conversations() -> list[list[Message]]:
    """Talks with and without a system message, of 1 to 5 messages, with every probe in every place."""
    talks: list[list[Message]] = []
    for shift in range(len(_PROBES)):
        contents = [_PROBES[(place + shift) % len(_PROBES)] for place in range(5)]
        roles = ("user", "assistant", "user", "assistant", "user")
        for count in (1, 2, 3, 5):
            turns = list(zip(roles[:count], contents, strict=False))
            talks += [turns, [("system", contents[count % 5]), *turns]]
    return talks
