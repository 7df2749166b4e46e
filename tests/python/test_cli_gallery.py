"""Checks what `mobile-mm index` and `mobile-mm search` print and write."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import TracebackType

import pytest
from gallery_embedders import ThumbnailEmbedder, draw_picture

from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.cli import main as cli
from mobile_multimodal.gallery import INDEX_NAME

pytest.importorskip("mobile_multimodal.native")

Run = Callable[..., tuple[int, str, str]]


class _Loaded(ThumbnailEmbedder):
    """Thumbnails, in a `with` block as a model."""

    def __enter__(self) -> _Loaded:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.setattr(MobileMultiModalLLM, "from_pretrained", lambda model, *, threads, profile: _Loaded(model))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    def run_command(*arguments: str | Path) -> tuple[int, str, str]:
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as exit_request:  # argparse
            code = int(exit_request.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run_command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "beach").mkdir(parents=True)
    for index in range(6):
        draw_picture(index).save(root / ("beach" if index % 2 else "") / f"{index}.png")
    return root


def test_index_then_search(run: Run, folder: Path) -> None:
    code, out, err = run("index", folder)
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"6 pictures in {re.escape(str(folder / INDEX_NAME))}: 6 added, \d+\.\d s\n", out)
    code, out, err = run("search", "a dog on the beach", "-k", "3")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(r"-?\d\.\d{3} /.+\.png", line) for line in lines)
    code, out, _ = run("search", "--like", folder / "beach" / "3.png", "-k", "1")
    assert out == f"1.000 {folder / 'beach' / '3.png'}\n"
    assert "6 unchanged" in run("index", folder)[1]


def test_json(run: Run, folder: Path) -> None:
    record = json.loads(run("index", "--json", folder)[1])
    assert record["added"] == record["gallery"]["pictures"] == 6
    assert record["failures"] == []
    code, out, _ = run("search", "--json", "x", "--folder", "beach")
    hits = [json.loads(line) for line in out.splitlines()]
    assert {Path(hit["path"]).name for hit in hits} == {"1.png", "3.png", "5.png"}
    assert set(hits[0]) == {"path", "score", "taken", "copies"}


def test_failures_are_reported_and_the_others_go_in(run: Run, folder: Path) -> None:
    (folder / "bad.jpg").write_bytes(b"junk")
    code, out, err = run("index", folder)
    assert code == 1
    assert "6 added, 1 failed" in out
    assert f"mobile-mm: file {str(folder / 'bad.jpg')!r} holds no readable picture" in err


def test_remove(run: Run, folder: Path) -> None:
    run("index", folder)
    (folder / "0.png").unlink()
    assert run("index", folder)[1].startswith("6 pictures")
    code, out, _ = run("index", folder, "--remove")
    assert out.startswith("5 pictures")
    assert "5 unchanged, 1 removed" in out


def test_where_a_search_looks(run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run("search", "x")
    assert code == 5
    assert "hint: make one: `mobile-mm index FOLDER`, or name it with --index" in err
    other = tmp_path / "other"
    other.mkdir()
    draw_picture(50).save(other / "50.png")
    index = tmp_path / "other.index"
    run("index", folder)
    run("index", other, "--index", index)
    assert "/50.png" in run("search", "x")[1]  # the last one made
    assert "/0.png" in run("search", "x", "--index", folder)[1]
    assert "/50.png" in run("search", "x", "--index", index)[1]
    monkeypatch.chdir(folder / "beach")
    assert "/0.png" in run("search", "x")[1]  # the nearest one around
    assert run("search", "x", "--index", tmp_path)[0] == 5
    index.write_bytes(b"junk")
    assert run("search", "x", "--index", index)[0] == 9


def test_another_model_is_refused(run: Run, folder: Path) -> None:
    run("index", folder, "--model", "one")
    code, _, err = run("search", "x", "--model", "two")
    assert code == 2
    assert "was made with 'one'" in err
    assert "hint: use that model" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "takes either TEXT or --like PICTURE"),
        (["x", "--like", "a.png"], "takes either TEXT or --like PICTURE"),
        (["x", "-k", "0"], "setting k is 0"),
        (["x", "--since", "soon"], "setting since is 'soon'"),
        (["x", "--html", "a.png"], "expected a name in .html"),
        (["x", "--html", "a.html", "--json"], "not allowed with"),
        (["  "], "expected words"),
        (["x", "--folder", "/"], "not below the gallery's folder"),
    ],
)
def test_wrong_options(run: Run, folder: Path, arguments: list[str], message: str) -> None:
    run("index", folder)
    code, out, err = run("search", *arguments)
    assert (code, out) == (2, "")
    assert message in err


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.sources: list[str] = []
        self.titles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a":
            self.links.append(values["href"] or "")
            self.titles.append(values["title"] or "")
        if tag == "img":
            self.sources.append(values["src"] or "")
        assert tag not in ("link", "iframe", "object", "base")
        assert tag == "a" or "href" not in values
        assert not any(name.startswith("on") for name in values)


def test_the_page(run: Run, folder: Path, tmp_path: Path) -> None:
    evil = folder / '"><img src=x onerror=alert(1)>&.png'
    draw_picture(60).save(evil)
    run("index", folder)
    (folder / "0.png").unlink()
    page = tmp_path / "found.html"
    code, out, err = run("search", "<script>alert(1)</script>", "--html", page)
    assert (code, out, err) == (0, f"{page}\n", "")
    text = page.read_text(encoding="utf-8")
    parsed = _Page(text)
    assert len(parsed.links) == 7
    assert set(parsed.links) == {path.as_uri() for path in [*folder.rglob("*.png"), folder / "0.png"]}
    assert str(evil) in parsed.titles
    assert len(parsed.sources) == 6  # one picture is gone: its place says so
    assert all(source.startswith("data:image/jpeg;base64,") for source in parsed.sources)
    assert "does not exist" in text
    assert text.count("<script") == 1
    assert "http://" not in text
    assert "https://" not in text
    assert "default-src 'none'" in text
    assert run("search", "x", "--since", "2999", "--html", page)[0] == 0
    assert "Nothing found in 7 pictures." in page.read_text(encoding="utf-8")
    assert run("search", "x", "--html", tmp_path / "none" / "a.html")[0] == 2
