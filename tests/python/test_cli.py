"""Checks what `mobile-mm` prints where, and its exit codes."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mobile_multimodal import MobileMultiModalLLM, __version__
from mobile_multimodal.cli import main as cli
from mobile_multimodal.cli.picture_paths import expand_picture_paths
from mobile_multimodal.cli.progress import ProgressBar
from mobile_multimodal.errors import EXIT_CODE_OF_ERROR, MobileMultiModalError

TEXT = "A dog runs on grass ."


@pytest.fixture
def run(
    make_model: Callable[..., MobileMultiModalLLM], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command on the stand-in core; gives exit code, stdout, stderr."""

    def from_pretrained(model: str, *, threads: int | None, profile: str) -> MobileMultiModalLLM:
        return make_model(profile)

    monkeypatch.setattr(MobileMultiModalLLM, "from_pretrained", from_pretrained)

    def run_command(*arguments: str | Path) -> tuple[int, str, str]:
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as exit_request:  # argparse
            code = int(exit_request.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run_command


def test_one_picture_prints_its_sentence_alone(run: Any, pictures: Path) -> None:
    assert run("caption", pictures / "cat.jpg") == (0, f"{TEXT}\n", "")


def test_several_pictures_print_their_paths(run: Any, pictures: Path) -> None:
    files = [pictures / "cat.jpg", pictures / "coffee.jpg"]
    assert run("caption", *files) == (0, "".join(f"{file}: {TEXT}\n" for file in files), "")


def test_a_folder_and_a_pattern_give_their_pictures(run: Any, pictures: Path) -> None:
    code, out, _ = run("caption", pictures)
    names = [Path(line.split(": ")[0]).name for line in out.splitlines()]
    assert code == 0
    assert names == sorted(file.name for file in pictures.glob("*.jpg"))
    assert run("caption", f"{pictures}/c*.jpg")[1].count(TEXT) == 2


def test_json_gives_one_object_a_line(run: Any, pictures: Path) -> None:
    code, out, err = run("caption", "--json", pictures / "cat.jpg", "missing.jpg")
    first, second = (json.loads(line) for line in out.splitlines())
    assert code == 1
    assert set(first) == {
        "path",
        "text",
        "confidence",
        "tokens",
        "token_probabilities",
        "finish_reason",
        "timings",
    }
    assert first["text"] == TEXT
    assert second == {
        "path": "missing.jpg",
        "error": {"type": "NotFoundError", "message": "file 'missing.jpg' does not exist", "hint": "check the path"},
    }
    assert err == "mobile-mm: file 'missing.jpg' does not exist\nhint: check the path\n"


def test_the_others_still_come_out(run: Any, pictures: Path, tmp_path: Path) -> None:
    junk = tmp_path / "junk.jpg"
    junk.write_bytes(b"junk")
    code, out, err = run("caption", pictures / "cat.jpg", junk, tmp_path / "none*", pictures / "coffee.jpg")
    assert code == 1
    assert out.count(TEXT) == 2
    assert f"file {str(junk)!r} holds no readable picture" in err
    assert "matches no file" in err


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda folder: folder / "missing.jpg", 5),
        (lambda folder: folder, 5),  # an empty folder
        (lambda folder: _file(folder / "empty.jpg", b""), 3),
        (lambda folder: _file(folder / "junk.jpg", b"junk"), 3),
        (lambda folder: "/dev/null", 2),
    ],
)
def test_a_single_failure_gives_its_own_exit_code(run: Any, tmp_path: Path, make: Any, code: int) -> None:
    got, out, err = run("caption", make(tmp_path))
    assert (got, out) == (code, "")
    assert err.startswith("mobile-mm: ")
    assert "\nhint: " in err


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("error_type", "code"), EXIT_CODE_OF_ERROR.items())
def test_every_failure_of_the_core_gives_its_exit_code(
    run: Any, session: Any, pictures: Path, error_type: type[MobileMultiModalError], code: int
) -> None:
    session.failure = error_type("it failed", "try again")
    assert run("caption", pictures / "cat.jpg") == (code, "", "mobile-mm: it failed\nhint: try again\n")


def test_ctrl_c(run: Any, session: Any, pictures: Path) -> None:
    session.failure = KeyboardInterrupt()
    assert run("caption", pictures / "cat.jpg") == (130, "", "mobile-mm: stopped\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--beams", "0"], "setting num_beams is 0, expected an integer from 1 to 16"),
        (["--beams", "3", "--temperature", "1"], "settings temperature=1.0 and num_beams=3 exclude each other"),
        (["--stream", "--json"], "options --stream and --json exclude each other"),
        (["--stream", "--beams", "3"], "option --beams is 3, expected 1 with --stream"),
    ],
)
def test_wrong_settings(run: Any, pictures: Path, arguments: list[str], message: str) -> None:
    code, out, err = run("caption", pictures / "cat.jpg", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"mobile-mm: {message}\nhint: ")


