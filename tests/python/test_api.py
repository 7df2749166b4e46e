"""Checks the public surface: captions, streams, batches, health, metrics, threads, closing."""

from __future__ import annotations

import json
import math
import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mobile_multimodal
from mobile_multimodal import (
    Caption,
    DeadlineExceededError,
    InternalError,
    InvalidImageError,
    InvalidInputError,
    MobileMultiModalError,
    MobileMultiModalLLM,
    ModelNotFoundError,
    NotFoundError,
    UnsupportedError,
    available_models,
    find_model,
)
from mobile_multimodal.tasks.caption import geometric_mean
from mobile_multimodal.tasks.performance import PerformanceCounter, quantile

PICTURE = np.zeros((20, 30, 3), np.uint8)
TEXT = "A dog runs on grass ."


def test_public_names_are_real_and_documented(root: Path) -> None:
    page = (root / "docs/python-api.md").read_text(encoding="utf-8")
    for name in mobile_multimodal.__all__:
        assert hasattr(mobile_multimodal, name)
        assert f"`{name}" in page, f"docs/python-api.md does not mention {name}"


def test_a_caption_prints_as_its_text(model: MobileMultiModalLLM) -> None:
    caption = model.generate_caption(PICTURE)
    assert isinstance(caption, Caption)
    assert str(caption) == caption.text == TEXT
    assert caption.finish_reason == "end"
    assert caption.tokens == (0, 1, 2, 3, 4, 5)
    assert caption.confidence == pytest.approx(0.5)
    assert set(caption.timings) == {"resize", "encode", "prefill", "first_token", "decode", "total"}
    assert json.loads(json.dumps(caption.to_dict()))["tokens"] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [([], 0.0), ([0.0, 1.0], 0.0), ([1.0], 1.0), ([0.25, 1.0], 0.5), ([0.1] * 1000, 0.1)],
)
def test_confidence_is_the_geometric_mean(probabilities: list[float], expected: float) -> None:
    assert math.isclose(geometric_mean(probabilities), expected, rel_tol=1e-12)


@pytest.mark.parametrize(
    ("profile", "options", "beams"),
    [
        ("balanced", {}, 2),
        ("fast", {}, 1),
        ("efficient", {}, 1),
        ("fast", {"num_beams": 4}, 4),
        ("balanced", {"temperature": 0.5}, 1),
        ("balanced", {"stop": ["."]}, 1),
    ],
)
def test_beams_come_from_the_caller_then_the_profile(
    make_model: Callable[..., MobileMultiModalLLM], session: Any, profile: str, options: Any, beams: int | None
) -> None:
    make_model(profile).generate_caption(PICTURE, **options)
    assert session.calls[0]["num_beams"] == beams


def test_settings_reach_the_core(model: MobileMultiModalLLM, session: Any) -> None:
    model.generate_caption(
        PICTURE, max_new_tokens=3, length_penalty=0.5, temperature=0.7, top_p=0.9, seed=42, stop="cat"
    )
    call = session.calls[0]
    assert call.pop("shape") == (20, 30, 3)
    assert call == {
        "num_beams": 1,
        "max_new_tokens": 3,
        "length_penalty": 0.5,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 42,
        "stop": ["cat"],
        "deadline_seconds": 0.0,
    }


def test_an_unknown_setting_is_refused_everywhere(model: MobileMultiModalLLM, session: Any) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: model.generate_caption(PICTURE, num_beam=1),  # type: ignore[call-arg]
        lambda: model.stream_caption(PICTURE, num_beam=1),  # type: ignore[call-arg]
        lambda: model.generate_captions([PICTURE], num_beam=1),  # type: ignore[call-overload]
    ]
    for call in calls:
        with pytest.raises(InvalidInputError) as caught:
            call()
        assert str(caught.value) == "unknown setting 'num_beam'\nhint: did you mean 'num_beams'?"
    with pytest.raises(InvalidInputError, match="unknown setting 'thread'\nhint: did you mean 'threads'"):
        MobileMultiModalLLM.from_pretrained(thread=2)  # type: ignore[call-arg]
    assert session.calls == []


