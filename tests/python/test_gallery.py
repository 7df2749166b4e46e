"""Checks what a gallery holds and finds, against the pictures on the disk and a plain sum over their vectors."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gallery_embedders import ProjectedEncoder, ThumbnailEmbedder, draw_picture
from PIL import Image

from mobile_multimodal import (
    InvalidImageError,
    InvalidInputError,
    MobileMultiModalError,
    NotFoundError,
    UnsupportedError,
    available_models,
)
from mobile_multimodal.gallery import INDEX_NAME, Gallery, SearchSettings
from mobile_multimodal.gallery.files import exif_date, find_pictures
from mobile_multimodal.gallery.vectors import quantize

pytest.importorskip("mobile_multimodal.native")


@pytest.fixture
def embedder() -> ThumbnailEmbedder:
    return ThumbnailEmbedder()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures in three folders."""
    root = tmp_path / "photos"
    for index in range(12):
        place = root / ("", "beach", "beach/dogs")[index % 3]
        place.mkdir(parents=True, exist_ok=True)
        draw_picture(index).save(place / f"{index:02}.png")
    return root


@pytest.fixture
def gallery(folder: Path, embedder: ThumbnailEmbedder) -> Iterator[Gallery]:
    with Gallery.create(folder, embedder) as made:
        made.update()
        yield made


def _names(gallery: Gallery) -> list[str]:
    return [str(path.relative_to(gallery.folder)) for path in gallery.paths()]


def test_a_picture_finds_itself(gallery: Gallery, folder: Path) -> None:
    assert len(gallery) == 12
    for path in find_pictures(folder)[0]:
        best, second = gallery.search_picture(path, k=2)
        assert best.path == path
        assert best.score == pytest.approx(1, abs=0.002)
        assert second.score < 0.9


def test_a_search_equals_the_plain_sum(gallery: Gallery, folder: Path, embedder: ThumbnailEmbedder) -> None:
    query = embedder.embed_text("a dog on the beach")
    expected = {}
    for path in find_pictures(folder)[0]:
        scale, codes = quantize(embedder.embed_image(path))
        expected[path] = float(query @ (np.frombuffer(codes, dtype=np.int8) * np.float64(scale)))
    hits = gallery.search_text("a dog on the beach", k=12)
    assert [hit.path for hit in hits] == sorted(expected, key=lambda path: -expected[path])
    for hit in hits:
        assert hit.score == pytest.approx(expected[hit.path], abs=1e-5)
    assert gallery.search_text("a dog on the beach", k=5) == hits[:5]


def test_rounding_keeps_length_and_direction() -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 256)).astype(np.float32)
    for vector in vectors:
        scale, codes = quantize(vector)
        found = np.frombuffer(codes, dtype=np.int8) * np.float64(scale)
        assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(vector), rel=1e-6)
        step = np.abs(vector).max() / 127
        assert np.linalg.norm(found - vector) <= step / 2 * np.sqrt(256) * 2  # rounding, and the change of length
    assert quantize(np.zeros(4, dtype=np.float32)) == (0.0, bytes(4))


def test_unchanged_files_are_not_read_again(gallery: Gallery, folder: Path, embedder: ThumbnailEmbedder) -> None:
    commits, embedded = gallery.status().commits, embedder.embedded
    report = gallery.update()
    assert (report.unchanged, report.added) == (12, 0)
    assert (gallery.status().commits, embedder.embedded) == (commits, embedded)
    os.utime(folder / "00.png")  # the same bytes at another time
    assert gallery.update().unchanged == 12
    assert embedder.embedded == embedded
    assert gallery.update().unchanged == 12
    assert gallery.status().commits == commits + 1  # the new time was kept


def test_a_changed_file_is_embedded_again(gallery: Gallery, folder: Path) -> None:
    draw_picture(100).save(folder / "00.png")
    report = gallery.update()
    assert (report.changed, report.unchanged) == (1, 11)
    assert gallery.search_picture(draw_picture(100), k=1)[0].path == folder / "00.png"
    assert gallery.search_picture(draw_picture(0), k=1)[0].score < 0.9
    assert gallery.status().contents == 12


