"""Exports EfficientNet-Lite0 as an ONNX file that onnxruntime runs at its best."""

from __future__ import annotations

import tempfile
from pathlib import Path


def encoder_onnx() -> bytes:
    """EfficientNet-Lite0 with batch norms and paddings inside its convolutions.

    Left apart, the 17 paddings keep onnxruntime 1.31 from its blocked layout and make it three times as slow.
    """
    import onnx
    import onnxruntime

    from mobile_multimodal.compile.efficientnet_lite import export_onnx, load_efficientnet_lite

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folder / "folded.onnx")
        exported = export_onnx(load_efficientnet_lite("efficientnet-lite0"), folder / "encoder.onnx")
        onnxruntime.InferenceSession(str(exported), options, providers=["CPUExecutionProvider"])
        model = onnx.load(options.optimized_model_filepath)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    readers = {name: node for node in model.graph.node for name in node.input}
    for pad in [node for node in model.graph.node if node.op_type == "Pad"]:
        convolution = readers[pad.output[0]]
        if convolution.op_type != "Conv":
            raise SystemExit(f"the encoder pads before {convolution.op_type}, expected Conv")
        _, _, top, left, _, _, bottom, right = (int(size) for size in constants[pad.input[1]])
        kept = [attribute for attribute in convolution.attribute if attribute.name != "pads"]
        before = next((list(entry.ints) for entry in convolution.attribute if entry.name == "pads"), [0, 0, 0, 0])
        pads = [given + own for given, own in zip((top, left, bottom, right), before, strict=True)]
        del convolution.attribute[:]
        convolution.attribute.extend([*kept, onnx.helper.make_attribute("pads", pads)])
        convolution.input[0] = pad.input[0]
        model.graph.node.remove(pad)
    used = {name for node in model.graph.node for name in node.input}
    for unused in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(unused)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