def test_stream_yields_pieces_then_holds_the_caption(model: MobileMultiModalLLM, session: Any) -> None:
    stream = model.stream_caption(PICTURE)
    pieces = list(stream)
    assert "".join(str(piece) for piece in pieces) == TEXT
    assert [piece.token for piece in pieces] == [0, 1, 2, 3, 4, 5]
    assert {piece.probability for piece in pieces} == {0.5}
    assert stream.caption is not None
    assert stream.caption.text == TEXT
    assert list(stream) == []
    assert session.calls[0]["num_beams"] == 1


def test_closing_a_stream_cancels_it_and_frees_the_model(make_model: Any, session: Any) -> None:
    session.token_seconds = 0.02
    model = make_model()
    with model.stream_caption(PICTURE) as stream:
        assert str(next(stream)) == "A"
    assert stream.caption is None
    assert list(stream) == []
    start = time.monotonic()
    session.token_seconds = 0.0
    assert str(model.generate_caption(PICTURE)) == TEXT
    assert time.monotonic() - start < 5
    assert model.get_performance_metrics().failures == {}


def test_an_abandoned_stream_frees_the_model(make_model: Any, session: Any) -> None:
    session.token_seconds = 0.05
    model = make_model()
    next(model.stream_caption(PICTURE))  # nobody holds the stream: it is collected here
    session.token_seconds = 0.0
    assert str(model.generate_caption(PICTURE)) == TEXT


def test_stream_refuses_beams_and_bad_pictures_at_once(model: MobileMultiModalLLM) -> None:
    with pytest.raises(InvalidInputError, match="num_beams is 3, expected 1 for a stream"):
        model.stream_caption(PICTURE, num_beams=3)
    with pytest.raises(InvalidImageError):
        model.stream_caption(b"no picture")
    assert str(next(model.stream_caption(PICTURE, num_beams=None))) == "A"


def test_a_failure_in_the_stream_reaches_the_reader(model: MobileMultiModalLLM, session: Any) -> None:
    session.failure = InternalError("broken")
    with pytest.raises(InternalError, match="broken"):
        list(model.stream_caption(PICTURE))
    assert model.get_performance_metrics().failures == {"InternalError": 1}


def test_a_batch_keeps_order_and_the_others_still_come_out(model: MobileMultiModalLLM, pictures: Path) -> None:
    seen: list[tuple[int, str]] = []
    sources = [PICTURE, "missing.jpg", pictures / "cat.jpg", b"junk", PICTURE]
    results = model.generate_captions(
        sources, on_error="return", on_result=lambda index, result: seen.append((index, type(result).__name__))
    )
    assert [type(result).__name__ for result in results] == [
        "Caption",
        "NotFoundError",
        "Caption",
        "InvalidImageError",
        "Caption",
    ]
    assert seen == [(index, type(result).__name__) for index, result in enumerate(results)]
    assert model.get_performance_metrics().failures == {"NotFoundError": 1, "InvalidImageError": 1}


def test_a_batch_raises_at_the_first_failure_by_default(model: MobileMultiModalLLM, session: Any) -> None:
    with pytest.raises(NotFoundError):
        model.generate_captions([PICTURE, "missing.jpg", PICTURE, PICTURE])
    assert len(session.calls) == 1


def test_a_batch_takes_any_iterable(model: MobileMultiModalLLM) -> None:
    assert model.generate_captions([]) == []
    assert len(model.generate_captions(PICTURE for _ in range(7))) == 7
    assert len(model.generate_captions(np.zeros((3, 8, 8, 3), np.uint8))) == 3


@pytest.mark.parametrize("images", ["a.jpg", b"data", Path("a.jpg"), PICTURE, 5])
def test_a_batch_of_one_value_is_refused(model: MobileMultiModalLLM, images: Any) -> None:
    with pytest.raises(InvalidInputError, match="expected several pictures\nhint: pass a list"):
        model.generate_captions(images)