def test_a_moved_file_keeps_its_vector(gallery: Gallery, folder: Path, embedder: ThumbnailEmbedder) -> None:
    embedded = embedder.embedded
    (folder / "00.png").rename(folder / "beach" / "moved.png")
    report = gallery.update()
    assert (report.moved, report.added) == (1, 0)
    assert embedder.embedded == embedded
    assert "00.png" not in _names(gallery)
    assert gallery.search_picture(draw_picture(0), k=1)[0].path == folder / "beach" / "moved.png"


def test_copies_share_a_vector_and_a_hit(gallery: Gallery, folder: Path, embedder: ThumbnailEmbedder) -> None:
    embedded = embedder.embedded
    for name in ("b.png", "a.png"):
        shutil.copy(folder / "00.png", folder / "beach" / name)
    assert gallery.update().copies == 2
    assert embedder.embedded == embedded
    assert (gallery.status().pictures, gallery.status().contents) == (14, 12)
    hit, other = gallery.search_picture(draw_picture(0), k=2)
    assert hit.path == folder / "00.png"
    assert hit.copies == (folder / "beach" / "a.png", folder / "beach" / "b.png")
    assert other.copies == ()
    assert gallery.search_picture(draw_picture(0), k=1, folder="beach")[0].path == folder / "beach" / "a.png"
    (folder / "00.png").unlink()
    assert gallery.remove_missing() == 1
    assert gallery.search_picture(draw_picture(0), k=1)[0].path == folder / "beach" / "a.png"


def test_two_new_files_of_the_same_bytes_are_embedded_once(tmp_path: Path, embedder: ThumbnailEmbedder) -> None:
    for name in ("a.png", "b.png", "c.png"):
        draw_picture(1).save(tmp_path / name)
    with Gallery.create(tmp_path, embedder) as gallery:
        report = gallery.update()
        assert (report.added, report.copies) == (1, 2)
        assert gallery.status().contents == 1


def test_removing(gallery: Gallery, folder: Path) -> None:
    assert gallery.remove([folder / "00.png", folder / "none.png"]) == 1
    assert (gallery.status().pictures, gallery.status().contents) == (11, 11)
    assert all(hit.path != folder / "00.png" for hit in gallery.search_picture(draw_picture(0), k=12))
    (folder / "03.png").unlink()
    assert gallery.update().removed == 0  # without being asked nothing is forgotten
    report = gallery.update(remove=True)
    assert report.removed == 1
    assert _names(gallery) == sorted(str(path.relative_to(folder)) for path in find_pictures(folder)[0])


def test_a_folder_that_is_gone_does_not_empty_the_index(gallery: Gallery, folder: Path) -> None:
    folder.rename(folder.with_name("unmounted"))
    with pytest.raises(NotFoundError, match="mount its drive"):
        gallery.remove_missing()


def test_many_removals_and_additions_leave_no_trace(gallery: Gallery, folder: Path) -> None:
    gallery.search_text("before", k=1)  # the vectors are in memory from here on
    for path in find_pictures(folder)[0][:8]:  # more than a quarter: the vectors are loaded again
        path.unlink()
    for index in range(20, 26):
        draw_picture(index).save(folder / f"{index}.png")
    gallery.update(remove=True)
    hits = gallery.search_text("after", k=100)
    assert sorted(hit.path for hit in hits) == find_pictures(folder)[0]
    with Gallery.open(folder, ThumbnailEmbedder()) as fresh:
        assert fresh.search_text("after", k=100) == hits


def test_folder_filters(gallery: Gallery, folder: Path) -> None:
    def found(**options: object) -> set[str]:
        return {hit.path.name for hit in gallery.search_text("x", k=100, **options)}  # type: ignore[arg-type]

    draw_picture(50).save(folder / "beach2.png")
    (folder / "beach2").mkdir()
    draw_picture(51).save(folder / "beach2" / "51.png")
    gallery.update()
    assert found(folder="beach") == {f"{index:02}.png" for index in range(12) if index % 3}
    assert (
        found(folder="beach/dogs/")
        == found(folder=folder / "beach" / "dogs")
        == {"02.png", "05.png", "08.png", "11.png"}
    )
    assert found(folder=".") == found() == {path.name for path in find_pictures(folder)[0]}
    assert found(folder="nowhere") == set()
    with pytest.raises(InvalidInputError, match="not below the gallery's folder"):
        found(folder="..")


