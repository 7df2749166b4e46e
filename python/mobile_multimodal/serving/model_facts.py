"""Reads from a model file what the front of a server must know without running it."""

from __future__ import annotations

from dataclasses import dataclass

from mobile_multimodal.model.hub import find_model
from mobile_multimodal.model.identity import EmbeddingIdentity, embedding_identity
from mobile_multimodal.settings import MAX_NEW_TOKENS


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a file says about itself.

    most_caption_tokens  so many fit into its key-value caches
    embedding            what its embeddings may be compared with
    """

    most_caption_tokens: int
    embedding: EmbeddingIdentity


def facts_of_model(model: str) -> ModelFacts:
    """The facts of a model by name or path; raises what opening it raises. Mapping the file costs a millisecond."""
    from mobile_multimodal import native

    metadata = native.Engine(str(find_model(model))).metadata()
    kinds, rows = metadata.get("mm.state.kinds", ()), metadata.get("mm.state.rows", ())
    caches = [int(count) for kind, count in zip(kinds, rows, strict=True) if kind == "cache"]
    return ModelFacts(most_caption_tokens=min([MAX_NEW_TOKENS, *caches]), embedding=embedding_identity(metadata))
