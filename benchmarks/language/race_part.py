"""The language part: SmolLM2-135M in this core and llama.cpp, the same 2-bit weights in both, linear layers alone."""

from __future__ import annotations

from typing import Any

from language.workloads import Workload
from race.contestant import Entry
from race.engine import Array, agreement, correlation
from race.heat_record import Work, heat_record
from race.peers import PeerList
from race.rounds import Heat, finite, run_heat
from race.settings import RaceSettings

WORKS = {
    "prefill_64": Work("reading 64 tokens", 64, "tokens"),
    "prefill_256": Work("reading 256 tokens", 256, "tokens"),
    "decode_64": Work("writing 64 tokens", 64, "tokens"),
}
_CORE = "language.core_engine:open_engine"
_PEER = "language.llama_cpp_engine:open_engine"
_LINEAR = "language.linear_layers:"
# Each file of the peer against the one of ours with as many bits.
RIVALS = {
    "llama.cpp Q8_0": "ours W8",
    "llama.cpp Q4_0": "ours W4",
    "llama.cpp Q2_K": "ours W2",
    "llama.cpp TQ2_0": "ours W2",
}
SHARED_RIVALS = {
    "llama.cpp Q2_K, same weights": "ours W2, same weights",
    "llama.cpp TQ2_0, same widths": "ours W2, same weights",
}
LINEAR_RIVALS = {
    "MatMulNBits 4 bits": "ours W4",
    "MatMulNBits 2 bits": "ours W2",
    "MatMulNBits 2 bits, tables": "ours W2",
}


def measure(settings: RaceSettings, peers: PeerList) -> dict[str, Any]:
    """Heats and checks for the record."""
    heats: list[dict[str, Any]] = []
    checks: dict[str, Any] = {}
    has_peer = peers.has("llama.cpp", "gguf")
    for threads in settings.threads:
        if has_peer:
            heats += _model_heats(settings, threads, checks)
        if peers.has("onnxruntime", "onnx"):
            heats.append(_linear_heat(settings, threads, checks))
    return {"heats": heats, "checks": checks}


def _model_heats(settings: RaceSettings, threads: int, checks: dict[str, Any]) -> list[dict[str, Any]]:
    from language.model_files import our_file, our_shared_file, peer_file, shared_file, source_file

    source = source_file()
    kinds = ("Q8_0", "Q4_0", "Q2_K") if settings.is_quick else ("Q8_0", "Q4_0", "Q2_K", "TQ2_0")
    shared_kinds = ("Q2_K",) if settings.is_quick else ("Q2_K", "TQ2_0")
    shared = {kind: shared_file(source, kind) for kind in shared_kinds}
    entries = [
        Entry(f"ours W{bits}", _CORE, {"model": str(our_file(source, f"smollm2-w{bits}", bits))}) for bits in (8, 4, 2)
    ]
    entries += [Entry(f"llama.cpp {kind}", _PEER, {"model": str(peer_file(source, kind))}) for kind in kinds]
    shared_entries = [Entry("ours W2, same weights", _CORE, {"model": str(our_shared_file(shared["Q2_K"]))})]
    shared_entries += [
        Entry(name, _PEER, {"model": str(shared[kind])})
        for kind, name in zip(("Q2_K", "TQ2_0"), SHARED_RIVALS, strict=True)
        if kind in shared
    ]
    runs = {"prefill_64": 1, "decode_64": 1} if settings.is_quick else {workload.value: 1 for workload in Workload}
    works = {name: WORKS[name] for name in runs}
    records = []
    for title, chosen, rivals, seconds, quick_seconds in (
        ("SmolLM2-135M", entries, RIVALS, 70.0, 10.0),
        ("the same 2-bit weights", shared_entries, SHARED_RIVALS, 30.0, 5.0),
    ):
        time, rounds = settings.heat(seconds, quick_seconds)
        heat = run_heat(
            chosen,
            runs,
            threads=threads,
            seconds=time,
            rounds=rounds,
            label=title,
            with_answers=not settings.is_quick,
        )
        present = {peer: ours for peer, ours in rivals.items() if peer in heat.times}
        records.append(heat_record(title, heat, works, present))
        if heat.answers:
            checks[f"{title}, {threads} threads"] = _compared(heat, present)
    return records


def _compared(heat: Heat, rivals: dict[str, str]) -> dict[str, Any]:
    """Does each pair compute the same? Only files of 8 bits and those of the same weights can be expected to."""
    result: dict[str, Any] = {}
    for name, answer in heat.answers.items():
        if not finite(answer):
            raise SystemExit(f"race: {name} computes numbers that are not finite")
    for peer, ours in rivals.items():
        first, second = heat.answers[ours], heat.answers[peer]
        result[f"{ours} - {peer}"] = {
            "same_likeliest_token": round(agreement(first["choices"], second["choices"]), 4),
            "correlation_of_logits": round(correlation(first["logits"], second["logits"]), 5),
            "same_tokens_of_greedy_text": _common_start(first["greedy"], second["greedy"]),
        }
    return result


def _common_start(first: Array, second: Array) -> int:
    """How many tokens two continuations share from their beginning."""
    differs = first != second
    return int(differs.argmax()) if differs.any() else len(first)


def _linear_heat(settings: RaceSettings, threads: int, checks: dict[str, Any]) -> dict[str, Any]:
    from language.linear_layers import WORKLOADS, weights_of

    entries = [Entry(f"ours W{bits}", _LINEAR + "open_core", {"bits": bits}) for bits in (4, 2)]
    entries += [
        Entry("MatMulNBits 4 bits", _LINEAR + "open_onnxruntime", {"bits": 4}),
        Entry("MatMulNBits 2 bits", _LINEAR + "open_onnxruntime", {"bits": 2}),
        Entry("MatMulNBits 2 bits, tables", _LINEAR + "open_onnxruntime", {"bits": 2, "with_table": True}),
    ]
    names = [name for name in WORKLOADS if not settings.is_quick or name.endswith("rows_1")]
    title = "linear layers of SmolLM2-135M"
    seconds, rounds = settings.heat(20.0, 3.0)
    heat = run_heat(entries, dict.fromkeys(names, 5), threads=threads, seconds=seconds, rounds=rounds, label=title)
    works = {
        name: Work(
            f"{WORKLOADS[name][0].replace('_', ' ')}, {WORKLOADS[name][1]} row{'s' if WORKLOADS[name][1] > 1 else ''}",
            weights_of(WORKLOADS[name][0]) * WORKLOADS[name][1],
            "weights",
        )
        for name in names
    }
    checks[f"{title}, {threads} threads"] = {
        f"{ours} - {peer}": {
            "least_correlation_of_outputs": round(
                min(correlation(heat.answers[ours][name], heat.answers[peer][name]) for name in names), 5
            )
        }
        for peer, ours in LINEAR_RIVALS.items()
    }
    return heat_record(title, heat, works, LINEAR_RIVALS)