def test_date_filters(tmp_path: Path, embedder: ThumbnailEmbedder) -> None:
    def save(name: str, seed: int, taken: str) -> None:
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = taken
        draw_picture(seed).save(tmp_path / name, exif=exif)

    save("new_year.jpg", 1, "2026:01:01 00:00:00")
    save("leap.jpg", 2, "2024:02:29 23:59:59")
    save("broken.jpg", 3, "0000:00:00 00:00:00")
    moment = datetime.datetime(2025, 6, 15, 12, 0, 0)
    os.utime(tmp_path / "broken.jpg", (moment.timestamp(), moment.timestamp()))
    with Gallery.create(tmp_path, embedder) as gallery:
        gallery.update()

        def found(since: object = None, until: object = None) -> set[str]:
            return {hit.path.stem for hit in gallery.search_text("x", since=since, until=until)}  # type: ignore[arg-type]

        assert found(since="2026") == {"new_year"}
        assert found(since="2026-01-01", until="2026-01-01") == {"new_year"}
        assert found(until="2025-12-31") == {"leap", "broken"}
        assert found(since="2024-02", until="2024-02") == found(until=datetime.date(2024, 2, 29)) == {"leap"}
        assert found(since="2024-03", until="2025") == {"broken"}  # a date without a day is the file's own
        assert found(since=datetime.datetime(2026, 1, 1, 12), until="2026") == {"new_year"}
        assert gallery.search_text("x", k=1, since="2026")[0].taken == datetime.datetime(2026, 1, 1)
        assert exif_date((tmp_path / "broken.jpg").read_bytes()) is None


@pytest.mark.parametrize(
    "options",
    [
        {"k": 0},
        {"k": 10_001},
        {"k": True},
        {"since": "yesterday"},
        {"since": "2026-13"},
        {"until": "2025-02-29"},
        {"until": 2026},
        {"since": "2026-02", "until": "2026-01"},
    ],
)
def test_wrong_settings_are_named(options: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=f"setting {next(iter(options))} "):
        SearchSettings(**options)  # type: ignore[arg-type]


def test_unknown_settings_and_empty_texts(gallery: Gallery) -> None:
    with pytest.raises(InvalidInputError, match="unknown setting 'folders'\nhint: did you mean 'folder'"):
        gallery.search_text("x", folders="beach")  # type: ignore[call-arg]
    for text in ("", "  ", None):
        with pytest.raises(InvalidInputError, match="expected words"):
            gallery.search_text(text)  # type: ignore[arg-type]


def test_damaged_pictures_are_reported_and_skipped(gallery: Gallery, folder: Path) -> None:
    (folder / "00.png").write_bytes((folder / "00.png").read_bytes()[:60])  # was a picture
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.jpg").write_bytes(b"<html>")
    told: dict[str, object] = {}
    report = gallery.update(on_result=lambda path, outcome: told.__setitem__(path.name, outcome))
    assert {path.name for path, _ in report.failures} == {"00.png", "empty.jpg", "page.jpg"}
    for path, error in report.failures:
        assert isinstance(error, InvalidImageError)
        assert str(path) in error.message
        assert told[path.name] is error
    assert told["01.png"] == "unchanged"
    assert "00.png" not in _names(gallery)
    assert gallery.status().contents == 11
    assert [entry["path"] for entry in report.to_dict()["failures"]] == [str(path) for path, _ in report.failures]


def test_names_of_every_kind(tmp_path: Path, embedder: ThumbnailEmbedder) -> None:
    root = tmp_path / "Фото ☂"
    (root / 'zoë\'s 100% "best"').mkdir(parents=True)
    names = [os.fsencode(root / 'zoë\'s 100% "best"' / "犬?#&.PNG"), os.fsencode(root) + b"/\xff\xfe latin \xe9.png"]
    for seed, name in enumerate(names):
        with open(name, "wb") as file:  # noqa: PTH123
            draw_picture(seed).save(file, "PNG")
    with Gallery.create(root, embedder) as gallery:
        assert gallery.update().added == 2
        for seed, name in enumerate(names):
            assert os.fsencode(gallery.search_picture(draw_picture(seed), k=1)[0].path) == name
        assert len(gallery.search_text("x", folder='zoë\'s 100% "best"')) == 1
        os.unlink(names[1])  # noqa: PTH108
        assert gallery.remove_missing() == 1


