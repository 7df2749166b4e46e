"""Checks where costs are kept: keys, whole files, damage, folders that cannot be used."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path

import pytest

from mobile_multimodal.tasks.calibration_store import KEPT_FILES, CalibrationKey, CalibrationStore, cache_folder
from mobile_multimodal.tasks.cost_model import TaskCost

KEY = CalibrationKey(
    model_path="/models/a.gguf",
    model_bytes=100,
    model_modified_ns=5,
    model_sha256="ab",
    cpu="a processor",
    usable_cpus=2,
    isa="avx2",
    threads=2,
    version="0.1.0",
)
COSTS = {
    "caption": TaskCost(fixed=0.001, encode=0.01, item={"num_beams=1": 0.002}),
    "embed_text": TaskCost(fixed=0.0, item={"only": 0.003}),
}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    store = CalibrationStore(KEY, tmp_path / "new" / "folder")
    assert store.read() == {}
    assert store.write(COSTS)
    assert CalibrationStore(KEY, tmp_path / "new" / "folder").read() == COSTS
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == [KEY.file_name]


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(CalibrationKey)])
def test_every_part_of_the_key_invalidates(field: str, tmp_path: Path) -> None:
    CalibrationStore(KEY, tmp_path).write(COSTS)
    old = getattr(KEY, field)
    other = dataclasses.replace(KEY, **{field: old + 1 if isinstance(old, int) else old + "x"})
    assert CalibrationStore(other, tmp_path).read() == {}
    # Nor is a file believed whose name is right and whose content is of another key.
    (tmp_path / KEY.file_name).replace(tmp_path / other.file_name)
    assert CalibrationStore(other, tmp_path).read() == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({"form": 1}).encode(),
        json.dumps({"form": 99, "key": dataclasses.asdict(KEY), "tasks": {}}).encode(),
        json.dumps({"form": 1, "key": dataclasses.asdict(KEY), "tasks": {"caption": {"fixed": 1}}}).encode(),
        json.dumps({"form": 1, "key": dataclasses.asdict(KEY), "tasks": 5}).encode(),
    ],
)
def test_a_damaged_file_holds_nothing_and_is_written_over(content: bytes, tmp_path: Path) -> None:
    (tmp_path / KEY.file_name).write_bytes(content)
    store = CalibrationStore(KEY, tmp_path)
    assert store.read() == {}
    assert store.write(COSTS)
    assert store.read() == COSTS


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = CalibrationStore(KEY, tmp_path / "file")
    assert store.read() == {}
    assert not store.write(COSTS)
    nowhere = CalibrationStore(KEY, None)
    assert nowhere.read() == {}
    assert not nowhere.write(COSTS)


def test_readers_see_whole_files_while_others_write(tmp_path: Path) -> None:
    CalibrationStore(KEY, tmp_path).write(COSTS)

    def write() -> None:
        for _ in range(50):
            CalibrationStore(KEY, tmp_path).write(COSTS)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    seen = [CalibrationStore(KEY, tmp_path).read() for _ in range(100)]
    for writer in writers:
        writer.join()
    assert all(costs == COSTS for costs in seen)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_oldest_files_go(tmp_path: Path) -> None:
    for size in range(KEPT_FILES + 5):
        CalibrationStore(dataclasses.replace(KEY, model_bytes=size), tmp_path).write(COSTS)
    assert len(list(tmp_path.iterdir())) == KEPT_FILES
    assert CalibrationStore(dataclasses.replace(KEY, model_bytes=KEPT_FILES + 4), tmp_path).read() == COSTS


def test_the_key_of_a_file_follows_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(b"12345")
    metadata = {"mm.sha256.metadata": "ab"}
    key = CalibrationKey.of(metadata, str(file), isa="avx2", threads=1, version="1")
    assert (key.model_bytes, key.model_sha256, key.threads) == (5, "ab", 1)
    assert key.cpu
    assert key.usable_cpus >= 1
    file.write_bytes(b"123456")
    assert CalibrationKey.of(metadata, str(file), isa="avx2", threads=1, version="1") != key
    file.unlink()
    assert CalibrationKey.of(metadata, str(file), isa="avx2", threads=1, version="1").model_bytes == 0


def test_the_folder_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mobile-multimodal"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == tmp_path / "home" / ".cache" / "mobile-multimodal"
