"""Text through the Python API and the command line, on a small imported model and the real core."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_llama import SmallLlama

from mobile_multimodal import (
    Cancellation,
    DeadlineExceededError,
    GeneratedText,
    InvalidInputError,
    MobileMultiModalLLM,
    OperationCancelledError,
    TextSettings,
    UnsupportedError,
)
from mobile_multimodal.cli.main import main
from mobile_multimodal.compile.build import ModelCard
from mobile_multimodal.compile.text_model import TextSource, build_text_model
from mobile_multimodal.tasks.text import check_prompt

CONTEXT = 200


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    source = SmallLlama(context=CONTEXT).write(folder / "source.gguf")
    out = folder / "model.gguf"
    build_text_model(out, ModelCard("small"), TextSource(source, 8), lambda line: None)
    return out


@pytest.fixture
def model(model_path: Path) -> MobileMultiModalLLM:
    return MobileMultiModalLLM.from_pretrained(model_path, threads=1)


def plain_greedy(path: Path, prompt: str, count: int) -> list[int]:
    """Greedy search by hand: the whole text anew for every token, control tokens left out."""
    from mobile_multimodal import native

    engine = native.Engine(str(path))
    session = native.Session(engine, threads=1)
    tokens = engine.encode(prompt)
    ends, written = engine.metadata()["mm.generate.end_tokens"], []
    for _ in range(count):
        session.reset()
        inputs = {
            "tokens": np.array(tokens, dtype=np.int32),
            "positions": np.arange(len(tokens), dtype=np.int32),
            "sequences": np.zeros(len(tokens), dtype=np.int32),
        }
        logits = session.run("score_text", inputs)["logits"][-1]
        logits[1] = -np.inf  # <|im_start|> is a control token that ends nothing
        best = int(logits.argmax())
        if best in ends:
            break
        tokens.append(best)
        written.append(best)
    return written


def test_greedy_text_is_the_likeliest_token_each_time(model: MobileMultiModalLLM, model_path: Path) -> None:
    made = model.generate_text("hello 12", template=False, max_new_tokens=20)
    assert isinstance(made, GeneratedText)
    assert list(made.tokens) == plain_greedy(model_path, "hello 12", 20)
    assert str(made) == made.text
    assert 0 < made.confidence <= 1
    assert made.prompt_tokens == 4
    assert made.timings["total"] >= made.timings["prefill"] > 0
    assert json.loads(json.dumps(made.to_dict()))["tokens"] == list(made.tokens)


@pytest.mark.parametrize("length", [1, 127, 128, 129, 150])
def test_blocks_of_a_prompt_change_nothing(model: MobileMultiModalLLM, model_path: Path, length: int) -> None:
    prompt = "".join(chr(97 + i % 26) for i in range(length))
    made = model.generate_text(prompt, template=False, max_new_tokens=3)
    assert list(made.tokens) == plain_greedy(model_path, prompt, 3)


def test_what_prompts_share_is_not_read_again_and_changes_nothing(model_path: Path) -> None:
    talks: list[Any] = [
        [("user", "hello")],
        [("user", "hello"), ("assistant", "well"), ("user", "again")],
        [("user", "hello"), ("assistant", "other"), ("user", "again")],
        "hello",
        [("system", "hello"), ("user", "hello")],
        [("user", "hello")],
        [("user", "hello")],
    ]
    model = MobileMultiModalLLM.from_pretrained(model_path, threads=2)
    cached = []
    for talk in talks:
        made = model.generate_text(talk, max_new_tokens=12)
        fresh = MobileMultiModalLLM.from_pretrained(model_path, threads=2).generate_text(talk, max_new_tokens=12)
        assert made == fresh  # texts, tokens and probabilities, bit for bit
        assert fresh.cached_tokens == 0
        cached.append(made.cached_tokens)
    assert cached[0] == 0
    assert cached[1] >= 15  # the opening and the first message
    assert cached[-1] == model.generate_text(talks[0]).prompt_tokens - 1  # all but the one whose logits are wanted


def test_a_stream_writes_what_the_whole_is(model: MobileMultiModalLLM) -> None:
    whole = model.generate_text("hello", max_new_tokens=30)
    with model.stream_text("hello", max_new_tokens=30) as stream:
        pieces = list(stream)
    assert "".join(map(str, pieces)) == whole.text
    assert stream.generated == whole
    assert all(0 <= piece.probability <= 1 for piece in pieces)
    with model.stream_text("hello", max_new_tokens=150, template=False, temperature=5.0) as stream:
        next(stream)
    assert stream.generated is None  # left early


def test_stop_strings_end_a_text_before_them(model: MobileMultiModalLLM) -> None:
    options: dict[str, Any] = {"temperature": 2.0, "seed": 5, "max_new_tokens": 60, "template": False}
    whole = model.generate_text("hello", **options)
    stop = whole.text[20:23]
    cut = model.generate_text("hello", stop=stop, **options)
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]


def test_seeds_and_limits_of_drawing(model: MobileMultiModalLLM) -> None:
    def text(**options: Any) -> tuple[int, ...]:
        return model.generate_text("hello", template=False, max_new_tokens=20, **options).tokens

    assert text(temperature=3.0, seed=1) == text(temperature=3.0, seed=1) != text(temperature=3.0, seed=2)
    greedy = text()
    assert (
        text(temperature=3.0, top_k=1) == text(temperature=3.0, top_p=1e-9) == text(temperature=3.0, min_p=1) == greedy
    )
    assert text(temperature=3.0, seed=1, top_k=3) != text(temperature=3.0, seed=1)
    repeated = len(set(greedy))
    assert len(set(text(repetition_penalty=10.0))) >= repeated


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(model: MobileMultiModalLLM) -> None:
    with pytest.raises(InvalidInputError, match=f"201 tokens.*{CONTEXT}"):
        model.generate_text("a" * 201, template=False)
    full = model.generate_text("b" * 190, template=False, temperature=1.0, max_new_tokens=500)
    assert len(full.tokens) <= 11
    assert full.finish_reason in ("length", "end")
    with pytest.raises(InvalidInputError, match="1048577 bytes"):
        model.generate_text("a" * ((1 << 20) + 1))


def test_deadlines_and_cancellations_end_a_call(model: MobileMultiModalLLM) -> None:
    with pytest.raises(DeadlineExceededError):
        model.generate_text("hello", deadline_seconds=1e-6)
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(OperationCancelledError):
        model.generate_text("hello", cancellation=cancellation)
    again = model.generate_text("hello", max_new_tokens=5)  # what was cut short left nothing wrong behind
    assert again == model.generate_text("hello", max_new_tokens=5)


def test_a_call_that_is_cancelled_on_the_way_leaves_nothing_wrong(model: MobileMultiModalLLM, model_path: Path) -> None:
    prompt = "hello wing " * 15
    expected = MobileMultiModalLLM.from_pretrained(model_path, threads=1).generate_text(
        prompt, template=False, max_new_tokens=4
    )
    for delay in (0.0, 0.0005, 0.001, 0.002, 0.004):
        cancellation = Cancellation()
        timer = threading.Timer(delay, cancellation.cancel)
        timer.start()
        with contextlib.suppress(OperationCancelledError):
            model.generate_text(prompt, template=False, max_new_tokens=100, temperature=5.0, cancellation=cancellation)
        timer.join()
        assert model.generate_text(prompt, template=False, max_new_tokens=4) == expected


def test_programs_run_beside_the_task_do_not_disturb_it(model_path: Path) -> None:
    from mobile_multimodal import native

    session = native.Session(native.Engine(str(model_path)), threads=1)
    first = session.generate_text("hello wing", max_new_tokens=5)
    session.reset()
    ones = {name: np.zeros(3, dtype=np.int32) for name in ("tokens", "sequences")}
    session.run("score_text", {**ones, "positions": np.arange(3, dtype=np.int32)})
    again = session.generate_text("hello wing", max_new_tokens=5)
    assert again["tokens"] == first["tokens"]
    assert again["cached_tokens"] == 0


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        b"bytes",
        [],
        7,
        None,
        ["text"],
        [{"role": "user"}],
        [{"role": "tool", "content": "x"}],
        [("user", 7)],
        [{"role": "user", "content": "x", "name": "y"}],
        "\ud800",
    ],
)
def test_wrong_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(InvalidInputError) as failure:
        check_prompt(prompt)
    assert failure.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 0},
        {"temperature": -0.1},
        {"top_k": -1},
        {"top_k": True},
        {"top_p": 0.0},
        {"min_p": 1.5},
        {"repetition_penalty": 0.0},
        {"seed": -1},
        {"stop": [""]},
        {"stop": ["x"] * 17},
        {"deadline_seconds": -1.0},
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        TextSettings(**options)


def test_forms_of_prompts_and_templates(model: MobileMultiModalLLM) -> None:
    as_text = model.generate_text("hello", max_new_tokens=5)
    as_pairs = model.generate_text([("user", "hello")], max_new_tokens=5)
    as_mappings = model.generate_text([{"role": "user", "content": "hello"}], template=True, max_new_tokens=5)
    assert as_text == as_pairs == as_mappings
    assert as_text.prompt_tokens > model.generate_text("hello", template=False, max_new_tokens=5).prompt_tokens
    with pytest.raises(UnsupportedError, match="without a chat template"):
        model.generate_text([("user", "hello")], template=False)
    with pytest.raises(InvalidInputError, match="system"):
        model.generate_text([("user", "hello"), ("system", "late")])
    with pytest.raises(InvalidInputError, match="did you mean"):
        model.generate_text("hello", max_new_token=5)  # type: ignore[call-arg]


def test_a_file_without_a_template_continues_texts(tmp_path: Path) -> None:
    source = SmallLlama().write(tmp_path / "source.gguf", template=None)
    out = tmp_path / "model.gguf"
    build_text_model(out, ModelCard("small"), TextSource(source, 8), lambda line: None)
    model = MobileMultiModalLLM.from_pretrained(out, threads=1)
    assert model.generate_text("hello", max_new_tokens=4) == model.generate_text(
        "hello", template=False, max_new_tokens=4
    )
    for prompt, template in (([("user", "hello")], None), ("hello", True)):
        with pytest.raises(UnsupportedError, match="no chat template"):
            model.generate_text(prompt, template=template)  # type: ignore[arg-type]


def test_health_and_metrics_know_the_task(model: MobileMultiModalLLM) -> None:
    made = model.generate_text("hello", max_new_tokens=5)
    with pytest.raises(InvalidInputError):
        model.generate_text("a" * 300, template=False)
    assert "decode_text" in model.get_health_status().programs
    metrics = model.get_performance_metrics()
    assert metrics.tasks["generate_text"].calls == 2
    assert metrics.tasks["generate_text"].failures == {"InvalidInputError": 1}
    assert metrics.tokens == len(made.tokens)


def test_other_files_cannot_write_text_and_say_so(shipped_model: MobileMultiModalLLM) -> None:
    for write in (shipped_model.generate_text, shipped_model.stream_text):
        with pytest.raises(UnsupportedError, match="cannot write text"):
            write("hello")


def test_the_command_line_prints_text(
    model_path: Path, model: MobileMultiModalLLM, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["generate", "hello", "--model", str(model_path), "--max-new-tokens", "6", "--threads", "1"]
    expected = model.generate_text("hello", max_new_tokens=6)
    assert main(command) == 0
    assert capsys.readouterr().out == f"{expected}\n"
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["text"], found["tokens"]) == (expected.text, list(expected.tokens))
    assert main([*command, "--no-template"]) == 0
    assert capsys.readouterr().out == f"{model.generate_text('hello', template=False, max_new_tokens=6)}\n"
    assert main([*command, "--system", "Be kind."]) == 0
    assert capsys.readouterr().out == f"{expected}\n"  # what the template opens with by itself
    monkeypatch.setattr("sys.stdin", io.StringIO("hello"))
    assert main(["generate", "-", *command[2:]]) == 0
    assert capsys.readouterr().out == f"{expected}\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main(command) == 0
    assert capsys.readouterr().out == f"{expected}\n"


@pytest.mark.parametrize("wrong", [["--temperature", "-1"], ["--system", "x", "--no-template"], ["--stop", ""]])
def test_wrong_options_end_with_a_message(
    model_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str]
) -> None:
    assert main(["generate", "hello", "--model", str(model_path), *wrong]) != 0
    assert "mobile-mm: " in capsys.readouterr().err