def test_links_dots_and_pipes(tmp_path: Path, embedder: ThumbnailEmbedder) -> None:
    root = tmp_path / "photos"
    (root / "inner").mkdir(parents=True)
    (root / ".thumbnails").mkdir()
    draw_picture(1).save(root / "inner" / "1.png")
    draw_picture(2).save(root / ".thumbnails" / "2.png")
    draw_picture(3).save(root / "._3.png")
    draw_picture(4).save(tmp_path / "outside.png")
    (root / "inner" / "loop").symlink_to(root)
    (root / "inner" / "self.png").symlink_to(root / "inner" / "self.png")
    (root / "gone.png").symlink_to(tmp_path / "nothing.png")
    (root / "linked.png").symlink_to(tmp_path / "outside.png")
    (root / "folder.png").mkdir()
    os.mkfifo(root / "pipe.png")
    with Gallery.create(root, embedder) as gallery:
        report = gallery.update()
        assert report.failures == ()
        assert _names(gallery) == ["inner/1.png", "linked.png"]
        report = gallery.add([root / "pipe.png", root / "gone.png"])
        assert [type(error) for _, error in report.failures] == [InvalidInputError, NotFoundError]
    (tmp_path / "link").symlink_to(root)
    with Gallery.create(tmp_path / "link", embedder) as gallery:  # the folder by another name is the same folder
        assert gallery.update().unchanged == 2
        assert gallery.add([tmp_path / "link" / "linked.png"]).unchanged == 1


def test_files_outside_are_refused(gallery: Gallery, tmp_path: Path) -> None:
    draw_picture(1).save(tmp_path / "outside.png")
    for path in (tmp_path / "outside.png", gallery.folder / ".." / "outside.png"):
        with pytest.raises(InvalidInputError, match="is not below the gallery's folder"):
            gallery.add([path])


def test_another_model_is_refused(gallery: Gallery, folder: Path) -> None:
    gallery.close()
    for make in (Gallery.create, Gallery.open):
        with pytest.raises(InvalidInputError) as caught:
            make(folder, ThumbnailEmbedder("other"))
        assert "was made with 'thumbnails'" in caught.value.message
        assert "not with 'other'" in caught.value.message
        assert caught.value.hint == "use that model, or delete the index and run `mobile-mm index` again"


def test_an_index_without_a_picture_may_change_its_model(tmp_path: Path) -> None:
    """As one is left by a model that turned out not to embed."""
    Gallery.create(tmp_path, ThumbnailEmbedder("one")).close()
    draw_picture(1).save(tmp_path / "1.png")
    with Gallery.create(tmp_path, ThumbnailEmbedder("two")) as gallery:
        assert gallery.update().added == 1
        assert gallery.status().model == "two"
    with pytest.raises(InvalidInputError, match="was made with 'two'"):
        Gallery.create(tmp_path, ThumbnailEmbedder("one"))


def test_an_index_belongs_to_one_folder(folder: Path, tmp_path: Path, embedder: ThumbnailEmbedder) -> None:
    index = tmp_path / "pictures.index"
    with Gallery.create(folder, embedder, index=index) as gallery:
        gallery.update()
    with pytest.raises(InvalidInputError, match="belongs to folder"):
        Gallery.create(tmp_path, embedder, index=index)
    with Gallery.open(index, embedder) as gallery:
        assert gallery.search_picture(draw_picture(0), k=1)[0].path == folder / "00.png"


def test_a_folder_moves_with_its_index(gallery: Gallery, folder: Path, tmp_path: Path) -> None:
    gallery.close()
    moved = tmp_path / "elsewhere" / "pictures"
    moved.parent.mkdir()
    folder.rename(moved)
    with Gallery.create(moved, ThumbnailEmbedder()) as there:
        assert there.folder == moved
        assert there.update().unchanged == 12
        assert there.search_picture(draw_picture(0), k=1)[0].path == moved / "00.png"


