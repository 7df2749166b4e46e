"""Opens indexes that are damaged, hostile or of another kind: each gives a typed error and none a crash."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from gallery_embedders import ThumbnailEmbedder, draw_picture

from mobile_multimodal import GalleryFormatError, InvalidInputError, MobileMultiModalError, NotFoundError
from mobile_multimodal.gallery import INDEX_NAME, Gallery

pytest.importorskip("mobile_multimodal.native")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for index in range(40):
        draw_picture(index).save(folder / f"{index}.png")
    with Gallery.create(folder, ThumbnailEmbedder()) as gallery:
        gallery.update()
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A folder with an index of 40 pictures, to be spoilt."""
    return Path(shutil.copytree(made, tmp_path / "photos"))


def _use(folder: Path) -> None:
    """All that reads an index, then all that writes it."""
    with Gallery.open(folder, ThumbnailEmbedder()) as gallery:
        gallery.status()
        gallery.paths()
        gallery.search_text("x", k=100)
        gallery.search_text("x", k=5, folder="a", since="2020")
    with Gallery.create(folder, ThumbnailEmbedder()) as gallery:
        gallery.update(remove=True)
        gallery.search_text("x", k=100)


def _change(folder: Path, *statements: str | tuple[str, tuple[object, ...]]) -> None:
    connection = sqlite3.connect(folder / INDEX_NAME, isolation_level=None)
    for statement in statements:
        connection.execute(*((statement,) if isinstance(statement, str) else statement))
    connection.close()


def test_an_untouched_index_works(folder: Path) -> None:
    _use(folder)


@pytest.mark.parametrize("content", [b"hello", b"\0" * 5000, b"SQLite format 3\0" + b"\xff" * 4080])
def test_files_that_are_no_index(folder: Path, content: bytes) -> None:
    (folder / INDEX_NAME).write_bytes(content)
    for make in (Gallery.open, Gallery.create):
        with pytest.raises(GalleryFormatError):
            make(folder, ThumbnailEmbedder())
    assert (folder / INDEX_NAME).read_bytes() == content  # what is not ours is not touched


def test_a_text_file_is_not_to_be_deleted(folder: Path) -> None:
    (folder / INDEX_NAME).write_text("my diary", encoding="utf-8")
    with pytest.raises(GalleryFormatError) as caught:
        Gallery.create(folder, ThumbnailEmbedder())
    assert str(caught.value) == (
        f"file {str(folder / INDEX_NAME)!r} is no index of pictures\nhint: name another file with --index"
    )


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "other.db"
    connection = sqlite3.connect(place)
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    before = place.read_bytes()
    for make in (lambda: Gallery.open(place), lambda: Gallery.create(tmp_path, ThumbnailEmbedder(), index=place)):
        with pytest.raises(GalleryFormatError, match="is a database, but no index of pictures"):
            make()
    assert place.read_bytes() == before


def test_an_empty_file_becomes_an_index(tmp_path: Path) -> None:
    (tmp_path / INDEX_NAME).touch()
    with pytest.raises(NotFoundError, match="is empty"):
        Gallery.open(tmp_path)
    draw_picture(1).save(tmp_path / "1.png")
    with Gallery.create(tmp_path, ThumbnailEmbedder()) as gallery:
        assert gallery.update().added == 1


def test_an_index_whose_maker_was_stopped_early(tmp_path: Path) -> None:
    from mobile_multimodal.gallery.store import Store

    Store(tmp_path / INDEX_NAME, writable=True).close()
    with pytest.raises(NotFoundError, match="is empty"):
        Gallery.open(tmp_path)
    Gallery.create(tmp_path, ThumbnailEmbedder()).close()
    Gallery.open(tmp_path).close()


