"""Takes secrets and pictures out of what is about to be logged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

REMOVED: Final = "[removed]"
MAX_TEXT: Final = 4096  # characters of one value that are logged
_MAX_DEPTH: Final = 6
_MAX_ITEMS: Final = 100

# A field whose name ends like this holds a secret, whatever its value looks like.
_SECRET_NAME: Final = re.compile(
    r"(?:authorization|cookie|password|passwd|passphrase|secret|tokens?|credentials?|signature|jwt|api_?key|private_?key)$"
)
_SECRET_PARAMETER: Final = (
    r"[\w.-]*(?:token|key|secret|passw(?:or)?d|signature|sig|credential|authorization|code|jwt)[\w-]*"
)
_HEADER: Final = r"(?:proxy-)?authorization|x-api-key|api[-_]?key|(?:set-)?cookie|x-auth-token|password|secret"

# In this order: what one rule leaves, the next one sees.
_RULES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    # data:image/png;base64,...
    (re.compile(r"(data:[\w/+.-]{0,64}(?:;[\w=.-]{1,64})*;base64,)[A-Za-z0-9+/=_%-]*"), r"\1[removed]"),
    # https://user:password@host (from the colon on: a rule that begins with plain text is fifty times as fast)
    (re.compile(r"(://)[^/\s@'\"]{1,512}@"), r"\1[removed]@"),
    # ?access_token=...&X-Amz-Signature=...
    (re.compile(rf"([?&;]{_SECRET_PARAMETER}(?:=|%3D))[^&;\s'\"<>]*", re.IGNORECASE), r"\1[removed]"),
    # {'x-api-key': '...'}, (b'cookie', b'...')
    (
        re.compile(rf"((?<![\w-])b?(['\"])(?:{_HEADER})\2\s*[:,=]\s*b?(['\"]))(?:(?!\3).)*", re.IGNORECASE | re.DOTALL),
        r"\1[removed]",
    ),
    # Authorization: ..., to the end of its line
    (re.compile(rf"((?<![\w-])(?:{_HEADER})\s*[:=]\s*)[^\r\n'\"]+", re.IGNORECASE), r"\1[removed]"),
    (re.compile(r"\b(bearer|basic)\s+(?!\[removed\])[A-Za-z0-9._~+/=-]{12,}", re.IGNORECASE), r"\1 [removed]"),
    # A signed token, whole or cut off: base64url of '{"'
    (re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{7,}(?:\.[A-Za-z0-9_-]*){0,4}"), REMOVED),
    # API keys of this server, and of those that it resembles
    (re.compile(r"(?<![A-Za-z0-9])(?:mm_|sk-)[A-Za-z0-9_-]{16,}"), REMOVED),
    # Anything as long as this in one piece is a picture or a key, no word.
    (re.compile(r"[A-Za-z0-9+/_-]{120,}={0,2}"), REMOVED),
)


def without_secrets(value: Any, name: str = "", depth: int = 0) -> Any:
    """The value as it may be logged: made of text, numbers, lists and dicts alone, short, and without secrets."""
    if value is None or isinstance(value, (bool, int, float)):
        return value  # a number is no secret, and `first_token` is a time
    if name and _SECRET_NAME.search(name.lower().replace("-", "_")):
        return REMOVED
    if isinstance(value, str):
        return _text_without_secrets(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"  # a body or a picture
    if depth >= _MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        items = list(value.items())[:_MAX_ITEMS]
        return {str(_text_without_secrets(str(key))): without_secrets(item, str(key), depth + 1) for key, item in items}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], (str, bytes)):
        return [_shown_name(value[0]), without_secrets(value[1], _shown_name(value[0]), depth + 1)]  # a header field
    if isinstance(value, (list, tuple, set, frozenset)):
        return [without_secrets(item, "", depth + 1) for item in list(value)[:_MAX_ITEMS]]
    return _text_without_secrets(str(value))


def _shown_name(name: str | bytes) -> str:
    return _text_without_secrets(name.decode("latin-1") if isinstance(name, bytes) else name)


def _text_without_secrets(text: str) -> str:
    if text.isalnum() and len(text) < 120 and "eyJ" not in text:
        return text  # most values: every other rule needs a space or a sign
    # Cut first: a rule takes time in proportion to what it sees, and callers choose how long that is.
    cut = len(text) - MAX_TEXT
    text = text[:MAX_TEXT]
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return f"{text}... ({cut} characters more)" if cut > 0 else text
