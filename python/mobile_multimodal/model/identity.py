"""Tells apart models whose embeddings cannot be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

EMBEDDING_PROGRAMS: Final = ("encode_image", "embed_image", "embed_text")
_TEXT_KEYS: Final = ("mm.image.size", "mm.text.max_length", "mm.wordpiece.tokens")


@dataclass(frozen=True, kw_only=True)
class EmbeddingIdentity:
    """What made an embedding: two with one digest may be compared.

    name    for people, e.g. "mobile-mm-llm-int2 0.2"
    digest  64 hexadecimal digits
    """

    name: str
    digest: str


def embedding_identity(metadata: Mapping[str, Any]) -> EmbeddingIdentity:
    """The identity of a model file's embeddings: its programs for them, their weights' SHA-256, their tokenizer.

    What other programs compute is left out: a file with a better captioner keeps its galleries.
    """
    parts: dict[str, Any] = {key: metadata.get(key) for key in _TEXT_KEYS}
    sections: set[str] = set()
    for program in EMBEDDING_PROGRAMS:
        prefix = f"mm.program.{program}."
        parts |= {key: value for key, value in metadata.items() if key.startswith(prefix)}
        sections |= {str(tensor).split(".")[0] for tensor in metadata.get(f"{prefix}tensors", ())}
    # The numbers of operations in a program's code are places in this list.
    parts["mm.op_names"] = metadata.get("mm.op_names")
    parts |= {f"mm.sha256.{section}": metadata.get(f"mm.sha256.{section}") for section in sections}
    written = json.dumps(parts, sort_keys=True, default=str).encode()
    name = " ".join(str(metadata[key]) for key in ("general.name", "general.version") if metadata.get(key))
    return EmbeddingIdentity(name=name or "a model without a name", digest=hashlib.sha256(written).hexdigest())
