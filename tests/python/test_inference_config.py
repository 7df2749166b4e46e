"""Checks the settings of a deployment: alone, against the shipped file, and as defaults of calls."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobile_multimodal import (
    DeadlineExceededError,
    InferenceConfig,
    InvalidInputError,
    MobileMultiModalLLM,
    ModelNotFoundError,
    UnsupportedError,
    available_models,
    load_image,
)
from mobile_multimodal.model.inference_config import packed_bits
from mobile_multimodal.tasks.deadline import Deadline

native = pytest.importorskip("mobile_multimodal.native")


@pytest.fixture(scope="module", autouse=True)
def _has_the_shipped_model() -> None:
    if "mobile-mm-llm-int2" not in available_models():
        pytest.skip("the package holds no model file mobile-mm-llm-int2.gguf")


def test_it_is_frozen_and_survives_json() -> None:
    config = InferenceConfig(max_sequence_length=12, image_size=224, quantization_bits=2, timeout_seconds=30)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.image_size = 3  # type: ignore[misc]
    assert InferenceConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_name_gets_the_closest_one() -> None:
    with pytest.raises(InvalidInputError) as caught:
        InferenceConfig.from_dict({"timeout_second": 3})
    assert str(caught.value) == "unknown setting 'timeout_second'\nhint: did you mean 'timeout_seconds'?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_name", ""),
        ("model_name", 5),
        ("max_sequence_length", 0),
        ("max_sequence_length", 2.5),
        ("image_size", 0),
        ("image_size", True),
        ("quantization_bits", 3),
        ("quantization_bits", "2"),
        ("quantization_bits", True),
        ("enable_caching", 1),
        ("timeout_seconds", -1),
        ("timeout_seconds", float("nan")),
        ("timeout_seconds", 10**9),
    ],
)
def test_a_wrong_value_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        InferenceConfig.from_dict({name: value})
    assert f"setting {name} is {value!r}, expected" in caught.value.message
    assert caught.value.hint


def test_what_the_file_has_is_accepted() -> None:
    config = InferenceConfig(image_size=224, quantization_bits=2)
    with MobileMultiModalLLM.from_config(config, threads=1) as model:
        assert model.image_size == 224
        assert model.config == config


def test_another_picture_size_is_refused() -> None:
    with pytest.raises(UnsupportedError) as caught:
        MobileMultiModalLLM.from_config(InferenceConfig(image_size=384))
    assert "setting image_size is 384, but model file " in caught.value.message
    assert caught.value.message.endswith("sees pictures at 224 x 224")
    assert caught.value.hint == "leave it out, or set image_size=224: pictures of any size are brought to it"


@pytest.mark.parametrize("bits", [4, 8])
def test_other_bits_are_refused(bits: int) -> None:
    with pytest.raises(UnsupportedError) as caught:
        MobileMultiModalLLM.from_config(InferenceConfig(quantization_bits=bits))
    assert f"setting quantization_bits is {bits}, but the weights of model file " in caught.value.message
    assert "2 bits (decoder" in caught.value.message
    assert "8 bits (" in caught.value.message
    assert caught.value.hint == "leave it out, or set quantization_bits=2"


def test_the_bits_of_a_file() -> None:
    names = ["encoder.a.w8", "decoder.b.w2", "decoder.c.w8", "decoder.c.scale", "shared.d.w2"]
    assert packed_bits(names) == {2: ("decoder", "shared"), 8: ("encoder", "decoder")}
    assert packed_bits(["encoder.weight"]) == {}


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ModelNotFoundError):
        MobileMultiModalLLM.from_config(InferenceConfig(model_name="mobile-mm-llm-int3"))
    with pytest.raises(InvalidInputError, match="expected an InferenceConfig"):
        MobileMultiModalLLM.from_config({"image_size": 224})  # type: ignore[arg-type]


def test_the_sequence_length_is_the_default_of_captions(pictures: Path) -> None:
    picture = pictures / "boats.jpg"
    with MobileMultiModalLLM.from_config(InferenceConfig(max_sequence_length=3), threads=1) as model:
        assert len(model.generate_caption(picture).tokens) == 3
        assert len(model.generate_caption(picture, max_new_tokens=2).tokens) == 2
        assert len(model.generate_captions([picture])[0].tokens) == 3
        with model.stream_caption(picture) as stream:
            assert len(list(stream)) == 3
    with MobileMultiModalLLM.from_config(InferenceConfig(max_sequence_length=1024), threads=1) as model:
        assert model.generate_caption(picture).finish_reason == "end"  # the file's own limit is within it


def test_the_timeout_stops_the_work(root: Path, pictures: Path) -> None:
    """10 ms for a page that takes over 100: the core stops between its steps, and can go on."""
    page = load_image(root / "examples/pages/invoice.png")
    with MobileMultiModalLLM.from_config(InferenceConfig(timeout_seconds=0.01), threads=1) as model:
        with pytest.raises(DeadlineExceededError):
            model.extract_text(page)
        metrics = model.get_performance_metrics()
        assert metrics.tasks["read_text"].failures == {"DeadlineExceededError": 1}
        assert metrics.calls_under_way == 0
        assert model.generate_caption(pictures / "cat.jpg", deadline_seconds=0).text  # the call's own word counts
        assert model.extract_text(page, deadline_seconds=0).lines


def test_the_timeout_counts_waiting_and_reading(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with MobileMultiModalLLM.from_config(InferenceConfig(timeout_seconds=0.05), threads=1) as model:
        with model._shared.turn(Deadline(0)):  # as another call holds it
            failures: list[BaseException] = []

            def call() -> None:
                try:
                    model.generate_caption(pictures / "cat.jpg")
                except DeadlineExceededError as error:
                    failures.append(error)

            thread = threading.Thread(target=call)
            thread.start()
            thread.join(30)
            assert len(failures) == 1

        def slow(image: object) -> object:
            time.sleep(0.1)
            return np.zeros((8, 8, 3), dtype=np.uint8)

        monkeypatch.setattr(model, "_load", slow)
        with pytest.raises(DeadlineExceededError, match="passed before the model began"):
            model.generate_caption(pictures / "cat.jpg")


def test_metrics_are_kept_by_task(pictures: Path) -> None:
    with MobileMultiModalLLM.from_config(InferenceConfig(), threads=1) as model:
        model.generate_caption(pictures / "cat.jpg")
        model.generate_caption(pictures / "cat.jpg")
        model.extract_text(pictures / "cat.jpg")
        with pytest.raises(InvalidInputError):
            model.extract_text(b"")
        metrics = model.get_performance_metrics()
        assert {name: task.calls for name, task in metrics.tasks.items()} == {"caption": 2, "read_text": 2}
        assert metrics.tasks["read_text"].failures == metrics.failures == {"InvalidImageError": 1}
        assert metrics.calls == 4
        assert metrics.tasks["caption"].latency_milliseconds_p50 > 0
        assert json.loads(json.dumps(metrics.to_dict()))["tasks"]["caption"]["calls"] == 2