@pytest.mark.parametrize(
    ("statements", "complaint"),
    [
        (["PRAGMA user_version = 2"], "has version 2, expected 1"),
        (["PRAGMA application_id = 7"], "is a database, but no index"),
        (["DROP INDEX pictures_by_taken"], "its tables are not those of an index"),
        (["CREATE VIEW v AS SELECT 1"], "its tables are not those of an index"),
        (
            ["CREATE TRIGGER t AFTER INSERT ON pictures BEGIN DELETE FROM contents; END"],
            "its tables are not those of an index",
        ),
        (["ALTER TABLE pictures ADD COLUMN more"], "its tables are not those of an index"),
        (["DELETE FROM settings WHERE name = 'commits'"], "does not count its commits"),
        (["UPDATE settings SET value = 'wide' WHERE name = 'width'"], "its vectors are 'wide' wide"),
        (["UPDATE settings SET value = 1000000000 WHERE name = 'width'"], "its vectors are 1000000000 wide"),
        (["UPDATE settings SET value = 128 WHERE name = 'width'"], "a vector is not 128 bytes long"),
        (["UPDATE settings SET value = 5 WHERE name = 'root'"], "its folder is 5"),
        (["UPDATE settings SET value = x'00' WHERE name = 'root'"], "its folder is"),
        (["UPDATE contents SET codes = x'00' WHERE id = 7"], "a vector is not 256 bytes long"),
        (["UPDATE contents SET codes = 'text' WHERE id = 7"], "a vector is not 256 bytes long"),
        (["UPDATE contents SET scale = -1 WHERE id = 7"], "the scale of a vector"),
        (["UPDATE contents SET scale = 1e999 WHERE id = 7"], "the scale of a vector"),
        (["UPDATE contents SET scale = 'big' WHERE id = 7"], "the scale of a vector"),
        (["DELETE FROM pictures WHERE content = 7"], "content 7 belongs to no picture"),
        (["UPDATE pictures SET path = x'2e2e2f612e706e67' WHERE content = 7"], "leads out of its folder"),
        (["UPDATE pictures SET path = CAST('/etc/passwd' AS BLOB) WHERE content = 7"], "leads out of its folder"),
        (["UPDATE pictures SET path = x'' WHERE content = 7"], "a path is b''"),
        (["UPDATE pictures SET path = 'text' WHERE content = 7"], "a path is 'text'"),
        (["UPDATE pictures SET path = x'610062' WHERE content = 7"], "a path is"),
        (["UPDATE pictures SET taken = 'yesterday' WHERE content = 7"], "a picture was taken at 'yesterday'"),
        (["UPDATE pictures SET taken = 5 WHERE content = 7"], "a picture was taken at"),
    ],
)
def test_what_an_index_must_not_hold(folder: Path, statements: list[str], complaint: str) -> None:
    _change(folder, *statements)
    with pytest.raises(GalleryFormatError, match=complaint), Gallery.open(folder, ThumbnailEmbedder()) as gallery:
        gallery.search_text("x", k=100)


def test_paths_that_lead_out_are_not_looked_at(folder: Path, tmp_path: Path) -> None:
    _change(folder, "UPDATE pictures SET path = x'2e2e2f612e706e67' WHERE content = 7")
    draw_picture(6).save(tmp_path / "a.png")
    for look in (lambda gallery: gallery.paths(), lambda gallery: gallery.remove_missing()):
        with (
            Gallery.create(folder, ThumbnailEmbedder()) as gallery,
            pytest.raises(GalleryFormatError, match="leads out"),
        ):
            look(gallery)


def _cut(data: bytearray, chance: random.Random) -> bytearray:
    return data[: chance.randrange(1, len(data))]


def _flip(data: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.choice([1, 4, 64])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def _fill(data: bytearray, chance: random.Random) -> bytearray:
    begin = chance.randrange(len(data))
    data[begin : begin + 4096] = chance.randbytes(len(data[begin : begin + 4096]))
    return data


@pytest.mark.parametrize("spoil", [_cut, _flip, _fill])
def test_spoilt_bytes_give_typed_errors(folder: Path, spoil: Callable[[bytearray, random.Random], bytearray]) -> None:
    """Not each change can be noticed; each that is must be a typed error."""
    index = folder / INDEX_NAME
    whole = index.read_bytes()
    noticed = 0
    for seed in range(40):
        index.write_bytes(spoil(bytearray(whole), random.Random(seed)))
        for suffix in ("-wal", "-shm"):
            Path(f"{index}{suffix}").unlink(missing_ok=True)
        try:
            _use(folder)
        except MobileMultiModalError as error:
            noticed += 1
            assert isinstance(error, (GalleryFormatError, InvalidInputError, NotFoundError)), repr(error)
            assert error.hint
    assert noticed > 3


def test_a_huge_vector_is_refused_unread(folder: Path) -> None:
    _change(folder, "UPDATE contents SET codes = zeroblob(50000000) WHERE id = 7")
    tracemalloc.start()
    try:
        with pytest.raises(GalleryFormatError), Gallery.open(folder, ThumbnailEmbedder()) as gallery:
            gallery.search_text("x")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
