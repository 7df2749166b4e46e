"""The vision networks in each engine: this core, onnxruntime, OpenVINO. Workloads are the names of the networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from race.engine import Array
from vision.networks import NETWORKS, float_file, int8_file


class NetworkEngine:
    """Some of the networks, each ready to run from the picture as its engine takes it."""

    def __init__(self, works: dict[str, Callable[[], Array]]) -> None:
        self._works = works

    def warm_up(self, workload: str) -> None:
        self._works[workload]()

    def prepare(self, workload: str) -> None:
        pass

    def run(self, workload: str) -> None:
        self._works[workload]()

    def answer(self) -> dict[str, Array]:
        """The output of each network, flat, channels last."""
        return {name: work().reshape(-1) for name, work in self._works.items()}


def open_core(model: str, networks: list[str], threads: int) -> NetworkEngine:
    """The model file's programs: RGB bytes in, normalised inside the measured time."""
    from mobile_multimodal import native

    session = native.Session(native.Engine(model), threads)

    def work(name: str) -> Callable[[], Array]:
        network = NETWORKS[name]
        pixels = network.pixels()
        return lambda: session.run(network.program, {"pixels": pixels})[network.output]

    return NetworkEngine({name: work(name) for name in networks})


def open_onnxruntime(networks: list[str], threads: int, is_int8: bool = False) -> NetworkEngine:
    """The published networks: normalised floats in. Threads that sleep while they wait, as the core's soon do."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3

    def work(name: str) -> Callable[[], Array]:
        file = int8_file(name) if is_int8 else float_file(name)
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: NETWORKS[name].floats(NETWORKS[name].pixels())}
        return lambda: _channels_last(name, np.asarray(session.run(None, feed)[0]))

    return NetworkEngine({name: work(name) for name in networks})


def open_openvino(networks: list[str], threads: int) -> NetworkEngine:
    """The published networks in float32, tuned for latency; shapes fixed before they are compiled."""
    import openvino

    core = openvino.Core()
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }

    def work(name: str) -> Callable[[], Array]:
        network = NETWORKS[name]
        model = core.read_model(str(float_file(name)))
        model.reshape([1, 3, network.height, network.width])
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        floats = network.floats(network.pixels())
        request.infer([floats])
        return lambda: _channels_last(name, next(iter(request.infer([floats], share_outputs=True).values())))

    return NetworkEngine({name: work(name) for name in networks})


def _channels_last(name: str, output: Array) -> Array:
    """A view of the encoder's features in the order that the core has them."""
    return output if NETWORKS[name].is_text else output.transpose(0, 2, 3, 1)
