"""Makes every file that the race needs - downloads, conversions, builds - so that the race itself only measures."""

from __future__ import annotations

from race.core_build import core_build
from race.peers import PeerList


def make_all(peers: PeerList) -> None:
    """Everything that is not there yet, for a full race."""
    core_build()
    if peers.has("gguf", "llama.cpp"):
        from language.model_files import LLAMA_CPP_TYPES, our_file, our_shared_file, peer_file, shared_file, source_file

        source = source_file()
        for bits in (8, 4, 2):
            our_file(source, f"smollm2-w{bits}", bits)
        for kind in LLAMA_CPP_TYPES:
            peer_file(source, kind)
        shared_file(source, "TQ2_0")
        our_shared_file(shared_file(source, "Q2_K"))
    if peers.has("onnxruntime", "PyTorch", "encoder weights"):
        from vision.networks import NETWORKS, float_file, int8_file

        for name in NETWORKS:
            float_file(name)
            int8_file(name)
    from tasks.page_engines import drawn_pages

    for each in (1, 2):
        drawn_pages(each)
