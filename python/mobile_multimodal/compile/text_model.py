"""Makes a model file that writes text from a GGUF file of a Llama model: weights, tokenizer, chat strings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mobile_multimodal.compile.build import BuildSummary, ModelCard, Report, card_metadata, summarize_sections
from mobile_multimodal.compile.chat_template import ChatStrings, derive_chat_strings
from mobile_multimodal.compile.container import add_programs, write_container
from mobile_multimodal.compile.gguf_source import GgufSource
from mobile_multimodal.compile.llama_decoder import build_text_decoder
from mobile_multimodal.compile.llama_gguf import LlamaWeights
from mobile_multimodal.compile.llama_tokenizer import TextTokenizer, read_text_tokenizer
from mobile_multimodal.compile.program import TensorStore
from mobile_multimodal.compile.weight_codes import FLOAT_BITS
from mobile_multimodal.errors import InvalidInputError

# A cache row of SmolLM2-135M takes 1.5 KiB a layer in key and value: 2048 of them are 92 MB when all are written.
DEFAULT_CONTEXT: Final = 2048
MOST_CONTEXT: Final = 1 << 16


@dataclass(frozen=True)
class TextSource:
    """A GGUF file of a Llama model, and how to store it.

    bits       2, 4, 8, or 32 (floats), of the layers' matrices. 2 bits are rounded without training: for speed only
    head_bits  of the embedding and the output head; None is 8, or 32 beside floats
    context    the most tokens of a text; None is what the file says, at most 2048
    """

    gguf: Path
    bits: int = 8
    head_bits: int | None = None
    context: int | None = None


def build_text_model(out: Path, card: ModelCard, text: TextSource, report: Report) -> BuildSummary:
    """Imports the model and writes the file in one step. `report` gets a line for each stage.

    Raises NotFoundError, ModelFormatError (a damaged file), UnsupportedError (a model of another kind),
    InvalidInputError.
    """
    report(f"reading {text.gguf}")
    source = GgufSource(text.gguf)
    weights = LlamaWeights(source)
    tokenizer = read_text_tokenizer(source, weights.shape.vocabulary)
    context = _context(text.context, weights.shape.context)
    chat = _chat_strings(source, tokenizer, report)
    head_bits = text.head_bits or (FLOAT_BITS if text.bits == FLOAT_BITS else 8)
    report(f"rounding {weights.shape.layers} layers to {text.bits} bits, the output head to {head_bits}")
    tensors = TensorStore()
    decoder = build_text_decoder(weights, tensors, context=context, bits=text.bits, head_bits=head_bits)

    metadata = card_metadata(card)
    add_programs(metadata, decoder.programs, tensors, decoder.states)
    tokenizer.add_to(metadata)
    if chat is not None:
        chat.add_to(metadata)
    report(f"writing {out}")
    size = write_container(out, metadata, tensors)
    return BuildSummary(out, size, decoder.programs, summarize_sections(tensors))


def license_of(gguf: Path) -> str | None:
    """The licence that a GGUF file names."""
    found = GgufSource(gguf).metadata.get("general.license")
    return found if isinstance(found, str) else None


def _context(asked: int | None, model: int) -> int:
    if asked is None:
        return min(model, DEFAULT_CONTEXT)
    if not 1 <= asked <= min(model, MOST_CONTEXT):
        raise InvalidInputError(
            f"a context of {asked} tokens, expected 1 to {min(model, MOST_CONTEXT)}",
            hint=f"the model was made for {model} tokens.",
        )
    return asked


def _chat_strings(source: GgufSource, tokenizer: TextTokenizer, report: Report) -> ChatStrings | None:
    template = source.metadata.get("tokenizer.chat_template")
    if not isinstance(template, str):
        report("the file has no chat template: prompts are continued as they are")
        return None
    found = derive_chat_strings(template, tokenizer.names)
    if isinstance(found, ChatStrings):
        return found
    report(f"the chat template is left out, prompts are continued as they are: {found}")
    return None