def test_on_error_is_checked(model: MobileMultiModalLLM) -> None:
    with pytest.raises(InvalidInputError, match="on_error is 'skip', expected 'raise' or 'return'"):
        model.generate_captions([PICTURE], on_error="skip")  # type: ignore[call-overload]


def test_many_threads_take_turns(make_model: Any, session: Any) -> None:
    session.token_seconds = 0.001  # the stand-in fails when two calls overlap
    model = make_model()
    texts: list[str] = []

    def work() -> None:
        for _ in range(5):
            texts.append(str(model.generate_caption(PICTURE)))
            texts.append("".join(map(str, model.stream_caption(PICTURE))))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [TEXT] * 60
    assert model.get_performance_metrics().calls == 60


def test_waiting_for_other_callers_counts_into_the_deadline(make_model: Any, session: Any) -> None:
    session.token_seconds = 0.1
    model = make_model()
    stream = model.stream_caption(PICTURE)
    next(stream)
    with pytest.raises(DeadlineExceededError, match=r"other calls held the model for all of the deadline of 0.05 s"):
        model.generate_caption(PICTURE, deadline_seconds=0.05)
    stream.close()
    with pytest.raises(DeadlineExceededError):
        model.generate_caption(PICTURE, deadline_seconds=0.15)


def test_health(model: MobileMultiModalLLM) -> None:
    health = model.get_health_status()
    assert (health.status, health.model, health.threads, health.isa) == ("ok", "stand-in", 2, "reference")
    assert (health.profile, health.verified, health.file_bytes) == ("balanced", False, 4096)
    assert model.get_health_status(verify=True).verified
    json.dumps(health.to_dict())
    model.close()
    assert model.get_health_status().status == "closed"


def test_metrics_count_calls_tokens_and_failures(model: MobileMultiModalLLM, session: Any) -> None:
    assert model.get_performance_metrics().latency_milliseconds_p95 == 0
    for _ in range(3):
        model.generate_caption(PICTURE)
    with pytest.raises(InvalidImageError):
        model.generate_caption(b"junk")
    metrics = model.get_performance_metrics()
    assert (metrics.calls, metrics.tokens, metrics.failures) == (4, 18, {"InvalidImageError": 1})
    assert 0 < metrics.latency_milliseconds_p50 <= metrics.latency_milliseconds_p95
    assert metrics.tokens_per_second > 0
    assert metrics.calls_under_way == 0
    json.dumps(metrics.to_dict())


def test_quantiles() -> None:
    assert quantile([], 0.5) == 0
    assert quantile([7], 0.95) == 7
    assert quantile([0, 10], 0.5) == 5
    assert quantile(list(range(101)), 0.95) == 95


def test_the_counter_counts_what_is_under_way() -> None:
    counter = PerformanceCounter()
    with counter.call("caption") as tokens:
        assert counter.metrics().calls_under_way == 1
        tokens.append(4)
    assert (counter.metrics().calls_under_way, counter.metrics().tokens) == (0, 4)


def test_a_closed_model_says_so(model: MobileMultiModalLLM) -> None:
    with model:
        model.generate_caption(PICTURE)
    calls: list[Callable[[], Any]] = [
        lambda: model.generate_caption(PICTURE),
        lambda: model.stream_caption(PICTURE),
        lambda: model.generate_captions([PICTURE]),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError) as caught:
            call()
        assert str(caught.value) == "the model is closed\nhint: load it again with from_pretrained"
    model.close()  # twice is harmless


def test_a_model_without_captions_says_so(model: MobileMultiModalLLM) -> None:
    model._shared._can_caption = False
    with pytest.raises(UnsupportedError, match="cannot caption: its programs are encode_image, prefill, decode"):
        model.generate_caption(PICTURE)


def _caption_in_fork(model: MobileMultiModalLLM, answers: Any) -> None:
    try:
        model.generate_caption(PICTURE)
    except MobileMultiModalError as error:
        answers.put((type(error).__name__, error.hint))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forking beside threads is what is tested
