"""The vision part: the encoder and the text networks in this core, onnxruntime (float32, int8) and OpenVINO."""

from __future__ import annotations

from typing import Any

from race.contestant import Entry
from race.engine import correlation
from race.heat_record import Work, heat_record
from race.peers import PeerList
from race.rounds import run_heat
from race.settings import RaceSettings

# Runs in a turn: about as long for each network.
RUNS = {"encoder_224": 10, "detect_640": 3, "detect_1280": 1, "recognize_48x320": 10}
_OURS, _FLOAT = "ours, 8-bit weights", "onnxruntime float32"


def measure(settings: RaceSettings, peers: PeerList) -> dict[str, Any]:
    """Heats and checks for the record; nothing without onnxruntime, by whose float32 outputs all are checked."""
    if not peers.has("onnxruntime", "PyTorch", "encoder weights"):
        return {"heats": [], "checks": {}}
    from vision.networks import NETWORKS, TITLES, float_file, int8_file

    networks = [name for name in NETWORKS if not settings.is_quick or name != "detect_1280"]
    for name in networks:
        float_file(name)
        int8_file(name)
    options = {"networks": networks}
    entries = [
        Entry(_OURS, "vision.engines:open_core", {**options, "model": str(settings.model)}),
        Entry(_FLOAT, "vision.engines:open_onnxruntime", options),
        Entry("onnxruntime int8", "vision.engines:open_onnxruntime", {**options, "is_int8": True}),
    ]
    if peers.has("OpenVINO"):
        entries.append(Entry("OpenVINO float32", "vision.engines:open_openvino", options))
    works = {name: Work(TITLES[name], 1, "pictures") for name in networks}
    heats, checks = [], {}
    for threads in settings.threads:
        seconds, rounds = settings.heat(50.0, 6.0)
        heat = run_heat(
            entries,
            {name: RUNS[name] for name in networks},
            threads=threads,
            seconds=seconds,
            rounds=rounds,
            label="vision",
        )
        heats.append(heat_record("vision networks", heat, works, {entry.name: _OURS for entry in entries[1:]}))
        checks[f"correlation with {_FLOAT}, {threads} threads"] = {
            name: {
                network: round(correlation(answer[network], heat.answers[_FLOAT][network]), 5) for network in networks
            }
            for name, answer in heat.answers.items()
        }
    return {"heats": heats, "checks": checks}