def test_reading_only(gallery: Gallery, folder: Path, embedder: ThumbnailEmbedder) -> None:
    with Gallery.open(folder, embedder) as reader:
        for write in (lambda: reader.add([]), lambda: reader.remove([]), lambda: reader.extend_graph()):
            with pytest.raises(UnsupportedError, match="opened for reading"):
                write()
    with Gallery.open(folder) as listed:
        assert listed.paths() == gallery.paths()
        with pytest.raises(UnsupportedError, match="without a model"):
            listed.search_text("x")


def test_missing_places(tmp_path: Path, embedder: ThumbnailEmbedder) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        Gallery.create(tmp_path / "none", embedder)
    for place in (tmp_path, tmp_path / "none.index"):
        with pytest.raises(NotFoundError, match="there is no index"):
            Gallery.open(place, embedder)
    with Gallery.create(tmp_path, embedder) as empty:
        assert empty.search_text("x") == []
        assert empty.status().pictures == len(empty) == 0


def test_what_is_done_when_interrupted_stays(folder: Path, embedder: ThumbnailEmbedder) -> None:
    class Interrupting(ThumbnailEmbedder):
        def embed_image(self, image: object, /) -> np.ndarray:  # type: ignore[override, type-arg]
            if self.embedded == 5:
                raise KeyboardInterrupt
            return super().embed_image(image)  # type: ignore[arg-type]

    with Gallery.create(folder, Interrupting()) as gallery:
        with pytest.raises(KeyboardInterrupt):
            gallery.update()
        assert len(gallery) == 5
    with Gallery.create(folder, embedder) as gallery:
        assert gallery.update().added == 7


def test_a_failure_of_the_model_is_no_failure_of_a_picture(folder: Path, gallery: Gallery) -> None:
    class Broken(ThumbnailEmbedder):
        def embed_image(self, image: object, /) -> np.ndarray:  # type: ignore[override, type-arg]
            raise UnsupportedError("this model cannot embed")

    gallery.close()
    draw_picture(77).save(folder / "77.png")
    with Gallery.create(folder, Broken()) as broken:
        with pytest.raises(UnsupportedError):
            broken.update()
        assert len(broken) == 12


def test_an_embedding_of_another_width_is_refused(folder: Path, gallery: Gallery) -> None:
    class Wide(ThumbnailEmbedder):
        def embed_image(self, image: object, /) -> np.ndarray:  # type: ignore[override, type-arg]
            return np.ones(300, dtype=np.float32)

    draw_picture(77).save(folder / "77.png")
    with Gallery.create(folder, Wide()) as wide:
        with pytest.raises(InvalidInputError, match="vectors of 300 numbers, expected 256"):
            wide.update()
        with pytest.raises(InvalidInputError, match="the query has 300 numbers, expected 256"):
            wide.search_picture(folder / "77.png")


def test_the_shipped_encoder_tells_photographs_apart(pictures: Path, tmp_path: Path) -> None:
    if "mobile-mm-llm-int2" not in available_models():
        pytest.skip("the package holds no model file mobile-mm-llm-int2.gguf")
    folder = tmp_path / "photos"
    shutil.copytree(pictures, folder)
    with Gallery.create(folder, ProjectedEncoder()) as gallery:
        assert gallery.update().added == len(list(folder.glob("*.jpg")))
        for path in find_pictures(folder)[0]:
            with Image.open(path) as picture:
                smaller = picture.convert("RGB").resize((picture.width // 2, picture.height // 2))
            assert gallery.search_picture(smaller, k=1)[0].path == path


def test_threads_may_share_a_gallery(gallery: Gallery, folder: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    expected = gallery.search_text("x", k=3)

    def work(index: int) -> int | MobileMultiModalError:
        if index % 10 == 0:
            draw_picture(1000 + index).save(folder / f"t{index}.png")
            return gallery.add([folder / f"t{index}.png"]).added
        return len(gallery.search_text("x", k=3)) - len(expected)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(80))) == [int(index % 10 == 0) for index in range(80)]
    assert len(gallery) == 20


def test_the_default_index_lies_in_the_folder(gallery: Gallery, folder: Path) -> None:
    assert gallery.status().to_dict()["index"] == str(folder / INDEX_NAME)
    assert gallery.status().width == 256
    assert gallery.status().model == "thumbnails"