def test_a_forked_process_gets_an_error_instead_of_a_hang(model: MobileMultiModalLLM) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=_caption_in_fork, args=(model, answers))
    process.start()
    assert answers.get(timeout=60) == ("UnsupportedError", "load the model in the process that uses it")
    process.join()


def test_models_are_found_by_name_in_named_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tiny-model.gguf"
    file.write_bytes(b"x")
    monkeypatch.setenv("MOBILE_MM_MODELS", f"/does/not/exist:{tmp_path}")
    assert available_models()["tiny-model"] == file
    assert find_model("tiny-model") == find_model(file) == find_model(str(file)) == file
    with pytest.raises(ModelNotFoundError) as caught:
        find_model("tiny-modle")
    assert str(caught.value) == "no model is named 'tiny-modle'\nhint: did you mean 'tiny-model'?"


@pytest.mark.parametrize(
    ("model", "error_type", "message"),
    [
        ("no/such.gguf", ModelNotFoundError, "model file 'no/such.gguf' does not exist"),
        ("/tmp/", InvalidInputError, "model '/tmp/' is a folder, expected a .gguf file"),
        ("", InvalidInputError, "model is empty, expected a name or a path"),
        (None, InvalidInputError, "model has type NoneType, expected a name or a path"),
        (Path("x"), ModelNotFoundError, "model file 'x' does not exist"),
    ],
)
def test_a_wrong_model(model: Any, error_type: type[MobileMultiModalError], message: str) -> None:
    with pytest.raises(MobileMultiModalError) as caught:
        MobileMultiModalLLM.from_pretrained(model)
    assert (type(caught.value), caught.value.message) == (error_type, message)
    assert caught.value.hint


def test_a_wrong_profile_or_thread_count_is_refused_before_loading() -> None:
    with pytest.raises(InvalidInputError, match="unknown profile 'ballanced'\nhint: did you mean 'balanced'"):
        MobileMultiModalLLM.from_pretrained("x", profile="ballanced")
    with pytest.raises(InvalidInputError, match="setting threads is -1, expected an integer from 0 to 256"):
        MobileMultiModalLLM.from_pretrained("x", threads=-1)