@pytest.mark.parametrize("arguments", [[], ["capton"], ["caption"], ["caption", "x", "--beams", "many"]])
def test_wrong_command_lines(run: Any, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "usage: mobile-mm" in err


def test_stream(run: Any, pictures: Path) -> None:
    assert run("caption", "--stream", pictures / "cat.jpg") == (0, f"{TEXT}\n", "")
    code, out, err = run("caption", "--stream", pictures / "cat.jpg", "missing.jpg")
    assert (code, out) == (1, f"{pictures / 'cat.jpg'}: {TEXT}\n")
    assert "does not exist" in err


def test_options_reach_the_core(run: Any, session: Any, pictures: Path) -> None:
    run("caption", pictures / "cat.jpg", "--beams", "1", "--max-tokens", "3", "--stop", "x", "--stop", "y")
    call = session.calls[0]
    assert (call["num_beams"], call["max_new_tokens"], call["stop"]) == (1, 3, ["x", "y"])


def test_version_and_help(run: Any) -> None:
    assert run("--version") == (0, f"mobile-mm {__version__}\n", "")
    code, out, _ = run("--help")
    assert code == 0
    for command in cli.COMMANDS.values():
        assert command.name in out
        assert command.summary in out


@pytest.mark.parametrize("command", cli.COMMANDS.values(), ids=lambda command: command.name)
def test_every_command_explains_itself(run: Any, command: cli.Command) -> None:
    if command.extra:
        pytest.importorskip("torch")
    code, out, _ = run(command.name, "--help")
    assert code == 0
    assert out.startswith(f"usage: mobile-mm {command.name}")


def test_a_missing_extra_names_its_installation(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(cli.importlib, "import_module", import_module)
    assert run("train") == (
        8,
        "",
        "mobile-mm: `mobile-mm train` needs the package torch, which is not installed\n"
        "hint: pip install 'mobile-multimodal[train]'\n",
    )


def test_paths_are_expanded_once_each_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.jpg", "a.PNG", "notes.txt", "deep/er/c.webp", "odd[1].jpg"):
        _file(tmp_path / name, b"x")
    assert expand_picture_paths(["b.jpg", "missing.jpg", "odd[1].jpg"]) == ["b.jpg", "missing.jpg", "odd[1].jpg"]
    assert expand_picture_paths(["."]) == ["a.PNG", "b.jpg", "deep/er/c.webp", "odd[1].jpg"]
    assert expand_picture_paths(["b.jpg", "*.jpg", "**/*.webp"]) == ["b.jpg", "odd[1].jpg", "deep/er/c.webp"]
    assert expand_picture_paths(["notes.txt"]) == ["notes.txt"]  # named outright: the reader decides what it is


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_progress_bar_is_for_terminals() -> None:
    terminal, pipe = _Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        with ProgressBar("captions", 3, stream=stream) as progress:
            for _ in range(3):
                progress.advance()
    assert "captions [" in terminal.getvalue()
    assert " 3/3 " in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert pipe.getvalue() == ""


@pytest.mark.usefixtures("shipped_model")
class TestInstalledCommand:
    """The command as a user has it: own process, own core, the model of the package."""

    def _run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = shutil.which("mobile-mm", path=str(Path(sys.executable).parent))
        if command is None:
            pytest.skip("mobile-mm is not installed beside this Python: run scripts/setup --all")
        return subprocess.run([command, *map(str, arguments)], capture_output=True, text=True, check=False)

    def test_caption(self, pictures: Path) -> None:
        done = self._run("caption", pictures / "cat.jpg")
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout.split()) >= 3

    def test_stream_prints_what_greedy_search_prints(self, pictures: Path) -> None:
        streamed = self._run("caption", "--stream", pictures / "coffee.jpg")
        greedy = self._run("caption", "--beams", "1", pictures / "coffee.jpg")
        assert streamed.stdout == greedy.stdout

    def test_a_folder_as_json(self, pictures: Path) -> None:
        done = self._run("caption", "--json", "--threads", "1", pictures, "missing.jpg")
        records = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == 1
        assert sum("text" in record for record in records) == len(list(pictures.glob("*.jpg")))
        assert sum("error" in record for record in records) == 1
