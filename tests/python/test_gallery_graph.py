"""Checks the graph of neighbours beside an index, with a limit of 1,000 vectors in place of 100,000."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gallery_embedders import ThumbnailEmbedder, unit
from numpy.typing import NDArray

from mobile_multimodal import MissingExtraError
from mobile_multimodal.gallery import INDEX_NAME, Gallery, SearchSettings
from mobile_multimodal.gallery import gallery as gallery_module
from mobile_multimodal.gallery.graph import NeighbourGraph, extend_graph, graph_path
from mobile_multimodal.gallery.store import Store
from mobile_multimodal.gallery.vectors import quantize

pytest.importorskip("mobile_multimodal.native")
pytest.importorskip("usearch")

WIDTH = 64


def _vectors(count: int, seed: int) -> NDArray[np.float32]:
    """Clustered, as embeddings are: a graph of nothing but noise would be no use to anyone."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((50, WIDTH))
    made = centres[random.integers(0, 50, count)] + 0.6 * random.standard_normal((count, WIDTH))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def _insert(store: Store, vectors: NDArray[np.float32], prefix: str) -> None:
    """Rows as the indexer writes them, without files."""
    with store.writing() as connection:
        connection.execute("INSERT OR IGNORE INTO settings VALUES ('width', ?)", (WIDTH,))
        for number, vector in enumerate(vectors):
            name = f"{prefix}{number}.png".encode()
            cursor = connection.execute(
                "INSERT INTO contents (sha256, scale, codes) VALUES (?, ?, ?)",
                (hashlib.sha256(name).digest(), *quantize(vector)),
            )
            connection.execute(
                "INSERT INTO pictures VALUES (?, ?, 1, 1, '2026-01-01T00:00:00')", (name, cursor.lastrowid)
            )


@pytest.fixture
def gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gallery]:
    monkeypatch.setattr(gallery_module, "EXACT_LIMIT", 1000)
    with Gallery.create(tmp_path, ThumbnailEmbedder()) as made:
        _insert(made._store, _vectors(3000, 1), "a")
        yield made


def _recall(gallery: Gallery, exact: list[list[str]], queries: NDArray[np.float32]) -> float:
    found = [[hit.path.name for hit in gallery.search_vector(query)] for query in queries]
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, exact, strict=True)]))


def _names(gallery: Gallery, queries: NDArray[np.float32]) -> list[list[str]]:
    return [[hit.path.name for hit in gallery.search_vector(query)] for query in queries]


def test_a_graph_finds_what_the_exact_search_finds(gallery: Gallery) -> None:
    queries = _vectors(50, 2)
    exact = _names(gallery, queries)  # no graph yet: exact beyond the limit too
    assert gallery.extend_graph() == 3000
    assert _recall(gallery, exact, queries) >= 0.95
    hit = gallery.search_vector(queries[0])[0]
    assert gallery._vectors is not None
    assert hit.score == pytest.approx(float(gallery._vectors.table.search(queries[0], 1)[1][0]), abs=1e-5)


def test_what_came_after_the_graph_is_searched_exactly(gallery: Gallery) -> None:
    gallery.extend_graph()
    fresh = _vectors(40, 3)
    _insert(gallery._store, fresh, "b")
    for number, vector in enumerate(fresh):
        assert gallery.search_vector(vector, SearchSettings(k=1))[0].path.name == f"b{number}.png"
    assert gallery.extend_graph() == 40
    assert gallery.extend_graph() == 0
    for number, vector in enumerate(fresh):
        assert gallery.search_vector(vector, SearchSettings(k=1))[0].path.name == f"b{number}.png"


def test_what_was_removed_is_not_found(gallery: Gallery) -> None:
    gallery.extend_graph()
    vector = _vectors(3000, 1)[7]
    assert gallery.search_vector(vector)[0].path.name == "a7.png"
    gallery.remove([gallery.folder / "a7.png"])
    assert all(hit.path.name != "a7.png" for hit in gallery.search_vector(vector, SearchSettings(k=100)))
    gallery.remove([gallery.folder / f"a{number}.png" for number in range(1000)])
    queries = _vectors(50, 4)
    graph_path(gallery.folder / INDEX_NAME).rename(gallery.folder / "aside")
    with Gallery.open(gallery.folder, ThumbnailEmbedder()) as fresh:
        exact = _names(fresh, queries)
    (gallery.folder / "aside").rename(graph_path(gallery.folder / INDEX_NAME))
    assert _recall(gallery, exact, queries) >= 0.9
    _insert(gallery._store, _vectors(1, 5), "c")
    assert gallery.extend_graph() == 2001  # over a quarter was dead: made anew


def test_a_graph_that_is_not_the_indexs_own_is_not_opened(gallery: Gallery) -> None:
    queries = _vectors(10, 6)
    exact = _names(gallery, queries)
    gallery.extend_graph()
    place = graph_path(gallery.folder / INDEX_NAME)
    whole = place.read_bytes()
    for content in (b"", b"junk", whole[:-1], bytes([whole[0] ^ 1]) + whole[1:]):
        place.write_bytes(content)
        assert NeighbourGraph.load(gallery._store) is None
        with Gallery.open(gallery.folder, ThumbnailEmbedder()) as fresh:
            assert _names(fresh, queries) == exact
    place.unlink()
    assert extend_graph(gallery._store) == 3000  # made anew
    assert not list(gallery.folder.glob("*.new"))


def test_without_usearch_searches_stay_exact(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = _vectors(10, 7)
    exact = _names(gallery, queries)
    gallery.extend_graph()
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with Gallery.open(gallery.folder, ThumbnailEmbedder()) as fresh:
        assert _names(fresh, queries) == exact
    with pytest.raises(MissingExtraError, match="needs the package usearch") as caught:
        gallery.extend_graph()
    assert caught.value.hint == "pip install 'mobile-multimodal[gallery]'"


def test_filters_are_exact_beside_a_graph(gallery: Gallery) -> None:
    gallery.extend_graph()
    _insert(gallery._store, _vectors(20, 8), "sub/")
    hits = gallery.search_vector(unit(np.ones(WIDTH)), SearchSettings(k=100, folder="sub"))
    assert len(hits) == 20


def test_a_small_gallery_needs_no_graph(tmp_path: Path) -> None:
    with Gallery.create(tmp_path, ThumbnailEmbedder()) as small:
        _insert(small._store, _vectors(10, 9), "a")
        assert small.extend_graph() == 0
    assert not graph_path(tmp_path / INDEX_NAME).exists()