class TestShippedModel:
    """The model of the package on the real core."""

    def test_noise_as_the_readme_says(self) -> None:
        pytest.importorskip("mobile_multimodal.native")
        if "mobile-mm-llm-int2" not in available_models():
            pytest.skip("the package holds no model file mobile-mm-llm-int2.gguf")
        caption = MobileMultiModalLLM.from_pretrained("mobile-mm-llm-int2").generate_caption(
            np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8)
        )
        assert caption.text
        assert 0 < caption.confidence <= 1
        assert len(caption.token_probabilities) == len(caption.tokens) + (caption.finish_reason == "end")
        assert all(0 < probability <= 1 for probability in caption.token_probabilities)
        assert set(caption.timings) == {"resize", "encode", "prefill", "first_token", "decode", "total"}

    def test_every_thread_count_writes_the_same(self, shipped_model: MobileMultiModalLLM, pictures: Path) -> None:
        files = sorted(pictures.glob("*.jpg"))
        expected = shipped_model.generate_captions(files)
        for threads in (1, 2, 3, 5):
            with MobileMultiModalLLM.from_pretrained("mobile-mm-llm-int2", threads=threads) as model:
                assert model.get_health_status().threads == threads
                assert model.generate_captions(files) == expected  # timings do not count

    def test_kinds_of_source_and_a_batch_agree(self, shipped_model: MobileMultiModalLLM, pictures: Path) -> None:
        path = pictures / "cat.jpg"
        one = shipped_model.generate_caption(path)
        assert shipped_model.generate_caption(path.read_bytes()) == one
        assert shipped_model.generate_caption(mobile_multimodal.load_image(path)) == one
        assert shipped_model.generate_captions([path, b"junk", path], on_error="return")[::2] == [one, one]

    def test_a_stream_writes_what_greedy_search_writes(self, shipped_model: Any, pictures: Path) -> None:
        greedy = shipped_model.generate_caption(pictures / "coffee.jpg", num_beams=1)
        stream = shipped_model.stream_caption(pictures / "coffee.jpg")
        assert "".join(map(str, stream)) == greedy.text
        assert stream.caption == greedy

    def test_seeds(self, shipped_model: MobileMultiModalLLM, pictures: Path) -> None:
        drawn = [
            shipped_model.generate_caption(pictures / "cat.jpg", temperature=1.5, seed=seed).tokens
            for seed in (1, 1, 2, 3)
        ]
        assert drawn[0] == drawn[1]
        assert len(set(drawn)) > 1

    @pytest.mark.usefixtures("shipped_model")
    def test_a_deadline_ends_with_its_call(self) -> None:
        native = pytest.importorskip("mobile_multimodal.native")
        session = native.Session(native.Engine(str(find_model("mobile-mm-llm-int2"))), 1)
        for task in (session.caption, session.read_text):
            with pytest.raises(DeadlineExceededError):
                task(PICTURE, deadline_seconds=1e-6)
            assert session.run("encode_image", {"pixels": np.zeros((224, 224, 3), np.uint8)})["features"].any()

    def test_cancelling_deadline_and_length(self, shipped_model: MobileMultiModalLLM, pictures: Path) -> None:
        with shipped_model.stream_caption(pictures / "cat.jpg") as stream:
            next(stream)
        with pytest.raises(DeadlineExceededError):
            shipped_model.generate_caption(pictures / "cat.jpg", deadline_seconds=1e-6)
        short = shipped_model.generate_caption(pictures / "cat.jpg", max_new_tokens=2)
        assert (len(short.tokens), short.finish_reason) == (2, "length")
        assert shipped_model.generate_caption(pictures / "cat.jpg", max_new_tokens=48).finish_reason == "end"

    def test_tiny_and_extreme_shapes(self, shipped_model: MobileMultiModalLLM) -> None:
        for shape in [(1, 1, 3), (1, 5000, 3), (5000, 1), (3, 3, 4), (2, 2, 1)]:
            assert shipped_model.generate_caption(np.full(shape, 90, np.uint8)).text

    def test_threads_of_the_caller(self, shipped_model: MobileMultiModalLLM, pictures: Path) -> None:
        expected = str(shipped_model.generate_caption(pictures / "cat.jpg"))
        texts: list[str] = []
        workers = [
            threading.Thread(target=lambda: texts.append(str(shipped_model.generate_caption(pictures / "cat.jpg"))))
            for _ in range(8)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert texts == [expected] * 8

    def test_memory_does_not_grow(self, shipped_model: MobileMultiModalLLM) -> None:
        def resident_kilobytes() -> int:
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            return int(status.split("VmRSS:")[1].split()[0])

        picture = np.zeros((500, 400, 3), np.uint8)
        for _ in range(20):
            shipped_model.generate_caption(picture)
        before = resident_kilobytes()
        for _ in range(100):
            shipped_model.generate_caption(picture)
        assert resident_kilobytes() - before < 600  # one picture kept a call would be 60,000

    def test_health_verifies_the_weights(self, shipped_model: MobileMultiModalLLM) -> None:
        health = shipped_model.get_health_status(verify=True)
        assert health.verified
        assert health.file_bytes < 35_000_000
        assert {"encode_image", "prefill", "decode"} <= set(health.programs)

    def test_two_models_at_once_and_out_of_order_closing(self, pictures: Path, shipped_model: Any) -> None:
        first = MobileMultiModalLLM.from_pretrained(threads=1)
        second = MobileMultiModalLLM.from_pretrained(threads=1)
        first.close()
        assert second.generate_caption(pictures / "cat.jpg") == shipped_model.generate_caption(pictures / "cat.jpg")
        second.close()
